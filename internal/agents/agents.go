// Package agents is the transport to the agents in the clients' containers: one exec stream for each container, however
// many probes ask through it. A stream is opened when it is first asked, kept open by pings, opened again with back-off
// when it breaks, and closed when nobody wants it any more. The package knows requests and observations and carries them
// as they are. What to ask, when, and what to make of the answer is its callers' business.
package agents

import (
	"errors"
	"time"
)

// Vantage is a container from which requests start.
type Vantage struct {
	Namespace, Pod string
	// UID tells a pod from a later one of the same name.
	UID       string
	Container string
}

// Observer is told of streams. Its methods return at once: streams wait for them.
type Observer interface {
	// Opened is told of a stream that takes requests from now on, Broke of one that has ended though it is wanted, or that
	// could not be opened.
	Opened()
	Broke(why Break)
}

// Break is why a stream ended.
type Break string

const (
	// BreakForbidden means that the API server does not let the operator exec into the container.
	BreakForbidden Break = "Forbidden"
	// BreakAgentEnded means that the agent ended by itself.
	BreakAgentEnded Break = "AgentEnded"
	// BreakSilent means that the agent said nothing for too long.
	BreakSilent Break = "Silent"
	// BreakFailed means anything else, such as a connection that failed.
	BreakFailed Break = "Failed"
)

// Breaks lists every Break.
func Breaks() []Break { return []Break{BreakForbidden, BreakAgentEnded, BreakSilent, BreakFailed} }

func breakOf(err error) Break {
	switch {
	case errors.Is(err, ErrForbidden):
		return BreakForbidden
	case errors.Is(err, ErrAgentEnded):
		return BreakAgentEnded
	case errors.Is(err, errSilent):
		return BreakSilent
	default:
		return BreakFailed
	}
}

// Load is what the streams have in hand at one moment.
type Load struct {
	// Awaiting are the requests that were handed to a stream and have no answer yet.
	Awaiting int
	// StreamsWanted are the exec streams that there should be, StreamsOpen those of them that take requests.
	StreamsWanted, StreamsOpen int
}

const (
	// OpenTime is how long an agent may take to answer the first ping of its stream.
	OpenTime = 10 * time.Second
	// Slack is what an answer may take beyond the request's own time-out: the agent lets a request wait for its turn where
	// it has to be alone with the client's Envoy.
	Slack = 5 * time.Second
)
