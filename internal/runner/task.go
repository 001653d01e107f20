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
	// interrupt ends the run under way.
	interrupt context.CancelFunc
	// quickUntil is when the present quick series ends at the latest; satisfied counts the satisfied runs in a row in it.
	quickUntil time.Time
	settling   bool
	satisfied  int
	// sinceChange counts the runs since the last one that found something new, and lastWake is when the last one began
	// for which the controller was woken.
	sinceChange int
	lastWake    time.Time
}

func newTask(plan Plan) *task {
	t := &task{kick: make(chan struct{}, 1)}
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
	return Report{Runs: slices.Clone(t.runs), Settling: t.settling}
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
	}
	if old.Epoch != plan.Epoch || old.Occasion != plan.Occasion {
		t.startQuickly()
		if t.interrupt != nil {
			t.interrupt()
		}
	}
	if old.Epoch != plan.Epoch || old.Occasion != plan.Occasion || old.Interval != plan.Interval {
		select {
		case t.kick <- struct{}{}:
		default:
		}
	}
}

func (t *task) startQuickly() {
	t.quickUntil = time.Now().Add(SettleTime)
	t.satisfied = 0
	t.sinceChange = 0
}

// begin returns the plan to run now, and a context that ends when the plan is replaced or the next run begins.
func (t *task) begin(ctx context.Context) (Plan, context.Context) {
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
	return t.plan, ctx
}

// keep stores a run and says whether the controller should look at it.
func (t *task) keep(plan Plan, run observation.Run, heartbeat time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.plan.Epoch != plan.Epoch {
		return false
	}
	t.sinceChange++
	if len(t.runs) == 0 || t.runs[len(t.runs)-1].Signature() != run.Signature() {
		t.sinceChange = 0
	}
	t.runs = append(t.runs, run)
	t.runs = slices.Clone(t.runs[max(0, len(t.runs)-History):])

	t.satisfied++
	if !plan.Satisfied(run) {
		t.satisfied = 0
	}
	settled := t.settling && (t.satisfied > 0 || !time.Now().Before(t.quickUntil))
	if settled {
		t.settling = false
	}
	// Counted from start to start, as the interval is: where both are as long, every run is a heartbeat.
	if !settled && t.sinceChange >= History && run.Started.Sub(t.lastWake) < heartbeat {
		return false
	}
	t.lastWake = run.Started
	return true
}

// wait returns when the next run is due, the plan has changed, or ctx has ended.
func (t *task) wait(ctx context.Context, started time.Time) {
	t.mu.Lock()
	pause := quickPause
	if t.satisfied >= quickSatisfied || !time.Now().Before(t.quickUntil) {
		t.quickUntil = time.Time{}
		pause = time.Until(started.Add(t.plan.Interval))
	}
	t.mu.Unlock()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.kick:
	case <-ctx.Done():
	}
}
