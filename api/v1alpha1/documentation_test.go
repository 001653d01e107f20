package v1alpha1_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// schema is the schema of the resource definition that is deployed.
func schema(t *testing.T) map[string]any {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "config", "crd", "meshprobe.dev_httpsmeshprobes.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var definition map[string]any
	if err := yaml.Unmarshal(content, &definition); err != nil {
		t.Fatal(err)
	}
	versions, _, err := unstructured.NestedSlice(definition, "spec", "versions")
	if err != nil || len(versions) != 1 {
		t.Fatalf("%d versions: %v", len(versions), err)
	}
	root, ok, err := unstructured.NestedMap(versions[0].(map[string]any), "schema", "openAPIV3Schema")
	if err != nil || !ok {
		t.Fatalf("no schema: %v", err)
	}
	return root
}

// eachField calls visit for a schema and all that lie in it.
func eachField(path string, field map[string]any, visit func(path string, field map[string]any)) {
	visit(path, field)
	properties, _, _ := unstructured.NestedMap(field, "properties")
	for name, property := range properties {
		eachField(path+"."+name, property.(map[string]any), visit)
	}
	if items, ok := field["items"].(map[string]any); ok {
		eachField(path+"[]", items, visit)
	}
}

// kubectl explain shows the descriptions of the schema and nothing else.
func TestEveryFieldIsExplained(t *testing.T) {
	fields := 0
	eachField("hmp", schema(t), func(path string, field map[string]any) {
		fields++
		description, _ := field["description"].(string)
		// The API server explains metadata itself.
		if path != "hmp.metadata" && strings.TrimSpace(description) == "" {
			t.Errorf("%s has no description", path)
		}
		// Our own texts begin with the field's name, as Go comments do, and end with a full stop.
		name := path[strings.LastIndex(path, ".")+1:]
		ours := strings.HasPrefix(path, "hmp.spec.") || strings.HasPrefix(path, "hmp.status.") && !strings.Contains(path, "conditions[]")
		if ours && !strings.HasSuffix(name, "[]") && (!strings.HasPrefix(description, name) || !strings.HasSuffix(description, ".")) {
			t.Errorf("%s is explained as %q", path, description)
		}
	})
	if fields < 30 {
		t.Errorf("only %d fields were found", fields)
	}
}

// Lists and strings without a limit make a status that the API server may refuse to store.
func TestEverythingInTheStatusIsBounded(t *testing.T) {
	status := schema(t)["properties"].(map[string]any)["status"].(map[string]any)
	eachField("hmp.status", status, func(path string, field map[string]any) {
		_, hasLength := field["maxLength"]
		_, hasItems := field["maxItems"]
		_, hasEnum := field["enum"]
		switch {
		// Written from durations, never from what a peer sent.
		case path == "hmp.status.paths[].latency", path == "hmp.status.lastPolicyChange.settledAfter":
		case field["type"] == "string" && field["format"] == nil && !hasLength && !hasEnum:
			t.Errorf("%s is a string without limit", path)
		case field["type"] == "array" && !hasItems:
			t.Errorf("%s is a list without limit", path)
		}
	})
}

// Without a message a person reads the rule itself.
func TestEveryRuleHasAMessage(t *testing.T) {
	rules := 0
	eachField("hmp", schema(t), func(path string, field map[string]any) {
		validations, _ := field["x-kubernetes-validations"].([]any)
		for _, validation := range validations {
			rules++
			if message, _ := validation.(map[string]any)["message"].(string); len(message) < 20 {
				t.Errorf("%s: a rule says only %q", path, message)
			}
		}
	})
	if rules == 0 {
		t.Error("no rules were found")
	}
}
