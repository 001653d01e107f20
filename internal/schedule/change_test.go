package schedule

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/agents/played"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// proxies plays agents whose requests meet what the proxies make of them at that moment.
type proxies struct {
	*played.Agents

	mu sync.Mutex
	// meets answers the next requests from the container sleep, in turn; the last one goes on answering.
	meets []observation.Observation
	// latency is how long an answer takes.
	latency time.Duration
}

func newProxies(meets ...observation.Observation) *proxies {
	p := &proxies{meets: meets}
	p.Agents = played.New(func(a *played.Agent) error {
		return a.AnswerAll(func(observation.Request) observation.Observation {
			p.mu.Lock()
			seen, latency := p.meets[0], p.latency
			if len(p.meets) > 1 && a.From == sleepPod {
				p.meets = p.meets[1:]
			}
			p.mu.Unlock()
			time.Sleep(latency)
			return seen
		})
	})
	return p
}

func (p *proxies) meet(meets ...observation.Observation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.meets = meets
}

// refusal and closed are what requests may meet while proxies follow a policy.
var (
	refusal = observation.Observation{Class: observation.ClientCertificateRequired, Alert: "certificate_required"}
	closed  = observation.Observation{Class: observation.HandshakeClosed}
)

// another is a plan that computes another policy, which 200 shows unless edit says something else.
func another(edit func(*Plan)) Plan {
	return planOf(func(p *Plan) {
		p.Policy, p.Cause, p.Occasion = "another", "PeerAuthentication shop/default", MarkOf("another")
		if edit != nil {
			edit(p)
		}
	}, sleepPod)
}

// before is what requests meet under the old policy, where that can be told from what they meet under the new one.
var before = played.Code(204)

// answers is a plan to which every answer is as computed.
func answers(p *Plan) {
	p.AsComputed = func(run observation.Run) bool { return run.Results[sleepPod.Pod].Seen.Class == observation.Answered }
}

// startSteady starts a runner with a probe that has long shown what is computed, a second after a run.
func startSteady(t *testing.T, far *played.Agents, edit func(*Plan)) *bench {
	t.Helper()
	b := newBench(far, time.Hour)
	b.startFor(t)
	b.Set(shop, planOf(func(p *Plan) {
		answers(p)
		if edit != nil {
			edit(p)
		}
	}, sleepPod))
	time.Sleep(10*time.Minute + time.Second)
	synctest.Wait()
	if got := b.Report(shop, MarkOf("epoch")); got.Settling || got.Change != nil || got.Runs < 2 {
		t.Fatalf("before any change: got %+v, want runs and no change", got)
	}
	return b
}

func repeated(seen observation.Observation, times int) []observation.Observation {
	return slices.Repeat([]observation.Observation{seen}, times)
}

func TestChangeCountsWhatItCosts(t *testing.T) {
	refusedNow := func(p *Plan) {
		p.Answers = false
		p.AsComputed = func(run observation.Run) bool {
			return run.Results[sleepPod.Pod].Seen.Class == observation.ClientCertificateRequired
		}
	}
	for name, test := range map[string]struct {
		before, after func(*Plan)
		meets         []observation.Observation
		want          Change
	}{
		"three are lost on the way": {
			meets: append(repeated(closed, 3), before, played.Code(200)),
			want:  Change{Settled: true, After: 4 * quickestWait, Sent: 5, Lost: 3},
		},
		"every class but an answer is a loss": {
			meets: append([]observation.Observation{closed, refusal, {Class: observation.ResponseTimeout}, played.Code(503)}, played.Code(200)),
			want:  Change{Settled: true, After: 4 * quickestWait, Sent: 5, Lost: 3},
		},
		"none is lost": {
			meets: append(repeated(before, 9), played.Code(200)),
			want:  Change{Settled: true, After: 9 * quickestWait, Sent: 10},
		},
		"no answer is promised after": {
			after: refusedNow,
			meets: append(repeated(before, 2), refusal),
			want:  Change{Settled: true, After: 2 * quickestWait, Sent: 3},
		},
		"no answer was promised before": {
			before: func(p *Plan) { p.Answers = false },
			meets:  append(repeated(closed, 2), played.Code(200)),
			want:   Change{Settled: true, After: 2 * quickestWait, Sent: 3},
		},
		"never settles": {
			meets: []observation.Observation{closed},
			want:  Change{After: SettleTime, Sent: 1 + len(quickSeries()), Lost: 1 + len(quickSeries())},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plays := newProxies(before)
				b := startSteady(t, plays.Agents, test.before)
				plays.meet(test.meets...)
				changed := time.Now()
				b.Set(shop, another(test.after))
				if got := b.Report(shop, MarkOf("epoch")); !got.Settling {
					t.Errorf("at the change: got %+v, want it to be settling", got)
				}
				time.Sleep(SettleTime + time.Second)
				got := b.Report(shop, MarkOf("epoch"))
				if got.Settling || got.Change == nil {
					t.Fatalf("a while after the change: got %+v", got)
				}
				test.want.Cause, test.want.From, test.want.To, test.want.Seen = "PeerAuthentication shop/default", "policy", "another", changed
				if *got.Change != test.want {
					t.Errorf("change: got %+v, want %+v", *got.Change, test.want)
				}
			})
		})
	}
}

func TestRequestsThatCouldNotBeSentAreNeitherSentNorLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startSteady(t, newProxies(played.Code(200)).Agents, nil)
		b.Set(shop, another(func(p *Plan) {
			p.Requests[sleepPod.Pod] = Request{Missing: "no pod is ready"}
		}))
		time.Sleep(SettleTime + time.Second)
		if got := b.Report(shop, MarkOf("epoch")).Change; got.Sent != 0 || got.Lost != 0 || got.Settled {
			t.Errorf("change: got %+v, want nothing sent, nothing lost, and not settled", got)
		}
	})
}

func TestSettledChangeIsNotCountedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plays := newProxies(before)
		b := startSteady(t, plays.Agents, nil)
		plays.meet(closed, played.Code(200))
		b.Set(shop, another(nil))
		time.Sleep(time.Minute)
		change := *b.Report(shop, MarkOf("epoch")).Change
		plays.meet(closed)
		b.Set(shop, another(func(p *Plan) { p.Occasion = MarkOf("the endpoints") }))
		time.Sleep(10 * time.Minute)
		if got := b.Report(shop, MarkOf("epoch")); got.Settling || *got.Change != change {
			t.Errorf("after it had settled the change became %+v, from %+v", got.Change, change)
		}
	})
}

// Where no run can tell the new policy from the old, a run that shows what is computed proves nothing at first.
func TestUnnoticeableChangeIsGivenASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plays := newProxies(played.Code(200))
		b := startSteady(t, plays.Agents, nil)
		changed := time.Now()
		b.Set(shop, another(nil))
		time.Sleep(unnoticeable - time.Millisecond)
		synctest.Wait()
		if got := b.Report(shop, MarkOf("epoch")); !got.Settling {
			t.Errorf("before %v: got %+v, want it to be settling", unnoticeable, got.Change)
		}
		time.Sleep(quickPause)
		synctest.Wait()
		got := b.Report(shop, MarkOf("epoch"))
		if got.Settling || !got.Change.Settled || got.Change.After < unnoticeable || got.Change.After > unnoticeable+quickPause || got.Change.Lost != 0 {
			t.Errorf("after %v: got %+v, want it settled a second after %v", unnoticeable+quickPause, got.Change, changed)
		}
		if asked := b.far.Requests(sleepPod); got.Change.Sent != len(asked)-slices.IndexFunc(asked, func(at time.Time) bool { return !at.Before(changed) }) {
			t.Errorf("requests: got %d, want all since the change", got.Change.Sent)
		}
	})
}

// Where the old and the new policy show the same, what happens in between is counted for the whole second: one request that
// went wrong is seldom the last.
func TestLossesOfAnUnnoticeableChangeAreCountedForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plays := newProxies(played.Code(200))
		b := startSteady(t, plays.Agents, nil)
		plays.meet(slices.Concat(repeated(played.Code(200), 10), repeated(closed, 2), repeated(played.Code(200), 10), repeated(closed, 1), repeated(played.Code(200), 1))...)
		b.Set(shop, another(nil))
		time.Sleep(SettleTime)
		if got := b.Report(shop, MarkOf("epoch")).Change; !got.Settled || got.Lost != 3 || got.After < unnoticeable {
			t.Errorf("change: got %+v, want the 3 losses of the first second", got)
		}
	})
}

// A run that was under way at the change says nothing of the new policy, even if it shows what is computed now.
func TestRunFromBeforeTheChangeNeverCounts(t *testing.T) {
	for name, edit := range map[string]func(*Plan){
		"another occasion":       nil,
		"the policy alone":       func(p *Plan) { p.Occasion = MarkOf("occasion") },
		"another epoch too":      func(p *Plan) { p.Epoch = MarkOf("another") },
		"another interval too":   func(p *Plan) { p.Interval = time.Hour },
		"requested at that time": func(p *Plan) { p.Requested = "now" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plays := newProxies(before)
				plays.latency = 2 * time.Second
				b := startSteady(t, plays.Agents, nil)
				time.Sleep(2 * time.Second)
				waitForRun(b)
				plays.meet(closed, played.Code(200))
				time.Sleep(time.Second)
				changed := time.Now()
				plan := another(edit)
				b.Set(shop, plan)
				time.Sleep(90 * time.Millisecond)
				if got := b.Report(shop, plan.Epoch); !got.Settling || got.Change.Sent != 0 {
					t.Errorf("right after the change: got %+v, want it settling with no request", got.Change)
				}
				time.Sleep(SettleTime)
				got := b.Report(shop, plan.Epoch)
				if got.Change == nil || !got.Change.Settled || got.Change.Sent != 2 || got.Change.Lost != 1 {
					t.Errorf("change: got %+v, want the two requests after it, one of them lost", got.Change)
				}
				for _, run := range b.runs(shop, plan.Epoch) {
					if at := run.Started.Sub(changed); at > -3*time.Second && at < 0 {
						t.Errorf("the run that was under way at the change, begun %v before it, was kept", -at)
					}
				}
			})
		})
	}
}

// waitForRun returns when the next run has begun.
func waitForRun(b *bench) {
	for before := len(b.far.Requests(sleepPod)); len(b.far.Requests(sleepPod)) == before; {
		time.Sleep(100 * time.Millisecond)
	}
}

// Between the end of a run and its being kept, the plan may be replaced.
func TestRunThatEndsAtTheChangeIsNotKept(t *testing.T) {
	for name, edit := range map[string]func(*Plan){
		"another policy":   func(p *Plan) { p.Policy, p.Occasion = "another", MarkOf("another") },
		"the policy alone": func(p *Plan) { p.Policy = "another" },
		"another epoch":    func(p *Plan) { p.Epoch = MarkOf("another") },
	} {
		t.Run(name, func(t *testing.T) {
			one := newTask(planOf(withEndpoints(endpointsFrom(0, 3)), sleepPod, outsiderPod))
			defer one.stop()
			plan, turns, ctx := one.begin(t.Context())
			run := observation.Run{Started: time.Now(), Results: map[string]observation.Result{sleepPod.Pod: {Seen: played.Code(200)}}}
			answered := observation.Result{Seen: played.Code(200)}
			for _, turn := range turns[outsiderPod.Pod] {
				answered.Endpoints = append(answered.Endpoints, observation.EndpointResult{Endpoint: turn.Endpoint, Asked: run.Started, Result: observation.Result{Seen: played.Code(200)}})
			}
			run.Results[outsiderPod.Pod] = answered
			next := planOf(withEndpoints(endpointsFrom(0, 3)), sleepPod, outsiderPod)
			edit(&next)
			one.replan(next)
			if found := one.keep(ctx, plan, run, 0); found.look || found.stored || found.followed != nil {
				t.Errorf("the run counts: %+v", found)
			}
			if got := one.report(next.Epoch); got.Runs != 0 || len(one.endpoints.entries) != 0 || got.Change != nil && got.Change.Sent != 0 {
				t.Errorf("the run was kept: %+v, endpoints %v", got, one.endpoints)
			}
			if next.Policy != plan.Policy && !one.report(next.Epoch).Settling {
				t.Error("the run from before the change has settled it")
			}
		})
	}
}

// The second change begins where the first one had led to, however far the proxies had come.
func TestChangeDuringAChangeStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plays := newProxies(before)
		b := startSteady(t, plays.Agents, nil)
		plays.meet(append(repeated(closed, 10), before, played.Code(200))...)
		b.Set(shop, another(nil))
		time.Sleep(5*quickestWait + time.Millisecond)
		b.Set(shop, another(func(p *Plan) { p.Policy, p.Cause, p.Occasion = "third", "DestinationRule shop/nginx", MarkOf("third") }))
		changed := time.Now()
		time.Sleep(SettleTime)
		want := Change{
			Cause: "DestinationRule shop/nginx", From: "another", To: "third", Seen: changed,
			Settled: true, After: 5 * quickestWait, Sent: 6, Lost: 4,
		}
		if got := b.Report(shop, MarkOf("epoch")).Change; got == nil || *got != want {
			t.Errorf("change: got %+v, want %+v", got, want)
		}
	})
}

// A change of what is computed may change what is expected too; then earlier runs are of no use, the change's report is.
func TestChangeIsReportedInTheNewEpochAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plays := newProxies(before)
		b := startSteady(t, plays.Agents, nil)
		plays.meet(closed, played.Code(200))
		b.Set(shop, another(func(p *Plan) { p.Epoch = MarkOf("another") }))
		time.Sleep(time.Second)
		if got := b.Report(shop, MarkOf("epoch")); got.Change != nil || got.Runs != 0 || got.Handled != "" {
			t.Errorf("report of the old epoch: got %+v, want nothing", got)
		}
		got := b.Report(shop, MarkOf("another"))
		if got.Change == nil || !got.Change.Settled || got.Change.Lost != 1 {
			t.Errorf("report of the new epoch: got %+v, want the change with its loss", got.Change)
		}
		got.Change.Lost = 7
		if again := b.Report(shop, MarkOf("another")).Change; again.Lost != 1 {
			t.Error("what a caller does to a reported change changes the runner's own")
		}
	})
}

// The end of a change is told at once, even where the controller would not be woken for the run by itself.
func TestEndOfAChangeWakesTheController(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plays := newProxies(played.Code(200))
		b := startSteady(t, plays.Agents, nil)
		b.Set(shop, another(nil))
		time.Sleep(unnoticeable + quickPause)
		change := b.Report(shop, MarkOf("epoch")).Change
		last := b.wakeUps()[len(b.wakeUps())-1]
		if want := change.Seen.Add(change.After); last.Before(want) {
			t.Errorf("last wake-up: got it %v before the change was over", want.Sub(last))
		}
	})
}

func TestQuickSeriesAfterAChange(t *testing.T) {
	for name, test := range map[string]struct {
		edit   func(*Plan)
		before observation.Observation
		meets  []observation.Observation
		want   []time.Duration
	}{
		"until it was shown twice in a row": {
			before: before,
			meets:  append(repeated(closed, 4), played.Code(200), closed, played.Code(200)),
			want:   append(repeat(quickestWait, 7), time.Minute, time.Minute),
		},
		"until it was shown as often as the threshold says": {
			before: before,
			edit:   func(p *Plan) { p.Repeats = 5 },
			meets:  []observation.Observation{closed, played.Code(200)},
			want:   append(repeat(quickestWait, 5), time.Minute, time.Minute),
		},
		"as long as nothing can be noticed": {
			before: played.Code(200),
			meets:  []observation.Observation{played.Code(200)},
			want:   append(append(repeat(quickestWait, roundedUp(quickestFor, quickestWait)), quickPause), time.Minute, time.Minute),
		},
		"no longer than SettleTime": {
			before: before,
			meets:  []observation.Observation{closed},
			want:   append(quickSeries(), time.Minute, time.Minute),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plays := newProxies(test.before)
				b := startSteady(t, plays.Agents, nil)
				plays.meet(test.meets...)
				made := len(b.far.Requests(sleepPod))
				b.Set(shop, another(test.edit))
				time.Sleep(5 * time.Minute)
				if got := gaps(b.far.Requests(sleepPod)[made:]); len(got) < len(test.want) || !slices.Equal(got[:len(test.want)], test.want) {
					t.Errorf("times between runs: got %v, want them to begin with %v", got, test.want)
				}
			})
		})
	}
}

func TestRequestedRunIsMadeAtOnceAndHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plays := newProxies(played.Code(200))
		plays.latency = time.Second
		b := startSteady(t, plays.Agents, func(p *Plan) { p.Interval = 24 * time.Hour })
		if got := b.Report(shop, MarkOf("epoch")).Handled; got != "" {
			t.Errorf("handled before anything is asked: got %q", got)
		}
		runs, wakes := len(b.far.Requests(sleepPod)), len(b.wakeUps())
		asked := time.Now()
		b.Set(shop, planOf(func(p *Plan) { p.Interval, p.Requested, p.Occasion = 24*time.Hour, "10:00", MarkOf("10:00") }, sleepPod))
		time.Sleep(time.Second - time.Millisecond)
		if got := b.Report(shop, MarkOf("epoch")).Handled; got != "" {
			t.Errorf("handled before the run is over: got %q", got)
		}
		time.Sleep(2 * time.Millisecond)
		if got := b.Report(shop, MarkOf("epoch")).Handled; got != "10:00" {
			t.Errorf("handled after the run: got %q, want 10:00", got)
		}
		if first := b.far.Requests(sleepPod)[runs]; !first.Equal(asked) {
			t.Errorf("the run began %v after it was asked for", first.Sub(asked))
		}
		if got := b.wakeUps()[wakes:]; len(got) != 1 {
			t.Errorf("wake-ups by the run: got %d, want 1", len(got))
		}
	})
}

// A run that began before it was asked for is no answer.
func TestRunUnderWayDoesNotHandleARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plays := newProxies(played.Code(200))
		plays.latency = 3 * time.Second
		b := startSteady(t, plays.Agents, nil)
		waitForRun(b)
		time.Sleep(2 * time.Second)
		b.Set(shop, planOf(func(p *Plan) { p.Requested, p.Occasion = "10:00", MarkOf("10:00") }, sleepPod))
		time.Sleep(2 * time.Second)
		if got := b.Report(shop, MarkOf("epoch")).Handled; got != "" {
			t.Errorf("handled a second after the run before would have ended: got %q", got)
		}
		time.Sleep(2 * time.Second) // the played agent answers one request after the other
		if got := b.Report(shop, MarkOf("epoch")).Handled; got != "10:00" {
			t.Errorf("handled after a run of its own: got %q, want 10:00", got)
		}
	})
}

func TestRunHandlesWhatItsOwnPlanAskedFor(t *testing.T) {
	one := newTask(planOf(nil, sleepPod))
	defer one.stop()
	for range 2 * attention {
		keepRun(t, one)
	}
	plan, _, ctx := one.begin(t.Context())
	one.replan(planOf(func(p *Plan) { p.Requested = "10:00" }, sleepPod))
	one.keep(ctx, plan, observation.Run{Started: time.Now(), Results: map[string]observation.Result{sleepPod.Pod: {Seen: played.Code(200)}}}, time.Hour)
	if got := one.report(MarkOf("epoch")).Handled; got != "" {
		t.Errorf("handled by a run from before it was asked for: got %q", got)
	}
	_, woken := keepRun(t, one)
	if got := one.report(MarkOf("epoch")).Handled; got != "10:00" || !woken {
		t.Errorf("handled: got %q, and the controller was woken: %v; want 10:00 and true", got, woken)
	}
	if _, woken := keepRun(t, one); woken {
		t.Error("the run after it wakes the controller too, though it tells nothing new")
	}
}

// Whatever made runs follow each other quickly, afterwards they are an interval apart, counted from the last of them.
func TestIntervalIsAsBeforeAfterAQuickSeries(t *testing.T) {
	for name, edit := range map[string]func(*Plan){
		"a request":    func(p *Plan) { p.Requested, p.Occasion = "now", MarkOf("now") },
		"an occasion":  func(p *Plan) { p.Occasion = MarkOf("another") },
		"a policy":     func(p *Plan) { p.Policy, p.Occasion = "another", MarkOf("another") },
		"an epoch":     func(p *Plan) { p.Epoch = MarkOf("another") },
		"no change":    func(*Plan) {},
		"many of them": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startSteady(t, newProxies(played.Code(200)).Agents, nil)
				time.Sleep(20 * time.Second)
				if edit != nil {
					b.Set(shop, planOf(edit, sleepPod))
				}
				for i := 0; edit == nil && i < 20; i++ {
					b.Set(shop, planOf(func(p *Plan) { p.Occasion = MarkOf(fmt.Sprint(strings.Repeat("again ", i))) }, sleepPod))
					time.Sleep(100 * time.Millisecond)
				}
				time.Sleep(SettleTime)
				settled := len(b.far.Requests(sleepPod))
				time.Sleep(10 * time.Minute)
				if got := gaps(b.far.Requests(sleepPod)[settled-1:]); !slices.Equal(got, repeat(time.Minute, 10)) {
					t.Errorf("times between the runs afterwards: got %v, want a minute each", got)
				}
			})
		})
	}
}

// Policies that replace each other quicker than a run takes do not keep every run from its end for ever. The one that is
// let through began under another policy, and shows the present one to nobody.
func TestPoliciesWithoutEndLeaveARunItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := newTask(planOf(nil, sleepPod))
		defer one.stop()
		keepRun(t, one)
		flapping := time.Now()
		for number := 0; ; number++ {
			plan, _, ctx := one.begin(t.Context())
			run := observation.Run{Started: time.Now(), Results: map[string]observation.Result{sleepPod.Pod: {Seen: played.Code(200)}}}
			time.Sleep(time.Second)
			one.replan(planOf(func(p *Plan) { p.Policy, p.Occasion = fmt.Sprint("policy ", number), MarkOf(number) }, sleepPod))
			found := one.keep(ctx, plan, run, time.Hour)
			after := time.Since(flapping)
			if !found.stored && after <= unjudgedTime+2*time.Second {
				continue
			}
			if !found.stored || after < unjudgedTime {
				t.Fatalf("after %v: kept %v, want a run kept once %v are over", after, found.stored, unjudgedTime)
			}
			if found.followed == nil || found.followed.Settled || found.followed.Sent != 0 {
				t.Errorf("the change is followed as %+v, want it told as not settled, nothing of the run counted", found.followed)
			}
			return
		}
	})
}
