package verdict_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// A refusal alone proves nothing: Envoy refuses just as well while the server behind it is down.
func TestARefusalCountsOnlyBesideAPositiveControl(t *testing.T) {
	controls := map[string]observation.Result{
		"no request was sent":      unasked,
		"exec failed":              failed(observation.ExecFailed, "stream broke"),
		"exec forbidden":           failed(observation.ExecForbidden, "forbidden"),
		"agent silent":             failed(observation.AgentSilent, "silent"),
		"no client pod":            failed(observation.NoVantage, "no pod"),
		"name not resolved":        saw(observation.NameNotResolved, nil),
		"server down":              saw(observation.HandshakeClosed, nil),
		"refused too":              refused(sidecarLeaf),
		"answered by a foreigner":  answered(200, foreignLeaf),
		"answered by the sidecar":  answered(200, sidecarLeaf),
		"answered 503":             answered(503, nginxLeaf),
		"handshake and no more":    saw(observation.ResponseTimeout, nginxLeaf),
		"a class nobody knows yet": saw("SomethingNew", nginxLeaf),
	}
	for name, control := range controls {
		t.Run(name, func(t *testing.T) {
			for _, path := range []api.PathName{api.PathIstioProxy, api.PathOutsider} {
				// The run before had a control; it must not lend it to this one.
				got := judge(strict, path, run(served, turnedAway, turnedAway), run(control, turnedAway, turnedAway))
				if got.Status != metav1.ConditionUnknown || got.Reason != api.ReasonNoPositiveControl || got.Evidence.Outcome != api.OutcomeUnknown {
					t.Errorf("%s: %s %s, want Unknown %s", path, got.Status, got.Reason, api.ReasonNoPositiveControl)
				}
				if got.Evidence.Observed != "refused" {
					t.Errorf("%s: observed %q, though a refusal was seen", path, got.Evidence.Observed)
				}
			}
		})
	}
}

// A missing control excuses nothing: a request that got through is a finding of its own.
func TestAMismatchNeedsNoPositiveControl(t *testing.T) {
	got := judge(strict, api.PathIstioProxy, run(unasked, served, turnedAway))
	if got.Status != metav1.ConditionFalse || got.Reason != api.ReasonMTLSNotEnforced {
		t.Errorf("%s %s, want False %s", got.Status, got.Reason, api.ReasonMTLSNotEnforced)
	}
}

func TestOnlyTheServersOwnSidecarMayRefuse(t *testing.T) {
	byItself, byAnother := meaning{api.OutcomeMatch, api.ReasonRefusedByMesh}, meaning{api.OutcomeMismatch, api.ReasonUnexpectedCertificate}
	peers := map[string]struct {
		leaf *observation.Certificate
		want meaning
	}{
		"its sidecar":               {sidecarLeaf, byItself},
		"another trust domain":      {certificate("f", "spiffe://old.example.org/ns/shop/sa/strict-nginx"), byItself},
		"another URI before it":     {certificate("f", "https://example.org", "spiffe://cluster.local/ns/shop/sa/strict-nginx"), byItself},
		"another service account":   {neighbourLeaf, byAnother},
		"another namespace":         {certificate("f", "spiffe://cluster.local/ns/other/sa/strict-nginx"), byAnother},
		"names swapped":             {certificate("f", "spiffe://cluster.local/ns/strict-nginx/sa/shop"), byAnother},
		"longer service account":    {certificate("f", "spiffe://cluster.local/ns/shop/sa/strict-nginx-2"), byAnother},
		"a path below it":           {certificate("f", "spiffe://cluster.local/ns/shop/sa/strict-nginx/x"), byAnother},
		"a path above it":           {certificate("f", "spiffe://cluster.local/x/ns/shop/sa/strict-nginx"), byAnother},
		"a query behind it":         {certificate("f", "spiffe://cluster.local/ns/shop/sa/strict-nginx?x"), byAnother},
		"no trust domain, no slash": {certificate("f", "spiffe://ns/shop/sa/strict-nginx"), byAnother},
		"scheme alone":              {certificate("f", "spiffe://"), byAnother},
		"another scheme":            {certificate("f", "https://cluster.local/ns/shop/sa/strict-nginx"), byAnother},
		"no URI":                    {foreignLeaf, byAnother},
		"no certificate":            {nil, byAnother},
	}
	for name, peer := range peers {
		t.Run(name, func(t *testing.T) {
			got := judge(strict, api.PathOutsider, run(served, turnedAway, refused(peer.leaf)))
			wantMeaning(t, name, got, peer.want, "refused")
		})
	}
}

func TestOnlyTheServersOwnCertificateMayAnswer(t *testing.T) {
	for name, leaf := range map[string]*observation.Certificate{
		"foreign": foreignLeaf, "neighbour": neighbourLeaf, "sidecar": sidecarLeaf, "none": nil,
		// The previous certificate counts only while it is announced.
		"previous, retired": previousLeaf,
	} {
		got := judge(permissive, api.PathOutsider, run(served, served, answered(200, leaf)))
		wantMeaning(t, name, got, meaning{api.OutcomeMismatch, api.ReasonUnexpectedCertificate}, "200")
	}
	// A certificate without a fingerprint is nobody's.
	in := verdict.Input{
		Expectations: permissive, Server: server, FailureThreshold: 1,
		Runs: []observation.Run{run(answered(200, nil), answered(200, &observation.Certificate{}), answered(200, &observation.Certificate{}))},
	}
	for _, path := range verdict.Paths(in) {
		if path.Reason != api.ReasonUnexpectedCertificate {
			t.Errorf("a certificate without fingerprint: %s is %s %s", path.Evidence.Name, path.Status, path.Reason)
		}
	}
}

// While a certificate is replaced, old pods still answer with the one before.
func TestDuringARotationBothCertificatesAreTheServers(t *testing.T) {
	rotating := server
	rotating.Fingerprints = []string{nginxLeaf.SHA256, previousLeaf.SHA256}
	before := answered(200, previousLeaf)
	in := verdict.Input{Expectations: permissive, Server: rotating, FailureThreshold: 1, Runs: []observation.Run{run(before, served, before)}}
	for _, path := range verdict.Paths(in) {
		wantMeaning(t, "answer", path, meaning{api.OutcomeMatch, api.ReasonAnswered}, "200")
	}
	in = verdict.Input{Expectations: strict, Server: rotating, FailureThreshold: 1, Runs: []observation.Run{run(served, before, turnedAway)}}
	got := verdictOn(api.PathIstioProxy, verdict.Paths(in))
	wantMeaning(t, "expected refusal", got, meaning{api.OutcomeMismatch, api.ReasonMTLSNotEnforced}, "200")
}

// A sidecar that answers itself demanded no certificate: that it is the right sidecar makes it no better.
func TestAnAnswerOnAnExpectedRefusalIsAMismatch(t *testing.T) {
	got := judge(strict, api.PathOutsider, run(served, turnedAway, answered(200, sidecarLeaf)))
	wantMeaning(t, "by the sidecar", got, meaning{api.OutcomeMismatch, api.ReasonMTLSNotEnforced}, "200")
	if strings.Contains(got.Message, "not the server's sidecar") {
		t.Errorf("the message denies what was seen: %s", got.Message)
	}
	got = judge(strict, api.PathOutsider, run(served, turnedAway, answered(404, foreignLeaf)))
	wantMeaning(t, "by a foreigner", got, meaning{api.OutcomeMismatch, api.ReasonUnexpectedCertificate}, "404")
}

func TestAnotherStatusCodeIsAMismatch(t *testing.T) {
	for code, word := range map[int]string{201: "201", 301: "301", 403: "403", 503: "503", 0: "0"} {
		got := judge(permissive, api.PathSleep, run(answered(code, nginxLeaf), served, served))
		wantMeaning(t, word, got, meaning{api.OutcomeMismatch, api.ReasonUnexpectedStatusCode}, word)
	}
}
