package gitops

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/argoproj/gitops-engine/pkg/health"
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const verdicts = "../../docs/verdicts.md"

var quoted = regexp.MustCompile("`([A-Za-z]+)`")

// promise is a row of the page's table: what Argo CD and kstatus make of a reason.
type promise struct{ argo, flux string }

// Every reason of Ready that docs/verdicts.md knows is in the page's table, and is judged as it says there.
func TestEveryReasonIsJudgedAsThePageSays(t *testing.T) {
	promised := promises(t)
	overrides, expressions := argoOverrides(t), pagesExpressions(t)
	reasons := 0
	for _, row := range rows(t, verdicts, "## Ready", "## SleepVerified") {
		reason := strings.Trim(row[1], "`")
		probe := probeWith(row[0], reason, strings.Join(row, " "))
		want, found := promised[reason]
		if !found {
			t.Errorf("docs/gitops.md does not say what becomes of %s", reason)
			continue
		}
		reasons++
		assessed, err := health.GetResourceHealth(probe, overrides)
		if err != nil {
			t.Fatal(err)
		}
		computed, err := status.Compute(probe)
		if err != nil {
			t.Fatal(err)
		}
		if got := (promise{string(assessed.Status), string(computed.Status)}); got != want {
			t.Errorf("%s: %v, and docs/gitops.md says %v", reason, got, want)
		}
		evaluated, err := expressions.Evaluate(t.Context(), probe)
		if err != nil {
			t.Fatal(err)
		}
		if want := asArgo[assessed.Status]; evaluated.Status != want {
			t.Errorf("%s: by the page's expressions %s, want %s, as Argo CD has it", reason, evaluated.Status, want)
		}
	}
	if reasons < 20 {
		t.Errorf("only %d reasons found in docs/verdicts.md", reasons)
	}
	if len(promised) != reasons {
		t.Errorf("docs/gitops.md speaks of %d reasons, docs/verdicts.md of %d", len(promised), reasons)
	}
}

// probeWith is a probe with a status of that reason; row says whether another condition comes with it.
func probeWith(ready, reason, row string) *unstructured.Unstructured {
	condition := func(kind, value string) map[string]any {
		return map[string]any{"type": kind, "status": value, "reason": reason, "message": "m"}
	}
	conditions := []any{condition("Ready", ready)}
	for _, kind := range []string{"Reconciling", "Stalled"} {
		if strings.Contains(row, "`"+kind+"` is True") {
			conditions = append(conditions, condition(kind, "True"))
		}
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "meshprobe.dev/v1alpha1",
		"kind":       "HTTPSMeshProbe",
		"metadata":   map[string]any{"name": "probe", "generation": int64(1)},
		"spec":       map[string]any{"suspend": reason == "Suspended"},
		"status":     map[string]any{"observedGeneration": int64(1), "conditions": conditions},
	}}
}

func promises(t *testing.T) map[string]promise {
	t.Helper()
	promised := map[string]promise{}
	for _, row := range rows(t, page, "## What a status means", "## Argo CD") {
		for _, reason := range quoted.FindAllStringSubmatch(row[1], -1) {
			promised[reason[1]] = promise{argo: row[2], flux: row[3]}
		}
	}
	return promised
}

// rows are the rows of the tables between two lines of a page, without their heads.
func rows(t *testing.T, path, from, to string) [][]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, begins := strings.Cut(string(text), "\n"+from)
	section, _, ends := strings.Cut(rest, "\n"+to)
	if !begins || !ends {
		t.Fatalf("%s has no section from %q to %q", path, from, to)
	}
	var found [][]string
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) < 4 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if cells[0] != "status" && !strings.HasPrefix(cells[0], "---") {
			found = append(found, cells)
		}
	}
	return found
}
