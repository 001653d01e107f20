package runner

import (
	"context"
	"errors"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// Observer is told what the runner does, while it does it. Its methods return at once: runs wait for them.
type Observer interface {
	// Asked is told of every request of a run, to the Service's address or to one endpoint, when it has come to its end.
	// interrupted says that the run made room for another one before there was an answer.
	Asked(probe Key, path string, result observation.Result, interrupted bool)
	// Ran is told when a run began that has ended and was kept.
	Ran(probe Key, started time.Time)
	// Delayed is told how long after its time a run begins that was due by the schedule.
	Delayed(by time.Duration)
	// Followed is told of a change of the policy once a run has shown it, or SettleTime has passed.
	Followed(probe Key, change Change)
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

// Load is what the runner has in hand at one moment.
type Load struct {
	// Probes are those that have a plan, Running the runs under way, and Awaiting the requests that were handed to a stream
	// and have no answer yet.
	Probes, Running, Awaiting int
	// StreamsWanted are the exec streams that there should be, StreamsOpen those of them that take requests.
	StreamsWanted, StreamsOpen int
}

// Load tells what the runner has in hand.
func (r *Runner) Load() Load {
	r.mu.Lock()
	load := Load{Probes: len(r.tasks), Running: int(r.running.Load())}
	r.mu.Unlock()
	r.streams.addTo(&load)
	return load
}

// asked tells the observer of a request. One that failed because its run was interrupted says nothing of the agent.
func (r *Runner) asked(ctx context.Context, probe Key, path string, result observation.Result) {
	r.observer.Asked(probe, path, result, result.Failed != nil && result.Failed.Kind != observation.NoVantage && ctx.Err() != nil)
}
