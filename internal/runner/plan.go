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
	Ask     observation.Request
}

// Plan is what the runner does for one probe.
type Plan struct {
	// Interval is the time between the starts of two runs; Timeout bounds each request.
	Interval, Timeout time.Duration
	// Requests are the requests of a run, by path.
	Requests map[string]Request
	// Epoch changes when earlier runs say nothing of the present any more; they are forgotten then.
	Epoch string
	// Occasion changes when something happened that is worth a run at once.
	Occasion string
	// Policy changes when the policy that proxies are to follow does; they take up to SettleTime to do so. Fresh says
	// the same of a plan that is a probe's first.
	Policy string
	Fresh  bool
	// Satisfied says whether a run found what is expected; it ends a quick series of runs.
	Satisfied func(observation.Run) bool
}

// Report is what the runner knows of a probe.
type Report struct {
	// Runs are the latest runs of the present epoch, oldest first, at most History.
	Runs []observation.Run
	// Settling says that the policy changed less than SettleTime ago and no run was satisfied yet.
	Settling bool
}

const (
	// History is how many runs are kept of each probe; failureThreshold cannot exceed it.
	History = 10
	// SettleTime is how long proxies are given to follow a new policy. Measured: 0.15 s to 0.5 s on an idle mesh.
	SettleTime = 10 * time.Second

	// A new epoch or occasion starts a quick series: runs in short succession until two in a row are satisfied, or
	// SettleTime has passed.
	quickPause     = 250 * time.Millisecond
	quickSatisfied = 2

	// agentSlack is what an answer may take beyond the request's own time-out.
	agentSlack = 2 * time.Second
)
