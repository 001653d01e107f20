package operatorimage

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// dockerfile is what a Dockerfile says of the image it makes.
type dockerfile struct {
	// base is what the final stage starts from.
	base string
	// copied maps each file of the final stage to the file it is copied from.
	copied map[string]string
	// fromStage names the stages that files are copied from.
	fromStage  map[string]bool
	user       string
	entrypoint []string
	// labels have the build arguments that they are filled with for values.
	labels map[string]string
	// builds are the commands run in the stages before.
	builds string
	// unknown are instructions of the final stage that the lab has no like of.
	unknown []string
}

func TestImageMatchesDockerfile(t *testing.T) {
	file := readDockerfile(t, filepath.Join("..", "..", "..", "Dockerfile"))
	if file.base != "scratch" {
		t.Errorf("the Dockerfile's final stage starts from %q and the lab's image from scratch", file.base)
	}
	want := slices.Sorted(maps.Keys(Files))
	if got := slices.Sorted(maps.Keys(file.copied)); !slices.Equal(got, want) {
		t.Errorf("the Dockerfile's image holds %q and the lab's %q", got, want)
	}
	if file.user != User {
		t.Errorf("the Dockerfile's image runs as %q and the lab's as %q", file.user, User)
	}
	if !slices.Equal(file.entrypoint, Entrypoint) {
		t.Errorf("the Dockerfile's image starts %q and the lab's %q", file.entrypoint, Entrypoint)
	}
	if labels := (Stamp{Version: "$VERSION", Revision: "$REVISION", Created: "$CREATED"}).Labels(); !maps.Equal(file.labels, labels) {
		t.Errorf("the Dockerfile's image is labelled\n%q and ours\n%q", file.labels, labels)
	}
	if len(file.unknown) > 0 {
		t.Errorf("the Dockerfile's final stage does what the lab does not: %q", file.unknown)
	}
	if len(file.fromStage) != 1 {
		t.Errorf("the Dockerfile copies from the stages %v; expected one that compiles", file.fromStage)
	}
	for path, source := range Files {
		if build := "-o " + file.copied[path] + " " + source; !strings.Contains(file.builds, build) {
			t.Errorf("the Dockerfile does not build %s from the package %s as the lab does: it lacks %q", path, source, build)
		}
	}
	for _, flag := range []string{"CGO_ENABLED=0", "-trimpath", "-X main.version=$VERSION"} {
		if got := strings.Count(file.builds, flag); got != len(Files) {
			t.Errorf("the Dockerfile compiles %d of %d programs with %s, as the lab does", got, len(Files), flag)
		}
	}
}

func readDockerfile(t *testing.T, path string) dockerfile {
	t.Helper()
	content, err := os.Open(path)
	if err != nil {
		t.Fatalf("cannot read the Dockerfile at the repository's root: %v", err)
	}
	defer content.Close()
	parsed, err := parser.Parse(content)
	if err != nil {
		t.Fatalf("the Dockerfile does not parse: %v", err)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatalf("the Dockerfile does not parse: %v", err)
	}
	last := len(stages) - 1
	file := dockerfile{base: stages[last].BaseName, copied: map[string]string{}, labels: map[string]string{}, fromStage: map[string]bool{}}
	for _, stage := range stages[:last] {
		for _, command := range stage.Commands {
			if run, ok := command.(*instructions.RunCommand); ok {
				file.builds += strings.Join(run.CmdLine, " ") + "\n"
			}
		}
	}
	for _, command := range stages[last].Commands {
		file.read(command)
	}
	return file
}

// read takes in one instruction of the final stage.
func (d *dockerfile) read(command instructions.Command) {
	switch c := command.(type) {
	case *instructions.CopyCommand:
		for _, source := range c.SourcePaths {
			d.copied[c.DestPath] = source
		}
		d.fromStage[c.From] = true
	case *instructions.UserCommand:
		d.user = c.User
	case *instructions.EntrypointCommand:
		if !c.PrependShell {
			d.entrypoint = c.CmdLine
		}
	case *instructions.LabelCommand:
		for _, label := range c.Labels {
			d.labels[label.Key] = strings.Trim(label.Value, `"`)
		}
	case *instructions.ArgCommand:
	default:
		d.unknown = append(d.unknown, command.Name())
	}
}
