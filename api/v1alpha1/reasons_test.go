package v1alpha1_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestEveryReasonIsDocumented holds the reasons against docs/verdicts.md, in both directions.
func TestEveryReasonIsDocumented(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "verdicts.md"))
	if err != nil {
		t.Fatal(err)
	}
	reasons := reasonsIn(t, "conditions.go")
	for name, reason := range reasons {
		if !strings.Contains(string(page), "| `"+reason+"` |") {
			t.Errorf("%s (%q) has no row in docs/verdicts.md", name, reason)
		}
	}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.HasPrefix(strings.TrimSpace(cells[2]), "`") {
			continue
		}
		documented := strings.Trim(strings.TrimSpace(cells[2]), "`")
		known := false
		for _, reason := range reasons {
			known = known || reason == documented
		}
		if !known {
			t.Errorf("docs/verdicts.md documents %q, which no constant is", documented)
		}
	}
}

func reasonsIn(t *testing.T, file string) map[string]string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]string{}
	ast.Inspect(parsed, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		reasons[spec.Names[0].Name] = value
		return true
	})
	if len(reasons) == 0 {
		t.Fatalf("no reasons found in %s", file)
	}
	return reasons
}
