// Package operatorimage builds the operator's container image with Go alone, for
// the lab and for releases. It has to match the Dockerfile at the repository's
// root; a test compares them.
package operatorimage

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

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

// Entrypoint is what they run.
var Entrypoint = []string{"/manager"}

// Stamp says what an image was made of. Revision and Created are empty where
// that is not known.
type Stamp struct {
	// Version is what the programs say of themselves.
	Version string
	// Revision is the commit.
	Revision string
	// Created is a time as RFC 3339 spells it.
	Created string
}

// Labels are the image's labels (OCI image-spec, annotations.md).
func (s Stamp) Labels() map[string]string {
	labels := map[string]string{
		"org.opencontainers.image.title":    "HTTPSMeshProbe",
		"org.opencontainers.image.source":   "https://github.com/meshprobe/httpsmeshprobe",
		"org.opencontainers.image.licenses": "Apache-2.0",
		"org.opencontainers.image.version":  s.Version,
	}
	for name, value := range map[string]string{"revision": s.Revision, "created": s.Created} {
		if value != "" {
			labels["org.opencontainers.image."+name] = value
		}
	}
	return labels
}

func (s Stamp) config() v1.Config {
	return v1.Config{User: User, Entrypoint: Entrypoint, Labels: s.Labels()}
}

// Build compiles the operator from checkout for this machine and writes its
// image, called tag, to the archive output. scratch is an empty directory.
func Build(ctx context.Context, checkout, scratch, tag, output string) error {
	stamp := Stamp{Version: "dev"}
	entries, err := compileAll(ctx, checkout, scratch, runtime.GOARCH, stamp)
	if err != nil {
		return err
	}
	layer, err := image.LayerOf(scratch, "operator", entries)
	if err != nil {
		return err
	}
	return image.WriteAll(output, []image.Image{{Tag: tag, Layers: []v1.Layer{layer}, Config: stamp.config()}})
}

// BuildIndex compiles the operator for Linux on several architectures and writes
// an OCI image layout, with an index of all of them named ref, into the directory
// output. The programs stay in scratch, an empty directory, as manager_ARCH and
// probe_ARCH. It returns the index's digest.
func BuildIndex(ctx context.Context, checkout, scratch string, architectures []string, stamp Stamp, ref, output string) (string, error) {
	created, err := time.Parse(time.RFC3339, stamp.Created)
	if err != nil {
		return "", fmt.Errorf("the image's time %q is none: %w", stamp.Created, err)
	}
	var images []image.ForPlatform
	for _, architecture := range architectures {
		entries, err := compileAll(ctx, checkout, scratch, architecture, stamp)
		if err != nil {
			return "", err
		}
		images = append(images, image.ForPlatform{
			Architecture: architecture, Entries: entries, Config: stamp.config(), Created: created,
		})
	}
	digest, err := image.WriteIndex(output, scratch, ref, images)
	return digest.String(), err
}

func compileAll(ctx context.Context, checkout, scratch, architecture string, stamp Stamp) ([]image.Entry, error) {
	var entries []image.Entry
	for path, source := range Files {
		binary := filepath.Join(scratch, filepath.Base(path)+"_"+architecture)
		if err := compile(ctx, checkout, source, binary, architecture, stamp.Version); err != nil {
			return nil, err
		}
		entries = append(entries, image.Entry{Path: path, Source: binary, Mode: 0o755})
	}
	return entries, nil
}

func compile(ctx context.Context, checkout, source, binary, architecture, version string) error {
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+version, "-o", binary, source)
	build.Dir = checkout
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+architecture, "GOWORK=off", "GOFLAGS=-buildvcs=false")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("cannot compile %s of the operator for %s: %w", source, architecture, err)
	}
	return nil
}
