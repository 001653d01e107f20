package agents_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"

	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/agents/played"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

var (
	sleepPod    = agents.Vantage{Namespace: "shop", Pod: "meshprobe-sleep-1", UID: "1", Container: "sleep"}
	outsiderPod = agents.Vantage{Namespace: "shop", Pod: "meshprobe-outsider-1", UID: "2", Container: "sleep"}
)

// timeout is the time-out of every request.
const timeout = 5 * time.Second

// notes is an Observer that writes down what it is told.
type notes struct {
	mu     sync.Mutex
	opened int
	broke  []agents.Break
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

// bench are streams under test with the agents at their far ends.
type bench struct {
	*agents.Streams
	far   *played.Agents
	notes *notes
	begun time.Time
}

// startBench returns streams to agents that are played by play. They are closed with the test, which fails if that does
// not end everything they started: a goroutine that stays behind is a deadlock to synctest.
func startBench(t *testing.T, play func(*played.Agent) error) *bench {
	t.Helper()
	b := &bench{far: played.New(play), notes: &notes{}, begun: time.Now()}
	b.Streams = agents.NewStreams(logr.Discard(), b.far, b.notes)
	t.Cleanup(b.Close)
	return b
}

// result is what came of a request.
type result struct {
	seen   observation.Observation
	failed *observation.Failure
}

func (b *bench) ask(from agents.Vantage, address string) result {
	seen, failed := b.Ask(context.Background(), from, observation.Request{Address: address, Timeout: timeout})
	return result{seen, failed}
}

// want200 and wantFailure check what came of a request.
func want200(t *testing.T, when string, got result) {
	t.Helper()
	if got.failed != nil || got.seen.HTTPCode != 200 {
		t.Errorf("%s: got %+v, failure %+v; want 200", when, got.seen, got.failed)
	}
}

func wantFailure(t *testing.T, got result, kind observation.FailureKind, words string) {
	t.Helper()
	if got.failed == nil || got.failed.Kind != kind {
		t.Fatalf("got %+v, failure %+v; want %s", got.seen, got.failed, kind)
	}
	if !strings.Contains(got.failed.Message, words) || !strings.Contains(got.failed.Message, sleepPod.Pod) {
		t.Errorf("message: got %q, want it to name the pod and to speak of %q", got.failed.Message, words)
	}
}

func gaps(moments []time.Time) (between []time.Duration) {
	for i := 1; i < len(moments); i++ {
		between = append(between, moments[i].Sub(moments[i-1]))
	}
	return between
}

func TestOneStreamCarriesEveryRequestFromItsContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, nil)
		for range 60 {
			var asking sync.WaitGroup
			for i := range 20 {
				asking.Go(func() { want200(t, "together", b.ask(sleepPod, fmt.Sprint("host-", i))) })
			}
			asking.Wait()
			time.Sleep(time.Minute)
		}
		if got := len(b.far.Openings(sleepPod)); got != 1 {
			t.Errorf("streams opened in an hour of 20 requests a minute: got %d, want 1", got)
		}
	})
}

func TestAnswersFindTheirRequestsInWhateverOrderTheyCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, func(a *played.Agent) error {
			for {
				request, ok := a.Next()
				if !ok {
					return a.Hang()
				}
				if request.ID == 0 {
					a.Say(observation.Observation{})
					continue
				}
				time.AfterFunc(time.Second/time.Duration(request.ID), func() {
					a.Say(observation.Observation{ID: request.ID, Class: observation.Answered, HTTPCode: 200, Remote: request.Address})
				})
			}
		})
		var asking sync.WaitGroup
		for i := range 5 {
			asking.Go(func() {
				address := fmt.Sprint("host-", i)
				if got := b.ask(sleepPod, address); got.seen.Remote != address {
					t.Errorf("%s: got the answer %+v, failure %+v", address, got.seen, got.failed)
				}
			})
		}
		asking.Wait()
	})
}

func TestPingsKeepAnIdleStreamOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, nil)
		want200(t, "at first", b.ask(sleepPod, "host"))
		time.Sleep(12*time.Hour + time.Second)
		if got := len(b.far.Openings(sleepPod)); got != 1 {
			t.Errorf("streams opened in 12 idle hours: got %d, want 1", got)
		}
		if got, want := b.far.Pings(), 1+int(12*time.Hour/agents.PingEvery); got != want {
			t.Errorf("pings in 12 hours: got %d, want %d", got, want)
		}
	})
}

func TestBrokenStreamIsOpenedAgainAndTheRequestTriedOnceMore(t *testing.T) {
	for name, test := range map[string]struct {
		breaks int
		want   observation.FailureKind
	}{
		"breaks once":  {1, ""},
		"breaks twice": {2, observation.ExecFailed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startBench(t, breaking(test.breaks))
				first := b.ask(sleepPod, "host")
				if test.want != "" {
					wantFailure(t, first, test.want, "broke")
				} else {
					want200(t, "first request", first)
				}
				want200(t, "next request", b.ask(sleepPod, "host"))
				if got, want := len(b.far.Openings(sleepPod)), 1+test.breaks; got != want {
					t.Errorf("streams opened: got %d, want %d", got, want)
				}
				if got := b.notes; got.opened != 1+test.breaks || len(got.broke) != test.breaks {
					t.Errorf("told: got %d streams opened and %v broken, want %d and %d", got.opened, got.broke, 1+test.breaks, test.breaks)
				}
			})
		})
	}
}

// breaking plays agents the first few of which end on their first request.
func breaking(times int) func(*played.Agent) error {
	return func(a *played.Agent) error {
		if a.Opening > times {
			return a.AnswerAll(played.OK)
		}
		for {
			if request, ok := a.Next(); !ok || request.ID != 0 {
				return errors.New("the connection was lost")
			}
			a.Say(observation.Observation{})
		}
	}
}

func TestBackOffGrowsAndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, func(*played.Agent) error { return errors.New("no route to host") })
		wantFailure(t, b.ask(sleepPod, "host"), observation.ExecFailed, "no route to host")
		time.Sleep(time.Hour)
		step := agents.BackOffMin
		openings := b.far.Openings(sleepPod)
		for i, gap := range gaps(openings) {
			if gap < step/2 || gap > step {
				t.Fatalf("pause %d: got %v, want between %v and %v", i, gap, step/2, step)
			}
			step = min(2*step, agents.BackOffMax)
		}
		if least := int(time.Hour / agents.BackOffMax); len(openings) < least {
			t.Errorf("openings in an hour: got %d, want %d at least", len(openings), least)
		}
		asked := time.Now()
		wantFailure(t, b.ask(sleepPod, "host"), observation.ExecFailed, "no route to host")
		if took := time.Since(asked); took > agents.ReopenPatience {
			t.Errorf("a request waited %v for a stream that could not be opened the last time, want %v at most", took, agents.ReopenPatience)
		}
	})
}

func TestBackOffBeginsAnewAfterAStreamThatStoodLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const failures = 12
		b := startBench(t, func(a *played.Agent) error {
			if a.Opening <= failures {
				return errors.New("no route to host")
			}
			time.AfterFunc(2*agents.BackOffMax, func() { a.Out.(io.Closer).Close() })
			return a.AnswerAll(played.OK)
		})
		b.ask(sleepPod, "host")
		time.Sleep(time.Hour)
		pauses := gaps(b.far.Openings(sleepPod))[failures:]
		if len(pauses) < 10 {
			t.Fatalf("openings after the failures: got %d, want many", len(pauses))
		}
		for i, pause := range pauses {
			if pause > 2*agents.BackOffMax+2*agents.BackOffMin {
				t.Fatalf("opening %d after streams that stood for %v: got a pause of %v", i, 2*agents.BackOffMax, pause-2*agents.BackOffMax)
			}
		}
	})
}

func TestForbiddenExecIsReportedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		allowed := false
		b := startBench(t, func(a *played.Agent) error {
			mu.Lock()
			defer mu.Unlock()
			if !allowed {
				return fmt.Errorf("%w: grant create on pods/exec", agents.ErrForbidden)
			}
			mu.Unlock()
			defer mu.Lock()
			return a.AnswerAll(played.OK)
		})
		for range 20 {
			asked := time.Now()
			wantFailure(t, b.ask(sleepPod, "host"), observation.ExecForbidden, "grant create on pods/exec")
			if took := time.Since(asked); took != 0 {
				t.Errorf("reported after %v, want it at once", took)
			}
			time.Sleep(time.Minute)
		}
		b.notes.mu.Lock()
		broke := slices.Clone(b.notes.broke)
		b.notes.mu.Unlock()
		if len(broke) < 20 || slices.ContainsFunc(broke, func(why agents.Break) bool { return why != agents.BreakForbidden }) {
			t.Errorf("told: %v, want many, all of them %s", broke, agents.BreakForbidden)
		}
		mu.Lock()
		allowed = true
		mu.Unlock()
		time.Sleep(2 * time.Minute)
		want200(t, "once it is allowed", b.ask(sleepPod, "host"))
	})
}

func TestAgentThatDoesNotAnswerIsReportedInTime(t *testing.T) {
	pongOnly := func(a *played.Agent) error {
		for {
			request, ok := a.Next()
			if !ok {
				return a.Hang()
			}
			if request.ID == 0 {
				a.Say(observation.Observation{})
			}
		}
	}
	deaf := func(a *played.Agent) error {
		a.Next()
		a.Say(observation.Observation{})
		return a.Hang()
	}
	for name, test := range map[string]struct {
		play  func(*played.Agent) error
		want  observation.FailureKind
		after time.Duration
	}{
		"the ping":               {(*played.Agent).Hang, observation.ExecFailed, agents.OpenTime},
		"a request":              {pongOnly, observation.AgentSilent, agents.OpenTime + timeout + agents.Slack},
		"and takes no bytes":     {deaf, observation.AgentSilent, agents.OpenTime + timeout + agents.Slack},
		"and speaks of no match": {mumble, observation.AgentSilent, agents.OpenTime + timeout + agents.Slack},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startBench(t, test.play)
				wantFailure(t, b.ask(sleepPod, "host"), test.want, sleepPod.Container)
				if took := time.Since(b.begun); took > test.after {
					t.Errorf("reported after %v, want at most %v", took, test.after)
				}
			})
		})
	}
}

// mumble answers every request with the answer to one that nobody asked.
func mumble(a *played.Agent) error {
	for {
		request, ok := a.Next()
		if !ok {
			return a.Hang()
		}
		if request.ID != 0 {
			request.ID += 1000
		}
		a.Say(observation.Observation{ID: request.ID, Class: observation.Answered, HTTPCode: 200})
	}
}

func TestRequestsThatAreGivenUpAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, mumble)
		for range 100 {
			wantFailure(t, b.ask(sleepPod, "host"), observation.AgentSilent, "did not answer")
		}
		if got, want := b.Load(), (agents.Load{StreamsWanted: 1, StreamsOpen: 1}); got != want {
			t.Errorf("after 100 requests that were given up: got %+v, want %+v", got, want)
		}
		if got := len(b.far.Openings(sleepPod)); got != 1 {
			t.Errorf("streams opened: got %d, want 1", got)
		}
	})
}

func TestSilentStreamIsGivenUpAndOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, func(a *played.Agent) error {
			if a.Opening > 1 {
				return a.AnswerAll(played.OK)
			}
			a.Next()
			a.Say(observation.Observation{})
			for {
				if _, ok := a.Next(); !ok {
					return a.Hang()
				}
			}
		})
		b.ask(sleepPod, "host")
		time.Sleep(10 * time.Minute)
		opened := b.far.Openings(sleepPod)
		if pauses := gaps(opened); len(pauses) != 1 || pauses[0] < agents.Silence || pauses[0] > agents.Silence+agents.BackOffMin {
			t.Errorf("streams opened at %v, want the second %v after the last word", opened, agents.Silence)
		}
		if got := b.notes.broke; !slices.Equal(got, []agents.Break{agents.BreakSilent}) {
			t.Errorf("told: %v, want %s once", got, agents.BreakSilent)
		}
	})
}

func TestGarbageBreaksTheStream(t *testing.T) {
	for name, test := range map[string]struct{ says, want string }{
		"words":           {"sh: /meshprobe/probe: not found\n", "no observation"},
		"broken JSON":     {`{"id": 1, "class": ` + "\n", "no observation"},
		"wrong types":     {`{"id": "one"}` + "\n", "no observation"},
		"an endless line": {strings.Repeat("x", 2*agents.MaxObservationBytes), "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startBench(t, func(a *played.Agent) error {
					if time.Since(startOfTime) > time.Minute {
						return a.AnswerAll(played.OK)
					}
					go func() { _, _ = io.WriteString(a.Out, test.says) }()
					return a.Hang()
				})
				wantFailure(t, b.ask(sleepPod, "host"), observation.ExecFailed, test.want)
				time.Sleep(3 * time.Minute)
				want200(t, "once the agent speaks sense", b.ask(sleepPod, "host"))
			})
		})
	}
}

// startOfTime is when the clock of every synctest bubble begins.
var startOfTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func TestGarbageAmongAnswersIsReplacedByAFreshStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, func(a *played.Agent) error {
			return a.AnswerAll(func(observation.Request) observation.Observation {
				if a.Opening == 1 {
					_, _ = io.WriteString(a.Out, "panic: runtime error\n")
				}
				return played.Code(200)
			})
		})
		want200(t, "the first request, from the second stream", b.ask(sleepPod, "host"))
	})
}

func TestStreamThatTakesNoBytesBlocksNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, func(a *played.Agent) error {
			if a.From == outsiderPod {
				return a.AnswerAll(played.OK)
			}
			a.Next()
			a.Say(observation.Observation{})
			return a.Hang() // and reads no more
		})
		stuck := make(chan result, 1)
		go func() { stuck <- b.ask(sleepPod, "host") }()
		synctest.Wait()
		for range 30 {
			asked := time.Now()
			want200(t, "the other container", b.ask(outsiderPod, "host"))
			if took := time.Since(asked); took != 0 {
				t.Errorf("the other container's answer took %v", took)
			}
		}
		b.Keep(map[agents.Vantage]bool{outsiderPod: true})
		synctest.Wait()
		if own, others := b.far.OpenNow(sleepPod), b.far.OpenNow(outsiderPod); own != 0 || others != 1 {
			t.Errorf("streams: got %d to the container that is not kept and %d to the other, want 0 and 1", own, others)
		}
		wantFailure(t, <-stuck, observation.ExecFailed, "exec stream")
	})
}

// What breaks within one stream must not end the operator.
func TestPanicBreaksOneStreamAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, func(a *played.Agent) error {
			if a.From == sleepPod && a.Opening == 1 {
				panic("index out of range")
			}
			return a.AnswerAll(played.OK)
		})
		want200(t, "the next stream to the container", b.ask(sleepPod, "host"))
		want200(t, "the other container", b.ask(outsiderPod, "host"))
		if got := b.notes.broke; !slices.Equal(got, []agents.Break{agents.BreakFailed}) {
			t.Errorf("told: %v, want %s once", got, agents.BreakFailed)
		}
	})
}

func TestLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, func(a *played.Agent) error {
			if a.From == outsiderPod {
				return played.Slowly(time.Second)(a)
			}
			return agents.ErrForbidden
		})
		for _, from := range []agents.Vantage{sleepPod, outsiderPod, outsiderPod} {
			go b.ask(from, "host")
		}
		synctest.Wait()
		if got, want := b.Load(), (agents.Load{Awaiting: 2, StreamsWanted: 2, StreamsOpen: 1}); got != want {
			t.Errorf("while two are asked: got %+v, want %+v", got, want)
		}
		time.Sleep(3 * time.Second)
		b.Keep(nil)
		synctest.Wait()
		if got := b.Load(); got != (agents.Load{}) {
			t.Errorf("without streams: got %+v", got)
		}
	})
}

func TestEveryBreakIsListed(t *testing.T) {
	for err, want := range map[error]agents.Break{
		fmt.Errorf("%w: why", agents.ErrForbidden): agents.BreakForbidden, agents.ErrAgentEnded: agents.BreakAgentEnded,
		agents.ErrSilent: agents.BreakSilent, errors.New("reset"): agents.BreakFailed,
	} {
		if got := agents.BreakOf(err); got != want || !slices.Contains(agents.Breaks(), want) {
			t.Errorf("%v: got %s, want %s, which is listed", err, got, want)
		}
	}
}
