package page_test

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/page"
)

// What is old is never shown as a verdict on the present, be it good or bad.
func TestAnOldVerdictIsTakenBack(t *testing.T) {
	fresh := probeFrom(t, "verified")
	last := fresh.Status.LastProbeTime.Time
	due := last.Add(2*fresh.Spec.Interval.Duration + 2*time.Minute)
	for name, c := range map[string]struct {
		probe string
		now   time.Time
		alter func(*api.HTTPSMeshProbe)
		want  page.State
		mark  string
	}{
		"just in time":                  {"verified", due, nil, page.Verified, ""},
		"overdue":                       {"verified", due.Add(time.Second), nil, page.Unknown, "overdue"},
		"overdue and refuted":           {"refuted", labTime.Add(time.Hour), nil, page.Unknown, "overdue"},
		"suspended":                     {"suspended", labTime.Add(time.Hour), nil, page.Unknown, "suspended"},
		"suspended, not seen yet":       {"verified", last, func(p *api.HTTPSMeshProbe) { p.Spec.Suspend, p.Generation = true, 2 }, page.Unknown, "suspended"},
		"the spec is newer":             {"verified", last, func(p *api.HTTPSMeshProbe) { p.Generation++ }, page.Unknown, "not seen yet"},
		"the status is of another life": {"verified", last, func(p *api.HTTPSMeshProbe) { p.Status.ObservedGeneration = 7 }, page.Unknown, "not seen yet"},
		"no status at all":              {"verified", last, func(p *api.HTTPSMeshProbe) { p.Status = api.HTTPSMeshProbeStatus{ObservedGeneration: 1} }, page.Unknown, ""},
		"nothing could be asked":        {"name-taken", labTime, nil, page.Unknown, "stalled"},
		"pods fail":                     {"pods-failing", labTime, nil, page.Unknown, ""},
	} {
		t.Run(name, func(t *testing.T) {
			probe := probeFrom(t, c.probe)
			if c.alter != nil {
				c.alter(probe)
			}
			row := page.RowOf(probe, c.now)
			if row.Ready.State != c.want {
				t.Errorf("ready: %+v, want %s", row.Ready, c.want)
			}
			if c.want == page.Unknown && (row.Policy.State != page.Unknown) {
				t.Errorf("policy: %+v", row.Policy)
			}
			for _, cell := range row.Paths {
				if c.want == page.Unknown && (cell.State != page.Unknown || cell.Observed != "" && !cell.Earlier) {
					t.Errorf("%s stands: %+v", cell.Path, cell)
				}
			}
			if c.mark != "" && (len(row.Marks) == 0 || row.Marks[0].Word != c.mark) {
				t.Errorf("marks: %+v, want %s", row.Marks, c.mark)
			}
		})
	}
}

// A run that contradicts a condition that stands is shown, although it does not count yet.
func TestAMismatchBelowTheThresholdWavers(t *testing.T) {
	probe := probeFrom(t, "verified")
	probe.Status.Paths[1].Outcome, probe.Status.Paths[1].Observed = api.OutcomeMismatch, "200"
	cell := page.RowOf(probe, probe.Status.LastProbeTime.Time).Paths[1]
	if cell.State != page.Wavering || cell.Observed != "200" || cell.Expected != "refused" {
		t.Errorf("%+v", cell)
	}
}

// A condition without the evidence for it is no pass.
func TestAConditionWithoutAPathIsNoPass(t *testing.T) {
	probe := probeFrom(t, "verified")
	probe.Status.Paths = probe.Status.Paths[:2]
	probe.Status.Paths[0].Outcome = ""
	row := page.RowOf(probe, probe.Status.LastProbeTime.Time)
	if row.Paths[2].State != page.Unknown || row.Paths[0].State == page.Verified {
		t.Errorf("%+v", row.Paths)
	}
}

func TestMarksOfWhatIsUnderWay(t *testing.T) {
	probe := probeFrom(t, "following-while-verified")
	probe.DeletionTimestamp = &metav1.Time{Time: labTime}
	var words []string
	for _, mark := range page.RowOf(probe, labTime).Marks {
		words = append(words, mark.Word)
	}
	if len(words) != 2 || words[0] != "reconciling" || words[1] != "being deleted" {
		t.Errorf("marks %q", words)
	}
}
