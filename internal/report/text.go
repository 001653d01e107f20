package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// Text writes the report for people: a table, and what of it is not verified in sentences.
func (r Report) Text(out io.Writer, colour bool) error {
	var text strings.Builder
	for _, probe := range r.Probes {
		writeProbe(&text, probe, colour)
	}
	fmt.Fprintf(&text, "%s\n", r.sum())
	_, err := io.WriteString(out, text.String())
	return err
}

func writeProbe(text *strings.Builder, probe Probe, colour bool) {
	fmt.Fprintf(text, "%s  %s/%s  %s\n", Paint(strings.ToUpper(string(probe.Verdict)), ToneOf(probe.Verdict), colour),
		probe.Namespace, probe.Name, Paint("("+probe.Declared+")", Faint, colour))
	// Of these three reasons the message repeats those of the checks.
	if !slices.Contains([]string{api.ReasonVerified, api.ReasonRefuted, api.ReasonUndetermined}, probe.Reason) {
		fmt.Fprintf(text, "  %s: %s\n", probe.Reason, clean(probe.Message))
	}
	columns := Columns{Colour: colour}
	var rows [][]Cell
	for _, check := range probe.Checks {
		row := []Cell{{Text: "  " + check.Name}, {string(check.Verdict), ToneOf(check.Verdict)}, {Text: saw(check)}, {Text: check.Message}}
		if check.Reason == probe.Reason || check.Verdict == Unknown && check.Observed == "" && strings.HasSuffix(probe.Message, check.Message) {
			row[3].Text = ""
		}
		rows = append(rows, row)
	}
	columns.Fit(rows...)
	for _, row := range rows {
		text.WriteString(columns.Line(row) + "\n")
	}
	text.WriteString("\n")
}

// saw is what a path saw, and what it was to see if that is something else.
func saw(check Check) string {
	switch {
	case check.Observed == "":
		return nothing
	case check.Expected == "" || check.Expected == check.Observed:
		return check.Observed
	default:
		return check.Observed + ", not " + check.Expected
	}
}

// sum counts the probes by verdict.
func (r Report) sum() string {
	counts := map[Verdict]int{}
	took := time.Duration(0)
	for _, probe := range r.Probes {
		counts[probe.Verdict]++
		took = max(took, time.Duration(probe.Seconds*float64(time.Second)))
	}
	var parts []string
	for _, verdict := range []Verdict{Refuted, Unknown, Verified} {
		if counts[verdict] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[verdict], strings.ToLower(string(verdict))))
		}
	}
	if len(r.Probes) == 0 {
		return "no probes"
	}
	noun := "probes"
	if len(r.Probes) == 1 {
		noun = "probe"
	}
	return fmt.Sprintf("%d %s in %.1fs: %s", len(r.Probes), noun, took.Seconds(), strings.Join(parts, ", "))
}
