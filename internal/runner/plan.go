// Package runner sends the requests of all probes on their schedules and keeps what they saw. It owns every time-out,
// exec stream and back-off, so that no reconcile ever waits for a probe.
package runner

import (
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// Key names a probe.
type Key struct{ Namespace, Name string }

// Vantage is a container from which requests start.
type Vantage struct {
	Namespace, Pod string
	// UID tells a pod from a later one of the same name.
	UID       string
	Container string
}

// Request is what a plan asks along one path.
type Request struct {
	// From is where the request starts; nil where there is no such container now, for the reason in Missing.
	From    *Vantage
	Missing string
	// Ask goes to the Service's address; to the Endpoints go the same requests, at most EndpointsPerRun in a run.
	Ask       observation.Request
	Endpoints []observation.Endpoint
}

// Plan is what the runner does for one probe.
type Plan struct {
	// Interval is the time between the starts of two runs; Timeout bounds each request.
	Interval, Timeout time.Duration
	// Requests are the requests of a run, by path.
	Requests map[string]Request
	// Control is the path whose result is kept beside those of endpoints.
	Control string
	// Epoch changes when earlier runs say nothing of the present any more; they are forgotten then.
	Epoch string
	// Occasion changes when something happened that is worth a run at once.
	Occasion string
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
	// AsComputed says whether a run shows what is computed, and Matches whether an endpoint's result does.
	AsComputed func(observation.Run) bool
	Matches    func(path string, result observation.EndpointResult) bool
}

// Report is what the runner knows of a probe.
type Report struct {
	// Runs are the latest runs of the present epoch, oldest first, at most History.
	Runs []observation.Run
	// Quick says that a quick series is under way, so that more runs follow within moments.
	Quick bool
	// Settling says that the policy changed less than SettleTime ago and no run has shown it yet.
	Settling bool
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
	// Settled says that a run has shown the new policy, After that time; without it, none did within SettleTime.
	Settled bool
	After   time.Duration
	// Sent is how many requests were sent on the path Control until then, and Lost how many of them got no answer while
	// one was promised before and after.
	Sent, Lost int
}

const (
	// History is how many runs are kept of each probe; failureThreshold cannot exceed it.
	History = 10
	// SettleTime is how long proxies are given to follow a new policy. Measured: 0.15 s to 0.5 s on an idle mesh.
	SettleTime = 10 * time.Second
	// EndpointsPerRun bounds how many endpoints a path dials in one run; more of them take turns.
	EndpointsPerRun = 16

	// A new epoch or occasion starts a quick series: runs in short succession until enough in a row show what is computed,
	// or SettleTime has passed. Most of what proxies do wrong while they follow lies in its first moments.
	quickPause   = 250 * time.Millisecond
	quickestFor  = 750 * time.Millisecond
	quickestWait = 15 * time.Millisecond

	// unnoticeable is how long a new policy is given to arrive of which no run can tell that it did, because the paths
	// show the same under the old one.
	unnoticeable = time.Second

	// agentSlack is what an answer may take beyond the request's own time-out.
	agentSlack = 2 * time.Second
)
