package plugin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	yamlreader "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// standardInput is the file name that stands for it.
const standardInput = "-"

// document is a probe that was read from a file, and where from.
type document struct {
	place string
	probe *api.HTTPSMeshProbe
}

// reader reads probes from files and folders. Notes are about documents that were left out.
type reader struct {
	stdin io.Reader
	notes []string
}

// read returns the probes in files and folders, in the order of their names. In a folder documents of other kinds are left
// out; in a file that was named they are an error.
func (r *reader) read(ctx context.Context, paths []string) ([]document, error) {
	var all []document
	for _, path := range paths {
		found, err := r.readPath(ctx, path)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, failure("there is no %s in %s", api.Kind, placeOf(path))
		}
		all = append(all, found...)
	}
	return all, nil
}

func (r *reader) readPath(ctx context.Context, path string) ([]document, error) {
	if path == standardInput {
		content, err := readAll(ctx, r.stdin)
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return r.parse(placeOf(path), content, false)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if !info.IsDir() {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, unreadable(path, err)
		}
		return r.parse(path, content, false)
	}
	var all []document
	err = filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return unreadable(file, err)
		}
		if entry.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(file)) {
			return nil
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return unreadable(file, err)
		}
		found, err := r.parse(file, content, true)
		all = append(all, found...)
		return err
	})
	return all, err
}

// placeOf is how a file is called in messages.
func placeOf(path string) string {
	if path == standardInput {
		return "standard input"
	}
	return path
}

func unreadable(path string, err error) error {
	var problem *fs.PathError
	if errors.As(err, &problem) {
		err = problem.Err
	}
	return failure("cannot read %s: %v", path, err)
}

// readAll reads until the end or until ctx ends: a person who is to type the input may want to leave.
func readAll(ctx context.Context, from io.Reader) ([]byte, error) {
	type result struct {
		content []byte
		err     error
	}
	done := make(chan result, 1)
	go func() {
		content, err := io.ReadAll(from)
		done <- result{content, err}
	}()
	select {
	case r := <-done:
		return r.content, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// parse reads the documents of one file.
func (r *reader) parse(file string, content []byte, lenient bool) ([]document, error) {
	var found []document
	documents := yamlreader.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	for number := 1; ; number++ {
		text, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, failure("%s: %s", file, oneLine(err.Error()))
		}
		place := file
		if number > 1 {
			place = fmt.Sprintf("%s, document %d", file, number)
		}
		probes, err := r.parseDocument(place, text, lenient)
		if err != nil {
			return nil, err
		}
		found = append(found, probes...)
	}
}

func (r *reader) parseDocument(place string, text []byte, lenient bool) ([]document, error) {
	object := map[string]any{}
	if err := yaml.Unmarshal(text, &object); err != nil {
		if lenient {
			r.note("%s is left out: %s", place, oneLine(err.Error()))
			return nil, nil
		}
		return nil, failure("%s: %s", place, oneLine(err.Error()))
	}
	if len(object) == 0 {
		return nil, nil // comments alone
	}
	head := unstructured.Unstructured{Object: object}
	if items, ok := object["items"].([]any); ok && strings.HasSuffix(head.GetKind(), "List") {
		return r.parseItems(place, items, lenient)
	}
	if err := isProbe(head); err != nil {
		if lenient && head.GroupVersionKind().Group != api.GroupVersion.Group && head.GetKind() != api.Kind {
			r.note("%s is left out: %v", place, err)
			return nil, nil
		}
		return nil, failure("%s: %v", place, err)
	}
	probe := &api.HTTPSMeshProbe{}
	if err := yaml.UnmarshalStrict(text, probe); err != nil {
		return nil, failure("%s: %s", place, plainDecodeError(err))
	}
	if probe.Spec.Suspend {
		return nil, failure("%s: spec.suspend is true, so it would never run", place)
	}
	return []document{{place, probe}}, nil
}

// parseItems reads a list, such as kubectl get -o yaml prints.
func (r *reader) parseItems(place string, items []any, lenient bool) ([]document, error) {
	var found []document
	for i, item := range items {
		text, err := yaml.Marshal(item)
		if err != nil {
			return nil, err
		}
		probes, err := r.parseDocument(fmt.Sprintf("%s, item %d", place, i+1), text, lenient)
		if err != nil {
			return nil, err
		}
		found = append(found, probes...)
	}
	return found, nil
}

func (r *reader) note(format string, values ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, values...))
}

func isProbe(head unstructured.Unstructured) error {
	want := api.GroupVersion.WithKind(api.Kind)
	switch {
	case head.GetKind() == "":
		return fmt.Errorf("it has no kind, and is to be a %s (%s)", api.Kind, api.GroupVersion)
	case head.GroupVersionKind() == want:
		return nil
	case head.GetKind() == api.Kind:
		return fmt.Errorf("apiVersion is %q, and is to be %s", head.GetAPIVersion(), api.GroupVersion)
	default:
		return fmt.Errorf("it is a %s, and is to be a %s", head.GetKind(), api.Kind)
	}
}

// plainDecodeError leaves out how the decoder came to it.
func plainDecodeError(err error) string {
	text := oneLine(err.Error())
	for _, prefix := range []string{"error unmarshaling JSON: ", "error converting YAML to JSON: ", "while decoding JSON: ", "json: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return text
}
