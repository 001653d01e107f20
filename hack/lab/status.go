package main

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cache"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/instance"
)

func runStatus(ctx context.Context, arguments []string) error {
	flags := newFlags("status", "Shows which labs run and how their programs fare. With --name, ends with exit code 1\nunless that lab is up and ready.")
	name := nameFlag(flags)
	if err := parseNoArguments(flags, arguments); err != nil {
		return err
	}
	if err := needRoot("status"); err != nil {
		return err
	}
	store, err := cache.Open()
	if err != nil {
		return err
	}
	labs, err := instance.All(store)
	if err != nil {
		return err
	}
	asked := flags.NFlag() > 0
	if asked {
		labs = []instance.Instance{instance.Named(store, name.String())}
	}
	if len(labs) == 0 {
		fmt.Println("there is no lab; lab up starts one")
	}
	ready := true
	for _, lab := range labs {
		health := lab.Health(ctx)
		printHealth(lab, health)
		ready = ready && health.Ready()
	}
	fmt.Printf("cache: %s\n", store.Path())
	if asked && !ready {
		return exitCode(1)
	}
	return nil
}

func printHealth(lab instance.Instance, health instance.Health) {
	if !health.Running {
		fmt.Printf("lab %s: down\n", lab.Name)
		return
	}
	fmt.Printf("lab %s: up (process %d)\n", lab.Name, health.PID)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, check := range health.Checks {
		answer := "ready"
		if check.Err != nil {
			answer = check.Err.Error()
		}
		fmt.Fprintf(table, "  %s\t%s\n", check.Name, answer)
	}
	for _, component := range health.Components {
		state := fmt.Sprintf("runs for %s", time.Since(component.Since).Round(time.Second))
		if component.PID == 0 {
			state = "not running: " + component.LastExit
		} else if component.Restarts > 0 {
			state += fmt.Sprintf(", restarted %d times (%s)", component.Restarts, component.LastExit)
		}
		fmt.Fprintf(table, "  %s\t%s\n", component.Name, state)
	}
	if err := table.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot show how the lab fares:", err)
	}
}
