package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func sourceFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPack(t *testing.T) {
	entries := []Entry{
		{Path: "/usr/bin/tool", Source: sourceFile(t, "content"), Mode: 0o755},
		{Path: "/usr/bin/alias", Link: "tool"},
		{Path: "/tmp", Mode: 0o1777},
	}
	var once, again bytes.Buffer
	if err := Pack(&once, entries); err != nil {
		t.Fatal(err)
	}
	if err := Pack(&again, []Entry{entries[2], entries[0], entries[1]}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(once.Bytes(), again.Bytes()) {
		t.Error("the order of the entries changes the layer")
	}
	type packed struct {
		name, link string
		kind       byte
		mode       int64
	}
	var got []packed
	for archive := tar.NewReader(&once); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, packed{header.Name, header.Linkname, header.Typeflag, header.Mode})
	}
	want := []packed{
		{"tmp/", "", tar.TypeDir, 0o1777},
		{"usr/", "", tar.TypeDir, 0o755},
		{"usr/bin/", "", tar.TypeDir, 0o755},
		{"usr/bin/alias", "tool", tar.TypeSymlink, 0o777},
		{"usr/bin/tool", "", tar.TypeReg, 0o755},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("packed %+v, expected %+v", got, want)
	}
}

func TestWriteAll(t *testing.T) {
	dir := t.TempDir()
	layer, err := LayerOf(dir, "layer", []Entry{{Path: "/tool", Source: sourceFile(t, "content"), Mode: 0o755}})
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "images.tar")
	err = WriteAll(archive, []Image{
		{Tag: "lab.local/one:1", Layers: []v1.Layer{layer}, Config: v1.Config{User: "7"}},
		{Tag: "lab.local/two:2", Layers: []v1.Layer{layer}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for tag, user := range map[string]string{"lab.local/one:1": "7", "lab.local/two:2": ""} {
		reference, err := name.NewTag(tag)
		if err != nil {
			t.Fatal(err)
		}
		image, err := tarball.ImageFromPath(archive, &reference)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil || config.Config.User != user || config.OS != "linux" {
			t.Errorf("%s: user %q on %q (%v)", tag, config.Config.User, config.OS, err)
		}
	}
	if err := WriteAll(archive, []Image{{Tag: "Not A Name"}}); err == nil {
		t.Error("an impossible image name passed")
	}
}

func TestResolveIn(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"usr/lib/arch", "etc/alternatives"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "usr/lib/arch/libx.so.1.2"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{
		"lib":                   "usr/lib",
		"usr/lib/arch/libx.so":  "/etc/alternatives/libx",
		"etc/alternatives/libx": "../../lib/arch/libx.so.1.2",
		"loop":                  "loop",
	} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ResolveIn(root, "/lib/arch/libx.so")
	if want := filepath.Join(root, "usr/lib/arch/libx.so.1.2"); err != nil || got != want {
		t.Errorf("resolved to %q (%v), expected %q", got, err, want)
	}
	for _, path := range []string{"/missing", "/loop"} {
		if got, err := ResolveIn(root, path); err == nil {
			t.Errorf("%s resolved to %q", path, got)
		}
	}
}
