package observation

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Run is one round of requests, one along every path, begun together.
type Run struct {
	// Started is when the run began, by the operator's clock.
	Started time.Time
	// Results are the results by path name.
	Results map[string]Result
}

// Result is what came of one request of a run: an observation, or the reason why there is none.
type Result struct {
	Seen   Observation
	Failed *Failure
}

// FailureKind says why a request could not be sent or its observation not be had.
type FailureKind string

const (
	// NoVantage means that there is no running container to send the request from.
	NoVantage FailureKind = "NoVantage"
	// ExecForbidden means that the API server does not allow the operator to exec into the client.
	ExecForbidden FailureKind = "ExecForbidden"
	// ExecFailed means that the exec stream could not be opened, or broke.
	ExecFailed FailureKind = "ExecFailed"
	// AgentSilent means that the stream stands and the agent did not answer in time.
	AgentSilent FailureKind = "AgentSilent"
)

// Failure is why there is no observation.
type Failure struct {
	Kind    FailureKind
	Message string
}

// Signature is what two runs have in common that found the same: for every path how it ended, who answered and with
// what code. Times are no part of it.
func (r Run) Signature() string {
	names := make([]string, 0, len(r.Results))
	for name := range r.Results {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		result := r.Results[name]
		if result.Failed != nil {
			fmt.Fprintf(&b, "%s=%s;", name, result.Failed.Kind)
			continue
		}
		fingerprint := ""
		if result.Seen.Leaf != nil && result.Seen.SPIFFE() == "" {
			fingerprint = result.Seen.Leaf.SHA256
		}
		fmt.Fprintf(&b, "%s=%s,%d,%s,%s,%s;", name, result.Seen.Class, result.Seen.HTTPCode, result.Seen.SPIFFE(), fingerprint, result.Seen.Alert)
	}
	return b.String()
}
