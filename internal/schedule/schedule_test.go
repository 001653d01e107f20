package schedule

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/agents/played"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

func TestRunsBeginQuicklyAndThenAnIntervalApart(t *testing.T) {
	for name, test := range map[string]struct {
		edit func(*Plan)
		play func(*played.Agent) error
		want []time.Duration
	}{
		"as computed at once": {
			play: played.Codes(200),
			want: append([]time.Duration{quickestWait}, repeat(time.Minute, 9)...),
		},
		"an interval is counted from start to start": {
			play: played.Slowly(2 * time.Second),
			want: append([]time.Duration{quickPause + 2*time.Second}, repeat(time.Minute, 9)...),
		},
		"two runs in a row have to be as computed": {
			play: played.Codes(503, 200, 503, 200, 200),
			want: append(repeat(quickestWait, 4), repeat(time.Minute, 9)...),
		},
		"more in a row, if the plan says so": {
			edit: func(p *Plan) { p.Repeats = 4 },
			play: played.Codes(200, 503, 200),
			want: append(repeat(quickestWait, 5), repeat(time.Minute, 9)...),
		},
		"never as computed": {
			play: played.Codes(503),
			want: append(quickSeries(), repeat(time.Minute, 9)...),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startBench(t, test.play)
				b.Set(shop, planOf(test.edit, sleepPod))
				time.Sleep(time.Hour)
				got := gaps(b.far.Requests(sleepPod))
				if len(got) < len(test.want) || !slices.Equal(got[:len(test.want)], test.want) {
					t.Errorf("times between runs: got %v, want it to begin with %v", got, test.want)
				}
			})
		})
	}
}

// quickSeries are the times between the runs of a series that never shows what is computed, the runs themselves taking no
// time: quickest at first, then quick until SettleTime has passed.
func quickSeries() []time.Duration {
	first := repeat(quickestWait, roundedUp(quickestFor, quickestWait))
	rest := SettleTime - time.Duration(len(first))*quickestWait
	return append(first, repeat(quickPause, roundedUp(rest, quickPause))...)
}

func roundedUp(d, step time.Duration) int { return int((d + step - 1) / step) }

func TestQuickSeriesIsReported(t *testing.T) {
	for name, test := range map[string]struct {
		play func(*played.Agent) error
		// lasts is how long a series goes on.
		lasts time.Duration
	}{
		"until it shows what is computed": {played.Codes(slices.Concat(slices.Repeat([]int{503}, 5), []int{200})...), 6 * quickestWait},
		"no longer than SettleTime":       {played.Codes(503), SettleTime},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startBench(t, test.play)
				quick := func(when string, want bool) {
					t.Helper()
					synctest.Wait()
					if got := b.Report(shop, MarkOf("epoch")).Quick; got != want {
						t.Errorf("%s: Quick is %v, want %v", when, got, want)
					}
				}
				b.Set(shop, planOf(nil, sleepPod))
				quick("at the beginning", true)
				time.Sleep(test.lasts - time.Millisecond)
				quick("near the end", true)
				time.Sleep(2 * time.Millisecond)
				quick("at the end", false)
				time.Sleep(10 * time.Minute)
				quick("long after", false)
				b.Set(shop, planOf(func(p *Plan) { p.Occasion = MarkOf("another") }, sleepPod))
				if got := b.Report(shop, MarkOf("epoch")).Quick; !got {
					t.Error("at another occasion: Quick is false")
				}
				if got := b.Report(shop, MarkOf("another")).Quick; got {
					t.Error("in another epoch: Quick is true")
				}
			})
		})
	}
}

func TestRunThatOutlastsTheIntervalIsNotOverlapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, played.Slowly(7*time.Second))
		b.Set(shop, planOf(func(p *Plan) { p.Interval = 5 * time.Second }, sleepPod))
		time.Sleep(time.Minute)
		got := gaps(b.far.Requests(sleepPod))[1:]
		if len(got) < 6 || slices.ContainsFunc(got, func(gap time.Duration) bool { return gap != 7*time.Second }) {
			t.Errorf("times between runs: got %v, want 7s each", got)
		}
	})
}

func TestChangedIntervalTakesEffect(t *testing.T) {
	for name, test := range map[string]struct{ before, after time.Duration }{
		"shorter": {time.Hour, 5 * time.Second},
		"longer":  {5 * time.Second, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startBench(t, nil)
				b.Set(shop, planOf(func(p *Plan) { p.Interval = test.before }, sleepPod))
				time.Sleep(10*time.Minute + time.Second)
				changed := time.Now()
				b.Set(shop, planOf(func(p *Plan) { p.Interval = test.after }, sleepPod))
				time.Sleep(3*test.after + time.Second)
				after := b.far.Requests(sleepPod)
				after = slices.DeleteFunc(after, func(at time.Time) bool { return at.Before(changed) })
				if len(after) == 0 || after[0].Sub(changed) > test.after {
					t.Fatalf("the first run after the change: got %v, want one within %v", after, test.after)
				}
				if got, want := gaps(after), repeat(test.after, 3); !slices.Equal(got, want) {
					t.Errorf("times between the runs after the change: got %v, want %v", got, want)
				}
			})
		})
	}
}

func TestSettling(t *testing.T) {
	fresh := func(p *Plan) { p.Fresh = true }
	for name, test := range map[string]struct {
		edit func(*Plan)
		play func(*played.Agent) error
		// want is Settling after each of the first runs, quickestWait apart
		want []bool
	}{
		"not of a plan that is not fresh":            {nil, played.Codes(503), []bool{false, false, false}},
		"of a fresh plan until a run is as computed": {fresh, played.Codes(503, 503, 200, 503), []bool{true, true, false, false}},
		"not when the first run is as computed":      {fresh, played.Codes(200), []bool{false, false}},
		"of a fresh plan no longer than SettleTime":  {fresh, played.Codes(503), []bool{true, true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startBench(t, test.play)
				b.Set(shop, planOf(test.edit, sleepPod))
				var got []bool
				for range test.want {
					synctest.Wait()
					got = append(got, b.Report(shop, MarkOf("epoch")).Settling)
					time.Sleep(quickestWait)
				}
				if !slices.Equal(got, test.want) {
					t.Errorf("Settling run by run: got %v, want %v", got, test.want)
				}
				time.Sleep(SettleTime)
				if b.Report(shop, MarkOf("epoch")).Settling {
					t.Errorf("still settling after %v", SettleTime)
				}
			})
		})
	}
}

func TestOnlyAChangeOfThePolicySettlesAnew(t *testing.T) {
	for name, test := range map[string]struct {
		edit func(*Plan)
		want bool
	}{
		"occasion":         {func(p *Plan) { p.Occasion = MarkOf("another") }, false},
		"epoch":            {func(p *Plan) { p.Epoch = MarkOf("another") }, false},
		"interval":         {func(p *Plan) { p.Interval = time.Second }, false},
		"fresh once more":  {func(p *Plan) { p.Fresh, p.Occasion = true, MarkOf("another") }, false},
		"policy and epoch": {func(p *Plan) { p.Policy, p.Epoch = "another", MarkOf("another") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startBench(t, played.Codes(200, 200, 200, 503))
				b.Set(shop, planOf(nil, sleepPod))
				time.Sleep(time.Minute + time.Second)
				plan := planOf(test.edit, sleepPod)
				b.Set(shop, plan)
				synctest.Wait()
				if got := b.Report(shop, plan.Epoch).Settling; got != test.want {
					t.Errorf("Settling after the change: got %v, want %v", got, test.want)
				}
				time.Sleep(SettleTime + quickPause)
				if b.Report(shop, plan.Epoch).Settling {
					t.Error("Settling has no end")
				}
			})
		})
	}
}

func TestNewEpochForgetsRunsAndDiscardsTheOneUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, played.Slowly(2*time.Second))
		b.Set(shop, planOf(nil, sleepPod))
		time.Sleep(3*time.Second + quickPause) // one run is over, and the second has been under way for a second
		if got := len(b.runs(shop, MarkOf("epoch"))); got != 1 {
			t.Fatalf("runs before the new epoch: got %d, want 1", got)
		}
		changed := time.Now()
		b.Set(shop, planOf(func(p *Plan) { p.Epoch = MarkOf("new") }, sleepPod))
		if got := b.Report(shop, MarkOf("new")); got.Runs != 0 {
			t.Errorf("the new epoch begins with runs: %+v", got.Latest)
		}
		if got := b.Report(shop, MarkOf("epoch")); got.Runs != 0 || got.Settling {
			t.Errorf("the old epoch is still reported: %+v", got)
		}
		time.Sleep(10 * time.Second)
		runs := b.runs(shop, MarkOf("new"))
		if len(runs) == 0 || !runs[0].Started.Equal(changed) {
			t.Errorf("the first run of the new epoch: got %v, want one begun at %v", runs, changed)
		}
	})
}

func TestNewOccasionRunsAtOnce(t *testing.T) {
	for name, play := range map[string]func(*played.Agent) error{
		"while it waits":       played.Codes(200),
		"while a run goes on":  played.Slowly(4 * time.Second),
		"while a run is stuck": func(a *played.Agent) error { return a.AnswerAll(sleeper(9 * time.Second)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startBench(t, play)
				b.Set(shop, planOf(nil, sleepPod, outsiderPod))
				time.Sleep(3 * time.Minute)
				before := len(b.runs(shop, MarkOf("epoch")))
				time.Sleep(time.Second)
				changed := time.Now()
				b.Set(shop, planOf(func(p *Plan) { p.Occasion = MarkOf("another") }, sleepPod, outsiderPod))
				time.Sleep(30 * time.Second)
				runs := b.runs(shop, MarkOf("epoch"))
				begunAt := func(run observation.Run) bool { return run.Started.Equal(changed) }
				if !slices.ContainsFunc(runs, begunAt) {
					t.Errorf("no run began at the moment of the new occasion, %v: %v", changed, runs)
				}
				if len(runs) <= before {
					t.Errorf("runs of the same epoch were forgotten: %d before the occasion, %d after it", before, len(runs))
				}
			})
		})
	}
}

// A pod that comes and goes is a new occasion every time. Runs that take longer than that come to an end all the same, or
// what was seen before would stand for ever.
func TestOccasionsThatNeverEndLeaveRunsTheirTime(t *testing.T) {
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
				time.AfterFunc(5*time.Second, func() { a.Say(observation.Observation{ID: request.ID, Class: observation.ConnectTimeout}) })
			}
		})
		b.Set(shop, planOf(nil, sleepPod))
		time.Sleep(10 * time.Minute)
		flapping := time.Now()
		for i := range 60 {
			b.Set(shop, planOf(func(p *Plan) { p.Occasion = MarkOf(fmt.Sprint("flap ", i)) }, sleepPod))
			time.Sleep(2 * time.Second)
		}
		runs := b.runs(shop, MarkOf("epoch"))
		latest := runs[len(runs)-1]
		if age := time.Since(latest.Started); latest.Started.Before(flapping) || age > SettleTime+2*5*time.Second {
			t.Errorf("the latest run of two minutes in which the pods changed every 2 s began %v ago", age)
		}
		if got := latest.Results[sleepPod.Pod]; got.Failed != nil || got.Seen.Class != observation.ConnectTimeout {
			t.Errorf("its result: got %+v, failure %+v", got.Seen, got.Failed)
		}

		// Once runs come to their end again, an occasion is worth one at once again.
		time.Sleep(10*time.Minute + time.Second)
		for i := range 3 {
			changed := time.Now()
			b.Set(shop, planOf(func(p *Plan) { p.Occasion = MarkOf(fmt.Sprint("again ", i)) }, sleepPod))
			time.Sleep(time.Second)
			if !slices.ContainsFunc(b.far.Requests(sleepPod), changed.Equal) {
				t.Errorf("no run began at the moment of occasion %d after the flapping", i)
			}
		}
	})
}

func sleeper(d time.Duration) func(observation.Request) observation.Observation {
	return func(observation.Request) observation.Observation {
		time.Sleep(d)
		return played.Code(200)
	}
}

func TestUnchangedPlanIsNotRunOutOfTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, nil)
		for range 60 {
			b.Set(shop, planOf(nil, sleepPod))
			time.Sleep(time.Second)
		}
		if got := len(b.far.Requests(sleepPod)); got != 2 {
			t.Errorf("runs in a minute of unchanged plans: got %d, want the first two alone", got)
		}
	})
}

func TestEveryRunIsRecordedAndTheLatestReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, nil)
		b.Set(shop, planOf(nil, sleepPod))
		time.Sleep(time.Hour)
		asked := b.far.Requests(sleepPod)
		runs := b.runs(shop, MarkOf("epoch"))
		if len(runs) != len(asked) {
			t.Fatalf("runs recorded: got %d, want all %d", len(runs), len(asked))
		}
		for i, at := range asked {
			if !runs[i].Started.Equal(at) {
				t.Errorf("run %d: got the one of %v, want the one of %v", i, runs[i].Started, at)
			}
		}
		last := asked[len(asked)-1]
		if got := b.Report(shop, MarkOf("epoch")); got.Runs != len(asked) || !got.Latest.Started.Equal(last) || !got.LastKept.Equal(last) {
			t.Errorf("report: got %d runs, the latest of %v, kept %v; want %d and %v", got.Runs, got.Latest.Started, got.LastKept, len(asked), last)
		}
	})
}

func TestReportOfAnotherEpochOrProbeIsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, played.Codes(503))
		b.Set(shop, planOf(func(p *Plan) { p.Fresh = true }, sleepPod))
		time.Sleep(time.Second)
		if got := b.Report(shop, MarkOf("epoch")); got.Runs == 0 || !got.Settling {
			t.Fatalf("report of the present epoch: got %+v, want runs, settling", got)
		}
		for name, got := range map[string]Report{"epoch": b.Report(shop, MarkOf("another")), "probe": b.Report(other, MarkOf("epoch"))} {
			if got.Runs != 0 || got.Settling {
				t.Errorf("report of another %s: got %+v, want nothing", name, got)
			}
		}
	})
}
