package runner

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// task is one probe's plan and what its runs found.
type task struct {
	stopped context.Context
	stop    context.CancelFunc
	// kick tells a waiting loop that the plan has changed.
	kick chan struct{}

	mu   sync.Mutex
	plan Plan
	runs []observation.Run
	// endpoints are the latest results of every path's endpoints.
	endpoints endpointBook
	// signature is that of the latest run, of whatever epoch.
	signature string
	handled   string
	// interrupt ends the run under way; interruptedSince is when that first happened since a run was kept, zero where it
	// did not.
	interrupt        context.CancelFunc
	interruptedSince time.Time
	// quickSince and quickUntil bound the present quick series; computed counts the runs in a row in it that show what
	// is computed.
	quickSince, quickUntil time.Time
	computed               int
	settling               bool
	change                 *change
	// sinceChange counts the runs since the last one that found something new, and lastWake is when the last one began
	// for which the controller was woken.
	sinceChange int
	lastWake    time.Time
}

// change is a Change under way.
type change struct {
	Change
	// answered says that both policies promise an answer on the path Control.
	answered bool
	// before is the signature of the last run under the old policy.
	before string
}

func newTask(plan Plan) *task {
	t := &task{kick: make(chan struct{}, 1), endpoints: endpointBook{}}
	t.stopped, t.stop = context.WithCancel(context.Background())
	t.plan = plan
	t.startQuickly()
	t.settling = plan.Fresh
	return t
}

func (t *task) present() Plan {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.plan
}

func (t *task) report(epoch string) Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.plan.Epoch != epoch {
		return Report{}
	}
	report := Report{Runs: slices.Clone(t.runs), Quick: time.Now().Before(t.quickUntil), Settling: t.settling, Handled: t.handled}
	if t.change != nil {
		copied := t.change.Change
		report.Change = &copied
	}
	return report
}

func (t *task) replan(plan Plan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.plan
	t.plan = plan
	if old.Epoch != plan.Epoch {
		t.runs = nil
	}
	if old.Policy != plan.Policy {
		t.settling = true
		t.change = &change{
			Change:   Change{Cause: plan.Cause, From: old.Policy, To: plan.Policy, Seen: time.Now()},
			answered: old.Answers && plan.Answers,
			before:   t.signature,
		}
	}
	if old.Epoch != plan.Epoch || old.Policy != plan.Policy {
		t.endpoints = endpointBook{}
	}
	anew := old.Epoch != plan.Epoch || old.Policy != plan.Policy || old.Occasion != plan.Occasion
	if anew {
		t.startQuickly()
		if t.interrupt != nil && (old.Epoch != plan.Epoch || old.Policy != plan.Policy || t.mayInterrupt()) {
			t.interrupt()
		}
	}
	if anew || old.Interval != plan.Interval {
		select {
		case t.kick <- struct{}{}:
		default:
		}
	}
}

// mayInterrupt says whether a run under way makes room for one at a new occasion. Occasions that follow each other quicker
// than a run takes, such as a pod that comes and goes, must not keep every run from its end.
func (t *task) mayInterrupt() bool {
	now := time.Now()
	if t.interruptedSince.IsZero() {
		t.interruptedSince = now
	}
	return now.Sub(t.interruptedSince) < SettleTime
}

func (t *task) startQuickly() {
	t.quickSince = time.Now()
	t.quickUntil = t.quickSince.Add(SettleTime)
	t.computed = 0
	t.sinceChange = 0
}

// begin returns the plan to run now, the endpoints whose turn it is, and a context that ends when the plan is replaced or
// the next run begins.
func (t *task) begin(ctx context.Context) (Plan, turns, context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.kick:
	default:
	}
	if t.interrupt != nil {
		t.interrupt()
	}
	ctx, t.interrupt = context.WithCancel(ctx)
	return t.plan, t.endpoints.turns(t.plan), ctx
}

// kept is what has become of a run.
type kept struct {
	// stored is false where the plan has been replaced, so that what was seen belongs to no present plan.
	stored bool
	// wake says that the controller should look at the run.
	wake bool
	// followed is the change of the policy that the run has brought to its end, if any.
	followed *Change
}

// keep stores a run. ctx is the run's, and ends when the plan is replaced.
func (t *task) keep(ctx context.Context, plan Plan, run observation.Run, heartbeat time.Duration) kept {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() != nil {
		return kept{}
	}
	t.interruptedSince = time.Time{}
	t.endpoints.record(plan, &run)
	signature := run.Signature()
	t.sinceChange++
	if len(t.runs) == 0 || t.signature != signature {
		t.sinceChange = 0
	}
	t.signature = signature
	t.runs = append(t.runs, run)
	t.runs = slices.Clone(t.runs[max(0, len(t.runs)-History):])

	settled := t.settle(plan, run, signature)
	found := kept{stored: true, wake: true}
	if settled && t.change != nil {
		copied := t.change.Change
		found.followed = &copied
	}
	asked := t.handled != plan.Requested
	t.handled = plan.Requested
	// Counted from start to start, as the interval is: where both are as long, every run is a heartbeat.
	if !settled && !asked && t.sinceChange >= History && run.Started.Sub(t.lastWake) < heartbeat {
		found.wake = false
		return found
	}
	t.lastWake = run.Started
	return found
}

// settle follows the proxies to a new policy, and says whether this run ends it.
func (t *task) settle(plan Plan, run observation.Run, signature string) bool {
	t.computed++
	if !plan.AsComputed(run) {
		t.computed = 0
	}
	if !t.settling {
		return false
	}
	change := t.change
	if change != nil {
		change.count(run.Results[plan.Control])
	}
	now := time.Now()
	arrived := t.computed > 0
	if change != nil && change.before == signature && now.Sub(change.Seen) < unnoticeable {
		arrived = false
	}
	if !arrived && now.Before(t.quickUntil) {
		return false
	}
	t.settling = false
	if change != nil {
		change.Settled, change.After = arrived, now.Sub(change.Seen)
	}
	return true
}

func (c *change) count(result observation.Result) {
	if result.Failed != nil {
		return
	}
	c.Sent++
	if c.answered && result.Seen.Class != observation.Answered {
		c.Lost++
	}
}

// wait returns when the next run is due, the plan has changed, or ctx has ended. Where it is due, late is for how long it
// has been.
func (t *task) wait(ctx context.Context, started time.Time) (late time.Duration, due bool) {
	pause := t.pause(started)
	dueAt := time.Now().Add(pause)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return time.Since(dueAt), true
	case <-t.kick:
	case <-ctx.Done():
	}
	return 0, false
}

func (t *task) pause(started time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	switch {
	case t.computed >= t.plan.Repeats && !t.settling, !now.Before(t.quickUntil):
		t.quickUntil = time.Time{}
		return time.Until(started.Add(t.plan.Interval))
	case now.Sub(t.quickSince) < quickestFor:
		return quickestWait
	default:
		return quickPause
	}
}
