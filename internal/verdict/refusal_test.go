package verdict_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// The server's sidecar is alive where it refuses: whatever the others see, mutual TLS is enforced.
func TestARefusalNeedsNoPositiveControl(t *testing.T) {
	for name, sleep := range map[string]observation.Result{
		"no request was sent": unasked, "exec failed": failed(observation.ExecFailed, "stream broke"), "server down": saw(observation.HandshakeClosed, nil),
		"refused too": refused(sidecarLeaf), "answered 503": answered(503, nginxLeaf), "hanging": saw(observation.ResponseTimeout, nginxLeaf),
		"led elsewhere": sent(answered(200, foreignLeaf), &observation.Sent{Cluster: "outbound|443||other.shop.svc.cluster.local"}, toMutual),
	} {
		paths := after(criteria(strict), run(sleep, turnedAway, turnedAway))
		for _, path := range []api.PathName{api.PathIstioProxy, api.PathOutsider} {
			wantMeaning(t, name, verdictOn(path, paths), matches(api.ReasonRefusedByMesh), "refused")
		}
		if paths[0].Status == metav1.ConditionTrue {
			t.Errorf("%s: sleep is True: %s", name, paths[0].Message)
		}
	}
}

// An application that demands certificates itself is where it should be only if the spec says so.
func TestTheApplicationsOwnRefusal(t *testing.T) {
	itself := refused(nginxLeaf)
	wantMeaning(t, "STRICT", judge(strict, api.PathOutsider, run(served, turnedAway, itself)), differs(api.ReasonMTLSNotEnforced), "refused")
	got := judge(permissive, api.PathOutsider, run(served, served, itself))
	wantMeaning(t, "an answer is expected", got, differs(api.ReasonApplicationRefused), "refused")
	for _, part := range []string{"the application", "spec.expect: refused"} {
		if !strings.Contains(got.Message, part) {
			t.Errorf("message %q lacks %q", got.Message, part)
		}
	}
	expected := promised(api.MTLSPermissive, api.ClientTLSUnset)
	expected.Override([]api.PathExpectation{{Path: api.PathOutsider, See: intstr.Parse("refused"), Reason: "it knows its clients"}})
	wantMeaning(t, "expected", judge(expected, api.PathOutsider, run(served, served, itself)), matches(api.ReasonRefusedByMesh), "refused")
	wantMeaning(t, "by the sidecar", judge(expected, api.PathOutsider, run(served, served, turnedAway)), matches(api.ReasonRefusedByMesh), "refused")
	wantMeaning(t, "by a stranger", judge(expected, api.PathOutsider, run(served, served, refused(foreignLeaf))), differs(api.ReasonUnexpectedCertificate), "refused")
	wantMeaning(t, "let in", judge(expected, api.PathOutsider, run(served, served, served)), differs(api.ReasonMTLSNotEnforced), "200")
}

// An AuthorizationPolicy ends connections before anybody shows a certificate, as a server does that is down.
func TestDenied(t *testing.T) {
	const policy = "AuthorizationPolicy shop/only-friends"
	expected := promised(api.MTLSStrict, api.ClientTLSUnset)
	expected.Override([]api.PathExpectation{{Path: api.PathSleep, See: intstr.Parse("denied"), Reason: "only friends"}})
	closed := saw(observation.HandshakeClosed, nil)
	for name, c := range map[string]struct {
		expected expectation.Expectations
		policy   string
		sleep    observation.Result
		want     meaning
		word     string
	}{
		"expected":                 {expected, policy, closed, matches(api.ReasonDeniedAsDeclared), "closed"},
		"expected, none is known":  {expected, "", closed, inconclusive, "closed"},
		"expected, but a time-out": {expected, policy, saw(observation.HandshakeTimeout, nil), inconclusive, "timeout"},
		"expected, but let in":     {expected, policy, served, unexpected, "200"},
		"expected, not probed":     {expected, policy, saw(observation.NameNotResolved, nil), notProbed, "not probed"},
		"not expected":             {strict, policy, closed, differs(api.ReasonAuthorizationDenied), "closed"},
		"not expected, none known": {strict, "", closed, broken, "closed"},
	} {
		criteria := criteria(c.expected)
		criteria.Denials = map[api.PathName]string{api.PathSleep: c.policy}
		got := verdictOn(api.PathSleep, after(criteria, run(c.sleep, turnedAway, turnedAway)))
		wantMeaning(t, name, got, c.want, c.word)
		if named := strings.Contains(got.Message, policy); named != (c.policy != "" && c.word == "closed") {
			t.Errorf("%s: %s", name, got.Message)
		}
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
	byItself, byAnother := matches(api.ReasonRefusedByMesh), differs(api.ReasonUnexpectedCertificate)
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
		wantMeaning(t, name, got, differs(api.ReasonUnexpectedCertificate), "200")
	}
	// A certificate without a fingerprint is nobody's.
	nobodys := answered(200, &observation.Certificate{})
	for _, path := range after(criteria(permissive), run(answered(200, nil), nobodys, nobodys)) {
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
	c := criteria(permissive)
	c.Server = rotating
	for _, path := range after(c, run(before, served, before)) {
		wantMeaning(t, "answer", path, matches(api.ReasonAnswered), "200")
	}
	c.Declared = strict
	got := verdictOn(api.PathIstioProxy, after(c, run(served, before, turnedAway)))
	wantMeaning(t, "expected refusal", got, differs(api.ReasonMTLSNotEnforced), "200")
}

// A sidecar that answers itself demanded no certificate: that it is the right sidecar makes it no better.
func TestAnAnswerOnAnExpectedRefusalIsAMismatch(t *testing.T) {
	got := judge(strict, api.PathOutsider, run(served, turnedAway, answered(200, sidecarLeaf)))
	wantMeaning(t, "by the sidecar", got, differs(api.ReasonMTLSNotEnforced), "200")
	if strings.Contains(got.Message, "not the server's sidecar") {
		t.Errorf("the message denies what was seen: %s", got.Message)
	}
	got = judge(strict, api.PathOutsider, run(served, turnedAway, answered(404, foreignLeaf)))
	wantMeaning(t, "by a foreigner", got, differs(api.ReasonMTLSNotEnforced), "404")
}

func TestAnotherStatusCodeIsAMismatch(t *testing.T) {
	for code, word := range map[int]string{201: "201", 301: "301", 403: "403", 503: "503"} {
		got := judge(permissive, api.PathSleep, run(answered(code, nginxLeaf), served, served))
		wantMeaning(t, word, got, differs(api.ReasonUnexpectedStatusCode), word)
	}
}
