package verdict_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// runsKept is how many runs the runner keeps; failureThreshold cannot exceed it.
const runsKept = 10

// A history is told in letters: + for a run that matches, - for one that does not, ? for one that proves nothing.
func runs(history string) []observation.Run {
	outsider := map[rune]observation.Result{'+': turnedAway, '-': served, '?': saw(observation.HandshakeReset, nil)}
	var told []observation.Run
	for _, letter := range history {
		told = append(told, run(served, turnedAway, outsider[letter]))
	}
	return told
}

func judgeHistory(history string, threshold int, previous metav1.ConditionStatus) verdict.Path {
	in := verdict.Input{Expectations: strict, Server: server, Runs: runs(history), FailureThreshold: threshold}
	if previous != "" {
		in.Previous = map[api.PathName]metav1.ConditionStatus{api.PathOutsider: previous}
	}
	return verdictOn(api.PathOutsider, verdict.Paths(in))
}

func TestThreshold(t *testing.T) {
	const yes, no, open, none = metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown, metav1.ConditionStatus("")
	for _, c := range []struct {
		history   string
		threshold int
		previous  metav1.ConditionStatus
		status    metav1.ConditionStatus
		reason    string
		failures  int32
	}{
		{"+", 1, none, yes, api.ReasonRefusedByMesh, 0},
		{"-", 1, none, no, api.ReasonMTLSNotEnforced, 1},
		{"?", 1, none, open, api.ReasonInconclusive, 0},
		{"+-", 1, none, no, api.ReasonMTLSNotEnforced, 1},
		{"-+", 1, none, yes, api.ReasonRefusedByMesh, 0},
		// The zero of a probe that was written without a threshold means 1.
		{"+-", 0, none, no, api.ReasonMTLSNotEnforced, 1},

		{"-", 2, none, open, api.ReasonBelowThreshold, 1},
		{"+-", 2, none, yes, api.ReasonBelowThreshold, 1},
		{"+--", 2, none, no, api.ReasonMTLSNotEnforced, 2},
		{"--+", 2, none, yes, api.ReasonRefusedByMesh, 0},
		{"--+-", 2, none, yes, api.ReasonBelowThreshold, 1},
		{"-+-+-", 2, none, yes, api.ReasonBelowThreshold, 1},
		// What proves nothing ends a streak, and what was True before it is not brought back by a mismatch.
		{"+-?-", 2, none, open, api.ReasonBelowThreshold, 1},
		{"--?", 2, none, open, api.ReasonInconclusive, 0},
		{"--?-", 2, none, open, api.ReasonBelowThreshold, 1},
		{"+?", 2, none, open, api.ReasonInconclusive, 0},

		{"+---------", 10, none, yes, api.ReasonBelowThreshold, 9},
		{"----------", 10, yes, no, api.ReasonMTLSNotEnforced, 10},
		{"---------", 10, none, open, api.ReasonBelowThreshold, 9},

		// Before the first of the runs stands what the status said.
		{"-", 2, yes, yes, api.ReasonBelowThreshold, 1},
		{"-", 2, open, open, api.ReasonBelowThreshold, 1},
		{"--", 2, yes, no, api.ReasonMTLSNotEnforced, 2},
		{"?", 2, yes, open, api.ReasonInconclusive, 0},
		{"?-", 2, yes, open, api.ReasonBelowThreshold, 1},
		{"+-", 2, no, yes, api.ReasonBelowThreshold, 1},
		// A path that is False already stays what it was, and keeps saying why.
		{"-", 2, no, no, api.ReasonMTLSNotEnforced, 1},
		{"---", 10, no, no, api.ReasonMTLSNotEnforced, 3},
	} {
		t.Run(fmt.Sprintf("%s of %d after %q", c.history, c.threshold, c.previous), func(t *testing.T) {
			got := judgeHistory(c.history, c.threshold, c.previous)
			if got.Status != c.status || got.Reason != c.reason || got.Evidence.ConsecutiveFailures != c.failures {
				t.Errorf("%s %s with %d failures, want %s %s with %d (%s)", got.Status, got.Reason,
					got.Evidence.ConsecutiveFailures, c.status, c.reason, c.failures, got.Message)
			}
		})
	}
}

func TestAStreakBelowTheThresholdSaysHowFarItIs(t *testing.T) {
	got := judgeHistory("+--", 3, "")
	for _, part := range []string{"mismatch 2 of 3", "the request reached the server (200)"} {
		if !strings.Contains(got.Message, part) {
			t.Errorf("message %q lacks %q", got.Message, part)
		}
	}
	if got.Evidence.Outcome != api.OutcomeMismatch || got.Evidence.Observed != "200" {
		t.Errorf("the evidence hides the mismatch: %s %s", got.Evidence.Outcome, got.Evidence.Observed)
	}
}

func TestCountedFailuresEndAtTen(t *testing.T) {
	if got := judgeHistory(strings.Repeat("-", 30), 2, "").Evidence.ConsecutiveFailures; got != 10 {
		t.Errorf("%d consecutive failures, want 10", got)
	}
}

// follow is the rule in other words: go through the runs one by one and keep the state.
func follow(state metav1.ConditionStatus, history string, threshold int) metav1.ConditionStatus {
	if state == "" {
		state = metav1.ConditionUnknown
	}
	streak := 0
	for _, letter := range history {
		switch letter {
		case '+':
			state, streak = metav1.ConditionTrue, 0
		case '?':
			state, streak = metav1.ConditionUnknown, 0
		default:
			if streak++; streak >= threshold {
				state = metav1.ConditionFalse
			}
		}
	}
	return state
}

// histories are all interleavings of up to length runs.
func histories(length int) []string {
	all, last := []string{}, []string{""}
	for range length {
		var next []string
		for _, shorter := range last {
			next = append(next, shorter+"+", shorter+"-", shorter+"?")
		}
		all, last = append(all, next...), next
	}
	return all
}

func TestEveryInterleavingOfRuns(t *testing.T) {
	for _, history := range histories(6) {
		for _, threshold := range []int{1, 2, 3, 10} {
			for _, previous := range []metav1.ConditionStatus{"", metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown} {
				got := judgeHistory(history, threshold, previous)
				if want := follow(previous, history, threshold); got.Status != want {
					t.Fatalf("%s of %d after %q: %s, want %s", history, threshold, previous, got.Status, want)
				}
				wantNoFalsePass(t, history, threshold, previous, got.Status)
			}
		}
	}
}

// wantNoFalsePass holds the one promise on its own: True needs a match as the latest run, or a streak of mismatches
// below the threshold on what was True before it; never a run that proves nothing.
func wantNoFalsePass(t *testing.T, history string, threshold int, previous, got metav1.ConditionStatus) {
	t.Helper()
	before := strings.TrimRight(history, "-")
	wasTrue := strings.HasSuffix(before, "+") || before == "" && previous == metav1.ConditionTrue
	streak := len(history) - len(before)
	earned := strings.HasSuffix(history, "+") || streak > 0 && streak < threshold && wasTrue
	if got == metav1.ConditionTrue && !earned {
		t.Fatalf("%s of %d after %q: false pass", history, threshold, previous)
	}
}

// A probe lives through long histories of which the runner keeps the end, and through restarts of the operator, after
// which only the status is left.
func TestLongLivesWithRestarts(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for life := range 300 {
		threshold := 1 + random.IntN(runsKept)
		status := metav1.ConditionStatus("")
		lived, window, since := "", "", metav1.ConditionStatus("")
		for range 60 {
			if random.IntN(15) == 0 {
				window, since, lived = "", status, lived+"|"
			}
			// Mismatches are frequent, so that streaks reach high thresholds.
			letter := string("+?-------"[random.IntN(9)])
			lived += letter
			window = (window + letter)[max(0, len(window)+1-runsKept):]
			got := judgeHistory(window, threshold, status)
			want := follow(since, lived[strings.LastIndex(lived, "|")+1:], threshold)
			if got.Status != want {
				t.Fatalf("life %d, threshold %d: after %s the status is %s, want %s", life, threshold, lived, got.Status, want)
			}
			status = got.Status
		}
	}
}

// One path's history says nothing of another's.
func TestPathsAreJudgedByThemselves(t *testing.T) {
	in := verdict.Input{
		Expectations: strict, Server: server, FailureThreshold: 2,
		Runs:     []observation.Run{run(served, served, turnedAway), run(served, served, served)},
		Previous: map[api.PathName]metav1.ConditionStatus{api.PathOutsider: metav1.ConditionFalse},
	}
	paths := verdict.Paths(in)
	var statuses []metav1.ConditionStatus
	var names []api.PathName
	for _, path := range paths {
		statuses, names = append(statuses, path.Status), append(names, path.Evidence.Name)
	}
	if want := []metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionTrue}; !slices.Equal(statuses, want) {
		t.Errorf("statuses %v, want %v", statuses, want)
	}
	if !slices.Equal(names, api.PathNames()) {
		t.Errorf("paths in the order %v, want %v", names, api.PathNames())
	}
}

func TestWithoutRunsThereIsNoVerdict(t *testing.T) {
	previous := map[api.PathName]metav1.ConditionStatus{api.PathSleep: metav1.ConditionTrue}
	if paths := verdict.Paths(verdict.Input{Expectations: strict, Server: server, FailureThreshold: 2, Previous: previous}); paths != nil {
		t.Errorf("a verdict without runs: %v", paths)
	}
}

// What Istio computes explains a mismatch, and nothing else.
func TestExplanationsAreForMismatches(t *testing.T) {
	const computed = "PeerAuthentication shop/legacy sets PERMISSIVE"
	in := verdict.Input{
		Expectations: strict, Server: server, FailureThreshold: 1, Runs: []observation.Run{run(served, served, saw(observation.HandshakeReset, nil))},
		Explanations: map[api.PathName]string{api.PathSleep: computed, api.PathIstioProxy: computed, api.PathOutsider: computed},
	}
	for _, path := range verdict.Paths(in) {
		want := path.Evidence.Outcome == api.OutcomeMismatch
		if strings.HasSuffix(path.Message, "; "+computed) != want || strings.Contains(path.Evidence.Message, computed) != want {
			t.Errorf("%s %s: %s; evidence: %s", path.Evidence.Name, path.Evidence.Outcome, path.Message, path.Evidence.Message)
		}
	}
	in.FailureThreshold, in.Explanations = 2, map[api.PathName]string{api.PathIstioProxy: computed}
	if got := verdictOn(api.PathIstioProxy, verdict.Paths(in)); got.Reason != api.ReasonBelowThreshold || !strings.Contains(got.Message, computed) {
		t.Errorf("%s: %s", got.Reason, got.Message)
	}
}
