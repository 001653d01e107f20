package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/build"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cache"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/progress"
)

func runBuild(ctx context.Context, arguments []string) error {
	flags := newFlags("build", "Builds what a lab needs and is missing; starts nothing.")
	if err := parseNoArguments(flags, arguments); err != nil {
		return err
	}
	builder, err := newBuilder(os.Stdout)
	if err != nil {
		return err
	}
	if _, err := builder.Everything(ctx); err != nil {
		return err
	}
	builder.Progress.Table()
	return nil
}

func runAssets(ctx context.Context, arguments []string) error {
	flags := newFlags("assets", "Prints a directory with kube-apiserver, etcd and kubectl, fit for KUBEBUILDER_ASSETS.\nBuilds them first where they are missing; progress goes to standard error.")
	if err := parseNoArguments(flags, arguments); err != nil {
		return err
	}
	builder, err := newBuilder(os.Stderr)
	if err != nil {
		return err
	}
	dir, err := builder.TestAssets(ctx)
	if err != nil {
		return err
	}
	fmt.Println(dir)
	return nil
}

func newBuilder(progressTo io.Writer) (*build.Builder, error) {
	store, err := cache.Open()
	if err != nil {
		return nil, err
	}
	checkout, err := findCheckout()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find this program's own file: %w", err)
	}
	return &build.Builder{Cache: store, Progress: progress.New(progressTo, time.Now), Checkout: checkout, Self: self}, nil
}
