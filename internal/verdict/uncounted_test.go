package verdict_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// Envoy sets its counters back when it takes a new policy: the first requests after that go uncounted, and do not show
// that plaintext has come, or gone.
func TestARunThatWasNotCountedDoesNotShowThePolicy(t *testing.T) {
	disabled := promised(api.MTLSDisable, api.ClientTLSUnset)
	for name, expectations := range map[string]expectation.Expectations{"plaintext": disabled, "mutual TLS": permissive} {
		demanding := computedFor(expectations)
		demanding.Counted = true
		counted := map[string]bool{"plaintext": verdict.AsComputed(demanding, server, run(counting(served, passedOn), served, served)),
			"mutual TLS": verdict.AsComputed(demanding, server, run(counting(served, wrapped), served, served))}
		if !counted[name] || counted["plaintext"] == counted["mutual TLS"] {
			t.Errorf("%s: counted %v", name, counted)
		}
		for why, nothing := range uncounted {
			// An agent that cannot count never will.
			if got := verdict.AsComputed(demanding, server, run(counting(served, nothing), served, served)); got != (nothing == nil) {
				t.Errorf("%s: %v of a run whose request was not counted (%s)", name, got, why)
			}
		}
	}
	// What is not to be answered has nothing to count.
	refusal := computedFor(promised(api.MTLSStrict, api.ClientTLSDisable))
	refusal.Counted = true
	if !verdict.AsComputed(refusal, server, run(turnedAway, turnedAway, turnedAway)) {
		t.Error("a refusal does not show the policy that promises it")
	}
}

// A path that was found in plaintext is not well again before a run has counted that it is.
func TestPlaintextIsNotForgottenByRunsThatWereNotCounted(t *testing.T) {
	plain := run(counting(served, passedOn), served, served)
	for why, nothing := range uncounted {
		silent := run(counting(served, nothing), served, served)
		got := judge(permissive, api.PathSleep, plain, silent, silent)
		wantMeaning(t, why, got, meaning{api.OutcomeMismatch, api.ReasonPlaintextInMesh}, "200")
		if got.Evidence.Encryption != api.EncryptionPlaintext {
			t.Errorf("%s: the evidence is not that of the run that was counted: %+v", why, got.Evidence)
		}
		if got = judge(permissive, api.PathSleep, plain, silent, run(counting(served, wrapped), served, served)); got.Status != metav1.ConditionTrue {
			t.Errorf("%s: %s after a run that was counted in mutual TLS: %s", why, got.Status, got.Message)
		}
		// What says something else than plaintext is heard.
		got = judge(permissive, api.PathSleep, plain, run(brokenOff, served, served), silent)
		if got.Status != metav1.ConditionTrue {
			t.Errorf("%s: %s after another finding: %s", why, got.Status, got.Message)
		}
	}
}

// What the status shows of the path then is the run that was counted, with the time of that run.
func TestPlaintextThatIsNotForgottenShowsWhenItWasSeen(t *testing.T) {
	plain := at(0, run(counting(served, passedOn), served, served))
	got := judge(permissive, api.PathSleep, plain, at(time.Minute, run(served, served, served)))
	if !got.Evidence.LastProbeTime.Time.Equal(plain.Started) {
		t.Errorf("seen at %s, want %s", got.Evidence.LastProbeTime, plain.Started)
	}
	around := judge(permissive, api.PathOutsider, plain, at(time.Minute, run(served, served, served)))
	if !around.Evidence.LastProbeTime.Time.Equal(plain.Started.Add(time.Minute)) {
		t.Errorf("the other paths were seen at %s", around.Evidence.LastProbeTime)
	}
}

// The Service's address leads to any endpoint. Whichever it was, the one that lets requests in is named.
func TestTheBadEndpointIsNamedWhereverTheAddressLed(t *testing.T) {
	for name, met := range map[string]observation.Result{"to the bad one": served, "to the good one": turnedAway} {
		got := judge(strict, api.PathIstioProxy, run(served, beside(met, all(turnedAway, served)...), turnedAway))
		wantMeaning(t, name, got, meaning{api.OutcomeMismatch, api.ReasonMTLSNotEnforced}, "200")
		if !strings.HasPrefix(got.Message, "shop-1 (1 of 2 endpoints): ") {
			t.Errorf("%s: %s", name, got.Message)
		}
	}
	// A finding of its own is not laid at an endpoint's door.
	got := judge(strict, api.PathIstioProxy, run(served, beside(refused(neighbourLeaf), all(turnedAway, served)...), turnedAway))
	if got.Reason != api.ReasonUnexpectedCertificate || strings.Contains(got.Message, "shop-1") {
		t.Errorf("%s: %s", got.Reason, got.Message)
	}
}
