package schedule

import (
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// Observer is told what the runner does, while it does it. Its methods return at once: runs wait for them.
type Observer interface {
	agents.Observer
	// Asked is told of every request and every hello of a run when it has come to its end.
	Asked(asked Asked)
	// Ran is told when a run began that has ended and was kept.
	Ran(probe Key, started time.Time)
	// Delayed is told how long after its time a run begins that was due by the schedule.
	Delayed(by time.Duration)
	// Followed is told of a change of the policy once a run has shown it, or SettleTime has passed.
	Followed(probe Key, change Change)
}

// Asked is one request of a run, to the Service's address or to one endpoint, or a hello to an endpoint, and what came of
// it.
type Asked struct {
	Probe Key
	Path  string
	// Hello is HelloHTTPS where an HTTP request follows. What the others take is another thing than a request does.
	Hello  observation.Hello
	Result observation.Result
	// Interrupted says that the run made room for another one before there was an answer.
	Interrupted bool
}

// Load is what the runner has in hand at one moment.
type Load struct {
	// Probes are those that have a plan, Running the runs under way.
	Probes, Running int
	agents.Load
}

// Load tells what the runner has in hand.
func (r *Runner) Load() Load {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Load{Probes: len(r.tasks), Running: int(r.running.Load()), Load: r.streams.Load()}
}
