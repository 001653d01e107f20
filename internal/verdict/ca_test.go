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

const shopName = "shop.example.org"

// knownBy is shop's server, known by something else than a fingerprint.
func knownBy(change func(*verdict.Server)) verdict.Server {
	known := verdict.Server{Name: shopName, Namespace: "shop", ServiceAccounts: []string{"strict-nginx"}}
	change(&known)
	return known
}

// judgeServer returns the verdict on one path after one run, of a server that is known in its own way.
func judgeServer(known verdict.Server, expectations expectation.Expectations, name api.PathName, one observation.Run) verdict.Path {
	c := criteria(expectations)
	c.Server = known
	return verdictOn(name, after(c, one))
}

// answeredAt is an answer with a certificate, seen at the time of the probe.
func answeredAt(seen time.Time, leaf *observation.Certificate) observation.Result {
	result := answered(200, leaf)
	result.Seen.Started = seen
	return result
}

func TestTheCAVouchesForTheServersCertificate(t *testing.T) {
	root := newAuthority(t, nil)
	intermediate, stranger := newAuthority(t, root), newAuthority(t, nil)
	tomorrow, lastHour := probedAt.Add(24*time.Hour), probedAt.Add(-30*time.Minute)
	good := root.issueFor(t, shopName, tomorrow)
	byRoot := knownBy(func(s *verdict.Server) { s.CA = root.pool() })
	withoutChain := presented(good)
	withoutChain.Chain = nil
	garbled := presented(good)
	garbled.Chain = [][]byte{[]byte("no certificate")}
	followedByGarbage := presented(good)
	followedByGarbage.Chain = append(followedByGarbage.Chain, []byte("no certificate"))
	for name, c := range map[string]struct {
		leaf *observation.Certificate
		want bool
	}{
		"signed by it":               {presented(good), true},
		"by an intermediate":         {presented(intermediate.issueFor(t, shopName, tomorrow), intermediate.certificate), true},
		"with its root behind it":    {presented(good, root.certificate), true},
		"the intermediate not sent":  {presented(intermediate.issueFor(t, shopName, tomorrow)), false},
		"by a stranger":              {presented(stranger.issueFor(t, shopName, tomorrow)), false},
		"the stranger sends itself":  {presented(stranger.issueFor(t, shopName, tomorrow), stranger.certificate), false},
		"the root sent, not used":    {presented(stranger.issueFor(t, shopName, tomorrow), root.certificate), false},
		"for another name":           {presented(root.issueFor(t, "other.example.org", tomorrow)), false},
		"for a name below":           {presented(root.issueFor(t, "a."+shopName, tomorrow)), false},
		"for a wildcard that covers": {presented(root.issueFor(t, "*.example.org", tomorrow)), true},
		"ended before the probe":     {presented(root.issueFor(t, shopName, lastHour)), false},
		"of a workload, same root":   {presented(root.issue(t, tomorrow)), false},
		"chain not reported":         {withoutChain, false},
		"chain garbled":              {garbled, false},
		"garbage behind it":          {followedByGarbage, false},
		"no certificate":             {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			result := answeredAt(probedAt, c.leaf)
			want := differs(api.ReasonUnexpectedCertificate)
			if c.want {
				want = matches(api.ReasonAnswered)
			}
			wantMeaning(t, "answer", judgeServer(byRoot, permissive, api.PathSleep, run(result, result, result)), want, "200")
			// Whoever shows it shows that the server is up, where silence is expected.
			want = open(api.ReasonNoPositiveControl)
			if c.want {
				want = asDeclared
			}
			wantMeaning(t, "control", judgeServer(byRoot, permissiveSimple, api.PathSleep, run(brokenOff, result, result)), want, "reset")
		})
	}
}

// What counts is the time at which the certificate was seen, by the clock of the node that saw it.
func TestTheCertificateIsHeldAgainstTheTimeItWasSeen(t *testing.T) {
	root := newAuthority(t, nil)
	byRoot := knownBy(func(s *verdict.Server) { s.CA = root.pool() })
	ends := probedAt.Add(time.Hour)
	leaf := presented(root.issueFor(t, shopName, ends))
	for seen, want := range map[time.Time]bool{
		probedAt: true, ends: true, ends.Add(time.Second): false, probedAt.Add(-2 * time.Hour): false,
	} {
		result := answeredAt(seen, leaf)
		got := judgeServer(byRoot, permissive, api.PathSleep, run(result, result, result))
		if (got.Status == metav1.ConditionTrue) != want {
			t.Errorf("seen at %s: %s %s", seen, got.Status, got.Message)
		}
	}
}

func TestTheMessageSaysWhatTheCADidNotVouchFor(t *testing.T) {
	byRoot := knownBy(func(s *verdict.Server) { s.CA = newAuthority(t, nil).pool() })
	result := answeredAt(probedAt, foreignLeaf)
	got := judgeServer(byRoot, permissive, api.PathSleep, run(result, result, result))
	for _, part := range []string{"sha256:" + foreignLeaf.SHA256, "target.ca does not vouch", shopName} {
		if !strings.Contains(got.Message, part) {
			t.Errorf("message %q lacks %q", got.Message, part)
		}
	}
	// The operator's own server is known by its certificate, whatever the CA is.
	both := server
	both.CA, both.Name = byRoot.CA, shopName
	wantMeaning(t, "own", judgeServer(both, permissive, api.PathSleep, run(served, served, served)), matches(api.ReasonAnswered), "200")
	result = answeredAt(probedAt, foreignLeaf)
	got = judgeServer(both, permissive, api.PathSleep, run(result, result, result))
	if strings.Contains(got.Message, "target.ca") || got.Status != metav1.ConditionFalse {
		t.Errorf("%s: %q", got.Status, got.Message)
	}
}

// Without CA and fingerprint any certificate may be the server's own, as with curl -k, and nobody claims to know whose.
func TestWithoutCAAnyCertificateMayAnswer(t *testing.T) {
	byAnything := knownBy(func(*verdict.Server) {})
	for name, leaf := range map[string]*observation.Certificate{"any": foreignLeaf, "a workload's": neighbourLeaf, "as its sidecar's": sidecarLeaf} {
		result := answered(200, leaf)
		got := judgeServer(byAnything, permissive, api.PathOutsider, run(result, result, result))
		wantMeaning(t, name, got, matches(api.ReasonAnswered), "200")
		for _, claim := range got.Evidence.Claims {
			if claim.Question == api.QuestionWho || strings.Contains(claim.Evidence, "own certificate") {
				t.Errorf("%s: nobody knows who answered: %+v", name, claim)
			}
		}
	}
	// A server that itself asks for a client certificate was reached: the mesh has not refused.
	asksItself := refused(foreignLeaf)
	got := judgeServer(byAnything, strict, api.PathOutsider, run(served, turnedAway, asksItself))
	wantMeaning(t, "the server itself refuses", got, differs(api.ReasonMTLSNotEnforced), "refused")
	got = judgeServer(byAnything, permissive, api.PathOutsider, run(served, served, asksItself))
	wantMeaning(t, "the server itself refuses, an answer is expected", got, differs(api.ReasonApplicationRefused), "refused")
}

// Pods behind one Service may run under several service accounts.
func TestTheSidecarMayHaveAnyOfTheServiceAccounts(t *testing.T) {
	two := server
	two.ServiceAccounts = []string{"strict-nginx", "legacy-nginx"}
	for name, c := range map[string]struct {
		known verdict.Server
		leaf  *observation.Certificate
		want  meaning
	}{
		"the first":    {two, sidecarLeaf, matches(api.ReasonRefusedByMesh)},
		"the second":   {two, neighbourLeaf, matches(api.ReasonRefusedByMesh)},
		"a third":      {two, certificate("f", "spiffe://cluster.local/ns/shop/sa/other"), differs(api.ReasonUnexpectedCertificate)},
		"none known":   {knownBy(func(s *verdict.Server) { s.ServiceAccounts = nil }), sidecarLeaf, differs(api.ReasonUnexpectedCertificate)},
		"nobody's":     {knownBy(func(s *verdict.Server) { s.ServiceAccounts = nil }), certificate("f", "spiffe://cluster.local/ns/shop/sa/"), differs(api.ReasonUnexpectedCertificate)},
		"elsewhere's":  {two, certificate("f", "spiffe://cluster.local/ns/other/sa/legacy-nginx"), differs(api.ReasonUnexpectedCertificate)},
		"both as path": {two, certificate("f", "spiffe://cluster.local/ns/shop/sa/strict-nginx/legacy-nginx"), differs(api.ReasonUnexpectedCertificate)},
	} {
		got := judgeServer(c.known, strict, api.PathOutsider, run(served, turnedAway, refused(c.leaf)))
		wantMeaning(t, name, got, c.want, "refused")
	}
}

func ownCertificate(known verdict.Server, one observation.Run, now time.Time) *api.CertificateStatus {
	return verdict.Criteria{Server: known, Service: service}.OwnCertificate(one, now)
}

func TestOwnCertificate(t *testing.T) {
	now := firstRun
	ending := func(digit string, notAfter time.Time, uris ...string) observation.Result {
		leaf := certificate(digit, uris...)
		leaf.NotAfter = notAfter
		return answered(200, leaf)
	}
	for name, c := range map[string]struct {
		run  observation.Run
		days int32
	}{
		"ends in a year":               {run(ending("a", now.Add(365*24*time.Hour)), unasked, unasked), 365},
		"ends in a day":                {run(ending("a", now.Add(24*time.Hour)), unasked, unasked), 1},
		"ends in less than a day":      {run(ending("a", now.Add(23*time.Hour)), unasked, unasked), 0},
		"ends now":                     {run(ending("a", now), unasked, unasked), 0},
		"has just ended":               {run(ending("a", now.Add(-time.Second)), unasked, unasked), -1},
		"ended two days ago":           {run(ending("a", now.Add(-48*time.Hour)), unasked, unasked), -2},
		"another path came so far":     {run(brokenOff, turnedAway, ending("a", now.Add(10*24*time.Hour))), 10},
		"seen although it broke later": {run(saw(observation.ResponseTimeout, nginxLeaf), unasked, unasked), 1},
	} {
		got := ownCertificate(server, c.run, now)
		if got == nil || got.SHA256 != nginxLeaf.SHA256 || got.DaysLeft == nil || *got.DaysLeft != c.days || got.NotAfter == nil {
			t.Errorf("%s: %+v, want %d days left", name, got, c.days)
		}
	}
	unanswered := failed(observation.AgentSilent, "silent")
	unanswered.Seen = served.Seen
	for name, one := range map[string]observation.Run{
		"nothing was asked":        run(unasked, unasked, unasked),
		"the sidecar's alone":      run(turnedAway, turnedAway, answered(200, sidecarLeaf)),
		"a stranger's":             run(answered(200, foreignLeaf), unasked, unasked),
		"of a request that failed": run(unanswered, unasked, unasked),
	} {
		if got := ownCertificate(server, one, now); got != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// Both certificates of a rotation are the server's; the path sleep tells first.
	rotating := server
	rotating.Fingerprints = append([]string{previousLeaf.SHA256}, server.Fingerprints...)
	if got := ownCertificate(rotating, run(served, answered(200, previousLeaf), unasked), now); got.SHA256 != nginxLeaf.SHA256 {
		t.Errorf("of two: %s", got.SHA256)
	}
	// Where nothing is known of it beforehand, what the client's Envoy led elsewhere did not see it.
	elsewhere := sent(answered(200, foreignLeaf), &observation.Sent{Cluster: "outbound|443||other.shop.svc.cluster.local"}, nil)
	if got := ownCertificate(knownBy(func(*verdict.Server) {}), run(elsewhere, unasked, unasked), now); got != nil {
		t.Errorf("led elsewhere: %+v", got)
	}
}
