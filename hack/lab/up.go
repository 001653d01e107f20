package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/build"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/instance"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/istio"
)

// patience is how long each part of a starting cluster may take. A machine with
// two busy cores needs a small part of it.
const patience = 3 * time.Minute

func runUp(ctx context.Context, arguments []string) error {
	flags := newFlags("up", "Builds what is missing, starts what is not running, and waits until the node, DNS and\nIstio are ready. Called again, it does only what is left to do.")
	name := nameFlag(flags)
	if err := parseNoArguments(flags, arguments); err != nil {
		return err
	}
	builder, err := newBuilder(os.Stdout)
	if err != nil {
		return err
	}
	products, err := builder.Everything(ctx)
	if err != nil {
		return err
	}
	lab := instance.Named(builder.Cache, name.String())
	unlock, err := lab.Lock(builder.Cache, func() { fmt.Println("another command works on this lab; waiting for it") })
	if err != nil {
		return err
	}
	defer unlock()
	if err := bringUp(ctx, builder, lab, products); err != nil {
		return err
	}
	builder.Progress.Table()
	fmt.Printf("\nThe lab %q is up. To use it in this shell:\n\n  eval \"$(%s --name %s env)\"\n  kubectl get pods -A\n\n", lab.Name, os.Args[0], lab.Name)
	return nil
}

func bringUp(ctx context.Context, builder *build.Builder, lab instance.Instance, products build.Products) error {
	if err := startNode(builder, lab, products); err != nil {
		return err
	}
	steps := []struct {
		name, doing string
		do          func() error
	}{
		{"api server", "waiting for etcd and the API server", func() error { return lab.WaitForAPI(ctx, patience) }},
		{"permissions", "giving the lab's programs their rights", func() error { return lab.GrantPermissions(ctx) }},
		{"node", "waiting for the kubelet and the pod network", func() error { return lab.WaitForNode(ctx, patience) }},
		{"dns", "waiting for CoreDNS", func() error { return lab.WaitForDNS(ctx, patience) }},
		{"istio", "installing Istio, and waiting for istiod", func() error {
			return istio.Install(ctx, lab, filepath.Join(products.Programs, "istioctl"), patience)
		}},
	}
	for _, step := range steps {
		stage := builder.Progress.Start(step.name, step.doing)
		err := step.do()
		stage.End(err)
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// startNode starts the node if it does not run, on ground that is clear of
// whatever an earlier one left.
func startNode(builder *build.Builder, lab instance.Instance, products build.Products) error {
	if said, err := instance.RaiseInotify(builder.Cache); err != nil {
		return err
	} else if said != "" {
		fmt.Println(said)
	}
	if _, ok := lab.Running(); ok {
		builder.Progress.Skip("start", "runs already")
		return nil
	}
	stage := builder.Progress.Start("start", "starting the node in namespaces of its own")
	err := lab.Sweep()
	if err == nil {
		err = instance.LoadKernelModules(stage.Say)
	}
	if err == nil {
		err = lab.Start(instance.Material{
			RootFS: build.NodeRoot(products), Programs: products.Programs, Images: products.Images, Self: builder.Self,
		})
	}
	stage.End(err)
	return err
}
