// Command generate writes what follows from config/crd, config/rbac, config/admission and config/prometheus, so that nothing
// is written down twice: the Roles of an operator for one namespace, the chart's copies of them all, and its values in docs/install.md. Run it at the repository's root,
// after controller-gen: go run ./config/generate
package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

const header = "# Generated from config/ by: make manifests\n"

func main() {
	files, err := generate(".")
	if err != nil {
		log.Fatal(err)
	}
	for path, text := range files {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

// rights are what the operator may do: everywhere, and in its own namespace.
type rights struct{ everywhere, own []rbacv1.PolicyRule }

// generate returns the contents of all generated files, by their paths from the repository's root.
func generate(root string) (map[string][]byte, error) {
	read := func(path string) ([]byte, error) { return os.ReadFile(filepath.Join(root, path)) }
	roles, err := read("config/rbac/role.yaml")
	if err != nil {
		return nil, err
	}
	has, err := parse(roles)
	if err != nil {
		return nil, err
	}
	crd, err := read("config/crd/meshprobe.dev_httpsmeshprobes.yaml")
	if err != nil {
		return nil, err
	}
	inOne, mesh := inOneNamespace(has), meshReader(has)
	const chart = "charts/httpsmeshprobe/files/"
	files := map[string][]byte{
		"config/namespaced/base/role.yaml":  role("httpsmeshprobe-operator", "httpsmeshprobe-system", inOne),
		"config/namespaced/istio/role.yaml": role("httpsmeshprobe-mesh-reader", "istio-system", mesh),
		chart + "rules-cluster.yaml":        rules(has.everywhere),
		chart + "rules-own.yaml":            rules(has.own),
		chart + "rules-namespace.yaml":      rules(inOne),
		chart + "rules-istio.yaml":          rules(mesh),
		chart + "crd.yaml":                  crd,
	}
	if files["docs/install.md"], err = withValues(root); err != nil {
		return nil, err
	}
	for copied, source := range map[string]string{
		"admission-exec.yaml": "admission/exec.yaml", "admission-objects.yaml": "admission/objects.yaml",
		"admission-pods.yaml": "admission/pods.yaml", "admission-policies.yaml": "admission/policies.yaml",
		"service-monitor.yaml": "prometheus/service_monitor.yaml", "prometheus-rule.yaml": "prometheus/rules.yaml",
		"dashboard.json": "prometheus/httpsmeshprobe.json",
	} {
		if files[chart+copied], err = read("config/" + source); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func parse(roles []byte) (rights, error) {
	var found rights
	for _, document := range bytes.Split(roles, []byte("\n---\n")) {
		var role rbacv1.Role
		if err := yaml.UnmarshalStrict(document, &role); err != nil {
			return rights{}, fmt.Errorf("config/rbac/role.yaml: %w", err)
		}
		switch role.Kind {
		case "ClusterRole":
			found.everywhere = role.Rules
		case "Role":
			found.own = role.Rules
		default:
			return rights{}, fmt.Errorf("config/rbac/role.yaml holds a %q, which is neither ClusterRole nor Role", role.Kind)
		}
	}
	if len(found.everywhere) == 0 || len(found.own) == 0 {
		return rights{}, fmt.Errorf("config/rbac/role.yaml lacks the ClusterRole or the Role")
	}
	return found, nil
}

// ofNoNamespace are the resources that no Role can give a right to, each with what an operator for one namespace goes
// without.
var ofNoNamespace = map[string]string{
	"namespaces":           "it cannot say that the namespace is being deleted or has lost its injection label",
	"tokenreviews":         "it serves no metrics, because it could not ask who wants them",
	"subjectaccessreviews": "likewise",
}

// inOneNamespace are the rights of an operator that serves and runs in one namespace alone.
func inOneNamespace(has rights) []rbacv1.PolicyRule {
	var kept []rbacv1.PolicyRule
	for _, rule := range slices.Concat(has.everywhere, has.own) {
		rule.Resources = slices.DeleteFunc(slices.Clone(rule.Resources), func(resource string) bool { return ofNoNamespace[resource] != "" })
		if len(rule.Resources) > 0 {
			kept = append(kept, rule)
		}
	}
	return kept
}

// meshReader is what that operator needs in Istio's namespace: to read, of what it may write elsewhere, the mesh config and
// the policies for the whole mesh.
func meshReader(has rights) []rbacv1.PolicyRule {
	var kept []rbacv1.PolicyRule
	for _, rule := range has.everywhere {
		rule.Resources = slices.DeleteFunc(slices.Clone(rule.Resources), func(resource string) bool {
			return !slices.Contains([]string{"configmaps", "peerauthentications", "authorizationpolicies", "destinationrules"}, resource)
		})
		rule.Verbs = slices.DeleteFunc(slices.Clone(rule.Verbs), func(verb string) bool {
			return !slices.Contains([]string{"get", "list", "watch"}, verb)
		})
		if len(rule.Resources) > 0 {
			kept = append(kept, rule)
		}
	}
	return kept
}

func role(name, namespace string, rules []rbacv1.PolicyRule) []byte {
	return encode(map[string]any{
		"apiVersion": rbacv1.SchemeGroupVersion.String(), "kind": "Role",
		"metadata": map[string]any{"name": name, "namespace": namespace}, "rules": rules,
	})
}

func rules(rules []rbacv1.PolicyRule) []byte { return encode(rules) }

func encode(value any) []byte {
	encoded, err := yaml.Marshal(value)
	if err != nil {
		log.Panicf("encode %T: %v", value, err) // strings in lists always encode
	}
	return append([]byte(header), encoded...)
}
