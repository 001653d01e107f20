package runner

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// agents is an Opener whose agents are played by the test, in the real wire format, over the pipes that Open is given.
type agents struct {
	// play is one agent's life, from the opening of its stream to its end; nil plays a healthy agent.
	play func(*agent) error

	mu sync.Mutex
	// opened and asked are when streams were opened and requests arrived; pinged counts the pings.
	opened map[Vantage][]time.Time
	asked  map[Vantage][]time.Time
	pinged int
	open   map[Vantage]int
}

func newAgents(play func(*agent) error) *agents {
	return &agents{play: play, opened: map[Vantage][]time.Time{}, asked: map[Vantage][]time.Time{}, open: map[Vantage]int{}}
}

func (a *agents) Open(ctx context.Context, from Vantage, stdin io.Reader, stdout io.Writer) error {
	a.mu.Lock()
	a.opened[from] = append(a.opened[from], time.Now())
	a.open[from]++
	one := &agent{all: a, ctx: ctx, from: from, opening: len(a.opened[from]), in: bufio.NewScanner(stdin), out: stdout}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.open[from]--
	}()
	if a.play == nil {
		return one.answerAll(ok)
	}
	return a.play(one)
}

func (a *agents) openings(from Vantage) []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.opened[from])
}

func (a *agents) requests(from Vantage) []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.asked[from])
}

func (a *agents) pings() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pinged
}

// openNow is how many streams to a container stand at this moment.
func (a *agents) openNow(from Vantage) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open[from]
}

// agent is one played agent at the far end of a stream.
type agent struct {
	all  *agents
	ctx  context.Context
	from Vantage
	// opening counts the streams to this container, from 1.
	opening int
	in      *bufio.Scanner
	out     io.Writer
}

// next waits for a request; false is the end of standard input.
func (a *agent) next() (observation.Request, bool) {
	var request observation.Request
	if !a.in.Scan() || json.Unmarshal(a.in.Bytes(), &request) != nil {
		return request, false
	}
	a.all.mu.Lock()
	defer a.all.mu.Unlock()
	if request.ID == 0 {
		a.all.pinged++
	} else {
		a.all.asked[a.from] = append(a.all.asked[a.from], time.Now())
	}
	return request, true
}

func (a *agent) say(seen observation.Observation) { _ = json.NewEncoder(a.out).Encode(seen) }

// answerAll answers pings and hands everything else to answer, until the stream ends.
func (a *agent) answerAll(answer func(observation.Request) observation.Observation) error {
	for {
		request, ok := a.next()
		if !ok {
			return errors.New("the stream ended")
		}
		if request.ID == 0 {
			a.say(observation.Observation{})
			continue
		}
		seen := answer(request)
		seen.ID = request.ID
		a.say(seen)
	}
}

// hang is an agent that does nothing more until its stream is cancelled.
func (a *agent) hang() error {
	<-a.ctx.Done()
	return a.ctx.Err()
}

func code(code int) observation.Observation {
	return observation.Observation{Class: observation.Answered, HTTPCode: code}
}

func ok(observation.Request) observation.Observation { return code(200) }

// codes plays agents that answer the numbered request, from 0, as told; beyond the end the last one counts.
func codes(sequence ...int) func(*agent) error {
	var mu sync.Mutex
	next := 0
	return func(a *agent) error {
		return a.answerAll(func(observation.Request) observation.Observation {
			mu.Lock()
			defer mu.Unlock()
			next++
			return code(sequence[min(next, len(sequence))-1])
		})
	}
}

// slowly plays agents that take their time for every answer.
func slowly(latency time.Duration) func(*agent) error {
	return func(a *agent) error {
		return a.answerAll(func(observation.Request) observation.Observation {
			time.Sleep(latency)
			return code(200)
		})
	}
}

var (
	shop  = Key{Namespace: "shop", Name: "strict"}
	other = Key{Namespace: "shop", Name: "other"}

	sleepPod    = Vantage{Namespace: "shop", Pod: "meshprobe-sleep-1", UID: "1", Container: "sleep"}
	outsiderPod = Vantage{Namespace: "shop", Pod: "meshprobe-outsider-1", UID: "2", Container: "sleep"}
)

// planOf is a plan with one path from each of the containers, which computes 200 for all of them.
func planOf(edit func(*Plan), from ...Vantage) Plan {
	plan := Plan{
		Interval: time.Minute, Timeout: 5 * time.Second, Epoch: "epoch", Occasion: "occasion", Policy: "policy",
		Control: sleepPod.Pod, Answers: true, Repeats: 2,
		Requests:   map[string]Request{},
		AsComputed: allAnswer200,
		Matches:    func(_ string, result observation.EndpointResult) bool { return answers200(result.Result) },
	}
	for _, vantage := range from {
		plan.Requests[vantage.Pod] = Request{From: &vantage, Ask: observation.Request{Address: "strict-nginx.shop:443", Path: "/"}}
	}
	if edit != nil {
		edit(&plan)
	}
	return plan
}

func answers200(result observation.Result) bool {
	return result.Failed == nil && result.Seen.HTTPCode == 200
}

// allAnswer200 says whether every path, and every endpoint that a path dials, was asked and answered 200.
func allAnswer200(run observation.Run) bool {
	for _, result := range run.Results {
		if !answers200(result) {
			return false
		}
		for _, endpoint := range result.Endpoints {
			if endpoint.Asked.IsZero() || !answers200(endpoint.Result) {
				return false
			}
		}
	}
	return true
}

// bench is a runner under test with the agents that it talks to.
type bench struct {
	*Runner
	agents *agents
	begun  time.Time
	notes  *notes

	mu    sync.Mutex
	wakes []time.Time
}

// newBench builds a runner that is not started yet.
func newBench(agents *agents, heartbeat time.Duration) *bench {
	b := &bench{agents: agents, begun: time.Now(), notes: &notes{}}
	b.Runner = New(logr.Discard(), agents, heartbeat, func(context.Context, Key) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.wakes = append(b.wakes, time.Now())
	}, b.notes)
	return b
}

// startBench starts a runner whose agents are played by play. It is ended with the test, which fails if that does not
// end everything the runner started: a goroutine that stays behind is a deadlock to synctest.
func startBench(t *testing.T, play func(*agent) error) *bench {
	t.Helper()
	b := newBench(newAgents(play), time.Hour)
	b.startFor(t)
	return b
}

func (b *bench) startFor(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Start returned %v", err)
		}
	})
}

func (b *bench) wakeUps() []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.wakes)
}

// since turns moments into the times from the bench's beginning.
func (b *bench) since(moments []time.Time) []time.Duration {
	times := make([]time.Duration, len(moments))
	for i, moment := range moments {
		times[i] = moment.Sub(b.begun)
	}
	return times
}

// latest is the result on one path in the latest run.
func (b *bench) latest(t *testing.T, key Key, from Vantage) observation.Result {
	t.Helper()
	runs := b.Report(key, "epoch").Runs
	if len(runs) == 0 {
		t.Fatal("no run was reported")
	}
	return runs[len(runs)-1].Results[from.Pod]
}

// wantFailure checks why a request came to nothing.
func wantFailure(t *testing.T, result observation.Result, want observation.FailureKind) {
	t.Helper()
	if result.Failed == nil || result.Failed.Kind != want {
		t.Fatalf("got %+v, failure %+v; want %s", result.Seen, result.Failed, want)
	}
}

// gaps are the times between moments that follow each other.
func gaps(moments []time.Time) []time.Duration {
	var between []time.Duration
	for i := 1; i < len(moments); i++ {
		between = append(between, moments[i].Sub(moments[i-1]))
	}
	return between
}

func repeat(d time.Duration, times int) []time.Duration {
	return slices.Repeat([]time.Duration{d}, times)
}
