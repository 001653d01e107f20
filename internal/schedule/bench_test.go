package schedule

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/agents/played"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

var (
	shop  = Key{Namespace: "shop", Name: "strict"}
	other = Key{Namespace: "shop", Name: "other"}

	sleepPod    = agents.Vantage{Namespace: "shop", Pod: "meshprobe-sleep-1", UID: "1", Container: "sleep"}
	outsiderPod = agents.Vantage{Namespace: "shop", Pod: "meshprobe-outsider-1", UID: "2", Container: "sleep"}
)

// planOf is a plan with one path from each of the containers, which computes 200 for all of them.
func planOf(edit func(*Plan), from ...agents.Vantage) Plan {
	plan := Plan{
		Interval: time.Minute, Timeout: 5 * time.Second, Epoch: MarkOf("epoch"), Occasion: MarkOf("occasion"), Policy: "policy",
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
	far   *played.Agents
	begun time.Time
	notes *notes

	mu       sync.Mutex
	wakes    []time.Time
	journals map[Key]map[Mark]*journal
}

// journal is a Recorder that keeps everything.
type journal struct {
	mu   sync.Mutex
	runs []observation.Run
}

func (j *journal) Record(run observation.Run) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.runs = append(j.runs, run)
}

// Set gives a probe its plan, with a journal for each of its epochs.
func (b *bench) Set(key Key, plan Plan) {
	plan.Recorder = b.journal(key, plan.Epoch)
	b.Runner.Set(key, plan)
}

func (b *bench) journal(key Key, epoch Mark) *journal {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.journals == nil {
		b.journals = map[Key]map[Mark]*journal{}
	}
	if b.journals[key] == nil {
		b.journals[key] = map[Mark]*journal{}
	}
	if b.journals[key][epoch] == nil {
		b.journals[key][epoch] = &journal{}
	}
	return b.journals[key][epoch]
}

// runs are the runs of a probe that were recorded in an epoch.
func (b *bench) runs(key Key, epoch Mark) []observation.Run {
	kept := b.journal(key, epoch)
	kept.mu.Lock()
	defer kept.mu.Unlock()
	return slices.Clone(kept.runs)
}

// newBench builds a runner that is not started yet.
func newBench(far *played.Agents, heartbeat time.Duration) *bench {
	b := &bench{far: far, begun: time.Now(), notes: &notes{}}
	b.Runner = New(logr.Discard(), far, heartbeat, func(context.Context, Key) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.wakes = append(b.wakes, time.Now())
	}, b.notes)
	return b
}

// startBench starts a runner whose agents are played by play. It is ended with the test, which fails if that does not
// end everything the runner started: a goroutine that stays behind is a deadlock to synctest.
func startBench(t *testing.T, play func(*played.Agent) error) *bench {
	t.Helper()
	b := newBench(played.New(play), time.Hour)
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
func (b *bench) latest(t *testing.T, key Key, from agents.Vantage) observation.Result {
	t.Helper()
	report := b.Report(key, MarkOf("epoch"))
	if report.Runs == 0 {
		t.Fatal("no run was reported")
	}
	return report.Latest.Results[from.Pod]
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
