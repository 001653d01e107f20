package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// Whoever gives the operator its rights reads in docs/security.md what each is for.
func TestEveryRightIsExplained(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "config", "rbac", "role.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	granted := map[string]bool{}
	for _, document := range strings.Split(string(content), "\n---\n") {
		var role rbacv1.ClusterRole
		if err := yaml.UnmarshalStrict([]byte(strings.TrimPrefix(document, "---\n")), &role); err != nil {
			// A Role has the same fields.
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			granted[spell(role.Kind, strings.Join(rule.APIGroups, ","), rule.Resources, rule.Verbs)] = true
		}
	}
	explained := explainedRights(t)
	for right := range granted {
		if !explained[right] {
			t.Errorf("docs/security.md does not explain %s", right)
		}
	}
	for right := range explained {
		if !granted[right] {
			t.Errorf("docs/security.md explains %s, which config/rbac/role.yaml does not grant", right)
		}
	}
	if len(granted) < 10 {
		t.Errorf("only %d rights were found", len(granted))
	}
}

// explainedRights are the rows of the tables of rights. The line before a table says in brackets which kind of role it is for.
func explainedRights(t *testing.T) map[string]bool {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	rights := map[string]bool{}
	kind, inTable := "", false
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		cells := strings.Split(strings.Trim(line, "|"), "|")
		switch {
		case strings.HasSuffix(line, "(ClusterRole):"):
			kind = "ClusterRole"
		case strings.HasSuffix(line, "(Role):"):
			kind = "Role"
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case strings.HasPrefix(line, "| API group | resources | verbs | why |"):
			inTable = true
		case inTable && len(cells) == 4 && !strings.HasPrefix(line, "|--"):
			group := strings.Trim(strings.TrimSpace(cells[0]), "`")
			if group == "core" {
				group = ""
			}
			if len(strings.TrimSpace(cells[3])) < 8 {
				t.Errorf("docs/security.md gives no reason in %q", line)
			}
			rights[spell(kind, group, list(cells[1]), list(cells[2]))] = true
		}
	}
	return rights
}

func list(cell string) []string {
	var items []string
	for item := range strings.SplitSeq(cell, ",") {
		items = append(items, strings.Trim(strings.TrimSpace(item), "`"))
	}
	return items
}

func spell(kind, group string, resources, verbs []string) string {
	resources, verbs = slices.Sorted(slices.Values(resources)), slices.Sorted(slices.Values(verbs))
	return fmt.Sprintf("in a %s: %s of %q in group %q", kind, strings.Join(verbs, ","), resources, group)
}
