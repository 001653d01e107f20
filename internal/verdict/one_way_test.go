package verdict_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// identity is a way to know the expected server, with everybody who may show up in a handshake.
type identity struct {
	server verdict.Server
	leaves map[string]*observation.Certificate
	// owned are the leaves that are the server's own.
	owned []string
}

func identities(t *testing.T) map[string]identity {
	leaves := map[string]*observation.Certificate{
		"none": nil, "nginx": nginxLeaf, "previous": previousLeaf, "foreign": foreignLeaf, "sidecar": sidecarLeaf, "neighbour": neighbourLeaf,
	}
	byAnything := server
	byAnything.Fingerprints = nil
	byCA := byAnything
	ca, another := newAuthority(t, nil), newAuthority(t, nil)
	byCA.CA, byCA.Name = ca.pool(), "shop.example.org"
	tomorrow := probedAt.Add(24 * time.Hour)
	return map[string]identity{
		"by fingerprint": {server, leaves, []string{"nginx"}},
		"by nothing":     {byAnything, leaves, []string{"nginx", "previous", "foreign"}},
		"by CA": {byCA, map[string]*observation.Certificate{
			"none": nil, "nginx": presented(ca.issueFor(t, byCA.Name, tomorrow)), "sidecar": sidecarLeaf, "neighbour": neighbourLeaf,
			"another name": presented(ca.issueFor(t, "other.example.org", tomorrow)),
			"another CA":   presented(another.issueFor(t, byCA.Name, tomorrow)),
			"ended":        presented(ca.issueFor(t, byCA.Name, probedAt.Add(-time.Minute))),
			"no chain":     foreignLeaf,
		}, []string{"nginx"}},
	}
}

// eachObservation calls visit with every combination of what an agent may report. A status code proves nothing unless the
// class says that it was answered, so one is always there.
func eachObservation(leaves map[string]*observation.Certificate, visit func(whose string, seen observation.Observation)) {
	for _, class := range append(observation.Classes(), "", "SomethingNew") {
		for whose, leaf := range leaves {
			seen := observation.Observation{Class: class, Started: probedAt, Leaf: leaf, HTTPCode: 200, Alert: "certificate_required"}
			visit(whose, seen)
			for _, code := range []int{0, 503} {
				if seen.HTTPCode = code; class == observation.Answered {
					visit(whose, seen)
				}
			}
			// Beside a stranger's certificate nothing else matters.
			if !slices.Contains([]string{"none", "nginx", "sidecar"}, whose) {
				continue
			}
			seen.HTTPCode = 200
			for _, seen.Counted = range []*observation.Counted{nil, wrapped, passedOn} {
				for _, seen.CertificateRequested = range []bool{false, true} {
					visit(whose, seen)
				}
			}
		}
	}
}

// Whatever combination comes in, there is one way to pass for each expectation.
func TestThereIsOneWayToPass(t *testing.T) {
	for name, who := range identities(t) {
		t.Run(name, func(t *testing.T) {
			// The positive control of the other paths.
			control := observation.Result{Seen: observation.Observation{Class: observation.Answered, Started: probedAt, HTTPCode: 200, Leaf: who.leaves["nginx"]}}
			eachObservation(who.leaves, func(whose string, seen observation.Observation) {
				result := observation.Result{Seen: seen}
				own := slices.Contains(who.owned, whose)
				byOwn := seen.Class == observation.Answered && own && seen.HTTPCode == 200
				plain := seen.Counted == passedOn
				bySidecar := seen.Class == observation.ClientCertificateRequired && whose == "sidecar"
				broken := whose == "none" && !seen.CertificateRequested && (seen.Class == observation.HandshakeClosed ||
					seen.Class == observation.HandshakeReset || seen.Class == observation.NotTLS && seen.Counted == wrapped)
				for _, c := range []struct {
					expectations expectation.Expectations
					path         api.PathName
					run          observation.Run
					pass         bool
				}{
					{permissive, api.PathOutsider, run(control, control, result), byOwn},
					{permissive, api.PathSleep, run(result, control, control), byOwn && !plain},
					{strict, api.PathSleep, run(result, control, control), byOwn && !plain},
					{strict, api.PathIstioProxy, run(control, result, control), bySidecar},
					{strict, api.PathOutsider, run(control, control, result), bySidecar},
					{strictPlain, api.PathSleep, run(result, control, control), bySidecar},
					{permissiveSimple, api.PathSleep, run(result, control, control), broken},
				} {
					in := verdict.Input{Expectations: c.expectations, Server: who.server, Runs: []observation.Run{c.run}, FailureThreshold: 1}
					got := verdictOn(c.path, verdict.Paths(in))
					about := fmt.Sprintf("%s of %s, code %d, counted %v, asked for a certificate %v; %s expected on %s", seen.Class, whose, seen.HTTPCode, seen.Counted, seen.CertificateRequested, c.expectations[c.path], c.path)
					wantPass(t, about, got, c.pass)
				}
			})
		})
	}
}

func wantPass(t *testing.T, about string, got verdict.Path, pass bool) {
	t.Helper()
	if (got.Status == metav1.ConditionTrue) != pass || (got.Evidence.Outcome == api.OutcomeMatch) != pass {
		t.Errorf("%s: %s %s %s", about, got.Status, got.Evidence.Outcome, got.Reason)
	}
	if got.Reason == "" || got.Message == "" || got.Evidence.Observed == "" {
		t.Errorf("%s: reason %q, message %q, observed %q", about, got.Reason, got.Message, got.Evidence.Observed)
	}
}

// Where nothing but the one request was seen, no failure and no refusal passes, whatever it is.
func TestNothingPassesByFailingAlone(t *testing.T) {
	for name, who := range identities(t) {
		eachObservation(who.leaves, func(whose string, seen observation.Observation) {
			for path, one := range map[api.PathName]observation.Run{
				api.PathSleep: run(observation.Result{Seen: seen}, unasked, unasked), api.PathOutsider: run(unasked, unasked, observation.Result{Seen: seen}),
			} {
				for _, expectations := range []expectation.Expectations{strict, strictPlain, strictSimple, permissiveSimple} {
					if expectations[path].Kind == expectation.Answer {
						continue
					}
					in := verdict.Input{Expectations: expectations, Server: who.server, Runs: []observation.Run{one}, FailureThreshold: 1}
					if got := verdictOn(path, verdict.Paths(in)); got.Status == metav1.ConditionTrue {
						t.Errorf("%s: %s of %s passes alone on %s: %s", name, seen.Class, whose, path, got.Message)
					}
				}
			}
		})
	}
}
