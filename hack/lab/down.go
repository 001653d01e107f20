package main

import (
	"context"
	"fmt"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cache"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/instance"
)

func runDown(_ context.Context, arguments []string) error {
	flags := newFlags("down", "Stops a lab and removes all it put into this machine: processes, mounts, network,\ncontrol groups, and its directory. What was built stays for the next time.")
	name := nameFlag(flags)
	everyLab := flags.Bool("all", false, "stop every lab")
	if err := parseNoArguments(flags, arguments); err != nil {
		return err
	}
	if err := needRoot("down"); err != nil {
		return err
	}
	store, err := cache.Open()
	if err != nil {
		return err
	}
	labs := []instance.Instance{instance.Named(store, name.String())}
	if *everyLab {
		if labs, err = instance.All(store); err != nil {
			return err
		}
	}
	for _, lab := range labs {
		if err := takeDown(store, lab); err != nil {
			return fmt.Errorf("lab %q: %w", lab.Name, err)
		}
	}
	said, err := instance.RestoreInotify(store)
	if said != "" {
		fmt.Println(said)
	}
	return err
}

func takeDown(store cache.Dir, lab instance.Instance) error {
	unlock, err := lab.Lock(store, func() { fmt.Println("another command works on this lab; waiting for it") })
	if err != nil {
		return err
	}
	defer unlock()
	existed := lab.Exists()
	if err := lab.Stop(); err != nil {
		return err
	}
	if err := lab.Forget(); err != nil {
		return err
	}
	if existed {
		fmt.Printf("the lab %q is down\n", lab.Name)
	} else {
		fmt.Printf("there is no lab %q\n", lab.Name)
	}
	return nil
}
