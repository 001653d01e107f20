package verdict_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// sequences is how many random lives are lived; each is a function of its number.
const sequences = 10_000

// A verdict follows the truth in time, in whatever order things happen.
func TestVerdictsFollowTheTruth(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(sequences) {
		if found := live(seed, seen); found != "" {
			t.Fatalf("sequence %d: %s", seed, found)
		}
	}
	// A model in which some verdict never comes up would prove nothing.
	for _, want := range []string{"True", "False", "Unknown", "hole", "fail", "unknown", "nattr", "clean", "cleared", "restart"} {
		if seen[want] < sequences/10 {
			t.Errorf("%s came up %d times only: %v", want, seen[want], seen)
		}
	}
}

// What the model knows of one run along one path.
type label int

const (
	clean label = iota
	// nattr is a run of which only the way of the request is not known.
	nattr
	unknownEnd
	fail
	hole
)

func (l label) String() string { return [...]string{"clean", "nattr", "unknown", "fail", "hole"}[l] }

// state is what stands before the application of an endpoint, and how that is, at a moment.
type state struct {
	mode      api.MTLSMode
	untrusted bool
	app       string // ok, 503 or down
}

// contact is what an endpoint was when it was dialed, and when it was greeted.
type contact struct {
	asked, greeted time.Time
	then, hello    state
}

// labelled is one run along one path in the model.
type labelled struct {
	at, asked time.Time
	label     label
}

// world is the truth, and what the runs and the verdicts have shown of it.
type world struct {
	random   *rand.Rand
	now      time.Time
	declared api.MTLSMode
	criteria verdict.Criteria
	record   *verdict.Record

	endpoints []state
	// led, plain and past say where the client's Envoy leads requests: some elsewhere, all without TLS, or not through it.
	led, plain, past bool
	contacts         map[api.PathName][]contact
	// silent is how often anything goes uncounted, or an agent is lost, in percent.
	silent int

	runs map[api.PathName][]labelled
	// fails, since and failed are the failures since the last clean run, the first and the last of them; unknownSince is since when
	// runs show nothing.
	fails                       map[api.PathName]int
	since, failed, unknownSince map[api.PathName]time.Time
	changed, restarted          time.Time
	latest                      map[api.PathName]verdict.Path
}

var modes = []api.MTLSMode{api.MTLSStrict, api.MTLSPermissive, api.MTLSDisable}

func pick[T any](w *world, of ...T) T { return of[w.random.IntN(len(of))] }

func (w *world) chance(percent int) bool { return w.random.IntN(100) < percent }

func newWorld(seed uint64) *world {
	w := &world{
		random: rand.New(rand.NewPCG(seed, 9)), now: firstRun, silent: 15,
		contacts: map[api.PathName][]contact{}, runs: map[api.PathName][]labelled{}, fails: map[api.PathName]int{},
		since: map[api.PathName]time.Time{}, failed: map[api.PathName]time.Time{}, unknownSince: map[api.PathName]time.Time{}, latest: map[api.PathName]verdict.Path{},
	}
	w.declared = pick(w, modes...)
	w.endpoints = make([]state, 1+w.random.IntN(3))
	w.criteria = criteria(promised(w.declared, api.ClientTLSUnset))
	w.criteria.Interval, w.criteria.FailureThreshold = pick(w, 10*time.Second, time.Minute), 1+w.random.IntN(3)
	w.criteria.Service.Endpoints = map[string]string{}
	for i := range w.endpoints {
		w.criteria.Service.Endpoints[hostOf(i)] = fmt.Sprintf("nginx-%d", i)
		w.endpoints[i].app = "ok"
	}
	for _, name := range []api.PathName{api.PathIstioProxy, api.PathOutsider} {
		w.contacts[name] = make([]contact, len(w.endpoints))
	}
	w.setPolicy(pick(w, w.declared, w.declared, modes[w.random.IntN(3)]), 100)
	w.record = verdict.NewRecord(w.criteria, w.now)
	return w
}

func hostOf(i int) string { return fmt.Sprintf("10.0.0.%d:8443", i+1) }

// setPolicy computes another mode, which some endpoints take at once.
func (w *world) setPolicy(mode api.MTLSMode, percent int) {
	w.changed = w.now
	w.criteria.Policy = fmt.Sprintf("%s at %s", mode, w.now)
	w.criteria.Computed = promised(mode, api.ClientTLSUnset)
	w.criteria.Endpoints = map[string]expectation.Expectation{}
	for i := range w.endpoints {
		w.criteria.Endpoints[hostOf(i)] = w.criteria.Computed[api.PathOutsider]
		if w.chance(percent) {
			w.endpoints[i].mode = mode
		}
	}
}

// happen lets one thing happen, or none.
func (w *world) happen() {
	one := &w.endpoints[w.random.IntN(len(w.endpoints))]
	switch w.random.IntN(16) {
	case 0:
		w.setPolicy(pick(w, modes...), 80)
		w.record.Renew(w.criteria, w.now)
	case 1:
		w.setPolicy(w.declared, 100)
		w.record.Renew(w.criteria, w.now)
	case 2:
		one.mode = pick(w, modes...)
	case 3:
		one.untrusted = !one.untrusted
	case 4:
		one.app = pick(w, "ok", "503", "down")
	case 5:
		app := pick(w, "503", "down")
		for i := range w.endpoints {
			w.endpoints[i].app = app
		}
	case 6:
		w.led = !w.led
	case 7:
		w.plain = !w.plain
	case 8:
		w.past = !w.past
	case 9, 10, 11:
		w.mend()
	}
}

// mend makes the truth what is declared.
func (w *world) mend() {
	w.led, w.plain, w.past = false, false, false
	for i := range w.endpoints {
		w.endpoints[i] = state{mode: w.declared, app: "ok"}
	}
}

// restart is one of the operator's: only the status is left.
func (w *world) restart() {
	w.restarted = w.now
	w.criteria.Previous = map[api.PathName]verdict.Previous{}
	for name, path := range w.latest {
		w.criteria.Previous[name] = verdict.Previous{Status: path.Status, Reason: path.Reason, At: path.Evidence.LastProbeTime.Time}
		w.fails[name] = 0
		w.unknownSince[name] = time.Time{}
	}
	w.record = verdict.NewRecord(w.criteria, w.now)
}

// live lives one random life, and says what is wrong in it, or "".
func live(seed uint64, seen map[string]int) string {
	w := newWorld(seed)
	for range 12 {
		w.happen()
		if w.chance(6) && len(w.latest) > 0 {
			w.restart()
			seen["restart"]++
		}
		if found := w.next(pick(w, 100*time.Millisecond, time.Second, w.criteria.Interval, w.criteria.Interval, 3*w.criteria.Interval/2), seen); found != "" {
			return found
		}
		if w.chance(5) {
			w.now = w.now.Add(5*w.criteria.Interval + 2*time.Minute)
			for _, path := range w.record.Paths(w.now, false) {
				if path.Status != metav1.ConditionUnknown {
					return fmt.Sprintf("%s is %s without runs", path.Evidence.Name, path.Status)
				}
			}
		}
	}
	return w.recover(seen)
}

// next makes a run and judges after it, at once and a little later.
func (w *world) next(after time.Duration, seen map[string]int) string {
	w.now = w.now.Add(after)
	w.record.Record(w.probe())
	started := w.now
	w.now = w.now.Add(time.Duration(w.random.IntN(50)) * time.Millisecond)
	quick := w.chance(30)
	for _, path := range w.record.Paths(w.now, quick) {
		name := path.Evidence.Name
		w.latest[name] = path
		seen[string(path.Status)]++
		seen[w.runs[name][len(w.runs[name])-1].label.String()]++
		if found := w.wrong(path, quick, seen); found != "" {
			return fmt.Sprintf("%s, run at %s, quick %v: %s is %s (%s): %s; %s", found, started.Sub(firstRun), quick, name, path.Status, path.Reason, path.Message, w.told(name))
		}
	}
	return ""
}

// wrong holds a verdict against what the model knows.
func (w *world) wrong(path verdict.Path, quick bool, seen map[string]int) string {
	name := path.Evidence.Name
	last := w.runs[name][len(w.runs[name])-1]
	if (path.Evidence.Outcome == api.OutcomeMatch) != (last.label == clean) {
		return fmt.Sprintf("the outcome is %s of a run that is %s", path.Evidence.Outcome, last.label)
	}
	switch path.Status {
	case metav1.ConditionTrue:
		return w.wronglyTrue(name, last, quick, seen)
	case metav1.ConditionFalse:
		return w.wronglyFalse(name)
	default:
		if last.label == hole {
			return "a hole is Unknown"
		}
		return ""
	}
}

// moments is for how long a failure may be one of the moments in which things change.
func (w *world) moments(quick bool) time.Duration {
	lasting := time.Duration(w.criteria.FailureThreshold-1) * min(2*time.Second, w.criteria.Interval)
	if quick {
		return max(lasting, 2*time.Second)
	}
	return lasting
}

func (w *world) wronglyTrue(name api.PathName, last labelled, quick bool, seen map[string]int) string {
	switch {
	case last.label == hole:
		return "a hole passes"
	case last.label == unknownEnd && (!quick || w.now.Sub(w.unknownSince[name]) >= 2*time.Second):
		return "a run that shows nothing passes"
	case last.label == nattr && w.now.Sub(w.unknownSince[name]) >= 3*w.criteria.Interval:
		return "what is not attributed passes for more than three intervals"
	case w.fails[name] >= w.criteria.FailureThreshold && last.label != clean && w.failed[name].Sub(w.since[name]) >= w.moments(quick):
		return "lasting failures pass"
	}
	var shown bool
	for _, one := range w.runs[name] {
		if one.label == clean && w.now.Sub(one.at) <= w.evidenceLasts() {
			shown = true
		}
		if one.label != hole || w.now.Sub(one.at) >= 2*w.criteria.Interval {
			continue
		}
		// A run that shows all of a new policy clears what was seen before the proxies had heard of it.
		if one.at.Sub(w.changed) >= 10*time.Second {
			return "a hole is forgotten before two intervals are over"
		}
		seen["cleared"]++
	}
	if !shown {
		return "it was never shown, or too long ago"
	}
	return ""
}

// evidenceLasts is how old the evidence of a True may be: failures that do not count yet, with unattributed runs between
// them, after runs that were late.
func (w *world) evidenceLasts() time.Duration {
	return time.Duration(w.criteria.FailureThreshold)*5*w.criteria.Interval + w.moments(true) + w.criteria.StaleAfter()
}

func (w *world) wronglyFalse(name api.PathName) string {
	remembered := time.Duration(max(11, 5*len(w.endpoints)+1))*w.criteria.Interval + 90*time.Second
	for _, bad := range w.runs[name] {
		if bad.label < fail {
			continue
		}
		excused := false
		for _, good := range w.runs[name] {
			// A restart remembers proof as if it was of the run before it.
			again := good.at.Sub(w.restarted) >= 2*w.criteria.Interval && good.asked.After(w.restarted)
			excused = excused || again && good.label == clean && good.at.Sub(bad.at) >= remembered && good.asked.After(bad.at)
		}
		if !excused {
			return ""
		}
	}
	return "False without evidence"
}

// recover makes all well, and waits for the verdicts to say so.
func (w *world) recover(seen map[string]int) string {
	w.mend()
	w.silent = 0
	patience := 4
	if len(w.endpoints) > 1 {
		patience = 15 + int(90*time.Second/w.criteria.Interval)
	}
	if len(w.endpoints) > 1 && w.random.IntN(4) > 0 {
		return "" // the long ones are lived now and then
	}
	for range patience {
		if found := w.next(w.criteria.Interval, seen); found != "" {
			return found
		}
	}
	for name, path := range w.latest {
		if path.Status != metav1.ConditionTrue {
			return fmt.Sprintf("all is well for %d intervals, and %s is %s (%s): %s; %s", patience, name, path.Status, path.Reason, path.Message, w.told(name))
		}
	}
	return ""
}

// told is what the model knows, for whoever looks for a mistake.
func (w *world) told(name api.PathName) string {
	var b strings.Builder
	fmt.Fprintf(&b, "declared %s, %d endpoints, threshold %d, interval %s, policy changed at %s:", w.declared, len(w.endpoints), w.criteria.FailureThreshold, w.criteria.Interval, w.changed.Sub(firstRun))
	for _, one := range w.runs[name] {
		fmt.Fprintf(&b, " %s=%s", one.at.Sub(firstRun), one.label)
	}
	return b.String()
}

// The model speaks of the paths by name.
func TestTheModelKnowsEveryPath(t *testing.T) {
	if got := fmt.Sprint(paths.Names()); got != "[sleep istio-proxy outsider]" {
		t.Errorf("the model of the property test knows nothing of %s", got)
	}
}
