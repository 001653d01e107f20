package verdict_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// The probe that most tests are about: shop/strict, whose server has a sidecar and demands mutual TLS. Its path sleep
// must be answered and the two others refused. Under PERMISSIVE all three must be answered.
var (
	server     = verdict.Server{Fingerprints: []string{nginxLeaf.SHA256}, Namespace: "shop", ServiceAccounts: []string{"strict-nginx"}}
	strict     = promised(api.MTLSStrict, api.ClientTLSUnset)
	permissive = promised(api.MTLSPermissive, api.ClientTLSUnset)
	disabled   = promised(api.MTLSDisable, api.ClientTLSUnset)
	firstRun   = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
)

// Probes whose path sleep is not to get through: the client's sidecar wraps what it should not, or does not wrap what it
// should.
var (
	permissiveSimple = promised(api.MTLSPermissive, api.ClientTLSSimple)
	strictSimple     = promised(api.MTLSStrict, api.ClientTLSSimple)
	strictPlain      = promised(api.MTLSStrict, api.ClientTLSDisable)
)

func promised(mode api.MTLSMode, client api.ClientTLSMode) expectation.Expectations {
	return expectation.Declared(api.SidecarEnabled, mode, client).Expectations()
}

// The Service in the client's Envoy, and its two endpoints.
const (
	ownHost    = "strict.shop.svc.cluster.local"
	ownCluster = "outbound|443||" + ownHost
	firstHost  = "10.0.0.1:8443"
	secondHost = "10.0.0.2:8443"
	interval   = time.Minute
)

var service = verdict.Service{Host: ownHost, Port: 443, Endpoints: map[string]string{firstHost: "nginx-0", secondHost: "nginx-1"}}

// criteria hold shop/strict against a promise, with the threshold 1.
func criteria(declared expectation.Expectations) verdict.Criteria {
	return verdict.Criteria{Declared: declared, Server: server, Service: service, Interval: interval, FailureThreshold: 1}
}

// The certificates that may show up in a handshake.
var (
	nginxLeaf    = certificate("a")
	previousLeaf = certificate("b")
	foreignLeaf  = certificate("c")
	sidecarLeaf  = certificate("d", "spiffe://cluster.local/ns/shop/sa/strict-nginx")
	// A foreign workload of the same mesh.
	neighbourLeaf = certificate("e", "spiffe://cluster.local/ns/shop/sa/legacy-nginx")
)

func certificate(digit string, uris ...string) *observation.Certificate {
	return &observation.Certificate{SHA256: strings.Repeat(digit, 64), URIs: uris, NotAfter: firstRun.Add(24 * time.Hour)}
}

func saw(class observation.Class, leaf *observation.Certificate) observation.Result {
	seen := observation.Observation{Class: class, Leaf: leaf, Finished: 1234567 * time.Nanosecond}
	if leaf != nil {
		seen.TLSVersion, seen.CipherSuite, seen.Handshaken = "TLS 1.3", "TLS_AES_128_GCM_SHA256", time.Millisecond
	}
	return observation.Result{Seen: seen}
}

func answered(code int, leaf *observation.Certificate) observation.Result {
	result := saw(observation.Answered, leaf)
	result.Seen.HTTPCode = code
	return result
}

func refused(leaf *observation.Certificate) observation.Result {
	result := saw(observation.ClientCertificateRequired, leaf)
	result.Seen.CertificateRequested, result.Seen.Alert = true, "certificate_required"
	return result
}

func failed(kind observation.FailureKind, message string) observation.Result {
	return observation.Result{Failed: &observation.Failure{Kind: kind, Message: message}}
}

// What the paths of shop/strict see while all is well, one by one; and what sleep sees where the client's sidecar and the
// server do not come to terms.
var (
	served     = answered(200, nginxLeaf)
	turnedAway = refused(sidecarLeaf)
	brokenOff  = saw(observation.HandshakeReset, nil)
	unasked    = observation.Result{}
)

// What the client's Envoy did with a request: by mutual TLS to its own cluster, and as it was.
var (
	wrapped  = &observation.Sent{Cluster: ownCluster, Host: firstHost, Handshakes: 1}
	passedOn = &observation.Sent{Cluster: ownCluster, Host: firstHost}
	past     = &observation.Sent{Past: true}
)

// leg is one of the Service's own, with its two endpoints.
func leg(tls observation.LegTLS) observation.Leg {
	return observation.Leg{Cluster: ownCluster, Weight: 1, TLS: tls, Endpoints: []observation.LegEndpoint{{Address: firstHost, TLS: tls}, {Address: secondHost, TLS: tls}}}
}

func legs(all ...observation.Leg) *observation.Delivered {
	return &observation.Delivered{Listener: "10.96.0.1_443", Legs: all}
}

var (
	toMutual = legs(leg(observation.TLSMutual))
	toPlain  = legs(leg(observation.TLSNone))
)

// sent adds what the client's Envoy did, and what it is configured to do.
func sent(result observation.Result, by *observation.Sent, delivered *observation.Delivered) observation.Result {
	result.Seen.Sent, result.Seen.Delivered = by, delivered
	return result
}

// to is sent by mutual TLS to one of the Service's endpoints.
func to(host string, result observation.Result) observation.Result {
	return sent(result, &observation.Sent{Cluster: ownCluster, Host: host, Handshakes: 1}, toMutual)
}

// through is what the path through the mesh sees while all is well, and plain the same where nothing is to be wrapped.
var (
	through = sent(served, wrapped, toMutual)
	plain   = sent(served, passedOn, toPlain)
)

// run is one run; a path without a result is left out of it. What sleep sent without a word of it went by mutual TLS.
func run(sleep, istioProxy, outsider observation.Result) observation.Run {
	if sleep.Seen.Sent == nil && sleep.Seen.Class != "" {
		sleep = sent(sleep, wrapped, toMutual)
	}
	results := map[string]observation.Result{}
	for path, result := range map[api.PathName]observation.Result{api.PathSleep: sleep, api.PathIstioProxy: istioProxy, api.PathOutsider: outsider} {
		if result.Failed != nil || result.Seen.Class != "" {
			results[string(path)] = result
		}
	}
	return observation.Run{Started: firstRun, Results: results}
}

// at is a run like one, begun so long after the first.
func at(after time.Duration, one observation.Run) observation.Run {
	one.Started = firstRun.Add(after)
	return one
}

// every are the runs as they follow each other, so far apart.
func every(apart time.Duration, runs ...observation.Run) []observation.Run {
	spaced := make([]observation.Run, len(runs))
	for i, one := range runs {
		spaced[i] = at(time.Duration(i)*apart, one)
	}
	return spaced
}

// after are the verdicts right after the runs, while no more are to follow within moments.
func after(c verdict.Criteria, runs ...observation.Run) []verdict.Path {
	record := verdict.NewRecord(c, firstRun.Add(-time.Hour))
	for _, one := range runs {
		record.Record(one)
	}
	return record.Paths(runs[len(runs)-1].Started, false)
}

// judge returns the verdict on one path after one run, with the threshold 1.
func judge(expectations expectation.Expectations, name api.PathName, one observation.Run) verdict.Path {
	return verdictOn(name, after(criteria(expectations), one))
}

func verdictOn(name api.PathName, paths []verdict.Path) verdict.Path {
	for _, path := range paths {
		if path.Evidence.Name == name {
			return path
		}
	}
	panic("no verdict on path " + name)
}

// meaning is what a run means to a path with a certain expectation.
type meaning struct {
	outcome api.Outcome
	reason  string
}

func matches(reason string) meaning { return meaning{api.OutcomeMatch, reason} }
func differs(reason string) meaning { return meaning{api.OutcomeMismatch, reason} }
func open(reason string) meaning    { return meaning{api.OutcomeUnknown, reason} }

var (
	inconclusive = open(api.ReasonInconclusive)
	notProbed    = open(api.ReasonNotProbed)
	notKnown     = open(api.ReasonNotAttributed)
)

func wantMeaning(t *testing.T, about string, path verdict.Path, want meaning, word string) {
	t.Helper()
	if got := (meaning{path.Evidence.Outcome, path.Reason}); got != want {
		t.Errorf("%s: %v, want %v (%s)", about, got, want, path.Message)
	}
	if path.Evidence.Observed != word {
		t.Errorf("%s: observed %q, want %q", about, path.Evidence.Observed, word)
	}
	if path.Message == "" {
		t.Errorf("%s: no message", about)
	}
	statuses := map[api.Outcome]metav1.ConditionStatus{
		api.OutcomeMatch: metav1.ConditionTrue, api.OutcomeMismatch: metav1.ConditionFalse, api.OutcomeUnknown: metav1.ConditionUnknown,
	}
	if path.Status != statuses[want.outcome] {
		t.Errorf("%s: status %s for outcome %s", about, path.Status, want.outcome)
	}
	wantClaims(t, about, path)
}

// wantClaims holds the claims in a status against the verdict: a path is True only where every one is shown.
func wantClaims(t *testing.T, about string, path verdict.Path) {
	t.Helper()
	var answers []string
	for _, claim := range path.Evidence.Claims {
		answers = append(answers, string(claim.Answer))
	}
	told := fmt.Sprint(answers)
	if strings.Contains(told, string(api.AnswerContradicted)) && path.Evidence.Outcome != api.OutcomeMismatch ||
		strings.Contains(told, string(api.AnswerUnknown)) && path.Evidence.Outcome == api.OutcomeMatch {
		t.Errorf("%s: outcome %s beside the claims %+v", about, path.Evidence.Outcome, path.Evidence.Claims)
	}
}

// endpoint is one that was dialed in the first run, and met the result.
func endpoint(name string, result observation.Result) observation.EndpointResult {
	return observation.EndpointResult{
		Endpoint: observation.Endpoint{ID: "uid-of-" + name, Name: name, Address: name + ":8443"}, Asked: firstRun, Result: result,
	}
}

// greeted adds what the endpoint made of the hellos after which no request follows.
func greeted(one observation.EndpointResult, mesh, forged observation.Result) observation.EndpointResult {
	for hello, result := range map[*observation.Handshake]observation.Result{&one.Mesh: mesh, &one.Forged: forged} {
		if result.Failed != nil || result.Seen.Class != "" {
			*hello = observation.Handshake{Asked: one.Asked, Result: result}
		}
	}
	return one
}

// notAsked is an endpoint whose turn has not come yet.
func notAsked(name string) observation.EndpointResult {
	return observation.EndpointResult{Endpoint: observation.Endpoint{ID: "uid-of-" + name, Name: name, Address: name + ":8443"}}
}

// beside is what a path met at the Service's address, and beside it at single endpoints.
func beside(address observation.Result, endpoints ...observation.EndpointResult) observation.Result {
	address.Endpoints = endpoints
	return address
}

// all are endpoints shop-0, shop-1 and so on that met the results.
func all(results ...observation.Result) []observation.EndpointResult {
	endpoints := make([]observation.EndpointResult, 0, len(results))
	for i, result := range results {
		endpoints = append(endpoints, endpoint(fmt.Sprintf("shop-%d", i), result))
	}
	return endpoints
}

// What an endpoint makes of the hellos: a sidecar that takes mutual TLS and asks for a certificate, one that refuses a
// forged one, and one that takes it.
var (
	takesMutual   = asking(saw(observation.Handshaken, sidecarLeaf))
	refusesForged = alerted(asking(saw(observation.Alerted, sidecarLeaf)), "unknown_ca")
	takesForged   = takesMutual
	noProtocol    = alerted(saw(observation.Alerted, nil), "no_application_protocol")
)

func asking(result observation.Result) observation.Result {
	result.Seen.CertificateRequested = true
	return result
}

func alerted(result observation.Result, alert string) observation.Result {
	result.Seen.Alert = alert
	return result
}
