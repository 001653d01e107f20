package build

import (
	"context"
	"sync"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cache"
)

// Products are the directories of everything a lab runs on.
type Products struct {
	Programs, RootFS, Envoy, Images string
}

// Everything makes all products. Downloads and unpacking run beside the
// compilers: they mostly wait for the network and the disk.
func (b *Builder) Everything(ctx context.Context) (Products, error) {
	if err := b.checkMachine(); err != nil {
		return Products{}, err
	}
	var p Products
	err := sideBySide(ctx,
		func(ctx context.Context) (err error) { p.Programs, err = b.Programs(ctx); return err },
		func(ctx context.Context) (err error) { p.RootFS, err = b.RootFS(ctx); return err },
		func(ctx context.Context) (err error) { p.Envoy, err = b.Envoy(ctx); return err },
	)
	if err != nil {
		return Products{}, err
	}
	p.Images, err = b.Images(ctx, p)
	return p, err
}

// Wanted are the products that this checkout would use, built or not.
func (b *Builder) Wanted() ([]cache.Product, error) {
	programs, err := programsProduct(b.Checkout)
	if err != nil {
		return nil, err
	}
	p := Products{
		Programs: b.Cache.Where(programs),
		RootFS:   b.Cache.Where(rootfsProduct()),
		Envoy:    b.Cache.Where(envoyProduct()),
	}
	return []cache.Product{programs, rootfsProduct(), envoyProduct(), imagesProduct(p), assetsProduct(p.Programs, p.RootFS)}, nil
}

// TestAssets makes only what tests against a bare API server need.
func (b *Builder) TestAssets(ctx context.Context) (string, error) {
	if err := b.checkMachine(); err != nil {
		return "", err
	}
	var p Products
	err := sideBySide(ctx,
		func(ctx context.Context) (err error) { p.Programs, err = b.Programs(ctx); return err },
		func(ctx context.Context) (err error) { p.RootFS, err = b.RootFS(ctx); return err },
	)
	if err != nil {
		return "", err
	}
	return b.Assets(ctx, p.Programs, p.RootFS)
}

// sideBySide runs the tasks at once and returns the first error. The others are
// told to stop then, and have stopped when it returns.
func sideBySide(ctx context.Context, tasks ...func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	var once sync.Once
	var first error
	for _, task := range tasks {
		group.Go(func() {
			if err := task(ctx); err != nil {
				once.Do(func() { first = err })
				cancel(err)
			}
		})
	}
	group.Wait()
	return first
}
