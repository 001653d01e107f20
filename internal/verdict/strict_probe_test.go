package verdict_test

import (
	"strings"
	"time"

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
		seen.TLSVersion, seen.CipherSuite = "TLS 1.3", "TLS_AES_128_GCM_SHA256"
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
)

// Counters of the client's Envoy over one request: wrapped in TLS, and passed on as it is.
var (
	wrapped  = &observation.Counted{Connections: 1, Handshakes: 1}
	passedOn = &observation.Counted{Connections: 1}
)

func counting(result observation.Result, counted *observation.Counted) observation.Result {
	result.Seen.Counted = counted
	return result
}

// run is one run; a path without a result is left out of it.
func run(sleep, istioProxy, outsider observation.Result) observation.Run {
	results := map[string]observation.Result{}
	for path, result := range map[api.PathName]observation.Result{api.PathSleep: sleep, api.PathIstioProxy: istioProxy, api.PathOutsider: outsider} {
		if result.Failed != nil || result.Seen.Class != "" {
			results[string(path)] = result
		}
	}
	return observation.Run{Started: firstRun, Results: results}
}

var unasked = observation.Result{}

// judge returns the verdict on one path after the runs, with the threshold 1.
func judge(expectations expectation.Expectations, name api.PathName, runs ...observation.Run) verdict.Path {
	return verdictOn(name, verdict.Paths(verdict.Input{Expectations: expectations, Server: server, Runs: runs, FailureThreshold: 1}))
}

func verdictOn(name api.PathName, paths []verdict.Path) verdict.Path {
	for _, path := range paths {
		if path.Evidence.Name == name {
			return path
		}
	}
	panic("no verdict on path " + name)
}
