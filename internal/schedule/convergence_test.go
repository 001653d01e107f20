package schedule

import (
	"fmt"
	"testing"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

var midnight = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// at is so many seconds after midnight.
func at(seconds float64) time.Time {
	return midnight.Add(time.Duration(seconds * float64(time.Second)).Round(time.Millisecond))
}

func TestSettlingHasOneDeadline(t *testing.T) {
	policy := func(c *convergence, now time.Time) { c.turn(now, "", "old", "new", true); c.hurry(now) }
	occasion := func(c *convergence, now time.Time) { c.hurry(now) }
	shown := func(c *convergence, now time.Time) {
		c.take(now, sight{started: now, signature: now.String(), present: true, computed: true}, time.Minute, time.Hour)
	}
	for name, test := range map[string]struct {
		every func(*convergence, time.Time)
		times int
		apart float64
		// until is when settling ends after the policy at second 0.
		until float64
	}{
		"a policy alone":                      {occasion, 0, 0, 10},
		"occasions never move it":             {occasion, 100, 0.6, 10},
		"nor one just before it":              {occasion, 1, 9.9, 10},
		"another policy moves it":             {policy, 1, 8, 18},
		"policies that replace each other":    {policy, 3, 4, 22},
		"policies without end, three times":   {policy, 100, 4, 30},
		"policies without end and quick":      {policy, 1000, 0.1, 30},
		"a run that shows it ends it at once": {shown, 1, 3, 3},
	} {
		t.Run(name, func(t *testing.T) {
			c := &convergence{}
			policy(c, at(0))
			happened := 0
			for second := 0.05; second < 40; second += 0.1 {
				for happened < test.times && second >= test.apart*float64(happened+1) {
					happened++
					test.every(c, at(test.apart*float64(happened)))
				}
				if got, want := c.settling(at(second)), second < test.until; got != want {
					t.Fatalf("settling after %.2f s: got %v, want %v", second, got, want)
				}
			}
		})
	}
}

// Policies without end are judged once their time is over, and the next one is given its own again.
func TestPolicyAfterOnesThatWereJudgedIsGivenItsTime(t *testing.T) {
	c := &convergence{}
	for second := 0.0; second < 32; second += 4 {
		c.turn(at(second), "", "old", "new", true)
	}
	if c.settling(at(31)) || c.latestChange(at(31)) != nil {
		t.Fatal("three times SettleTime after the first of many policies it is settling still, or their change is told without a run")
	}
	followed, look := c.take(at(31), sight{started: at(30.9), present: true}, time.Minute, time.Hour)
	if followed == nil || followed.Settled || !look {
		t.Errorf("the run after the deadline: got %+v, look %v; want the change at its end, not settled", followed, look)
	}
	c.turn(at(33), "", "new", "newer", true)
	if !c.settling(at(42.9)) || c.settling(at(43)) {
		t.Error("the next policy is not given SettleTime")
	}
}

// Occasions that come without end get a run every time, yet not at full speed for ever; after a rest the next one does.
func TestOccasionsWithoutEndAreRunAtAPace(t *testing.T) {
	for _, apart := range []float64{0.01, 0.05, 0.2} {
		for name, repeats := range map[string]int{"never as computed": 2, "as computed": 0} {
			t.Run(fmt.Sprint(name, " ", apart), func(t *testing.T) {
				c := &convergence{}
				for step := range int(60 / apart) {
					second := apart * float64(step)
					now := at(second)
					c.hurry(now)
					if got, want := c.rest(now), second >= 10; (got == quickPause) != want {
						t.Fatalf("rest at an occasion after %.2f s: got %v, want one: %v", second, got, want)
					}
					if got := c.pause(now, now, time.Minute, repeats); got < quickPause && second > 10 {
						t.Fatalf("pause after %.2f s: got %v, want %v at least", second, got, quickPause)
					}
					if second > 10 && c.mayInterrupt(now, false) {
						t.Fatalf("after %.2f s an occasion interrupts a run", second)
					}
				}
				c.pause(at(71), at(71), time.Minute, repeats)
				c.hurry(at(75))
				if got := c.pause(at(75), at(75), time.Minute, 2); got != quickestWait || c.rest(at(75)) != 0 {
					t.Errorf("pause after a rest: got %v, want %v", got, quickestWait)
				}
			})
		}
	}
}

func TestQuickSeriesGoesOnUntilARunHasClosedThePolicy(t *testing.T) {
	c := &convergence{}
	c.turn(at(0), "", "old", "new", true)
	c.hurry(at(0))
	if got := c.pause(at(10.1), at(9.9), time.Hour, 2); got != quickPause {
		t.Errorf("pause after a run that ended at the deadline, and began before: got %v, want %v", got, quickPause)
	}
	c.take(at(10.4), sight{started: at(10.35), present: true, control: observation.Result{}}, time.Hour, time.Hour)
	if got := c.pause(at(10.4), at(10.35), time.Hour, 2); got < 59*time.Minute {
		t.Errorf("pause after the run that closed it: got %v, want the rest of the hour", got)
	}
}

func TestRunUnderAnEarlierPolicyClosesNothing(t *testing.T) {
	c := &convergence{}
	c.turn(at(0), "", "old", "new", true)
	c.hurry(at(0))
	if followed, _ := c.take(at(5), sight{started: at(4), computed: true}, time.Minute, time.Hour); followed != nil || c.change.Sent != 0 {
		t.Errorf("got %+v, %d requests; want the change to go on", followed, c.change.Sent)
	}
}

func TestMarksAreEqualWhereTheirPartsAre(t *testing.T) {
	type parts struct {
		A, B string
		Of   map[string]int
	}
	one := MarkOf(parts{"a b", "c", map[string]int{"x": 1, "y": 2}})
	if one != MarkOf(parts{"a b", "c", map[string]int{"y": 2, "x": 1}}) {
		t.Error("the same parts make another mark")
	}
	for _, other := range []parts{{"a", "b c", map[string]int{"x": 1, "y": 2}}, {"a b", "c", nil}, {}} {
		if one == MarkOf(other) {
			t.Errorf("%+v makes the same mark", other)
		}
	}
}
