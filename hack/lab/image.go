package main

import (
	"context"
	"fmt"
	"os"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/versions"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/operatorimage"
)

func runImage(ctx context.Context, arguments []string) error {
	flags := newFlags("image -o OUT.tar", "Builds the operator's image, as the Dockerfile does, without a container engine.")
	output := flags.String("o", "", "the archive to write")
	tag := flags.String("tag", versions.OperatorImage, "the image's `name`")
	if err := parseNoArguments(flags, arguments); err != nil {
		return err
	}
	if *output == "" {
		return fmt.Errorf("lab image needs -o OUT.tar, the archive to write")
	}
	checkout, err := findCheckout()
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "lab-image-")
	if err != nil {
		return fmt.Errorf("cannot make a directory to build the image in: %w", err)
	}
	defer os.RemoveAll(scratch)
	if err := operatorimage.Build(ctx, checkout, scratch, *tag, *output); err != nil {
		return err
	}
	fmt.Printf("wrote %s as %s\n", *tag, *output)
	return nil
}
