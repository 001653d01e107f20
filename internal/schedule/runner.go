package schedule

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// Runner runs the plans of all probes.
type Runner struct {
	log       logr.Logger
	streams   *agents.Streams
	heartbeat time.Duration
	wake      func(context.Context, Key)
	observer  Observer
	running   atomic.Int32

	mu    sync.Mutex
	tasks map[Key]*task
	// ctx ends all tasks; it is set by Start, and plans that come earlier wait for it.
	ctx  context.Context
	done sync.WaitGroup
}

// New returns a runner that opens exec streams with opener. It calls wake when a probe's report deserves a look: after
// each run that found something new and the runs and intervals that follow it, and otherwise once a heartbeat. It tells
// observer what it does.
func New(log logr.Logger, opener agents.Opener, heartbeat time.Duration, wake func(context.Context, Key), observer Observer) *Runner {
	return &Runner{
		log: log, streams: agents.NewStreams(log, opener, observer), heartbeat: heartbeat, wake: wake, observer: observer,
		tasks: map[Key]*task{},
	}
}

// Start runs the plans until ctx ends, and returns when every task and stream has ended.
func (r *Runner) Start(ctx context.Context) error {
	r.mu.Lock()
	r.ctx = ctx
	for key, t := range r.tasks {
		r.launch(key, t)
	}
	r.mu.Unlock()
	<-ctx.Done()
	r.mu.Lock()
	tasks := r.tasks
	r.tasks = map[Key]*task{}
	r.mu.Unlock()
	for _, t := range tasks {
		t.stop()
	}
	r.done.Wait()
	r.streams.Close()
	return nil
}

// Set gives a probe its plan. A plan equal to the present one in Epoch and Occasion changes nothing but the schedule
// from the next run on.
func (r *Runner) Set(key Key, plan Plan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	plan = r.shielded(key, plan)
	t, ok := r.tasks[key]
	if !ok {
		t = newTask(plan)
		r.tasks[key] = t
		if r.ctx != nil && r.ctx.Err() == nil {
			r.launch(key, t)
		}
	} else {
		t.replan(plan)
	}
	r.keepStreams()
}

// Forget ends a probe's task and closes the streams that no other probe uses.
func (r *Runner) Forget(key Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.tasks[key]; ok {
		t.stop()
		delete(r.tasks, key)
		r.keepStreams()
	}
}

// Report returns what is known of a probe under the epoch; nothing, where the epoch is another one.
func (r *Runner) Report(key Key, epoch Mark) Report {
	r.mu.Lock()
	t, ok := r.tasks[key]
	r.mu.Unlock()
	if !ok {
		return Report{}
	}
	return t.report(epoch)
}

func (r *Runner) launch(key Key, t *task) {
	ctx := r.ctx
	r.done.Go(func() { r.loop(ctx, key, t) })
}

// tidyStreams follows a run whose plan is not in use any more: it may have opened a stream after Set or Forget had
// closed those that nobody wants.
func (r *Runner) tidyStreams() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keepStreams()
}

func (r *Runner) keepStreams() {
	used := map[agents.Vantage]bool{}
	for _, t := range r.tasks {
		for _, request := range t.present().Requests {
			if request.From != nil {
				used[*request.From] = true
			}
		}
	}
	r.streams.Keep(used)
}

// loop is the life of one task: run, keep the result, wake the controller where it matters, wait.
func (r *Runner) loop(ctx context.Context, key Key, t *task) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(t.stopped, cancel)
	defer stop()
	defer r.tidyStreams()
	for ctx.Err() == nil {
		started := time.Now()
		if !r.once(ctx, key, t, started) {
			t.rest(ctx, time.Now())
			continue // replanned or stopped: what was seen belongs to no present plan
		}
		if late, due := t.wait(ctx, started); due {
			r.observer.Delayed(late)
		}
	}
}

// once makes one run, and says whether the next waits for its time.
func (r *Runner) once(ctx context.Context, key Key, t *task, started time.Time) (wait bool) {
	defer func() {
		if r.caught(recover(), key) != nil {
			wait = true
		}
	}()
	plan, turns, runCtx := t.begin(ctx)
	run := r.run(runCtx, key, plan, turns, started)
	found, failed := r.keep(runCtx, key, t, plan, run)
	if failed != nil {
		found, _ = r.keep(runCtx, key, t, plan, failedRun(plan, started, failed))
	}
	if !found.stored {
		r.tidyStreams()
		return failed != nil
	}
	r.observer.Ran(key, started)
	if found.followed != nil {
		r.observer.Followed(key, *found.followed)
	}
	if found.look {
		r.wake(ctx, key)
	}
	if t.present().Occasion != plan.Occasion {
		r.tidyStreams()
	}
	return true
}

// keep has a task keep a run. It fails where whoever takes the run down does.
func (r *Runner) keep(ctx context.Context, key Key, t *task, plan Plan, run observation.Run) (found kept, failed *observation.Failure) {
	defer func() { failed = r.caught(recover(), key) }()
	return t.keep(ctx, plan, run, r.heartbeat), nil
}

// failedRun is a run of which nothing is known but why.
func failedRun(plan Plan, started time.Time, why *observation.Failure) observation.Run {
	run := observation.Run{Started: started, Results: map[string]observation.Result{}}
	for path := range plan.Requests {
		run.Results[path] = observation.Result{Failed: why}
	}
	return run
}

// shielded is a plan whose functions call nothing as computed that they panic over.
func (r *Runner) shielded(key Key, plan Plan) Plan {
	asComputed, matches, greeted := plan.AsComputed, plan.Matches, plan.Greeted
	shield := func(ask func() bool) (is bool) {
		defer func() { is = r.caught(recover(), key) == nil && is }()
		return ask()
	}
	plan.AsComputed = func(run observation.Run) bool { return shield(func() bool { return asComputed(run) }) }
	plan.Matches = func(path string, result observation.EndpointResult) bool {
		return shield(func() bool { return matches(path, result) })
	}
	plan.Greeted = func(path string, result observation.EndpointResult) bool {
		return shield(func() bool { return greeted(path, result) })
	}
	return plan
}

// caught logs a panic, and returns it as a failure. A fault in one probe's run must not end the operator, in which all
// the others run.
func (r *Runner) caught(panicked any, key Key) *observation.Failure {
	if panicked == nil {
		return nil
	}
	message := fmt.Sprintf("the operator failed within itself: %v", panicked)
	r.log.Error(errors.New(message), "a run panicked", "namespace", key.Namespace, "name", key.Name, "stack", string(debug.Stack()))
	return &observation.Failure{Kind: observation.ExecFailed, Message: message}
}

// run sends the requests of all paths side by side.
func (r *Runner) run(ctx context.Context, key Key, plan Plan, turns turns, started time.Time) observation.Run {
	r.running.Add(1)
	defer r.running.Add(-1)
	run := observation.Run{Started: started, Results: map[string]observation.Result{}}
	var mu sync.Mutex
	var paths sync.WaitGroup
	for path, request := range plan.Requests {
		paths.Go(func() {
			asking := asking{r, ctx, key, path, request, plan.Timeout}
			result := asking.all(turns[path], started)
			mu.Lock()
			defer mu.Unlock()
			run.Results[path] = result
		})
	}
	paths.Wait()
	return run
}
