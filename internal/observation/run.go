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
	// Endpoints are the results of the requests to single endpoints that the path dials beside the Service's address.
	Endpoints []EndpointResult
}

// EndpointResult is what came of the latest request to one endpoint. In a run that left the endpoint out, it is that of
// an earlier run.
type EndpointResult struct {
	Endpoint Endpoint
	// Asked is when the run began that dialed it; zero where none has yet.
	Asked time.Time
	Result
	// Mesh and Forged are what came of the latest hellos of these sorts to the endpoint.
	Mesh, Forged Handshake
}

// Handshake is what came of a hello to an endpoint after which no request follows.
type Handshake struct {
	// Asked is when the run began that made it; zero where none has yet.
	Asked time.Time
	Result
}

// Endpoint is one address behind a Service.
type Endpoint struct {
	// ID changes when something else stands behind the address.
	ID string
	// Name is the endpoint's name for people, and Address what to dial, as host:port.
	Name, Address string
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

// Signature is what two runs have in common that found the same: for every path and endpoint how it ended, who answered
// and with what code, and how the request was sent. Times are no part of it, and neither is which of several endpoints a
// balanced request came to.
func (r Run) Signature() string {
	names := make([]string, 0, len(r.Results))
	for name := range r.Results {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		result := r.Results[name]
		fmt.Fprintf(&b, "%s=%s;", name, result.signature())
		for _, endpoint := range result.Endpoints {
			fmt.Fprintf(&b, "%s=%s", endpoint.Endpoint.ID, endpoint.signature())
			for _, greeted := range []Handshake{endpoint.Mesh, endpoint.Forged} {
				if !greeted.Asked.IsZero() {
					fmt.Fprintf(&b, ",%s", greeted.signature())
				}
			}
			b.WriteByte(';')
		}
	}
	return b.String()
}

func (r Result) signature() string {
	if r.Failed != nil {
		return string(r.Failed.Kind)
	}
	fingerprint := ""
	if r.Seen.Leaf != nil && r.Seen.SPIFFE() == "" {
		fingerprint = r.Seen.Leaf.SHA256
	}
	words := []any{r.Seen.Class, r.Seen.HTTPCode, r.Seen.SPIFFE(), fingerprint, r.Seen.Alert, r.Seen.Wrapping()}
	if r.Seen.Sent != nil {
		words = append(words, r.Seen.Sent.Cluster)
	}
	if r.Seen.Delivered != nil {
		words = append(words, *r.Seen.Delivered)
	}
	return fmt.Sprint(words...)
}
