package prometheus

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

type target struct {
	RefID      string `json:"refId"`
	Expr       string
	Datasource struct{ Type, UID string }
}

type panel struct {
	ID          int
	Type, Title string
	Description string
	Datasource  struct{ Type, UID string }
	GridPos     struct{ X, Y, W, H int }
	Targets     []target
	FieldConfig struct{ Defaults struct{ Unit string } } `json:"fieldConfig"`
	Panels      []panel
}

type dashboard struct {
	UID, Title    string
	SchemaVersion int `json:"schemaVersion"`
	Templating    struct {
		List []struct {
			Name, Type string
			Query      any
		}
	}
	Panels []panel
}

// Whether Grafana shows it as meant is not tested here: there is no Grafana. That every query returns data is tested on
// the lab (test/e2e).
func TestDashboardHoldsTogether(t *testing.T) {
	var board dashboard
	decode(t, "httpsmeshprobe.json", &board)
	if board.UID != "httpsmeshprobe" || board.Title == "" || board.SchemaVersion < 30 {
		t.Errorf("uid %q, title %q, schemaVersion %d", board.UID, board.Title, board.SchemaVersion)
	}
	var variables []string
	for _, variable := range board.Templating.List {
		variables = append(variables, variable.Name)
	}
	if !slices.Equal(variables, []string{"datasource", "namespace", "name"}) || board.Templating.List[0].Type != "datasource" {
		t.Errorf("variables: got %v, want datasource, namespace and name", variables)
	}
	seen := map[int]string{}
	queries := 0
	for i, panel := range board.Panels {
		if panel.ID == 0 || seen[panel.ID] != "" || panel.Title == "" {
			t.Errorf("panel %q has id %d, which is 0 or that of %q; or it has no title", panel.Title, panel.ID, seen[panel.ID])
		}
		seen[panel.ID] = panel.Title
		for _, other := range board.Panels[:i] {
			if overlap(panel, other) {
				t.Errorf("panels %q and %q lie over each other", panel.Title, other.Title)
			}
		}
		if panel.Type == "row" {
			continue
		}
		queries += len(panel.Targets)
		checkPanel(t, panel)
	}
	if queries < 20 {
		t.Errorf("only %d queries were read", queries)
	}
}

func overlap(a, b panel) bool {
	return a.GridPos.X < b.GridPos.X+b.GridPos.W && b.GridPos.X < a.GridPos.X+a.GridPos.W &&
		a.GridPos.Y < b.GridPos.Y+b.GridPos.H && b.GridPos.Y < a.GridPos.Y+a.GridPos.H
}

func checkPanel(t *testing.T, panel panel) {
	t.Helper()
	if panel.Datasource.UID != "${datasource}" || panel.Description == "" || len(panel.Targets) == 0 {
		t.Errorf("panel %q: datasource %q, description %q, %d queries", panel.Title, panel.Datasource.UID, panel.Description, len(panel.Targets))
	}
	if numbers := []string{"stat", "timeseries", "bargauge"}; slices.Contains(numbers, panel.Type) && panel.FieldConfig.Defaults.Unit == "" {
		t.Errorf("panel %q has no unit", panel.Title)
	}
	var ids []string
	for _, target := range panel.Targets {
		if target.Expr == "" || target.Datasource.UID != "${datasource}" || slices.Contains(ids, target.RefID) {
			t.Errorf("panel %q: query %q %q, datasource %q", panel.Title, target.RefID, target.Expr, target.Datasource.UID)
		}
		ids = append(ids, target.RefID)
		ofProbes := regexp.MustCompile(`httpsmeshprobe_(condition|requests|runs|request_|last|interval|policy|transition|certificate)[a-z_]*`)
		for _, selector := range ofProbes.FindAllStringIndex(target.Expr, -1) {
			if !strings.HasPrefix(target.Expr[selector[1]:], `{namespace=~"$namespace", name=~"$name"`) {
				t.Errorf("panel %q: %s is not narrowed to the chosen probes", panel.Title, target.Expr[selector[0]:selector[1]])
			}
		}
	}
}
