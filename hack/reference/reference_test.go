package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestThePageIsUpToDate(t *testing.T) {
	root := filepath.Join("..", "..")
	want, err := reference(root)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is stale: run make manifests generate", page)
	}
}

func TestThePageSaysWhatIsAskedOfIt(t *testing.T) {
	text, err := reference(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"| `target.sidecar` | word | *required* |",
		"| `target.service.port` | integer or string | `443` |",
		"| `interval` | string | `1m` |",
		"Refused with “interval must be 5s or more”.",
		"| `paths[].endpoints.examples[].address` | string |  |",
		"| `RefusedByMesh` | True | The server's sidecar demanded",
		"| MTLSMode | `STRICT` | Accepts mutual TLS alone. |",
		"| `Ready` | True while every path is verified",
		"`meshprobe.dev/requestedAt` asks for a run at once",
		"| MESSAGE | `status.conditions",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("the page lacks %q", line)
		}
	}
}

// Every property of the schema has a row, whatever the Go source calls it.
func TestNoFieldIsLeftOut(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := reference(root)
	if err != nil {
		t.Fatal(err)
	}
	d, err := readDefinition(filepath.Join(root, "config", "crd", "meshprobe.dev_httpsmeshprobes.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	fields := 0
	var visit func(prefix string, s schema)
	visit = func(prefix string, s schema) {
		for name, property := range s.Properties {
			// A condition is Kubernetes' own type, which is explained there.
			if prefix == "conditions[]." {
				continue
			}
			fields++
			if !strings.Contains(text, "| `"+prefix+name+"` |") {
				t.Errorf("%s%s has no row", prefix, name)
			}
			if property.Items != nil {
				visit(prefix+name+"[].", *property.Items)
			}
			visit(prefix+name+".", property)
		}
	}
	properties := d.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties
	visit("", properties["spec"])
	visit("", properties["status"])
	if fields < 50 {
		t.Errorf("only %d fields were found", fields)
	}
}
