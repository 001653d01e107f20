package explain

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

const (
	tabWidth = 8
	padding  = 3
)

// Write prints the explanation for people, as of a moment.
func (e Explanation) Write(out io.Writer, now time.Time) error {
	sections := []func(io.Writer){
		e.writeHead, e.writeMatrix, e.writeChanges, func(w io.Writer) { e.writePaths(w, now) }, e.writeEndpoints, e.writeNotes,
	}
	var text strings.Builder
	for _, section := range sections {
		section(&text)
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func (e Explanation) writeHead(w io.Writer) {
	fmt.Fprintf(w, "Probe:      %s/%s\n", e.Namespace, e.Name)
	fmt.Fprintf(w, "Target:     %s\n", e.Target)
	if e.Ready != nil {
		fmt.Fprintf(w, "Verdict:    Ready is %s\n", e.Ready)
	} else {
		fmt.Fprintln(w, "Verdict:    none yet: the operator has written no status")
	}
	if e.Stalled != nil {
		fmt.Fprintf(w, "Stalled:    %s\n", e.Stalled)
	}
	fmt.Fprintf(w, "Declared:   target.sidecar %s, mtls.mode %s, mtls.clientMode %s\n", e.Sidecar, e.Mode, e.ClientMode)
	fmt.Fprintf(w, "In effect:  %s\n", e.Policy)
}

// String is the judgement in one line.
func (j Judgement) String() string {
	if j.Message == "" {
		return fmt.Sprintf("%s, %s", j.Status, j.Reason)
	}
	return fmt.Sprintf("%s, %s: %s", j.Status, j.Reason, j.Message)
}

func (e Explanation) writeMatrix(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, tabWidth, padding, ' ', 0)
	fmt.Fprintln(table, "\nPATH\tDECLARED\tCOMPUTED\tDELIVERED\tOBSERVED\tVERIFIED")
	for _, path := range e.Paths {
		verified := "no verdict"
		if path.Verified != nil {
			verified = fmt.Sprintf("%s, %s", path.Verified.Status, path.Verified.Reason)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", path.Name,
			cmp.Or(path.Declared, "-"), cmp.Or(path.Computed, "-"), cmp.Or(path.Delivered, "-"), cmp.Or(path.Observed, "-"), verified)
	}
	_ = table.Flush() // it writes into memory
}

func (e Explanation) writePaths(w io.Writer, now time.Time) {
	for _, path := range e.Paths {
		if path.Declared == "" && path.Observed == "" && path.ComputedWhy == "" {
			continue
		}
		fmt.Fprintf(w, "\n%s\n", path.Name)
		line(w, "declared", path.Declared, path.DeclaredWhy)
		if path.Computed != path.Declared || path.ComputedWhy != path.DeclaredWhy {
			line(w, "computed", path.Computed, path.ComputedWhy)
		}
		line(w, "delivered", path.Delivered, path.DeliveredWhy)
		observed := path.Evidence
		if path.ProbedAt != nil {
			observed = strings.TrimPrefix(observed+", ", ", ") + "as of " + age(now.Sub(path.ProbedAt.Time))
		}
		line(w, "observed", path.Observed, observed)
		for _, claim := range path.Claims {
			line(w, strings.ToLower(string(claim.Question)), string(claim.Answer), claim.Evidence)
		}
		if path.Verified != nil && path.Outcome != api.OutcomeMatch {
			line(w, "verdict", string(path.Outcome), path.Verified.Message)
		}
	}
}

func line(w io.Writer, name, what, why string) {
	switch {
	case what == "" && why == "":
	case what == "":
		fmt.Fprintf(w, "  %-9s %s\n", name, why)
	case why == "":
		fmt.Fprintf(w, "  %-9s %s\n", name, what)
	default:
		fmt.Fprintf(w, "  %-9s %s: %s\n", name, what, why)
	}
}

func age(passed time.Duration) string {
	if passed < 0 {
		passed = 0
	}
	return passed.Round(time.Second).String() + " ago"
}

func (e Explanation) writeEndpoints(w io.Writer) {
	if len(e.Endpoints) == 0 {
		return
	}
	fmt.Fprintln(w, "\nPolicies, as Istio computes them")
	for _, endpoint := range e.Endpoints {
		names := strings.Join(endpoint.Names, ", ")
		if more := endpoint.Count - len(endpoint.Names); more > 0 {
			names += fmt.Sprintf(" and %d more", more)
		}
		fmt.Fprintf(w, "  %s\n", names)
		line(w, "  server    ", string(endpoint.Enforced), endpoint.Why)
		line(w, "  client    ", endpoint.Sends, endpoint.SendsWhy)
		line(w, "  overridden", strings.Join(endpoint.Overridden, ", "), "")
	}
}

func (e Explanation) writeChanges(w io.Writer) {
	if len(e.Changes) == 0 {
		return
	}
	fmt.Fprintln(w, "\nTo change")
	for _, change := range e.Changes {
		fmt.Fprintf(w, "  %s\n    %s\n", change.Object, change.Advice)
	}
}

func (e Explanation) writeNotes(w io.Writer) {
	if len(e.Notes) == 0 {
		return
	}
	fmt.Fprintln(w, "\nNotes")
	for _, note := range e.Notes {
		fmt.Fprintf(w, "  %s\n", note)
	}
}
