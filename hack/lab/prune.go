package main

import (
	"context"
	"fmt"
	"os"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cache"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/instance"
)

func runPrune(_ context.Context, arguments []string) error {
	flags := newFlags("prune", "Removes what was built for other versions than this checkout's and what no running\nlab uses.")
	if err := parseNoArguments(flags, arguments); err != nil {
		return err
	}
	if err := needRoot("prune"); err != nil {
		return err
	}
	builder, err := newBuilder(os.Stdout)
	if err != nil {
		return err
	}
	wanted, err := builder.Wanted()
	if err != nil {
		return err
	}
	keep, err := usedByLabs(builder.Cache)
	if err != nil {
		return err
	}
	for _, product := range wanted {
		keep[builder.Cache.Where(product)] = true
	}
	removed, err := builder.Cache.Prune(func(dir string) bool { return keep[dir] })
	for _, name := range removed {
		fmt.Println("removed", name)
	}
	return err
}

// usedByLabs are the products that running labs stand on.
func usedByLabs(store cache.Dir) (map[string]bool, error) {
	used := map[string]bool{}
	labs, err := instance.All(store)
	if err != nil {
		return nil, err
	}
	for _, lab := range labs {
		if _, ok := lab.Running(); !ok {
			continue
		}
		spec, err := lab.Spec()
		if err != nil {
			return nil, err
		}
		used[spec.Programs] = true
		used[spec.RootFSProduct()] = true
	}
	return used, nil
}
