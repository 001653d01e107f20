// Package build makes what a lab runs: the programs, the node's and the images'
// root file systems, and the images. Each product is made once and kept.
package build

import (
	"context"
	"fmt"
	"os"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cache"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/progress"
)

// Builder makes products in a cache and tells of its progress.
type Builder struct {
	Cache    cache.Dir
	Progress *progress.Reporter
	// Checkout is the repository's root directory.
	Checkout string
	// Self is this program, which runs itself inside namespaces.
	Self string
}

// recipe is how one product is made.
type recipe struct {
	product cache.Product
	doing   string
	make    func(ctx context.Context, dir string, stage *progress.Stage, log *os.File) error
}

// ensure returns the recipe's product, made now if it is missing.
func (b *Builder) ensure(ctx context.Context, r recipe) (string, error) {
	if b.Cache.Has(r.product) {
		b.Progress.Skip(r.product.Name, "kept from before")
		return b.Cache.Where(r.product), nil
	}
	stage := b.Progress.Start(r.product.Name, r.doing)
	waiting := func() { stage.Say("another lab command is building this; waiting for it") }
	dir, err := b.Cache.Ensure(r.product, waiting, func(dir string) error {
		log, err := os.Create(b.Cache.Log(r.product.Name))
		if err != nil {
			return fmt.Errorf("cannot write a log: %w", err)
		}
		defer log.Close()
		return r.make(ctx, dir, stage, log)
	})
	stage.End(err)
	if err != nil {
		return "", fmt.Errorf("%s: %w", r.product.Name, err)
	}
	return dir, nil
}
