package whatif

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/explain"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

const (
	tabWidth = 8
	padding  = 3
)

// Write prints forecasts for people: those that change or contradict what is declared path by path, and how many others
// there are. Over a cluster, what is computed now stands beside what would be.
func Write(out io.Writer, forecasts []Forecast, overCluster bool) error {
	var text strings.Builder
	quiet := 0
	table := tabwriter.NewWriter(&text, 0, tabWidth, padding, ' ', 0)
	if overCluster {
		fmt.Fprintln(table, "SUBJECT\tPATH\tDECLARED\tNOW\tTHEN\t")
	} else {
		fmt.Fprintln(table, "SUBJECT\tPATH\tDECLARED\tCOMPUTED\t")
	}
	var shown []Forecast
	for _, forecast := range forecasts {
		if overCluster && !forecast.Changes() && forecast.Outcome() == api.OutcomeMatch {
			quiet++
			continue
		}
		shown = append(shown, forecast)
		forecast.writeRows(table, overCluster)
	}
	_ = table.Flush() // it writes into memory
	if len(shown) == 0 {
		text.Reset()
	}
	for _, forecast := range shown {
		forecast.writeWhy(&text)
	}
	writeSum(&text, forecasts, quiet)
	_, err := io.WriteString(out, text.String())
	return err
}

func (f Forecast) writeRows(table io.Writer, overCluster bool) {
	subject := f.Subject
	for _, name := range paths.Names() {
		now, then := computed(f.Now, name), computed(f.Then, name)
		declared := "-"
		if f.Declares && f.Then != nil {
			declared = cmp.Or(pathOf(f.Then, name).Declared, "-")
		}
		if overCluster {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", subject, name, declared, now, then, f.mark(name))
		} else {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", subject, name, declared, then, f.mark(name))
		}
		subject = ""
	}
}

// computed is what a path is computed to see: "-" where the subject is not there, "?" where nothing single is computed.
func computed(in *explain.Explanation, name api.PathName) string {
	if in == nil {
		return "-"
	}
	return cmp.Or(pathOf(in, name).Computed, "?")
}

// mark says in words how a path would stand.
func (f Forecast) mark(name api.PathName) string {
	var words []string
	switch {
	case f.Undecided:
		words = append(words, "cannot tell")
	case f.Declares && f.Then != nil:
		switch pathOf(f.Then, name).Promised {
		case api.OutcomeMatch:
			words = append(words, "as declared")
		case api.OutcomeMismatch:
			words = append(words, "NOT as declared")
		default:
			words = append(words, "cannot tell")
		}
	}
	if f.Now != nil && f.Then != nil && pathOf(f.Now, name).Computed != pathOf(f.Then, name).Computed {
		words = append(words, "changes")
	}
	return strings.Join(words, ", ")
}

func (f Forecast) writeWhy(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n", f.Subject)
	if f.Then != nil {
		if f.Declares {
			fmt.Fprintf(w, "  policy: %s\n", f.Then.Policy)
		}
		for _, endpoint := range f.Then.Endpoints {
			fmt.Fprintf(w, "  before %s: %s\n", strings.Join(endpoint.Names, ", "), endpoint.Why)
			fmt.Fprintf(w, "  the client's sidecar sends %s: %s\n", endpoint.Sends, endpoint.SendsWhy)
		}
		for _, change := range f.Then.Changes {
			fmt.Fprintf(w, "  to change: %s: %s\n", change.Object, change.Advice)
		}
	}
	for _, note := range f.Notes {
		fmt.Fprintf(w, "  note: %s\n", note)
	}
}

func writeSum(w io.Writer, forecasts []Forecast, quiet int) {
	count := map[api.Outcome]int{}
	services := 0
	for _, forecast := range forecasts {
		if !forecast.Declares {
			services++
			continue
		}
		count[forecast.Outcome()]++
	}
	if len(forecasts) > quiet {
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "Probes: %d as declared, %d not as declared, %d that cannot be told. Services without a probe: %d.",
		count[api.OutcomeMatch], count[api.OutcomeMismatch], count[api.OutcomeUnknown], services)
	if quiet > 0 {
		fmt.Fprintf(w, " Not shown, because nothing changes for them and all is as declared: %d.", quiet)
	}
	fmt.Fprintln(w)
}
