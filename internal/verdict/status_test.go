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

func judged(generation int64, runs ...observation.Run) verdict.Judgement {
	return verdict.Judgement{Generation: generation, Standing: verdict.Standing{Phase: verdict.Judged}, Paths: after(twice(strict), runs...), Policy: inEffect}
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

// Endpoints that show the same, a certificate that has as many days left, and a change that is long told are no news.
func TestASteadyProbeOfAServiceIsWrittenOnceAHeartbeat(t *testing.T) {
	judgement := func(after time.Duration) verdict.Judgement {
		endpoints := all(turnedAway, turnedAway)
		for i := range endpoints {
			endpoints[i].Asked = firstRun.Add(after)
			endpoints[i].Seen.Finished += after
		}
		one := at(after, run(through, beside(turnedAway, endpoints...), turnedAway))
		next := judged(1, one)
		next.Certificate = ownCertificate(server, one, firstRun.Add(after))
		next.Handled = "monday"
		seen := metav1.NewTime(firstRun.Add(-time.Hour))
		next.Change = &api.PolicyChange{Object: "PeerAuthentication shop/default", From: "a", To: "b", SeenTime: &seen, SettledAfter: &metav1.Duration{Duration: time.Second}}
		return next
	}
	old := verdict.Status(untouched, judgement(time.Second), firstRun.Add(time.Second), heartbeat)
	for _, after := range []time.Duration{2 * time.Second, time.Minute, time.Minute + 999*time.Millisecond} {
		if got := verdict.Status(old, judgement(after), firstRun.Add(after), heartbeat); !reflect.DeepEqual(got, old) {
			t.Errorf("%s later it is written: %v", after, got)
		}
	}
	if got := verdict.Status(old, judgement(time.Minute+time.Second), firstRun.Add(time.Minute+time.Second), heartbeat); reflect.DeepEqual(got, old) {
		t.Error("the heartbeat is missing")
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

func with(judgement verdict.Judgement, change func(*verdict.Judgement)) verdict.Judgement {
	change(&judgement)
	return judgement
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
		"in plaintext":        judged(1, at(0, run(sent(served, passedOn, toMutual), turnedAway, turnedAway))),
		"an endpoint more":    judged(1, at(0, run(served, beside(turnedAway, all(turnedAway)...), turnedAway))),
		"settling":            with(judged(1, good), func(j *verdict.Judgement) { j.Settling = true }),
		"a policy changed":    with(judged(1, good), func(j *verdict.Judgement) { j.Change = &api.PolicyChange{Object: "DestinationRule shop/a"} }),
		"a request answered":  with(judged(1, good), func(j *verdict.Judgement) { j.Handled = "monday" }),
		"a certificate seen":  with(judged(1, good), func(j *verdict.Judgement) { j.Certificate = &api.CertificateStatus{SHA256: "aa"} }),
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
	// A first failure changes words, proof the status.
	below := verdict.Status(old, judged(1, at(0, run(served, turnedAway, turnedAway)), at(time.Minute, run(brokenOff, turnedAway, turnedAway))), later, heartbeat)
	for _, condition := range below.Conditions {
		if !condition.LastTransitionTime.Time.Equal(firstRun.Add(time.Second)) {
			t.Errorf("%s transitioned at %s with its status unchanged", condition.Type, condition.LastTransitionTime)
		}
	}
	refuted := verdict.Status(below, judged(2, at(0, run(served, turnedAway, served)), at(time.Minute, run(served, turnedAway, served))), later, heartbeat)
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
	open := verdict.Status(verified(), judged(1, at(time.Hour, run(brokenOff, turnedAway, asking(saw(observation.ClosedAfterCertificateRequest, sidecarLeaf))))), later, heartbeat)
	if last := open.Paths[2]; last.Observed != "closed" || last.Outcome != api.OutcomeUnknown || !last.LastTransitionTime.Time.Equal(later) {
		t.Errorf("a refusal without an alert: %v", last)
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

// While a new policy is on its way, the verdict before stands, and Reconciling says that another is coming.
func TestSettling(t *testing.T) {
	for _, settling := range []bool{true, false} {
		next := judged(1, at(0, run(served, turnedAway, turnedAway)))
		next.Settling = settling
		status := verdict.Status(verified(), next, firstRun, heartbeat)
		reconciling := meta.FindStatusCondition(status.Conditions, api.ConditionReconciling)
		if (reconciling != nil) != settling || settling && (reconciling.Status != metav1.ConditionTrue || reconciling.Reason != api.ReasonProgressing) {
			t.Errorf("settling %v: %v", settling, reconciling)
		}
		if !meta.IsStatusConditionTrue(status.Conditions, api.ConditionReady) || status.Paths == nil {
			t.Errorf("settling %v: the verdict is gone", settling)
		}
		settled := verdict.Status(status, judged(1, at(0, run(served, turnedAway, turnedAway))), firstRun, heartbeat)
		if meta.FindStatusCondition(settled.Conditions, api.ConditionReconciling) != nil {
			t.Errorf("settling %v: Reconciling stays", settling)
		}
	}
	// What is unjudged says for itself what it waits for.
	waiting := standing(verdict.Troubled)
	waiting.Settling = true
	if status := verdict.Status(untouched, waiting, firstRun, heartbeat); meta.FindStatusCondition(status.Conditions, api.ConditionReconciling) != nil {
		t.Error("a troubled probe is Reconciling")
	}
}

// A policy that comes into effect again is no verdict yet: Ready waits for a run that shows it.
func TestReadyDoesNotImproveWhileSettling(t *testing.T) {
	overridden := verdict.Policy{Status: metav1.ConditionFalse, Reason: api.ReasonOverridden, Message: "legacy decides"}
	refuted := verdict.Status(verified(), verdict.Judgement{
		Generation: 1, Standing: verdict.Standing{Phase: verdict.Judged}, Paths: verdict.Kept(verified()), Policy: overridden,
	}, firstRun, heartbeat)
	next := verdict.Judgement{Generation: 1, Standing: verdict.Standing{Phase: verdict.Judged}, Paths: verdict.Kept(refuted), Policy: inEffect, Settling: true}
	waiting := verdict.Status(refuted, next, firstRun.Add(time.Second), heartbeat)
	if ready := meta.FindStatusCondition(waiting.Conditions, api.ConditionReady); ready.Status != metav1.ConditionUnknown || ready.Reason != api.ReasonUndetermined {
		t.Errorf("while it settles Ready is %s (%s: %s)", ready.Status, ready.Reason, ready.Message)
	}
	if !meta.IsStatusConditionTrue(waiting.Conditions, api.ConditionPolicyInEffect) {
		t.Error("what is computed needs no run")
	}
	next.Settling = false
	if !meta.IsStatusConditionTrue(verdict.Status(waiting, next, firstRun.Add(2*time.Second), heartbeat).Conditions, api.ConditionReady) {
		t.Error("Ready stays open after it has settled")
	}
}

func TestKept(t *testing.T) {
	for name, status := range map[string]api.HTTPSMeshProbeStatus{
		"verified": verified(),
		"refuted":  verdict.Status(untouched, judged(1, at(0, run(served, served, served)), at(0, run(served, served, served))), firstRun, heartbeat),
		"open":     verdict.Status(untouched, judged(1, at(0, run(brokenOff, turnedAway, unasked))), firstRun, heartbeat),
	} {
		next := verdict.Judgement{Generation: 1, Standing: verdict.Standing{Phase: verdict.Judged}, Paths: verdict.Kept(status), Policy: inEffect}
		if got := verdict.Status(status, next, firstRun.Add(time.Hour), heartbeat); !reflect.DeepEqual(got, status) {
			t.Errorf("%s: what is kept differs:\n%v\nwant\n%v", name, got, status)
		}
	}
	none := verdict.Status(untouched, standing(verdict.Progressing), firstRun, heartbeat)
	halved := verified()
	halved.Paths = halved.Paths[:2]
	for name, status := range map[string]api.HTTPSMeshProbeStatus{"untouched": untouched, "unjudged": none, "a path is missing": halved} {
		if got := verdict.Kept(status); got != nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A path that is kept stays as it is even where the policy is refuted meanwhile: nothing new was asked.
func TestKeptBesideANewPolicyVerdict(t *testing.T) {
	overridden := verdict.Policy{Status: metav1.ConditionFalse, Reason: api.ReasonOverridden, Message: "legacy decides"}
	next := verdict.Judgement{Generation: 1, Standing: verdict.Standing{Phase: verdict.Judged}, Paths: verdict.Kept(verified()), Policy: overridden, Settling: true}
	got := verdict.Status(verified(), next, firstRun.Add(2*time.Second), heartbeat)
	if !meta.IsStatusConditionFalse(got.Conditions, api.ConditionReady) || !meta.IsStatusConditionTrue(got.Conditions, api.ConditionOutsiderVerified) {
		t.Errorf("%v", got.Conditions)
	}
}

func TestWhatARunDoesNotTellIsKept(t *testing.T) {
	days := int32(10)
	told := judged(1, at(0, run(served, turnedAway, turnedAway)))
	told.Certificate, told.Handled = &api.CertificateStatus{SHA256: "aa", DaysLeft: &days}, "monday"
	told.Change = &api.PolicyChange{Object: "PeerAuthentication shop/default", From: "STRICT", To: "PERMISSIVE", ProbesSent: 3}
	old := verdict.Status(untouched, told, firstRun, heartbeat)
	if old.Certificate == nil || old.LastHandledRequest != "monday" || old.LastPolicyChange == nil || old.LastPolicyChange.ProbesSent != 3 {
		t.Fatalf("not told: %+v", old)
	}
	// The operator has started anew, or the server could not be reached.
	got := verdict.Status(old, judged(1, at(time.Hour, run(brokenOff, turnedAway, turnedAway))), firstRun.Add(time.Hour), heartbeat)
	if !reflect.DeepEqual(got.Certificate, old.Certificate) || got.LastHandledRequest != "monday" || !reflect.DeepEqual(got.LastPolicyChange, old.LastPolicyChange) {
		t.Errorf("lost: %v %q %v", got.Certificate, got.LastHandledRequest, got.LastPolicyChange)
	}
	told.Handled = "tuesday"
	if got := verdict.Status(old, told, firstRun, heartbeat); got.LastHandledRequest != "tuesday" {
		t.Errorf("handled %q", got.LastHandledRequest)
	}
}

// A probe that is not judged shows no certificate of a server that may be gone, and still what changed and was handled.
func TestWhatAnUnjudgedStatusShows(t *testing.T) {
	told := judged(1, at(0, run(served, turnedAway, turnedAway)))
	told.Certificate, told.Handled, told.Change = &api.CertificateStatus{SHA256: "aa"}, "monday", &api.PolicyChange{Object: "DestinationRule shop/a"}
	old := verdict.Status(untouched, told, firstRun, heartbeat)
	for phase, shown := range map[verdict.Phase]bool{verdict.Suspended: true, verdict.Progressing: false, verdict.Troubled: false, verdict.Stalled: false} {
		next := standing(phase)
		next.Certificate, next.Handled = &api.CertificateStatus{SHA256: "bb"}, "tuesday"
		got := verdict.Status(old, next, firstRun.Add(time.Hour), heartbeat)
		if (got.Certificate != nil) != shown || shown && got.Certificate.SHA256 != "aa" {
			t.Errorf("%s: certificate %v", phase, got.Certificate)
		}
		if got.LastHandledRequest != "monday" || got.LastPolicyChange == nil {
			t.Errorf("%s: %q %v", phase, got.LastHandledRequest, got.LastPolicyChange)
		}
	}
}
