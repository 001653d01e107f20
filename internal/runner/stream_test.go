package runner

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

func TestOneStreamCarriesTheRequestsOfAllProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, nil)
		for i := range 20 {
			b.Set(Key{"shop", fmt.Sprint(i)}, planOf(nil, sleepPod))
		}
		time.Sleep(time.Hour)
		if got := len(b.agents.openings(sleepPod)); got != 1 {
			t.Errorf("streams opened in an hour of 20 probes: got %d, want 1", got)
		}
	})
}

func TestAnswersFindTheirRequestsInWhateverOrderTheyCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, func(a *agent) error {
			for {
				request, ok := a.next()
				if !ok {
					return a.hang()
				}
				if request.ID == 0 {
					a.say(observation.Observation{})
					continue
				}
				time.AfterFunc(time.Second/time.Duration(request.ID), func() {
					a.say(observation.Observation{ID: request.ID, Class: observation.Answered, HTTPCode: 200, Remote: request.Address})
				})
			}
		})
		for i := range 5 {
			b.Set(Key{"shop", fmt.Sprint(i)}, planOf(func(p *Plan) {
				from := sleepPod
				p.Requests = map[string]Request{sleepPod.Pod: {From: &from, Ask: observation.Request{Address: fmt.Sprint("host-", i)}}}
			}))
		}
		time.Sleep(time.Minute)
		for i := range 5 {
			if got := b.latest(t, Key{"shop", fmt.Sprint(i)}, sleepPod); got.Seen.Remote != fmt.Sprint("host-", i) {
				t.Errorf("probe %d: got the answer %+v, failure %+v", i, got.Seen, got.Failed)
			}
		}
	})
}

func TestPingsKeepAnIdleStreamOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, nil)
		b.Set(shop, planOf(func(p *Plan) { p.Interval = 24 * time.Hour }, sleepPod))
		time.Sleep(12*time.Hour + time.Second)
		if got := len(b.agents.openings(sleepPod)); got != 1 {
			t.Errorf("streams opened in 12 idle hours: got %d, want 1", got)
		}
		if got, want := b.agents.pings(), 1+int(12*time.Hour/pingEvery); got != want {
			t.Errorf("pings in 12 hours: got %d, want %d", got, want)
		}
	})
}

func TestRequestCarriesThePlansTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked observation.Request
		b := startBench(t, func(a *agent) error {
			return a.answerAll(func(request observation.Request) observation.Observation {
				asked = request
				return code(200)
			})
		})
		b.Set(shop, planOf(func(p *Plan) { p.Timeout = 3 * time.Second }, sleepPod))
		time.Sleep(time.Second)
		if asked.Timeout != 3*time.Second || asked.Address != "strict-nginx.shop:443" || asked.Path != "/" {
			t.Errorf("request: got %+v", asked)
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
				b.Set(shop, planOf(nil, sleepPod))
				time.Sleep(time.Second)
				first := b.Report(shop, "epoch").Runs[0].Results[sleepPod.Pod]
				if test.want != "" {
					wantFailure(t, first, test.want)
				} else if first.Failed != nil || first.Seen.HTTPCode != 200 {
					t.Errorf("first run: got %+v, failure %+v; want 200", first.Seen, first.Failed)
				}
				if got := b.latest(t, shop, sleepPod); got.Seen.HTTPCode != 200 {
					t.Errorf("latest run: got %+v, failure %+v; want 200", got.Seen, got.Failed)
				}
				if got, want := len(b.agents.openings(sleepPod)), 1+test.breaks; got != want {
					t.Errorf("streams opened: got %d, want %d", got, want)
				}
			})
		})
	}
}

// breaking plays agents the first few of which end on their first request.
func breaking(times int) func(*agent) error {
	return func(a *agent) error {
		if a.opening > times {
			return a.answerAll(ok)
		}
		for {
			if request, ok := a.next(); !ok || request.ID != 0 {
				return errors.New("the connection was lost")
			}
			a.say(observation.Observation{})
		}
	}
}

func TestBackOffGrowsAndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, func(*agent) error { return errors.New("no route to host") })
		b.Set(shop, planOf(nil, sleepPod))
		time.Sleep(time.Hour)
		step := backOffMin
		for i, gap := range gaps(b.agents.openings(sleepPod)) {
			if gap < step/2 || gap > step {
				t.Fatalf("pause %d: got %v, want between %v and %v", i, gap, step/2, step)
			}
			step = min(2*step, backOffMax)
		}
		result := b.latest(t, shop, sleepPod)
		wantFailure(t, result, observation.ExecFailed)
		if !strings.Contains(result.Failed.Message, "no route to host") || !strings.Contains(result.Failed.Message, sleepPod.Pod) {
			t.Errorf("message: got %q, want it to name the pod and the cause", result.Failed.Message)
		}
	})
}

func TestBackOffBeginsAnewAfterAStreamThatStoodLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const failures = 12
		b := startBench(t, func(a *agent) error {
			if a.opening <= failures {
				return errors.New("no route to host")
			}
			time.AfterFunc(2*backOffMax, func() { a.out.(io.Closer).Close() })
			return a.answerAll(ok)
		})
		b.Set(shop, planOf(nil, sleepPod))
		time.Sleep(time.Hour)
		pauses := gaps(b.agents.openings(sleepPod))[failures:]
		for i, pause := range pauses {
			if pause > 2*backOffMax+2*backOffMin {
				t.Fatalf("opening %d after streams that stood for %v: got a pause of %v", i, 2*backOffMax, pause-2*backOffMax)
			}
		}
	})
}

func TestForbiddenExecIsReportedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		allowed := false
		b := startBench(t, func(a *agent) error {
			if !allowed {
				return fmt.Errorf("%w: grant create on pods/exec", ErrForbidden)
			}
			return a.answerAll(ok)
		})
		b.Set(shop, planOf(nil, sleepPod))
		synctest.Wait()
		for range 20 {
			result := b.latest(t, shop, sleepPod)
			wantFailure(t, result, observation.ExecForbidden)
			if !strings.Contains(result.Failed.Message, "grant create on pods/exec") {
				t.Errorf("message: got %q, want it to say what to grant", result.Failed.Message)
			}
			time.Sleep(time.Minute)
			if asked := b.wakeUps(); asked[0] != b.begun {
				t.Errorf("the first report: got it after %v, want it at once", asked[0].Sub(b.begun))
			}
		}
		allowed = true
		time.Sleep(2 * time.Minute)
		if got := b.latest(t, shop, sleepPod); got.Seen.HTTPCode != 200 {
			t.Errorf("once it is allowed: got %+v, failure %+v; want 200", got.Seen, got.Failed)
		}
	})
}

func TestAgentThatDoesNotAnswerIsReportedInTime(t *testing.T) {
	pongOnly := func(a *agent) error {
		for {
			request, ok := a.next()
			if !ok {
				return a.hang()
			}
			if request.ID == 0 {
				a.say(observation.Observation{})
			}
		}
	}
	deaf := func(a *agent) error {
		a.next()
		a.say(observation.Observation{})
		return a.hang()
	}
	for name, test := range map[string]struct {
		play  func(*agent) error
		want  observation.FailureKind
		after time.Duration
	}{
		"the ping":               {(*agent).hang, observation.ExecFailed, openTime},
		"a request":              {pongOnly, observation.AgentSilent, openTime + 5*time.Second + agentSlack},
		"and takes no bytes":     {deaf, observation.AgentSilent, openTime + 5*time.Second + agentSlack},
		"and speaks of no match": {func(a *agent) error { return mumble(a) }, observation.AgentSilent, openTime + 5*time.Second + agentSlack},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startBench(t, test.play)
				b.Set(shop, planOf(nil, sleepPod))
				time.Sleep(test.after)
				synctest.Wait()
				wantFailure(t, b.latest(t, shop, sleepPod), test.want)
				if got := b.wakeUps()[0].Sub(b.begun); got > test.after {
					t.Errorf("reported after %v, want at most %v", got, test.after)
				}
			})
		})
	}
}

// mumble answers every request with the answer to one that nobody asked.
func mumble(a *agent) error {
	for {
		request, ok := a.next()
		if !ok {
			return a.hang()
		}
		if request.ID != 0 {
			request.ID += 1000
		}
		a.say(observation.Observation{ID: request.ID, Class: observation.Answered, HTTPCode: 200})
	}
}

func TestRequestsThatAreGivenUpAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, mumble)
		b.Set(shop, planOf(func(p *Plan) { p.Interval = 5 * time.Second }, sleepPod))
		time.Sleep(time.Hour)
		if got := len(b.agents.openings(sleepPod)); got != 1 {
			t.Fatalf("streams opened: got %d, want 1", got)
		}
		s := b.streams.to(sleepPod)
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.waiting) > 1 {
			t.Errorf("%d requests are waited for after an hour, want the present one at most", len(s.waiting))
		}
	})
}

func TestSilentStreamIsGivenUpAndOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, func(a *agent) error {
			if a.opening > 1 {
				return a.answerAll(ok)
			}
			a.next()
			a.say(observation.Observation{})
			for {
				if _, ok := a.next(); !ok {
					return a.hang()
				}
			}
		})
		b.Set(shop, planOf(func(p *Plan) { p.Interval = 24 * time.Hour }, sleepPod))
		time.Sleep(10 * time.Minute)
		opened := b.since(b.agents.openings(sleepPod))
		if len(opened) != 2 || opened[1] < silence || opened[1] > silence+backOffMin {
			t.Errorf("streams opened at %v, want the second %v after the last word", opened, silence)
		}
	})
}

func TestGarbageBreaksTheStream(t *testing.T) {
	for name, test := range map[string]struct{ says, want string }{
		"words":       {"sh: /meshprobe/probe: not found\n", "no observation"},
		"broken JSON": {`{"id": 1, "class": ` + "\n", "no observation"},
		"wrong types": {`{"id": "one"}` + "\n", "no observation"},
		"an endless line": {
			strings.Repeat("x", 2*maxObservationBytes), "too long",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				garbage := true
				b := startBench(t, func(a *agent) error {
					if !garbage {
						return a.answerAll(ok)
					}
					go func() { _, _ = io.WriteString(a.out, test.says) }()
					return a.hang()
				})
				b.Set(shop, planOf(nil, sleepPod))
				time.Sleep(openTime + time.Second)
				result := b.latest(t, shop, sleepPod)
				wantFailure(t, result, observation.ExecFailed)
				if !strings.Contains(result.Failed.Message, test.want) {
					t.Errorf("message: got %q, want it to speak of %q", result.Failed.Message, test.want)
				}
				garbage = false
				time.Sleep(2 * time.Minute)
				if got := b.latest(t, shop, sleepPod); got.Seen.HTTPCode != 200 {
					t.Errorf("once the agent speaks sense: got %+v, failure %+v; want 200", got.Seen, got.Failed)
				}
			})
		})
	}
}

func TestGarbageAmongAnswersIsReplacedByAFreshStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, func(a *agent) error {
			return a.answerAll(func(observation.Request) observation.Observation {
				if a.opening == 1 {
					_, _ = io.WriteString(a.out, "panic: runtime error\n")
				}
				return code(200)
			})
		})
		b.Set(shop, planOf(nil, sleepPod))
		time.Sleep(time.Second)
		if got := b.Report(shop, "epoch").Runs[0].Results[sleepPod.Pod]; got.Seen.HTTPCode != 200 {
			t.Errorf("first run: got %+v, failure %+v; want 200 from the second stream", got.Seen, got.Failed)
		}
	})
}

func TestStreamThatTakesNoBytesBlocksNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, func(a *agent) error {
			if a.from == outsiderPod {
				return a.answerAll(ok)
			}
			a.next()
			a.say(observation.Observation{})
			return a.hang() // and reads no more
		})
		b.Set(shop, planOf(nil, sleepPod))
		b.Set(other, planOf(nil, outsiderPod))
		time.Sleep(30 * time.Minute)
		if got := gaps(b.agents.requests(outsiderPod))[1:]; len(got) != 29 || slices.Max(got) != time.Minute {
			t.Errorf("times between the other probe's runs: got %v, want a minute each", got)
		}
		b.Set(shop, planOf(func(p *Plan) { p.Occasion = "another" }, sleepPod))
		b.Forget(shop)
		synctest.Wait()
		if got := b.agents.openNow(sleepPod); got != 0 {
			t.Errorf("streams to the forgotten container: got %d, want 0", got)
		}
	})
}
