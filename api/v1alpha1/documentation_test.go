package v1alpha1_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
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

var (
	fenced = regexp.MustCompile("(?ms)^```(yaml|sh)\n(.*?)^```$")
	// heredoc is what a command of shell reads from standard input.
	heredoc = regexp.MustCompile(`(?ms)<<'([A-Z]+)'$\n(.*?)^([A-Z]+)$`)
)

// What a person copies from a page is taken by the API server as it is.
func TestEveryProbeOnThePagesIsAccepted(t *testing.T) {
	ctx := needAPIServer(t)
	namespace := newNamespace(t, ctx)
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	readmes, err := filepath.Glob(filepath.Join("..", "..", "README*.md"))
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, page := range append(readmes, pages...) {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, shown := range probesIn(string(content)) {
			count++
			var object unstructured.Unstructured
			if err := yaml.Unmarshal([]byte(shown), &object.Object); err != nil {
				t.Errorf("%s: %v in\n%s", page, err, shown)
				continue
			}
			object.SetNamespace(namespace)
			if err := asClient.Create(ctx, &object, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict)); err != nil {
				t.Errorf("%s: %v in\n%s", page, err, shown)
			}
		}
	}
	if count < 4 {
		t.Errorf("only %d probes were found", count)
	}
}

// probesIn are the HTTPSMeshProbes in a page's blocks of YAML, and in what its commands read.
func probesIn(page string) []string {
	var probes []string
	for _, block := range fenced.FindAllStringSubmatch(page, -1) {
		texts := []string{block[2]}
		if block[1] == "sh" {
			texts = nil
			for _, here := range heredoc.FindAllStringSubmatch(block[2], -1) {
				texts = append(texts, here[2])
			}
		}
		for _, text := range texts {
			for _, document := range strings.Split(text, "\n---\n") {
				if strings.Contains("\n"+document, "\nkind: HTTPSMeshProbe\n") {
					probes = append(probes, document)
				}
			}
		}
	}
	return probes
}
