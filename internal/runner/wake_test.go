package runner

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

func TestWakesForWhatIsNewAndThenOnceAHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(newAgents(codes(append(slices.Repeat([]int{200}, 60), 503)...)), 10*time.Minute)
		b.startFor(t)
		b.Set(shop, planOf(nil, sleepPod))
		time.Sleep(2 * time.Hour)
		asked := b.agents.requests(sleepPod)
		var woken []int
		for _, at := range b.wakeUps() {
			woken = append(woken, slices.IndexFunc(asked, at.Equal))
		}
		// Runs are a minute apart: those up to History after something new, then every tenth.
		want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 19, 29, 39, 49, 59}
		want = append(want, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 79, 89, 99, 109, 119)
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
		b := newBench(newAgents(func(a *agent) error {
			return a.answerAll(func(observation.Request) observation.Observation {
				latency = latency * 9 / 10
				time.Sleep(latency)
				return code(200)
			})
		}), time.Minute)
		b.startFor(t)
		b.Set(shop, planOf(nil, sleepPod))
		time.Sleep(30 * time.Minute)
		if runs, wakes := len(b.agents.requests(sleepPod)), len(b.wakeUps()); wakes != runs {
			t.Errorf("wake-ups: got %d of %d runs, want one with every run", wakes, runs)
		}
	})
}

// A threshold of History mismatches is reached by the run History-1 after the first of them: it has to be looked at.
func TestWakesForTheRunThatReachesTheHighestThreshold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(newAgents(codes(append(slices.Repeat([]int{200}, 30), 503)...)), 24*time.Hour)
		b.startFor(t)
		b.Set(shop, planOf(nil, sleepPod))
		time.Sleep(time.Hour)
		if last, want := b.wakeUps()[len(b.wakeUps())-1], b.agents.requests(sleepPod)[30+History-1]; !last.Equal(want) {
			t.Errorf("last wake-up: got %v, want %v, after mismatch %d", last, want, History)
		}
	})
}

// The end of the settling changes the report, and so the status, even where the runs go on finding the same.
func TestWakesWhenSettlingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(newAgents(codes(503)), 24*time.Hour)
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
		agents := newAgents(nil)
		var mu sync.Mutex
		woken := map[Key]int{}
		b := &bench{agents: agents, begun: time.Now()}
		b.Runner = New(logr.Discard(), agents, time.Hour, func(ctx context.Context, key Key) {
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
