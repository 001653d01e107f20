package operatorimage

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
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

func TestTheIndexHoldsAnImageForEachArchitecture(t *testing.T) {
	checkout := t.TempDir()
	write(t, filepath.Join(checkout, "go.mod"), "module example.test/operator\n\ngo 1.26\n")
	write(t, filepath.Join(checkout, "main.go"), "package main\n\nvar version string\n\nfunc main() { println(version) }\n")
	write(t, filepath.Join(checkout, "cmd", "probe", "main.go"), "package main\n\nvar version string\n\nfunc main() { println(version) }\n")
	stamp := Stamp{Version: "v1.2.3", Revision: "0123abc", Created: "2026-01-02T03:04:05Z"}
	var digests []string
	var where string
	for range 2 {
		where = t.TempDir()
		digest, err := BuildIndex(context.Background(), checkout, t.TempDir(), []string{"amd64", "arm64"}, stamp, "v1.2.3", where)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest)
	}
	if digests[0] != digests[1] {
		t.Errorf("built twice, the index has the digests %s", digests)
	}

	index := indexIn(t, where, digests[0])
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	for _, descriptor := range manifest.Manifests {
		image, err := index.Image(descriptor.Digest)
		if err != nil {
			t.Fatal(err)
		}
		machine := machines[descriptor.Platform.Architecture]
		delete(machines, descriptor.Platform.Architecture)
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Architecture != descriptor.Platform.Architecture || config.OS != "linux" || descriptor.Platform.OS != "linux" {
			t.Errorf("an image for %s/%s is listed for %s", config.OS, config.Architecture, descriptor.Platform)
		}
		if !maps.Equal(config.Config.Labels, stamp.Labels()) || !config.Created.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
			t.Errorf("%s: made at %s and labelled %q", config.Architecture, config.Created, config.Config.Labels)
		}
		checkPrograms(t, image, machine)
	}
	if len(machines) > 0 {
		t.Errorf("the index has no image for %v", machines)
	}
}

// indexIn reads the index with a digest from an image layout, in which it is the only one.
func indexIn(t *testing.T, layoutPath, digest string) v1.ImageIndex {
	t.Helper()
	all, err := layout.ImageIndexFromPath(layoutPath)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := all.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest.String() != digest {
		t.Fatalf("the layout holds %v, expected %s", manifest.Manifests, digest)
	}
	index, err := all.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// checkPrograms looks whether the image's programs are static ones for a machine.
func checkPrograms(t *testing.T, image v1.Image, machine elf.Machine) {
	t.Helper()
	files := mutate.Extract(image)
	defer files.Close()
	count := 0
	for archive := tar.NewReader(files); ; count++ {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		program, err := elf.NewFile(bytes.NewReader(content))
		if err != nil {
			t.Fatalf("%s is no program: %v", header.Name, err)
		}
		for _, part := range program.Progs {
			if part.Type == elf.PT_INTERP {
				t.Errorf("%s is linked dynamically", header.Name)
			}
		}
		if program.Machine != machine || header.Mode != 0o755 {
			t.Errorf("%s is for %s, with mode %o", header.Name, program.Machine, header.Mode)
		}
	}
	if count != len(Files) {
		t.Errorf("the image holds %d files, expected %v", count, Files)
	}
}
