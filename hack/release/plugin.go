package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"
)

//go:embed krew.yaml.tmpl
var krewTemplate string

const plugin = "kubectl-meshprobe"

// pluginArchive is what the krew manifest says of one platform.
type pluginArchive struct {
	OS, Architecture, File, Program, SHA256 string
}

// buildPlugin writes an archive and an SBOM of the kubectl plugin for each platform, and the krew manifest that names the
// archives.
func (b *build) buildPlugin(ctx context.Context) error {
	license, err := os.ReadFile(filepath.Join(b.Checkout, "LICENSE"))
	if err != nil {
		return err
	}
	var archives []pluginArchive
	for _, p := range b.Platforms {
		archive, err := b.archivePlugin(ctx, p, license)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		archives = append(archives, archive)
	}
	return b.writeKrewManifest(archives)
}

func (b *build) archivePlugin(ctx context.Context, p platform, license []byte) (pluginArchive, error) {
	name := fmt.Sprintf("%s_%s_%s", plugin, b.Version, p)
	archive := pluginArchive{OS: p.OS, Architecture: p.Architecture, File: name + ".tar.gz", Program: plugin}
	write := writeTarGz
	if p.OS == "windows" {
		archive.File, archive.Program, write = name+".zip", plugin+".exe", writeZip
	}
	program := filepath.Join(b.scratch, name)
	if err := b.compile(ctx, p, "./cmd/"+plugin, program); err != nil {
		return archive, err
	}
	if err := b.writeSBOM(ctx, p, program, name); err != nil {
		return archive, err
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return archive, err
	}
	path := filepath.Join(b.Output, archive.File)
	files := []packed{{archive.Program, content, 0o755}, {"LICENSE", license, 0o644}}
	if err := write(path, files, b.Time); err != nil {
		return archive, err
	}
	archive.SHA256, err = checksum(path)
	return archive, err
}

func (b *build) compile(ctx context.Context, p platform, source, program string) error {
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+b.Version, "-o", program, source)
	command.Dir = b.Checkout
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.OS, "GOARCH="+p.Architecture, "GOWORK=off", "GOFLAGS=-buildvcs=false")
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	return command.Run()
}

func (b *build) writeKrewManifest(archives []pluginArchive) error {
	manifest, err := template.New("krew.yaml.tmpl").Option("missingkey=error").Parse(krewTemplate)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	values := struct {
		Version  string
		Archives []pluginArchive
	}{b.Version, archives}
	if err := manifest.Execute(&out, values); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.Output, "meshprobe.yaml"), out.Bytes(), 0o644)
}

func checksum(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:]), nil
}
