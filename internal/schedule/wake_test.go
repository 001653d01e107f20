package schedule

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"

	"github.com/meshprobe/httpsmeshprobe/internal/agents/played"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

func TestWakesForWhatIsNewAndThenOnceAHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(played.New(played.Codes(append(slices.Repeat([]int{200}, 60), 503)...)), 10*time.Minute)
		b.startFor(t)
		b.Set(shop, planOf(nil, sleepPod))
		time.Sleep(2 * time.Hour)
		asked := b.far.Requests(sleepPod)
		var woken []int
		for _, at := range b.wakeUps() {
			woken = append(woken, slices.IndexFunc(asked, at.Equal))
		}
		// Runs are a minute apart but for the first two: those within attention intervals of something new, then every tenth.
		want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 21, 31, 41, 51}
		// The first that is not as computed begins a quick series, of which the first runs are looked at.
		want = append(want, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69)
		want = append(want, 148, 149, 150, 151, 152, 153, 154, 155, 156, 157, 167, 177, 187, 197, 207)
		if !slices.Equal(woken, want) {
			t.Errorf("runs after which the controller was woken: got %v, want %v", woken, want)
		}
	})
}

// The default heartbeat is as long as the default interval; a run that is a little faster than the one before it must
// not put the heartbeat off to the next.
func TestHeartbeatAsLongAsTheIntervalComesWithEveryRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		latency := 200 * time.Millisecond
		b := newBench(played.New(func(a *played.Agent) error {
			return a.AnswerAll(func(observation.Request) observation.Observation {
				latency = latency * 9 / 10
				time.Sleep(latency)
				return played.Code(200)
			})
		}), time.Minute)
		b.startFor(t)
		b.Set(shop, planOf(nil, sleepPod))
		time.Sleep(30 * time.Minute)
		if runs, wakes := len(b.far.Requests(sleepPod)), len(b.wakeUps()); wakes != runs {
			t.Errorf("wake-ups: got %d of %d runs, want one with every run", wakes, runs)
		}
	})
}

// What is held against a threshold in intervals has to be looked at when it reaches the highest, however many runs a quick
// series made before.
func TestWakesUntilTheHighestThresholdIsReached(t *testing.T) {
	for name, occasion := range map[string]bool{"without an occasion": false, "with an occasion just before": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(played.New(played.Codes(append(slices.Repeat([]int{200}, 30), 503)...)), 24*time.Hour)
				b.startFor(t)
				b.Set(shop, planOf(nil, sleepPod))
				time.Sleep(28*time.Minute + 30*time.Second)
				if occasion {
					b.Set(shop, planOf(func(p *Plan) { p.Occasion = MarkOf("another") }, sleepPod))
				}
				time.Sleep(time.Hour)
				asked := b.far.Requests(sleepPod)
				first := asked[30]
				last := b.wakeUps()[len(b.wakeUps())-1].Sub(first)
				if last < attention*time.Minute || last >= (attention+1)*time.Minute {
					t.Errorf("last wake-up: got it %v after the first mismatch, want %d intervals", last, attention)
				}
				if got, all := len(b.wakeUps()), len(asked); got > 60 || all < 80 {
					t.Errorf("wake-ups: got %d for %d runs", got, all)
				}
			})
		})
	}
}

// The end of the settling changes the report, and so the status, even where the runs go on finding the same.
func TestWakesWhenSettlingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(played.New(played.Codes(503)), 24*time.Hour)
		b.startFor(t)
		b.Set(shop, planOf(func(p *Plan) { p.Fresh = true }, sleepPod))
		time.Sleep(SettleTime + quickPause)
		if last := b.wakeUps()[len(b.wakeUps())-1].Sub(b.begun); last < SettleTime {
			t.Errorf("last wake-up: got %v after the beginning, want one when SettleTime (%v) was over", last, SettleTime)
		}
	})
}

// A controller that is busy holds up one probe's task, not its end and not the others.
func TestWakeThatBlocksHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := played.New(nil)
		var mu sync.Mutex
		woken := map[Key]int{}
		b := &bench{far: far, begun: time.Now()}
		b.Runner = New(logr.Discard(), far, time.Hour, func(ctx context.Context, key Key) {
			mu.Lock()
			woken[key]++
			mu.Unlock()
			if key == shop {
				<-ctx.Done()
			}
		}, &notes{})
		b.startFor(t)
		b.Set(shop, planOf(nil, sleepPod))
		b.Set(other, planOf(nil, outsiderPod))
		time.Sleep(5 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if woken[shop] != 1 || woken[other] < 5 {
			t.Errorf("wake-ups: got %v, want 1 that blocks and the other probe's all the same", woken)
		}
	})
}
