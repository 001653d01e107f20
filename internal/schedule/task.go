package schedule

import (
	"context"
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
	// runs counts the runs of the present epoch, and latest is the last of them. lastKept is when the latest began, of
	// whatever epoch.
	runs     int
	latest   observation.Run
	lastKept time.Time
	handled  string
	// endpoints are the latest results of every path's endpoints.
	endpoints endpointBook
	// interrupt ends the run under way.
	interrupt   context.CancelFunc
	convergence convergence
}

func newTask(plan Plan) *task {
	t := &task{kick: make(chan struct{}, 1), endpoints: newEndpointBook(), plan: plan, lastKept: time.Now()}
	t.stopped, t.stop = context.WithCancel(context.Background())
	t.convergence.hurry(t.lastKept)
	if plan.Fresh {
		t.convergence.await(t.lastKept)
	}
	return t
}

func (t *task) present() Plan {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.plan
}

func (t *task) report(epoch Mark) Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.plan.Epoch != epoch {
		return Report{}
	}
	now := time.Now()
	report := Report{
		At: now, Latest: t.latest, Runs: t.runs, LastKept: t.lastKept, Handled: t.handled,
		Quick: t.convergence.quick(now), Change: t.convergence.latestChange(now),
	}
	if t.convergence.settling(now) {
		report.Settling, report.SettlesBy = true, t.convergence.deadline
	}
	return report
}

func (t *task) replan(plan Plan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	old := t.plan
	t.plan = plan
	epoch, policy, occasion := old.Epoch != plan.Epoch, old.Policy != plan.Policy, old.Occasion != plan.Occasion
	if epoch {
		t.runs, t.latest = 0, observation.Run{}
	}
	if policy {
		t.convergence.turn(now, plan.Cause, old.Policy, plan.Policy, old.Answers && plan.Answers)
	}
	switch {
	case epoch || policy:
		t.endpoints = newEndpointBook()
	case occasion:
		t.endpoints.greetAnew()
	}
	if epoch || policy || occasion {
		t.convergence.hurry(now)
		if t.interrupt != nil && (epoch || t.convergence.mayInterrupt(now, policy)) {
			t.interrupt()
		}
	}
	if epoch || policy || occasion || old.Interval != plan.Interval {
		select {
		case t.kick <- struct{}{}:
		default:
		}
	}
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
	// look says that the controller should look at the run.
	look bool
	// followed is the change of the policy that the run has brought to its end, if any.
	followed *Change
}

// keep stores a run. ctx is the run's, and ends when the plan is replaced.
func (t *task) keep(ctx context.Context, plan Plan, run observation.Run, heartbeat time.Duration) kept {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() != nil || t.stopped.Err() != nil || plan.Epoch != t.plan.Epoch {
		return kept{}
	}
	present := plan.Policy == t.plan.Policy
	t.endpoints.record(plan, &run)
	if !present || plan.Occasion != t.plan.Occasion {
		t.endpoints.greetAnew()
	}
	if t.plan.Recorder != nil {
		t.plan.Recorder.Record(run)
	}
	t.runs++
	t.latest, t.lastKept = run, run.Started
	found := kept{stored: true}
	found.followed, found.look = t.convergence.take(time.Now(), sight{
		started: run.Started, signature: run.Signature(), control: run.Results[plan.Control],
		present: present, computed: plan.AsComputed(run),
		first: t.runs == 1, asked: t.handled != plan.Requested,
	}, t.plan.Interval, heartbeat)
	t.handled = plan.Requested
	return found
}

// wait returns when the next run is due, the plan has changed, or ctx has ended. started is when the run began that has
// just ended. Where the next is due, late is for how long it has been.
func (t *task) wait(ctx context.Context, started time.Time) (late time.Duration, due bool) {
	ended := time.Now()
	dueAt := ended.Add(t.pause(ended, started))
	timer := time.NewTimer(dueAt.Sub(ended))
	defer timer.Stop()
	select {
	case <-timer.C:
		return time.Since(dueAt), true
	case <-t.kick:
		t.rest(ctx, ended)
	case <-ctx.Done():
	}
	return 0, false
}

func (t *task) pause(now, started time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.convergence.pause(now, started, t.plan.Interval, t.plan.Repeats)
}

// rest waits until another run may begin after one that ended at ended, or ctx has ended.
func (t *task) rest(ctx context.Context, ended time.Time) {
	t.mu.Lock()
	until := ended.Add(t.convergence.rest(time.Now()))
	t.mu.Unlock()
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
