package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

func TestGeneratedFilesAreFresh(t *testing.T) {
	root := filepath.Join("..", "..")
	files, err := generate(root)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range files {
		got, err := os.ReadFile(filepath.Join(root, path))
		if err != nil || string(got) != string(want) {
			t.Errorf("%s is stale (%v): make manifests", path, err)
		}
	}
	const folder = "charts/httpsmeshprobe/files"
	kept, err := os.ReadDir(filepath.Join(root, folder))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range kept {
		if files[folder+"/"+file.Name()] == nil {
			t.Errorf("%s/%s is not generated, and nothing else belongs there", folder, file.Name())
		}
	}
}

// An operator for one namespace has every right there that the operator for the cluster has in it, and no other.
func TestNoRightIsLostOnTheWayIntoOneNamespace(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "rbac", "role.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	has, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	want := slices.DeleteFunc(single(slices.Concat(has.everywhere, has.own)), func(right string) bool {
		return slices.ContainsFunc([]string{"/namespaces ", "/tokenreviews ", "/subjectaccessreviews "}, func(resource string) bool {
			return strings.Contains(right, resource)
		})
	})
	if got := single(inOneNamespace(has)); !slices.Equal(got, want) {
		t.Errorf("rights in one namespace: got %v, want %v", got, want)
	}
	mesh := []string{
		"/configmaps get", "/configmaps list", "/configmaps watch",
		"networking.istio.io/destinationrules get", "networking.istio.io/destinationrules list", "networking.istio.io/destinationrules watch",
		"security.istio.io/authorizationpolicies list",
		"security.istio.io/peerauthentications get", "security.istio.io/peerauthentications list", "security.istio.io/peerauthentications watch",
	}
	if got := single(meshReader(has)); !slices.Equal(got, mesh) {
		t.Errorf("rights in Istio's namespace: got %v, want %v", got, mesh)
	}
}

// single takes rules apart into one line for every right.
func single(rules []rbacv1.PolicyRule) []string {
	var rights []string
	for _, rule := range rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					rights = append(rights, group+"/"+resource+" "+verb)
				}
			}
		}
	}
	slices.Sort(rights)
	return slices.Compact(rights)
}
