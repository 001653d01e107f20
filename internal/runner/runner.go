package runner

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// Runner runs the plans of all probes.
type Runner struct {
	log       logr.Logger
	streams   *streams
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
// each run that found something new and the runs that follow it, and otherwise once a heartbeat. It tells observer what
// it does.
func New(log logr.Logger, opener Opener, heartbeat time.Duration, wake func(context.Context, Key), observer Observer) *Runner {
	return &Runner{
		log: log, streams: newStreams(log, opener, observer), heartbeat: heartbeat, wake: wake, observer: observer,
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
	r.streams.close()
	return nil
}

// Set gives a probe its plan. A plan equal to the present one in Epoch and Occasion changes nothing but the schedule
// from the next run on.
func (r *Runner) Set(key Key, plan Plan) {
	r.mu.Lock()
	defer r.mu.Unlock()
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
func (r *Runner) Report(key Key, epoch string) Report {
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
	used := map[Vantage]bool{}
	for _, t := range r.tasks {
		for _, request := range t.present().Requests {
			if request.From != nil {
				used[*request.From] = true
			}
		}
	}
	r.streams.keep(used)
}

// loop is the life of one task: run, keep the result, wake the controller where it matters, wait.
func (r *Runner) loop(ctx context.Context, key Key, t *task) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(t.stopped, cancel)
	defer stop()
	defer r.tidyStreams()
	for ctx.Err() == nil {
		plan, turns, runCtx := t.begin(ctx)
		started := time.Now()
		run := r.run(runCtx, key, plan, turns, started)
		if runCtx.Err() != nil {
			r.tidyStreams()
			continue // replanned or stopped: what was seen belongs to no present plan
		}
		found := t.keep(runCtx, plan, run, r.heartbeat)
		r.tell(key, started, found)
		if found.wake {
			r.wake(ctx, key)
		}
		if t.present().Occasion != plan.Occasion {
			r.tidyStreams()
		}
		if late, due := t.wait(ctx, started); due {
			r.observer.Delayed(late)
		}
	}
}

func (r *Runner) tell(key Key, started time.Time, found kept) {
	if found.stored {
		r.observer.Ran(key, started)
	}
	if found.followed != nil {
		r.observer.Followed(key, *found.followed)
	}
}

// run sends the requests of all paths side by side.
func (r *Runner) run(ctx context.Context, key Key, plan Plan, turns turns, started time.Time) observation.Run {
	r.running.Add(1)
	defer r.running.Add(-1)
	run := observation.Run{Started: started, Results: map[string]observation.Result{}}
	var mu sync.Mutex
	var paths sync.WaitGroup
	for path, request := range maps.All(plan.Requests) {
		paths.Go(func() {
			ask := func(request Request) observation.Result {
				result := r.ask(ctx, request, plan.Timeout)
				r.asked(ctx, key, path, result)
				return result
			}
			result := askPath(request, turns[path], started, ask)
			mu.Lock()
			defer mu.Unlock()
			run.Results[path] = result
		})
	}
	paths.Wait()
	return run
}

// askPath sends a path's request to the Service's address, and beside it those to the endpoints whose turn it is.
func askPath(request Request, endpoints []observation.Endpoint, started time.Time, ask func(Request) observation.Result) observation.Result {
	results := make([]observation.EndpointResult, len(endpoints))
	var asking sync.WaitGroup
	for i, endpoint := range endpoints {
		asking.Go(func() {
			single := request
			single.Ask.Address = endpoint.Address
			results[i] = observation.EndpointResult{Endpoint: endpoint, Asked: started, Result: ask(single)}
		})
	}
	result := ask(request)
	asking.Wait()
	result.Endpoints = results
	return result
}

func (r *Runner) ask(ctx context.Context, request Request, timeout time.Duration) observation.Result {
	if request.From == nil {
		return observation.Result{Failed: &observation.Failure{Kind: observation.NoVantage, Message: request.Missing}}
	}
	request.Ask.Timeout = timeout
	seen, failure := r.streams.ask(ctx, *request.From, request.Ask)
	return observation.Result{Seen: seen, Failed: failure}
}
