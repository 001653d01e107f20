package report

import (
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

// RowOptions say which columns a list of probes has.
type RowOptions struct {
	// Wide adds what is declared in full, the reason, and messages of probes that are verified.
	Wide bool
	// Namespace adds the namespace.
	Namespace bool
}

// Titles of columns that change while nothing happens.
const (
	titleChecked = "CHECKED"
	titleAge     = "AGE"
	titleReady   = "READY"
)

const nothing = "-"

// Header is the first line of a list of probes.
func Header(options RowOptions) []Cell {
	titles := []string{"NAME", "SIDECAR", "MTLS", titleReady, "SLEEP", "ISTIO-PROXY", "OUTSIDER", titleChecked, titleAge}
	if options.Namespace {
		titles = append([]string{"NAMESPACE"}, titles...)
	}
	if options.Wide {
		titles = append(titles, "CLIENT", "TARGET", "INTERVAL")
	}
	cells := make([]Cell, 0, len(titles)+1)
	for _, title := range append(titles, "MESSAGE") {
		cells = append(cells, Cell{Text: title})
	}
	return cells
}

// Row is a probe as a line of a list.
func Row(probe *api.HTTPSMeshProbe, options RowOptions, now time.Time) []Cell {
	spec := probe.Spec
	ready, message := readyCell(probe, options.Wide)
	row := []Cell{{Text: probe.Name}, {Text: string(spec.Target.Sidecar)}, {Text: orUnset(string(spec.MTLS.Mode))}, ready}
	if options.Namespace {
		row = append([]Cell{{Text: probe.Namespace}}, row...)
	}
	for _, name := range paths.Names() {
		row = append(row, pathCell(probe, name))
	}
	row = append(row, Cell{Text: ago(probe.Status.LastProbeTime, now)}, Cell{Text: ago(&probe.CreationTimestamp, now)})
	if options.Wide {
		row = append(row, Cell{Text: orUnset(string(spec.MTLS.ClientMode))}, Cell{Text: target(spec)}, Cell{Text: duration.HumanDuration(spec.Interval.Duration)})
	}
	return append(row, Cell{Text: message})
}

// Deleted is the row of a probe that is gone.
func Deleted(row []Cell) []Cell {
	deleted := append([]Cell(nil), row...)
	for i := range deleted {
		deleted[i].Tone = Faint
	}
	deleted[len(deleted)-1].Text = "deleted"
	return deleted
}

// Content is what a row says, without what changes with time alone.
func Content(row []Cell, options RowOptions) string {
	var words []string
	for i, title := range Header(options) {
		if title.Text != titleChecked && title.Text != titleAge {
			words = append(words, row[i].Text)
		}
	}
	return strings.Join(words, "\x00")
}

// readyCell shows Ready, and why it is not True. A verdict on an earlier spec is none on this one.
func readyCell(probe *api.HTTPSMeshProbe, verbose bool) (Cell, string) {
	if !current(probe) {
		message := notLookedAt
		if probe.Status.ObservedGeneration > 0 {
			message = "the operator has not looked at the latest change of the spec yet; what is shown is from before"
		}
		return Cell{string(metav1.ConditionUnknown), Open}, message
	}
	ready := meta.FindStatusCondition(probe.Status.Conditions, api.ConditionReady)
	cell := Cell{Text: string(ready.Status), Tone: Open}
	message := ready.Reason + ": " + ready.Message
	if meta.IsStatusConditionTrue(probe.Status.Conditions, api.ConditionStalled) {
		message = "Stalled, " + message
	}
	switch ready.Status {
	case metav1.ConditionTrue:
		cell.Tone = Good
		if why := provisional(probe); why != "" {
			return cell, why
		}
		if !verbose {
			message = ""
		}
	case metav1.ConditionFalse:
		cell.Tone = Bad
	}
	return cell, message
}

// pathCell is what a path saw, and against what it is held where that is something else.
func pathCell(probe *api.HTTPSMeshProbe, name api.PathName) Cell {
	for _, path := range probe.Status.Paths {
		if path.Name != name || path.Observed == "" {
			continue
		}
		switch {
		case path.Outcome == api.OutcomeMatch:
			return Cell{path.Observed, Good}
		case path.Outcome != api.OutcomeMismatch:
			return Cell{path.Observed + "?", Open}
		case path.Observed == path.Expected:
			// The word is the expected one and something else is not, such as the encryption or one of many endpoints.
			return Cell{path.Observed + " (mismatch)", Bad}
		default:
			return Cell{path.Observed + ", not " + path.Expected, Bad}
		}
	}
	return Cell{Text: nothing}
}

func ago(moment *metav1.Time, now time.Time) string {
	if moment == nil || moment.IsZero() {
		return nothing
	}
	return duration.HumanDuration(now.Sub(moment.Time))
}

// target names the Service of a probe that has no server of its own.
func target(spec api.HTTPSMeshProbeSpec) string {
	service := spec.Target.Service
	if service == nil {
		return "own server"
	}
	words := service.Name
	if service.Namespace != "" {
		words = service.Namespace + "/" + service.Name
	}
	if port := service.Port.String(); port != "0" {
		words += ":" + port
	}
	return words
}
