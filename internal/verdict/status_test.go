package verdict_test

import (
	"reflect"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// untouched is the status that the API server gives to a new probe.
var untouched = api.HTTPSMeshProbeStatus{ObservedGeneration: -1}

const heartbeat = time.Minute

// at is a run like one, begun so long after the first.
func at(after time.Duration, one observation.Run) observation.Run {
	one.Started = firstRun.Add(after)
	return one
}

func judged(generation int64, runs ...observation.Run) verdict.Judgement {
	return verdict.Judgement{Generation: generation, Standing: verdict.Standing{Phase: verdict.Judged}, Paths: pathsAfter(runs...), Policy: inEffect}
}

func standing(phase verdict.Phase) verdict.Judgement {
	return verdict.Judgement{Generation: 1, Standing: verdict.Standing{Phase: phase, Reason: "Because", Message: "of that"}}
}

// verified is the status of shop/strict after its first run, written a second after it began.
func verified() api.HTTPSMeshProbeStatus {
	return verdict.Status(untouched, judged(1, at(0, run(served, turnedAway, turnedAway))), firstRun.Add(time.Second), heartbeat)
}

func TestASteadyProbeIsWrittenOnceAHeartbeat(t *testing.T) {
	old := verified()
	for _, c := range []struct {
		after   time.Duration
		written bool
	}{{time.Second, false}, {heartbeat - time.Nanosecond, false}, {heartbeat, true}, {2 * heartbeat, true}} {
		next := at(c.after, run(served, turnedAway, turnedAway))
		faster := next.Results["sleep"]
		faster.Seen.Finished /= 2
		next.Results["sleep"] = faster
		got := verdict.Status(old, judged(1, next), firstRun.Add(c.after), heartbeat)
		if written := !reflect.DeepEqual(got, old); written != c.written {
			t.Errorf("a run %s later: written is %v, want %v", c.after, written, c.written)
		}
		if c.written && !got.LastProbeTime.Time.Equal(next.Started) {
			t.Errorf("a run %s later: last probe time %s", c.after, got.LastProbeTime)
		}
	}
}

// What comes back from the API server has lost the fractions of its seconds; that alone is no change.
func TestRoundedTimesAreNoChange(t *testing.T) {
	fraction := firstRun.Add(300 * time.Millisecond)
	judgement := judged(1, observation.Run{Started: fraction, Results: run(served, turnedAway, turnedAway).Results})
	read := verdict.Status(untouched, judgement, fraction, heartbeat)
	for i := range read.Conditions {
		read.Conditions[i].LastTransitionTime = metav1.NewTime(firstRun)
	}
	for i := range read.Paths {
		rounded := metav1.NewTime(firstRun)
		read.Paths[i].LastProbeTime, read.Paths[i].LastTransitionTime = &rounded, &rounded
	}
	if got := verdict.Status(read, judgement, fraction.Add(time.Second), heartbeat); !reflect.DeepEqual(got, read) {
		t.Errorf("the same verdict is written again: %v", got)
	}
}

func TestWhatChangesIsWrittenAtOnce(t *testing.T) {
	good := at(0, run(served, turnedAway, turnedAway))
	overridden := judged(1, good)
	overridden.Policy = verdict.Policy{Status: metav1.ConditionFalse, Reason: api.ReasonOverridden, Message: "legacy"}
	for name, next := range map[string]verdict.Judgement{
		"a path got through":  judged(1, good, at(time.Second, run(served, served, turnedAway))),
		"a path is open":      judged(1, good, at(time.Second, run(served, unasked, turnedAway))),
		"the policy changed":  overridden,
		"a new generation":    judged(2, good),
		"suspended":           standing(verdict.Suspended),
		"another code":        judged(1, at(0, run(answered(503, nginxLeaf), turnedAway, turnedAway))),
		"another peer":        judged(1, at(0, run(served, turnedAway, refused(certificate("f", "spiffe://td/ns/shop/sa/strict-nginx"))))),
		"trouble without one": standing(verdict.Troubled),
	} {
		if got := verdict.Status(verified(), next, firstRun.Add(2*time.Second), heartbeat); reflect.DeepEqual(got, verified()) {
			t.Errorf("%s: not written", name)
		}
	}
}

func TestAnUnjudgedStatusIsWrittenOnce(t *testing.T) {
	for _, phase := range []verdict.Phase{verdict.Progressing, verdict.Troubled, verdict.Stalled, verdict.Suspended} {
		written := verdict.Status(untouched, standing(phase), firstRun, heartbeat)
		if reflect.DeepEqual(written, untouched) {
			t.Errorf("%s: not written", phase)
		}
		if again := verdict.Status(written, standing(phase), firstRun.Add(time.Hour), heartbeat); !reflect.DeepEqual(again, written) {
			t.Errorf("%s: written again", phase)
		}
	}
}

func TestOldIsNotTouched(t *testing.T) {
	old, copied := verified(), verified()
	verdict.Status(old, judged(2, at(time.Hour, run(served, served, served))), firstRun.Add(time.Hour), heartbeat)
	if !reflect.DeepEqual(old, copied) {
		t.Error("the status that was handed in has changed")
	}
}

func TestConditionsTransitionWithTheirStatusAlone(t *testing.T) {
	old := verified()
	later := firstRun.Add(time.Hour)
	// The outsider's first mismatch changes words, its second the status.
	below := verdict.Status(old, judged(1, at(0, run(served, turnedAway, turnedAway)), at(time.Hour, run(served, turnedAway, served))), later, heartbeat)
	for _, condition := range below.Conditions {
		if !condition.LastTransitionTime.Time.Equal(firstRun.Add(time.Second)) {
			t.Errorf("%s transitioned at %s with its status unchanged", condition.Type, condition.LastTransitionTime)
		}
	}
	refuted := verdict.Status(below, judged(2, at(0, run(served, turnedAway, served)), at(time.Hour, run(served, turnedAway, served))), later, heartbeat)
	for _, condition := range refuted.Conditions {
		changed := condition.Type == api.ConditionReady || condition.Type == api.ConditionOutsiderVerified
		if moved := condition.LastTransitionTime.Time.Equal(later); moved != changed {
			t.Errorf("%s: transition at %s", condition.Type, condition.LastTransitionTime)
		}
		if condition.ObservedGeneration != 2 {
			t.Errorf("%s speaks of generation %d, want 2", condition.Type, condition.ObservedGeneration)
		}
	}
	if refuted.ObservedGeneration != 2 {
		t.Errorf("the status speaks of generation %d, want 2", refuted.ObservedGeneration)
	}
}

func TestPathsTransitionWithWhatTheyShow(t *testing.T) {
	later := firstRun.Add(time.Hour)
	next := verdict.Status(verified(), judged(1, at(time.Hour, run(served, turnedAway, served))), later, heartbeat)
	for _, path := range next.Paths {
		changed := path.Name == api.PathOutsider
		if moved := path.LastTransitionTime.Time.Equal(later); moved != changed {
			t.Errorf("%s: transition at %s", path.Name, path.LastTransitionTime)
		}
		if !path.LastProbeTime.Time.Equal(later) {
			t.Errorf("%s: probed at %s", path.Name, path.LastProbeTime)
		}
	}
	// The same word with another meaning is a transition too.
	open := verdict.Status(verified(), judged(1, at(time.Hour, run(unasked, turnedAway, turnedAway))), later, heartbeat)
	if last := open.Paths[2]; last.Observed != "refused" || last.Outcome != api.OutcomeUnknown || !last.LastTransitionTime.Time.Equal(later) {
		t.Errorf("a refusal that lost its control: %v", last)
	}
}

func TestAbnormalConditionsGoWithTheirCause(t *testing.T) {
	for _, phase := range []verdict.Phase{verdict.Progressing, verdict.Stalled} {
		abnormal := verdict.Status(untouched, standing(phase), firstRun, heartbeat)
		for _, after := range []verdict.Judgement{judged(1, at(0, run(served, turnedAway, turnedAway))), standing(verdict.Troubled), standing(verdict.Suspended)} {
			next := verdict.Status(abnormal, after, firstRun, heartbeat)
			for _, kind := range []string{api.ConditionReconciling, api.ConditionStalled} {
				if meta.FindStatusCondition(next.Conditions, kind) != nil {
					t.Errorf("%s is left after %s turned %s", kind, phase, after.Standing.Phase)
				}
			}
		}
	}
	stalled := verdict.Status(verdict.Status(untouched, standing(verdict.Progressing), firstRun, heartbeat), standing(verdict.Stalled), firstRun, heartbeat)
	if meta.FindStatusCondition(stalled.Conditions, api.ConditionReconciling) != nil || !meta.IsStatusConditionTrue(stalled.Conditions, api.ConditionStalled) {
		t.Errorf("from Progressing to Stalled: %v", stalled.Conditions)
	}
}

// Foreign conditions, such as another controller might add, stay.
func TestOtherConditionsStay(t *testing.T) {
	old := verified()
	meta.SetStatusCondition(&old.Conditions, metav1.Condition{Type: "example.org/Approved", Status: metav1.ConditionTrue, Reason: "Yes"})
	next := verdict.Status(old, standing(verdict.Troubled), firstRun, heartbeat)
	if meta.FindStatusCondition(next.Conditions, "example.org/Approved") == nil {
		t.Error("somebody else's condition is gone")
	}
}

func TestPathsAreShownWhileTheyMeanSomething(t *testing.T) {
	for phase, shown := range map[verdict.Phase]bool{verdict.Suspended: true, verdict.Progressing: false, verdict.Troubled: false, verdict.Stalled: false} {
		next := verdict.Status(verified(), standing(phase), firstRun.Add(time.Hour), heartbeat)
		if got := len(next.Paths) == 3 && next.LastProbeTime != nil; got != shown {
			t.Errorf("%s: paths %v, last probe %v", phase, next.Paths, next.LastProbeTime)
		}
		if !shown && (next.Paths != nil || next.LastProbeTime != nil) {
			t.Errorf("%s: something is left of the paths", phase)
		}
		if meta.IsStatusConditionTrue(next.Conditions, api.ConditionReady) {
			t.Errorf("%s: Ready is True", phase)
		}
	}
}

func TestEvidence(t *testing.T) {
	status := verified()
	sleep, proxy := status.Paths[0], status.Paths[1]
	if sleep.HTTPCode != 200 || sleep.TLSVersion != "TLS 1.3" || sleep.CipherSuite != "TLS_AES_128_GCM_SHA256" ||
		sleep.Peer != "sha256:"+nginxLeaf.SHA256 || sleep.ClientCertificateRequested || sleep.Latency.Duration != 1230*time.Microsecond {
		t.Errorf("sleep: %+v", sleep)
	}
	if proxy.HTTPCode != 0 || proxy.Peer != "spiffe://cluster.local/ns/shop/sa/strict-nginx" || !proxy.ClientCertificateRequested || proxy.Alert != "certificate_required" {
		t.Errorf("istio-proxy: %+v", proxy)
	}
	lost := pathsAfter(run(served, turnedAway, failed(observation.ExecFailed, "broken")))[2].Evidence
	if lost.Latency != nil || lost.Peer != "" || lost.TLSVersion != "" || lost.Observed != "not probed" || lost.Expected != "refused" {
		t.Errorf("a path that could not be asked shows evidence: %+v", lost)
	}
}
