// Package operatorimage builds the operator's container image with Go alone. It
// has to match the Dockerfile at the repository's root; a test compares them.
package operatorimage

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/image"
)

// Files maps each file of the image to the Go package it is built from.
var Files = map[string]string{
	"/manager": ".",
	"/probe":   "./cmd/probe",
}

// User is whom the image's containers run as.
const User = "65532:65532"

// version is what the operator says of itself when the lab has built it.
const version = "dev"

// Entrypoint is what they run.
var Entrypoint = []string{"/manager"}

// Build compiles the operator from checkout and writes its image, called tag,
// to the archive output. scratch is an empty directory.
func Build(ctx context.Context, checkout, scratch, tag, output string) error {
	var entries []image.Entry
	for path, source := range Files {
		binary := filepath.Join(scratch, filepath.Base(path))
		if err := compile(ctx, checkout, source, binary); err != nil {
			return err
		}
		entries = append(entries, image.Entry{Path: path, Source: binary, Mode: 0o755})
	}
	layer, err := image.LayerOf(scratch, "operator", entries)
	if err != nil {
		return err
	}
	return image.WriteAll(output, []image.Image{{
		Tag:    tag,
		Layers: []v1.Layer{layer},
		Config: v1.Config{User: User, Entrypoint: Entrypoint},
	}})
}

func compile(ctx context.Context, checkout, source, binary string) error {
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+version, "-o", binary, source)
	build.Dir = checkout
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-buildvcs=false")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("cannot compile %s of the operator: %w", source, err)
	}
	return nil
}
