package schedule

import (
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

const (
	// SettleTime is how long proxies are given to follow a new policy. Measured: 0.15 s to 0.5 s on an idle mesh.
	SettleTime = 10 * time.Second
	// unjudgedTime is how long policies that replace each other, none of them judged, may put that off.
	unjudgedTime = 3 * SettleTime

	// A new policy, epoch or occasion starts a quick series: runs in short succession until enough in a row show what is
	// computed, or SettleTime has passed. Most of what proxies do wrong while they follow lies in its first moments.
	quickPause   = 250 * time.Millisecond
	quickestFor  = 750 * time.Millisecond
	quickestWait = 15 * time.Millisecond

	// unnoticeable is how long a new policy is given to arrive of which no run can tell that it did, because the paths
	// show the same under the old one.
	unnoticeable = time.Second

	// attention is after how many runs, and after how many intervals, nothing more is expected to come of what a run found
	// that was new. failureThreshold cannot exceed it.
	attention = 10
)

// convergence is where a probe stands between something that happened and the runs that show it: how quickly it runs, until
// when it waits for the proxies, and whether what it found deserves a look. It holds no clock. Whoever calls says what
// time it is, which never runs backwards.
//
// What happens often may hurry the probe. It never puts off the moment at which the probe is judged: that moment is set
// when a policy comes, and moved by nothing but the next policy, within bounds.
type convergence struct {
	// quickSince and quickUntil bound the present quick series; zero where there is none. Another occasion begins it anew.
	quickSince, quickUntil time.Time
	// hurriedSince is when the first of the quick series began that followed each other without a rest, and quickEnded when
	// the latest ended.
	hurriedSince, quickEnded time.Time
	// computed counts the runs in a row that show what is computed, since the present quick series began, and agreed says that
	// the latest run showed it.
	computed int
	agreed   bool

	// pending says that no run has closed the latest policy yet, by showing it or by ending after its deadline.
	pending       bool
	deadline      time.Time
	unjudgedSince time.Time
	change        *change

	// interruptedSince is when a run was first interrupted since one was kept; zero where none was.
	interruptedSince time.Time

	// signature is that of the latest run, of whatever epoch. newsAt is when the latest run began that found something new,
	// or when something happened after it, and sinceNews counts the runs since then. lastLook is when the latest run began
	// that deserved a look.
	signature string
	newsAt    time.Time
	sinceNews int
	lastLook  time.Time
}

// change is a Change under way.
type change struct {
	Change
	// answered says that both policies promise an answer on the path Control.
	answered bool
	// before is the signature of the last run under the old policy.
	before string
}

// hurry starts a quick series, for whatever has happened.
func (c *convergence) hurry(now time.Time) {
	if !c.quick(now) && (c.quickEnded.IsZero() || now.Sub(c.quickEnded) >= quickPause) {
		c.hurriedSince = now
	}
	c.quickSince, c.quickUntil = now, now.Add(SettleTime)
	c.computed = 0
	c.newsAt, c.sinceNews = now, 0
}

// await starts settling, for a policy that the proxies have to follow from now on.
func (c *convergence) await(now time.Time) {
	if c.unjudgedSince.IsZero() {
		c.unjudgedSince = now
	}
	c.pending = true
	c.deadline = now.Add(SettleTime)
	if latest := c.unjudgedSince.Add(unjudgedTime); latest.Before(c.deadline) {
		c.deadline = latest
	}
}

// turn follows a change of the policy. answered says that both promise an answer on the path Control.
func (c *convergence) turn(now time.Time, cause, from, to string, answered bool) {
	c.await(now)
	c.change = &change{Change: Change{Cause: cause, From: from, To: to, Seen: now}, answered: answered, before: c.signature}
}

// settling says whether verdicts wait for the proxies.
func (c *convergence) settling(now time.Time) bool { return c.pending && now.Before(c.deadline) }

// quick says whether a quick series is under way.
func (c *convergence) quick(now time.Time) bool {
	return !c.quickUntil.IsZero() && (c.pending || now.Before(c.quickUntil))
}

// latestChange is a copy of the latest change of the policy. One whose deadline is over is not reported before a run has
// closed it.
func (c *convergence) latestChange(now time.Time) *Change {
	if c.change == nil || c.pending && !c.settling(now) {
		return nil
	}
	copied := c.change.Change
	return &copied
}

// sight is what a run found, as far as it matters here.
type sight struct {
	started   time.Time
	signature string
	// control is the result on the path Control.
	control observation.Result
	// present says that the run was begun under the present policy, and computed that it shows what that computes.
	present, computed bool
	// first says that no run of its epoch was kept before it, and asked that a person asked for it.
	first, asked bool
}

// take takes in a run that is kept at now. It returns the change of the policy that the run has brought to its end, if
// any, and whether the run deserves a look.
func (c *convergence) take(now time.Time, seen sight, interval, heartbeat time.Duration) (followed *Change, look bool) {
	c.interruptedSince = time.Time{}
	c.sinceNews++
	if seen.first || c.signature != seen.signature {
		c.newsAt, c.sinceNews = seen.started, 0
	}
	c.signature = seen.signature
	c.computed++
	if !seen.present || !seen.computed {
		c.computed = 0
	}
	// A run that shows something else than the one before is worth another at once: what fails at one of several endpoints,
	// or now and then, is found out by asking again.
	faltered := c.agreed && seen.present && !seen.computed
	c.agreed = seen.computed
	if faltered && !c.quick(now) && !c.restless(now) {
		c.hurry(now)
	}
	closed := c.close(now, seen)
	if closed && c.change != nil {
		followed = c.latestChange(now)
	}
	look = closed || seen.asked || c.worthALook(seen.started, interval, heartbeat)
	if look {
		c.lastLook = seen.started
	}
	return followed, look
}

// worthALook says whether the controller should look at a run that began at started. Times are counted from start to
// start, as the interval is: where the heartbeat is as long, every run is one.
func (c *convergence) worthALook(started time.Time, interval, heartbeat time.Duration) bool {
	since := started.Sub(c.lastLook)
	return c.sinceNews < attention || since >= heartbeat ||
		since >= interval && started.Sub(c.newsAt) < (attention+1)*interval
}

// close says whether a run brings the settling to its end.
func (c *convergence) close(now time.Time, seen sight) bool {
	if !c.pending {
		return false
	}
	if c.change != nil && seen.present {
		c.change.count(seen.control)
	}
	arrived := c.computed > 0
	if c.change != nil && c.change.before == seen.signature && now.Sub(c.change.Seen) < unnoticeable {
		arrived = false
	}
	if !arrived && c.settling(now) {
		return false
	}
	c.pending, c.unjudgedSince = false, time.Time{}
	if c.change != nil {
		c.change.Settled, c.change.After = arrived, now.Sub(c.change.Seen)
	}
	return true
}

func (c *change) count(result observation.Result) {
	if result.Failed != nil {
		return
	}
	c.Sent++
	if c.answered && result.Seen.Class != observation.Answered {
		c.Lost++
	}
}

// pause is how long to wait before the next run, after one that began at started; it is negative where the next is late. It
// ends the quick series when repeats runs in a row have shown what is computed, or its time is over.
func (c *convergence) pause(now, started time.Time, interval time.Duration, repeats int) time.Duration {
	if c.quick(now) && (c.pending || c.computed < repeats) {
		if now.Sub(c.quickSince) < quickestFor && !c.restless(now) {
			return quickestWait
		}
		return quickPause
	}
	if !c.quickUntil.IsZero() {
		c.quickSince, c.quickUntil, c.quickEnded = time.Time{}, time.Time{}, now
	}
	return started.Add(interval).Sub(now)
}

// rest is how long nothing that happens may begin a run, after one that ended at now: occasions without end must not keep
// a probe at its quickest for ever.
func (c *convergence) rest(now time.Time) time.Duration {
	if c.restless(now) {
		return quickPause
	}
	return 0
}

// restless says that the probe has run quickly for SettleTime without a rest.
func (c *convergence) restless(now time.Time) bool {
	hurries := c.quick(now) || !c.quickEnded.IsZero() && now.Sub(c.quickEnded) < quickPause
	return hurries && now.Sub(c.hurriedSince) >= SettleTime
}

// mayInterrupt says whether a run under way makes room for one at a new occasion or a new policy. What comes more often
// than a run takes, such as a pod that comes and goes, must not keep every run from its end.
func (c *convergence) mayInterrupt(now time.Time, policy bool) bool {
	if c.interruptedSince.IsZero() {
		c.interruptedSince = now
	}
	if policy {
		return now.Sub(c.interruptedSince) < unjudgedTime
	}
	return now.Sub(c.interruptedSince) < SettleTime && !c.restless(now)
}
