package operatorimage

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// A module of two tiny programs stands in for the operator: what is tested is
// the image around them.
func TestBuildHoldsTheProgramsAndNothingElse(t *testing.T) {
	checkout := t.TempDir()
	write(t, filepath.Join(checkout, "go.mod"), "module example.test/operator\n\ngo 1.26\n")
	write(t, filepath.Join(checkout, "main.go"), "package main\n\nvar version string\n\nfunc main() { println(version) }\n")
	write(t, filepath.Join(checkout, "cmd", "probe", "main.go"), "package main\n\nfunc main() {}\n")
	output := filepath.Join(t.TempDir(), "image.tar")
	const tag = "lab.local/tried:1"
	if err := Build(context.Background(), checkout, t.TempDir(), tag, output); err != nil {
		t.Fatal(err)
	}

	reference, err := name.NewTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(output, &reference)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != User || len(config.Config.Entrypoint) != 1 || config.Config.Entrypoint[0] != Entrypoint[0] {
		t.Errorf("the image runs %q as %q", config.Config.Entrypoint, config.Config.User)
	}
	files := mutate.Extract(image)
	defer files.Close()
	found := executables(t, files)
	if len(found) != len(Files) {
		t.Errorf("the image holds %v, expected exactly %v", found, Files)
	}
	for path := range Files {
		if !found[path] {
			t.Errorf("the image lacks an executable %s; it holds %v", path, found)
		}
	}
}

// executables lists the files of a tar archive and whether all may run each.
func executables(t *testing.T, from io.Reader) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	archive := tar.NewReader(from)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeReg {
			found["/"+header.Name] = header.Mode&0o111 == 0o111
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
