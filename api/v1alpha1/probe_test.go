package v1alpha1_test

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// newNamespace makes a namespace of the test's own. There is no controller in these tests that could empty it again.
func newNamespace(t *testing.T, ctx context.Context) string {
	t.Helper()
	namespace := &corev1.Namespace{}
	namespace.GenerateName = "probes-"
	if err := asClient.Create(ctx, namespace); err != nil {
		t.Fatal(err)
	}
	return namespace.Name
}

// probe is a probe as a person writes it: its spec in YAML, with nothing filled in.
func probe(t *testing.T, namespace, name, spec string) *unstructured.Unstructured {
	t.Helper()
	written := &unstructured.Unstructured{}
	document := "apiVersion: meshprobe.dev/v1alpha1\nkind: HTTPSMeshProbe\nspec: " + spec
	if err := yaml.Unmarshal([]byte(document), &written.Object); err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	written.SetNamespace(namespace)
	written.SetName(name)
	return written
}

// complaint is what a person reads behind "is invalid:", without the API server's own remark that it looked no further.
func complaint(err error) string {
	if err == nil {
		return ""
	}
	_, said, _ := strings.Cut(err.Error(), " is invalid: ")
	said, cut := strings.CutSuffix(said, ", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]")
	if cut {
		said = strings.TrimPrefix(said, "[")
	}
	return said
}
