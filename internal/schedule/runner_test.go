package schedule

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/agents/played"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

func TestRunAsksAlongEveryPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, func(a *played.Agent) error {
			return a.AnswerAll(func(observation.Request) observation.Observation {
				time.Sleep(time.Second)
				return observation.Observation{Class: observation.Answered, HTTPCode: 200, Remote: a.From.Pod}
			})
		})
		b.Set(shop, planOf(nil, sleepPod, outsiderPod))
		time.Sleep(time.Second)
		synctest.Wait()
		for _, from := range []agents.Vantage{sleepPod, outsiderPod} {
			if got := b.latest(t, shop, from); got.Seen.Remote != from.Pod {
				t.Errorf("path %s after a second: got %+v, failure %+v", from.Pod, got.Seen, got.Failed)
			}
		}
	})
}

func TestPathWithoutContainerSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, nil)
		b.Set(shop, planOf(func(p *Plan) {
			p.Requests["gone"] = Request{Missing: "no pod of Deployment meshprobe-sleep is ready"}
		}, outsiderPod))
		synctest.Wait()
		result := b.latest(t, shop, agents.Vantage{Pod: "gone"})
		wantFailure(t, result, observation.NoVantage)
		if result.Failed.Message != "no pod of Deployment meshprobe-sleep is ready" {
			t.Errorf("message: got %q", result.Failed.Message)
		}
		if got := b.latest(t, shop, outsiderPod); got.Seen.HTTPCode != 200 {
			t.Errorf("the other path: got %+v, failure %+v; want 200", got.Seen, got.Failed)
		}
	})
}

func TestPlanWaitsForStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(played.New(nil), time.Hour)
		b.Set(shop, planOf(nil, sleepPod))
		b.Set(other, planOf(nil, sleepPod))
		b.Forget(other)
		time.Sleep(time.Hour)
		if got := len(b.far.Openings(sleepPod)); got != 0 {
			t.Fatalf("streams before Start: got %d, want 0", got)
		}
		b.startFor(t)
		synctest.Wait()
		if got := b.latest(t, shop, sleepPod); got.Seen.HTTPCode != 200 {
			t.Errorf("after Start: got %+v, failure %+v; want 200", got.Seen, got.Failed)
		}
		if got := b.Report(other, MarkOf("epoch")); got.Runs != 0 {
			t.Errorf("the forgotten probe was run: %+v", got.Latest)
		}
	})
}

func TestForgetEndsTheTaskAndClosesTheStreamsOfNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, nil)
		b.Set(shop, planOf(nil, sleepPod, outsiderPod))
		b.Set(other, planOf(nil, outsiderPod))
		time.Sleep(10 * time.Minute)
		b.Forget(shop)
		b.Forget(Key{"shop", "never heard of"})
		synctest.Wait()
		if got := b.Report(shop, MarkOf("epoch")); got.Runs != 0 {
			t.Errorf("the forgotten probe is reported: %+v", got.Latest)
		}
		if own, shared := b.far.OpenNow(sleepPod), b.far.OpenNow(outsiderPod); own != 0 || shared != 1 {
			t.Errorf("open streams: got %d to its own container and %d to the shared one, want 0 and 1", own, shared)
		}
		before := len(b.far.Requests(outsiderPod))
		time.Sleep(10 * time.Minute)
		if got := len(b.far.Requests(outsiderPod)) - before; got != 10 {
			t.Errorf("requests of the other probe in the next ten minutes: got %d, want 10", got)
		}
		if got := len(b.far.Openings(outsiderPod)); got != 1 {
			t.Errorf("openings of the shared stream: got %d, want 1", got)
		}
	})
}

func TestReplacedPodIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, nil)
		b.Set(shop, planOf(nil, sleepPod))
		time.Sleep(time.Minute)
		next := sleepPod
		next.Pod, next.UID = "meshprobe-sleep-2", "3"
		b.Set(shop, planOf(func(p *Plan) { p.Occasion = MarkOf("another pod") }, next))
		synctest.Wait()
		if old, new := b.far.OpenNow(sleepPod), b.far.OpenNow(next); old != 0 || new != 1 {
			t.Errorf("open streams: got %d to the old pod and %d to the new one, want 0 and 1", old, new)
		}
		if got := b.latest(t, shop, next); got.Seen.HTTPCode != 200 {
			t.Errorf("run from the new pod: got %+v, failure %+v; want 200", got.Seen, got.Failed)
		}
	})
}

// A run that is under way when its probe is forgotten may just be about to ask, and opens a stream that nobody wants.
func TestStreamOpenedTooLateIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, nil)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		forgotten := newTask(planOf(nil, sleepPod))
		go b.loop(ctx, shop, forgotten)
		synctest.Wait()
		forgotten.stop()
		synctest.Wait()
		if got := b.far.OpenNow(sleepPod); got != 0 {
			t.Errorf("streams that nobody uses: got %d open, want 0", got)
		}
	})
}

func TestStreamsFollowThePlansHoweverFastTheyChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, nil)
		for i := range 1000 {
			b.Set(shop, planOf(func(p *Plan) { p.Occasion = MarkOf(fmt.Sprint(i)) }, sleepPod))
			runtime.Gosched()
			b.Set(shop, planOf(func(p *Plan) { p.Occasion = MarkOf(fmt.Sprint(i, " and another")) }, outsiderPod))
			synctest.Wait()
			if old, new := b.far.OpenNow(sleepPod), b.far.OpenNow(outsiderPod); old != 0 || new != 1 {
				t.Fatalf("after %d changes: got %d streams to the old pod and %d to the new one, want 0 and 1", i, old, new)
			}
		}
	})
}

func TestContextOfARunEndsWithTheNext(t *testing.T) {
	one := newTask(planOf(nil))
	defer one.stop()
	_, _, first := one.begin(context.Background())
	_, _, second := one.begin(context.Background())
	if first.Err() == nil || second.Err() != nil {
		t.Errorf("contexts: got %v and %v, want only the first at its end: each one left open stays with the task", first.Err(), second.Err())
	}
}

func TestStartReturnsAfterEverythingHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const farewell = 7 * time.Second
		far := played.New(func(a *played.Agent) error {
			err := a.AnswerAll(sleeper(time.Second))
			time.Sleep(farewell)
			return err
		})
		b := newBench(far, time.Hour)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- b.Start(ctx) }()
		b.Set(shop, planOf(nil, sleepPod))
		b.Set(other, planOf(nil, outsiderPod))
		time.Sleep(time.Minute + time.Second + quickPause + 500*time.Millisecond) // in the middle of the third run
		cancelled := time.Now()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Start returned %v", err)
		}
		if got := far.OpenNow(sleepPod) + far.OpenNow(outsiderPod); got != 0 {
			t.Errorf("open streams when Start returned: got %d, want 0", got)
		}
		if took := time.Since(cancelled); took < farewell || took > farewell+time.Second {
			t.Errorf("Start returned after %v, want the %v that the streams take to end", took, farewell)
		}
		b.Set(shop, planOf(nil, sleepPod))
		b.Forget(shop)
		synctest.Wait()
		if got := len(far.Openings(sleepPod)); got != 1 {
			t.Errorf("streams opened: got %d, want none after the end", got-1)
		}
	})
}

func TestNothingStaysBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, nil)
		synctest.Wait()
		before := runtime.NumGoroutine()
		for i := range 200 {
			from := sleepPod
			from.UID = fmt.Sprint(i)
			b.Set(shop, planOf(nil, from, outsiderPod))
			time.Sleep(time.Duration(i) * time.Millisecond)
			b.Forget(shop)
		}
		synctest.Wait()
		// One stream is several goroutines; the run time may have added one of its own for finalizers.
		if got := runtime.NumGoroutine(); got > before+2 {
			stacks := make([]byte, 1<<20)
			t.Errorf("goroutines: got %d after 200 cycles, %d before them:\n%s", got, before, stacks[:runtime.Stack(stacks, true)])
		}
		if got := b.streams.Load().StreamsWanted; got != 0 {
			t.Errorf("streams kept: got %d, want 0", got)
		}
	})
}
