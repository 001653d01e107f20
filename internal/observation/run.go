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
	// Control is what came of the path sleep in that run.
	Control Result
}

// Endpoint is one address behind a Service.
type Endpoint struct {
	// ID changes when something else stands behind the address.
	ID string
	// Name is the endpoint's name for people, and Address what to dial, as host:port.
	Name, Address string
}

// Wrapping is what the counters of the client's Envoy say of one request.
type Wrapping string

const (
	// WrappedInTLS means that Envoy made exactly one connection to the Service, in TLS.
	WrappedInTLS Wrapping = "WrappedInTLS"
	// PassedOn means that it made exactly one, and finished no TLS handshake of its own on it.
	PassedOn Wrapping = "PassedOn"
	// NotCounted means that the counters were not read, or counted other requests too.
	NotCounted Wrapping = "NotCounted"
)

// Wrapping tells how the client's Envoy sent the request. A connection by way of the PassthroughCluster is one that Envoy
// knows no Service for, and sends as it is; it counts only where it can be no other request's.
func (o Observation) Wrapping() Wrapping {
	if o.Counted == nil || o.Counted.Error != "" {
		return NotCounted
	}
	counted := *o.Counted
	// The agent lets probes of one Service take turns, so that the Service's own counters are this request's; what went by
	// way of the PassthroughCluster meanwhile may be that of another Service.
	toService := counted.Connections == 1 && (counted.Passthrough == 0 || counted.PassthroughShared)
	elsewhere := counted.Connections == 0 && counted.Passthrough == 1 && !counted.PassthroughShared
	switch {
	case toService && counted.Handshakes == 1:
		return WrappedInTLS
	case (toService || elsewhere) && counted.Handshakes == 0:
		return PassedOn
	default:
		return NotCounted
	}
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
// and with what code, and how the request was sent. Times are no part of it.
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
			fmt.Fprintf(&b, "%s=%s;", endpoint.Endpoint.ID, endpoint.signature())
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
	return fmt.Sprintf("%s,%d,%s,%s,%s,%s", r.Seen.Class, r.Seen.HTTPCode, r.Seen.SPIFFE(), fingerprint, r.Seen.Alert, r.Seen.Wrapping())
}
