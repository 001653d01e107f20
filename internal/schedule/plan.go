// Package schedule decides when each probe asks, and has it asked. Every probe has a task of its own that runs its plan:
// quickly after something has happened, and otherwise once an interval. So no reconcile ever waits for a probe.
//
// The package observes and does not judge. It hands every run to the plan's Recorder, and asks the plan's functions where
// it needs to know whether a run shows what is computed. What it knows of time is a type without a clock (convergence);
// who carries its requests is package agents.
package schedule

import (
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// Key names a probe.
type Key struct{ Namespace, Name string }

// Request is what a plan asks along one path.
type Request struct {
	// From is where the request starts; nil where there is no such container now, for the reason in Missing.
	From    *agents.Vantage
	Missing string
	// Ask goes to the Service's address; to the Endpoints go the same requests, at most EndpointsPerRun in a run.
	Ask       observation.Request
	Endpoints []observation.Endpoint
	// Greets says that each endpoint also gets, when they are due, the hellos HelloMesh and HelloForged; Identity is the
	// SPIFFE ID that the forged one names.
	Greets   bool
	Identity string
}

// Plan is what the runner does for one probe.
type Plan struct {
	// Interval is the time between the starts of two runs; Timeout bounds each request.
	Interval, Timeout time.Duration
	// Requests are the requests of a run, by path.
	Requests map[string]Request
	// Control is the path whose requests are counted while proxies follow a change of the policy.
	Control string
	// Epoch changes when earlier runs say nothing of the present any more; they are forgotten then.
	Epoch Mark
	// Occasion changes when something happened that is worth a run at once.
	Occasion Mark
	// Policy is what is computed for the target, in words; proxies take up to SettleTime to follow when it changes.
	// Cause names the object that would have changed it. Fresh says that the plan is a probe's first.
	Policy, Cause string
	Fresh         bool
	// Answers says that the policy promises an answer on the path Control.
	Answers bool
	// Requested is the value of the annotation by which a person asks for a run.
	Requested string
	// Repeats is how many runs in a row must show what is computed to end a quick series; at least 1.
	Repeats int
	// AsComputed says whether a run shows what is computed, Matches whether an endpoint's own result does, and Greeted
	// whether what came of the hellos to it does. Greeted is asked on paths that greet alone.
	AsComputed func(observation.Run) bool
	Matches    func(path string, result observation.EndpointResult) bool
	Greeted    func(path string, result observation.EndpointResult) bool
	// Recorder is handed the runs; a new epoch brings a new one. It may be nil.
	Recorder Recorder
}

// Recorder takes down the runs of an epoch.
type Recorder interface {
	// Record is handed every run that is kept, once and in order, completed with what is known of the endpoints that it
	// left out. It returns at once: reports of the probe wait for it. It keeps the run as it is, which others read too.
	Record(run observation.Run)
}

// Report is what the runner knows of a probe.
type Report struct {
	// At is the moment of the report, by the clock of the runs.
	At time.Time
	// Runs counts the runs kept in the present epoch, and Latest is the last of them, where there is one.
	Runs   int
	Latest observation.Run
	// LastKept is when the latest run began that was kept, of whatever epoch; before there is one, when the plan came. What
	// is known of the probe is no younger.
	LastKept time.Time
	// Quick says that a quick series is under way, so that more runs follow within moments.
	Quick bool
	// Settling says that the policy changed a moment ago and no run has shown it yet. That ends by SettlesBy, which only
	// another policy puts off: to SettleTime after it, and three times that after the first of those that no run has closed.
	Settling  bool
	SettlesBy time.Time
	// Change is the latest change of the policy; nil where there was none.
	Change *Change
	// Handled is the Requested of the latest plan that a run was made by.
	Handled string
}

// Change is a change of the policy and what was seen of it.
type Change struct {
	Cause, From, To string
	// Seen is when the runner was told.
	Seen time.Time
	// Settled says that a run has shown the new policy, After that time; without it, none did before the settling was over.
	Settled bool
	After   time.Duration
	// Sent is how many requests were sent on the path Control until then, and Lost how many of them got no answer while
	// one was promised before and after.
	Sent, Lost int
}
