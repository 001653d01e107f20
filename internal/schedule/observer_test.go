package schedule

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/agents/played"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// notes is an Observer that writes down what it is told.
type notes struct {
	mu      sync.Mutex
	asked   []string
	ran     map[Key][]time.Time
	delays  []time.Duration
	changes []Change
	opened  int
	broke   []agents.Break
	// panics has Asked panic.
	panics bool
}

func (n *notes) Asked(asked Asked) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.panics {
		panic("cannot note that")
	}
	note := fmt.Sprintf("%s/%s %s%s %s", asked.Probe.Namespace, asked.Probe.Name, asked.Path, asked.Hello, asked.Result.Seen.Class)
	if asked.Result.Failed != nil {
		note += string(asked.Result.Failed.Kind)
	}
	if asked.Interrupted {
		note += " interrupted"
	}
	n.asked = append(n.asked, note)
}

func (n *notes) Ran(probe Key, started time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ran == nil {
		n.ran = map[Key][]time.Time{}
	}
	n.ran[probe] = append(n.ran[probe], started)
}

func (n *notes) Delayed(by time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delays = append(n.delays, by)
}

func (n *notes) Followed(_ Key, change Change) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.changes = append(n.changes, change)
}

func (n *notes) Opened() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.opened++
}

func (n *notes) Broke(why agents.Break) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broke = append(n.broke, why)
}

// count is how often a request ended so.
func (n *notes) count(note string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(n.asked), func(one string) bool { return one != note }))
}

func TestObserverHearsOfEveryRequestAndRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, nil)
		b.Set(shop, planOf(withEndpoints(endpointsFrom(0, 3)), sleepPod, outsiderPod))
		time.Sleep(10*time.Minute + time.Second)
		synctest.Wait()
		sent := len(b.far.Requests(sleepPod)) + len(b.far.Requests(outsiderPod))
		b.notes.mu.Lock()
		defer b.notes.mu.Unlock()
		if got := len(b.notes.asked); got != sent || sent < 40 {
			t.Errorf("requests told: got %d, want the %d that arrived", got, sent)
		}
		if got, want := len(b.notes.ran[shop]), len(b.far.Requests(sleepPod)); got != want {
			t.Errorf("runs told: got %d, want %d, as many as requests on a path without endpoints", got, want)
		}
		if len(b.notes.delays) < 10 || slices.Max(b.notes.delays) != 0 {
			t.Errorf("delays: got %v, want one for every scheduled run, and no run late", b.notes.delays)
		}
	})
}

func TestObserverHearsOfRequestsThatCameToNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, func(*played.Agent) error { return agents.ErrForbidden })
		b.Set(shop, planOf(func(p *Plan) { p.Requests["gone"] = Request{Missing: "no pod"} }, sleepPod))
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, note := range []string{"shop/strict " + sleepPod.Pod + " ExecForbidden", "shop/strict gone NoVantage"} {
			if b.notes.count(note) == 0 {
				t.Errorf("%q was not told; told: %v", note, b.notes.asked)
			}
		}
		if len(b.notes.broke) < 2 || b.notes.broke[0] != agents.BreakForbidden || b.notes.opened != 0 {
			t.Errorf("streams: got %d opened, broke %v; want none opened and several forbidden", b.notes.opened, b.notes.broke)
		}
	})
}

// A run that makes room for another says nothing of the agent, which may have been about to answer.
func TestObserverIsToldOfInterruptedRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, func(a *played.Agent) error {
			return a.AnswerAll(func(observation.Request) observation.Observation {
				time.Sleep(3 * time.Second)
				return observation.Observation{Class: observation.Answered, HTTPCode: 200}
			})
		})
		b.Set(shop, planOf(nil, sleepPod))
		time.Sleep(time.Second)
		b.Set(shop, planOf(func(p *Plan) { p.Epoch = MarkOf("another") }, sleepPod))
		synctest.Wait()
		if got := b.notes.count("shop/strict " + sleepPod.Pod + " AgentSilent interrupted"); got != 1 {
			t.Errorf("interrupted requests: got %d, want 1; told: %v", got, b.notes.asked)
		}
		if len(b.notes.ran[shop]) != 0 {
			t.Error("the interrupted run is told as kept")
		}
	})
}

func TestObserverHearsOfRunsThatAreLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, func(a *played.Agent) error {
			return a.AnswerAll(func(observation.Request) observation.Observation {
				time.Sleep(30 * time.Second)
				return observation.Observation{Class: observation.Answered, HTTPCode: 200}
			})
		})
		b.Set(shop, planOf(func(p *Plan) { p.Interval, p.Timeout = 20*time.Second, 100*time.Second }, sleepPod))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(b.notes.delays) == 0 || slices.Max(b.notes.delays) != 10*time.Second {
			t.Errorf("delays: got %v, want 10s, by which the runs are longer than the interval", b.notes.delays)
		}
	})
}

func TestObserverHearsOfAChangeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, nil)
		b.Set(shop, planOf(nil, sleepPod))
		time.Sleep(time.Minute)
		b.Set(shop, planOf(func(p *Plan) { p.Policy, p.Cause = "STRICT", "PeerAuthentication shop/legacy" }, sleepPod))
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(b.notes.changes) != 1 {
			t.Fatalf("changes told: %+v, want 1", b.notes.changes)
		}
		if got, reported := b.notes.changes[0], b.Report(shop, MarkOf("epoch")).Change; reported == nil || got != *reported || !got.Settled || got.Sent == 0 {
			t.Errorf("the change: got %+v, want what is reported: %+v", got, reported)
		}
	})
}

func TestLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, func(a *played.Agent) error {
			if a.From == outsiderPod {
				return a.AnswerAll(func(observation.Request) observation.Observation {
					time.Sleep(time.Second)
					return observation.Observation{Class: observation.Answered, HTTPCode: 200}
				})
			}
			return agents.ErrForbidden
		})
		b.Set(shop, planOf(nil, sleepPod, outsiderPod))
		b.Set(other, planOf(nil, outsiderPod))
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if got, want := b.Load(), (Load{Probes: 2, Running: 2, Load: agents.Load{Awaiting: 2, StreamsWanted: 2, StreamsOpen: 1}}); got != want {
			t.Errorf("during the first runs: got %+v, want %+v", got, want)
		}
		b.Forget(shop)
		b.Forget(other)
		synctest.Wait()
		if got := b.Load(); got != (Load{}) {
			t.Errorf("without probes: got %+v", got)
		}
	})
}
