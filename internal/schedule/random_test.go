package schedule

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"

	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/agents/played"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// TestWhateverHappens plays random sequences of what may happen to a probe, each in time of its own, and holds the schedule
// against what must be so all the time. A sequence that fails is named by its number, which makes it again.
func TestWhateverHappens(t *testing.T) {
	sequences := 10_000
	if testing.Short() {
		sequences = 1_000
	}
	workers := runtime.GOMAXPROCS(0)
	for worker := range workers {
		t.Run(fmt.Sprint(worker), func(t *testing.T) {
			t.Parallel()
			for number := worker; number < sequences && !t.Failed(); number += workers {
				synctest.Test(t, func(t *testing.T) { newWorld(t, uint64(number)).live() })
			}
		})
	}
}

// world is a probe, what has happened to it, and what a correct schedule owes it.
type world struct {
	t      *testing.T
	number uint64
	dice   *rand.Rand
	runner *Runner
	plan   Plan
	serial int

	mu   sync.Mutex
	mood mood
	// unreliable are the times from and to which agents did not answer everything.
	unreliableSince time.Time
	unreliable      []span
	// recorded and ran are when the runs began that recorders and the observer were told of.
	recorded, ran []time.Time
	// unfollowed says that a change has not come to its end.
	unfollowed bool

	// policyAt is when the latest policy came, firstPolicy when the first came of those that no run has closed, and epochs
	// and policies when those came.
	policyAt, firstPolicy       time.Time
	epochs, policies, occasions []time.Time
	intervals                   []span
}

type span struct {
	from, to time.Time
	length   time.Duration
}

// mood is what the agents make of requests.
type mood struct {
	code    int
	latency time.Duration
	hangs   bool
	breaks  bool
}

// runTimeOut bounds one run.
func (w *world) runTimeOut() time.Duration { return agents.OpenTime + w.plan.Timeout + agents.Slack }

func newWorld(t *testing.T, number uint64) *world {
	w := &world{t: t, number: number, dice: rand.New(rand.NewPCG(number, 9)), mood: mood{code: 200}}
	from := sleepPod
	began := time.Now()
	w.plan = planOf(func(p *Plan) {
		p.Interval, p.Timeout = w.pick(time.Second, 5*time.Second, time.Minute), w.pick(time.Second, 5*time.Second)
		p.Control = "path"
		request := Request{From: &from, Greets: true, Ask: observation.Request{Address: serviceAddress, Path: "/epoch-0"}}
		if w.dice.IntN(5) == 0 {
			request.Endpoints = endpointsFrom(0, 1)
		}
		p.Requests = map[string]Request{"path": request}
		p.Fresh = w.dice.IntN(2) == 0
		p.Greeted = func(string, observation.EndpointResult) bool { return true }
		p.Recorder = recorder{w, "/epoch-0", began}
	})
	if w.dice.IntN(4) == 0 {
		w.mood.latency = w.plan.Timeout
	}
	w.runner = New(logr.Discard(), played.New(w.play), time.Hour, func(context.Context, Key) {}, w)
	return w
}

func (w *world) pick(from ...time.Duration) time.Duration { return from[w.dice.IntN(len(from))] }

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Errorf("sequence %d: "+format, append([]any{w.number}, args...)...)
}

// live plays one sequence.
func (w *world) live() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.runner.Start(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			w.fail("Start ended with %v", err)
		}
		w.checkRuns()
	}()
	w.intervals = []span{{from: time.Now(), length: w.plan.Interval}}
	if w.plan.Fresh {
		w.policyAt, w.firstPolicy = time.Now(), time.Now()
	}
	w.runner.Set(shop, w.plan)
	for range 2 + w.dice.IntN(3) {
		w.happen()
		pause := w.pick(0, time.Millisecond, 20*time.Millisecond, 300*time.Millisecond, 2*time.Second, 4*time.Second, 12*time.Second)
		w.spend(pause)
	}
	w.feel(mood{code: 200})
	w.spend(w.runTimeOut() + w.plan.Interval + SettleTime)
	synctest.Wait()
	if got := w.runner.Report(shop, w.plan.Epoch); got.Runs == 0 || got.Settling || time.Since(got.LastKept) > w.plan.Interval+w.plan.Timeout {
		w.fail("at the end: got %d runs, the latest %v ago, settling %v", got.Runs, time.Since(got.LastKept), got.Settling)
	}
}

// happen makes something happen, once or in a row.
func (w *world) happen() {
	what := w.dice.IntN(9)
	times, apart := 1, time.Duration(0)
	if w.dice.IntN(4) == 0 {
		times, apart = 2+w.dice.IntN(14), w.pick(3*time.Millisecond, 200*time.Millisecond, 900*time.Millisecond, 4*time.Second)
	}
	for range times {
		w.one(what)
		w.spend(apart)
	}
}

func (w *world) one(what int) {
	w.serial++
	now := time.Now()
	mark := MarkOf(w.serial)
	switch what {
	case 0, 1:
		w.plan.Occasion = mark
		w.occasions = append(w.occasions, now)
	case 2:
		w.plan.Policy, w.plan.Occasion = fmt.Sprint("policy ", w.serial), mark
		w.policies = append(w.policies, now)
		w.policyAt = now
		w.mu.Lock()
		if !w.unfollowed {
			w.firstPolicy = now
		}
		w.unfollowed = true
		w.mu.Unlock()
	case 3:
		path := fmt.Sprint("/epoch-", w.serial)
		request := w.plan.Requests["path"]
		request.Ask.Path = path
		w.plan.Epoch, w.plan.Requests, w.plan.Recorder = mark, map[string]Request{"path": request}, recorder{w, path, now}
		w.epochs = append(w.epochs, now)
	case 4:
		w.plan.Interval = w.pick(time.Second, 5*time.Second, time.Minute)
		w.intervals[len(w.intervals)-1].to = now
		w.intervals = append(w.intervals, span{from: now, length: w.plan.Interval})
	case 5:
		w.feel(mood{code: 503, latency: w.pick(0, time.Millisecond)})
	case 6:
		w.feel(mood{code: 200, latency: w.pick(0, time.Millisecond, 500*time.Millisecond, w.plan.Timeout)})
	case 7:
		w.feel(mood{hangs: true})
	case 8:
		w.feel(mood{breaks: true})
	}
	if what < 5 {
		w.runner.Set(shop, w.plan)
	}
}

func (w *world) feel(next mood) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fails := func(m mood) bool { return m.hangs || m.breaks }
	if fails(w.mood) && !fails(next) {
		w.unreliable = append(w.unreliable, span{from: w.unreliableSince, to: time.Now()})
	}
	if !fails(w.mood) && fails(next) {
		w.unreliableSince = time.Now()
	}
	w.mood = next
}

// spend lets time pass and looks at the report meanwhile.
func (w *world) spend(whole time.Duration) {
	const step = 700 * time.Millisecond
	for whole > 0 {
		time.Sleep(min(whole, step))
		whole -= step
		w.checkSettling()
	}
}

func (w *world) checkSettling() {
	now := time.Now()
	got := w.runner.Report(shop, w.plan.Epoch)
	w.mu.Lock()
	defer w.mu.Unlock()
	deadline := w.policyAt.Add(SettleTime)
	if latest := w.firstPolicy.Add(unjudgedTime); latest.Before(deadline) {
		deadline = latest
	}
	if got.Settling && (!now.Before(deadline) || got.SettlesBy.After(deadline)) {
		w.fail("settling %v after the latest policy and %v after the first that no run closed; until %v after now",
			now.Sub(w.policyAt), now.Sub(w.firstPolicy), got.SettlesBy.Sub(now))
	}
	// The run that finds the deadline over may be interrupted by occasions, and begin anew with an epoch.
	closes := deadline
	if len(w.epochs) > 0 && w.epochs[len(w.epochs)-1].After(closes) {
		closes = w.epochs[len(w.epochs)-1]
	}
	if w.unfollowed && now.Sub(closes) > SettleTime+w.runTimeOut()+quickPause {
		w.fail("no run has closed the policy %v after the deadline", now.Sub(deadline))
	}
}

// checkRuns looks back at the runs that were kept.
func (w *world) checkRuns() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.recorded, w.ran) {
		w.fail("recorded %v, kept %v", w.recorded, w.ran)
	}
	if w.mood.hangs || w.mood.breaks {
		w.unreliable = append(w.unreliable, span{from: w.unreliableSince, to: time.Now()})
	}
	for i := 1; i < len(w.ran); i++ {
		from, to := w.ran[i-1], w.ran[i]
		if to.Before(from) {
			w.fail("a run began at %v after one at %v", to, from)
		}
		within := func(at time.Time) bool { return !at.Before(from) && !at.After(to) }
		overlaps := func(s span) bool { return s.from.Before(to) && (s.to.IsZero() || s.to.After(from.Add(-time.Minute))) }
		if slices.ContainsFunc(w.epochs, within) || slices.ContainsFunc(w.unreliable, overlaps) {
			continue
		}
		allowed := w.plan.Timeout
		for _, interval := range w.intervals {
			if interval.from.Before(to) && (interval.to.IsZero() || interval.to.After(from)) {
				allowed = max(allowed, w.plan.Timeout+interval.length)
			}
		}
		if slices.ContainsFunc(w.policies, within) {
			allowed += unjudgedTime
		} else if slices.ContainsFunc(w.occasions, within) {
			allowed += SettleTime
		}
		if to.Sub(from) > allowed {
			w.fail("runs %d and %d began %v apart, want %v at most", i-1, i, to.Sub(from), allowed)
		}
	}
}

// play is the life of an agent that is in the mood of its world.
func (w *world) play(a *played.Agent) error {
	for {
		request, ok := a.Next()
		if !ok {
			return errors.New("the stream ended")
		}
		w.mu.Lock()
		mood := w.mood
		w.mu.Unlock()
		answer := observation.Observation{ID: request.ID, Class: observation.Answered, HTTPCode: mood.code, Remote: request.Path}
		switch {
		case request.ID == 0:
			a.Say(observation.Observation{})
		case mood.breaks:
			return errors.New("the connection was lost")
		case mood.hangs:
		case mood.latency == 0:
			a.Say(answer)
		default:
			time.AfterFunc(mood.latency, func() { a.Say(answer) })
		}
	}
}

// recorder takes down runs, which must be of its own epoch.
type recorder struct {
	world *world
	path  string
	since time.Time
}

func (r recorder) Record(run observation.Run) {
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	r.world.recorded = append(r.world.recorded, run.Started)
	if run.Started.Before(r.since) {
		r.world.fail("the recorder of %s was handed a run from %v before it", r.path, r.since.Sub(run.Started))
	}
	if result := run.Results["path"]; result.Failed == nil && result.Seen.Remote != r.path {
		r.world.fail("the recorder of %s was handed a run of %s", r.path, result.Seen.Remote)
	}
}

// A world is its runner's observer.
func (w *world) Asked(Asked)           {}
func (w *world) Delayed(time.Duration) {}
func (w *world) Opened()               {}
func (w *world) Broke(agents.Break)    {}
func (w *world) Ran(_ Key, started time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ran = append(w.ran, started)
}

func (w *world) Followed(Key, Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unfollowed = false
}
