package v1alpha1_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A person who reads a reason finds in docs/verdicts.md what it means and what to do.
func TestEveryReasonIsDocumented(t *testing.T) {
	rows := reasonRows(verdictsPage(t))
	for name, reason := range constants(t, "Reason") {
		if len(rows[reason]) == 0 {
			t.Errorf("%s (%q) has no row in a table of reasons in docs/verdicts.md", name, reason)
		}
		for _, row := range rows[reason] {
			if !slices.Contains([]string{"True", "False", "Unknown", "kept"}, row[0]) {
				t.Errorf("%q is documented with the status %q", reason, row[0])
			}
			for _, cell := range row[2:] {
				if !strings.HasSuffix(cell, ".") {
					t.Errorf("%q is documented with %q, which is no sentence", reason, cell)
				}
			}
		}
	}
}

// Whatever docs/verdicts.md spells like a reason is one, or a condition's type.
func TestEveryDocumentedReasonExists(t *testing.T) {
	page := verdictsPage(t)
	known := map[string]bool{}
	for _, prefix := range []string{"Reason", "Condition"} {
		for _, value := range constants(t, prefix) {
			known[value] = true
		}
	}
	mentioned := regexp.MustCompile("`([A-Z][A-Za-z]+)`").FindAllStringSubmatch(page, -1)
	for _, word := range mentioned {
		if !known[word[1]] {
			t.Errorf("docs/verdicts.md mentions %q, which is neither a reason nor a condition", word[1])
		}
	}
	for reason := range reasonRows(page) {
		if !known[reason] {
			t.Errorf("docs/verdicts.md has a row for %q, which no constant is", reason)
		}
	}
	if len(mentioned) < 20 {
		t.Errorf("only %d reasons were found in docs/verdicts.md", len(mentioned))
	}
}

// Two reasons that read the same could not be told apart in a status.
func TestReasonsAreDistinct(t *testing.T) {
	names := map[string]string{}
	for name, reason := range constants(t, "Reason") {
		if other, taken := names[reason]; taken {
			t.Errorf("%s and %s are both %q", name, other, reason)
		}
		names[reason] = name
		if name != "Reason"+reason {
			t.Errorf("%s is spelled %q", name, reason)
		}
	}
}

func verdictsPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "verdicts.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// reasonRows are the rows, by reason, of the tables whose head begins with "status" and "reason".
func reasonRows(page string) map[string][][]string {
	rows := map[string][][]string{}
	inTable := false
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case len(cells) == 4 && cells[0] == "status" && cells[1] == "reason":
			inTable = true
		case inTable && len(cells) == 4 && strings.HasPrefix(cells[1], "`"):
			reason := strings.Trim(cells[1], "`")
			rows[reason] = append(rows[reason], cells)
		}
	}
	return rows
}

// constants are the values of the constants in conditions.go whose names begin with a prefix, by name.
func constants(t *testing.T, prefix string) map[string]string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), "conditions.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	ast.Inspect(parsed, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if !strings.HasPrefix(name.Name, prefix) {
				continue
			}
			literal, ok := spec.Values[i].(*ast.BasicLit)
			if !ok {
				t.Fatalf("%s is no literal", name.Name)
			}
			if values[name.Name], err = strconv.Unquote(literal.Value); err != nil {
				t.Fatal(err)
			}
		}
		return true
	})
	if len(values) == 0 {
		t.Fatalf("no constants %s… found", prefix)
	}
	return values
}
