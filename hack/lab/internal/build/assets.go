package build

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cache"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/progress"
)

//go:embed assets.go
var assetsRecipe string

// Assets returns a directory with kube-apiserver, etcd and kubectl as
// controller-runtime's test environment looks for them.
func (b *Builder) Assets(ctx context.Context, programs, rootfs string) (string, error) {
	return b.ensure(ctx, recipe{
		product: assetsProduct(programs, rootfs),
		doing:   "linking kube-apiserver, etcd and kubectl",
		make: func(_ context.Context, dir string, _ *progress.Stage, _ *os.File) error {
			return linkAssets(dir, programs, filepath.Join(rootfs, nodeRootDir))
		},
	})
}

func assetsProduct(programs, rootfs string) cache.Product {
	return cache.Product{Name: "assets", Key: cache.Key(assetsRecipe, programs, rootfs)}
}

func linkAssets(dir, programs, nodeRoot string) error {
	for _, name := range []string{"kube-apiserver", "kubectl"} {
		if err := os.Symlink(filepath.Join(programs, name), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("cannot link %s: %w", name, err)
		}
	}
	// Debian's etcd wants Debian's C library, which need not be this machine's:
	// it is started by the loader of the root file system it comes from.
	script := fmt.Sprintf("#!/bin/sh\nexec '%[1]s/lib64/ld-linux-x86-64.so.2' --library-path '%[1]s/lib/x86_64-linux-gnu' '%[1]s/usr/bin/etcd' \"$@\"\n", nodeRoot)
	if err := os.WriteFile(filepath.Join(dir, "etcd"), []byte(script), 0o755); err != nil {
		return fmt.Errorf("cannot write etcd's starter: %w", err)
	}
	return nil
}
