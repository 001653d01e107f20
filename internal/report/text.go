package report

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Text writes the report for people: a table, and what of it is not verified in sentences.
func (r Report) Text(out io.Writer, colour bool) error {
	var text strings.Builder
	for _, probe := range r.Probes {
		columns := Columns{Colour: colour}
		title := fmt.Sprintf("%s/%s", probe.Namespace, probe.Name)
		fmt.Fprintf(&text, "%s  %s  %s\n", Paint(strings.ToUpper(string(probe.Verdict)), ToneOf(probe.Verdict), colour), title, Paint("("+probe.Declared+")", Faint, colour))
		var rows [][]Cell
		for _, check := range probe.Checks {
			rows = append(rows, []Cell{{Text: "  " + check.Name}, {string(check.Verdict), ToneOf(check.Verdict)}, {Text: saw(check)}, {Text: clean(check.Message)}})
		}
		columns.Fit(rows...)
		for _, row := range rows {
			text.WriteString(columns.Line(row) + "\n")
		}
		text.WriteString("\n")
	}
	fmt.Fprintf(&text, "%s\n", r.sum())
	_, err := io.WriteString(out, text.String())
	return err
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
	noun := "probes"
	if len(r.Probes) == 1 {
		noun = "probe"
	}
	return fmt.Sprintf("%d %s in %.1fs: %s", len(r.Probes), noun, took.Seconds(), strings.Join(parts, ", "))
}

// clean keeps what comes from the cluster from moving a terminal's cursor.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == '\x7f' || r >= '\u0080' && r < '\u00a0' {
			return ' '
		}
		return r
	}, text)
}
