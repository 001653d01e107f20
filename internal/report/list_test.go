package report_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/report"
)

func listed() []*api.HTTPSMeshProbe {
	changed := with(verified(), func(p *api.HTTPSMeshProbe) { p.Name, p.Generation = "changed", 2 })
	wavering := with(verified(), func(p *api.HTTPSMeshProbe) {
		p.Name = "wavering"
		p.Status.Conditions[3].Reason, p.Status.Conditions[3].Message = api.ReasonBelowThreshold, "1 of 2 runs"
		p.Status.Paths[2] = path(api.PathOutsider, "refused", "200", api.OutcomeMismatch)
	})
	plaintext := with(verified(), func(p *api.HTTPSMeshProbe) {
		setReady(metav1.ConditionFalse, api.ReasonRefuted)(p)
		p.Name = "plaintext"
		p.Status.Paths[0] = path(api.PathSleep, "200", "200", api.OutcomeMismatch)
	})
	fresh := with(verified(), func(p *api.HTTPSMeshProbe) {
		p.Name, p.Status = "fresh", api.HTTPSMeshProbeStatus{ObservedGeneration: -1}
	})
	return []*api.HTTPSMeshProbe{verified(), refuted(), stalled(), changed, wavering, plaintext, fresh}
}

func table(options report.RowOptions, columns report.Columns) string {
	rows := [][]report.Cell{report.Header(options)}
	for _, p := range listed() {
		rows = append(rows, report.Row(p, options, now))
	}
	columns.Fit(rows...)
	var lines strings.Builder
	for _, row := range rows {
		lines.WriteString(columns.Line(row) + "\n")
	}
	return lines.String()
}

func TestGoldenLists(t *testing.T) {
	for file, text := range map[string]string{
		"list.txt":          table(report.RowOptions{}, report.Columns{}),
		"list-wide.txt":     table(report.RowOptions{Wide: true, Namespace: true}, report.Columns{}),
		"list-coloured.txt": table(report.RowOptions{}, report.Columns{Colour: true}),
		"list-narrow.txt":   table(report.RowOptions{}, report.Columns{Limit: 100}),
	} {
		t.Run(file, func(t *testing.T) { wantGolden(t, file, []byte(text)) })
	}
}

// Colour adds nothing: without its escape sequences a coloured list is the plain one.
func TestColourSaysNothingOnItsOwn(t *testing.T) {
	coloured := table(report.RowOptions{}, report.Columns{Colour: true})
	for _, tone := range []report.Tone{report.Good, report.Bad, report.Open, report.Faint} {
		escape, _, _ := strings.Cut(report.Paint("x", tone, true), "x")
		coloured = strings.ReplaceAll(coloured, escape, "")
	}
	if plain := table(report.RowOptions{}, report.Columns{}); strings.ReplaceAll(coloured, "\x1b[0m", "") != plain {
		t.Errorf("the coloured list says something else:\n%s\nthan the plain one:\n%s", coloured, plain)
	}
}

func TestNarrowListsFit(t *testing.T) {
	for limit := 1; limit < 150; limit++ {
		for _, line := range strings.Split(table(report.RowOptions{}, report.Columns{Limit: limit}), "\n") {
			if len([]rune(line)) > limit {
				t.Fatalf("a line is %d characters long, want at most %d: %s", len([]rune(line)), limit, line)
			}
		}
	}
}

// A row whose times alone have changed says nothing new.
func TestContentIgnoresTimes(t *testing.T) {
	options := report.RowOptions{Wide: true, Namespace: true}
	early, late := report.Row(verified(), options, now), report.Row(verified(), options, now.Add(time.Hour))
	if report.Content(early, options) != report.Content(late, options) {
		t.Error("the content of a row changes with the clock")
	}
	if report.Content(early, options) == report.Content(report.Row(refuted(), options, now), options) {
		t.Error("two different rows have the same content")
	}
	if got := report.Deleted(early); got[len(got)-1].Text != "deleted" || early[len(early)-1].Text == "deleted" {
		t.Errorf("the row of a deleted probe is %v", got)
	}
}
