// Package expectation says what each path of a probe should see, given the policies before the server and in the
// client's sidecar, and why. The table behind it was measured path by path on a real mesh (docs/concepts.md).
package expectation

import (
	"strconv"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

// How the status spells what is expected or observed.
const (
	// Refused is a refusal for want of a client certificate.
	Refused = "refused"
	// Denied is a connection that an AuthorizationPolicy ends.
	Denied = "denied"
	// Answered is an HTTP answer of whatever code.
	Answered = "answer"
	// NoAnswer is a connection that ends without an answer and without a refusal.
	NoAnswer = "no answer"
	// OK is the code by which the operator's own server answers.
	OK = 200
	// AnyCode stands for every code: what a stranger's server answers is its own affair.
	AnyCode = 0
)

// Kind is what sort of end a request should come to.
type Kind int

const (
	// Answer means that the server itself must answer, with the expected code.
	Answer Kind = iota
	// Refusal means that the server's sidecar must refuse for want of a client certificate.
	Refusal
	// Failure means that the client's sidecar and the server cannot come to terms: the connection must end without an
	// answer.
	Failure
	// Denial means that an AuthorizationPolicy keeps the client out: the connection must end without an answer.
	Denial
)

// Expectation is what one path should see.
type Expectation struct {
	Kind Kind
	// Code is the status code of an expected answer, or AnyCode.
	Code int
	// Encryption is how the client's sidecar must send an answered request; "" where it does not matter.
	Encryption api.Encryption
	// Mode is what must stand before every endpoint: STRICT demands mutual TLS, PERMISSIVE takes it, DISABLE does neither, as
	// no sidecar does. "" where that is not promised, on the path through the mesh and where the spec overrides the path.
	Mode api.MTLSMode
	// Why explains the expectation in half a sentence.
	Why string
	// Reason is the user's, where the spec overrides what the policy promises.
	Reason string
}

// String is "refused", "denied", "no answer", "answer" or the code.
func (e Expectation) String() string {
	switch e.Kind {
	case Refusal:
		return Refused
	case Failure:
		return NoAnswer
	case Denial:
		return Denied
	}
	switch e.Code {
	case AnyCode:
		return Answered
	default:
		return strconv.Itoa(e.Code)
	}
}

// Expectations are those of every path.
type Expectations map[api.PathName]Expectation

// Promise is what decides the expectations: what is enforced before the server, and what the client's sidecar does.
type Promise struct {
	// Sidecar says whether a sidecar stands before the server; without one, Mode means nothing.
	Sidecar api.Sidecar
	// Mode is DISABLE, PERMISSIVE or STRICT.
	Mode api.MTLSMode
	// Sends is what the client's sidecar makes of a connection to the server.
	Sends meshpolicy.Sends
}

// Declared is the promise in a spec whose mode is no longer UNSET. A clientMode that is UNSET promises that auto mTLS
// works: mutual TLS wherever the server takes it.
func Declared(sidecar api.Sidecar, mode api.MTLSMode, clientMode api.ClientTLSMode) Promise {
	promise := Promise{Sidecar: sidecar, Mode: mode}
	switch clientMode {
	case api.ClientTLSDisable:
		promise.Sends = meshpolicy.Plaintext
	case api.ClientTLSIstioMutual:
		promise.Sends = meshpolicy.MutualTLS
	case api.ClientTLSSimple:
		promise.Sends = meshpolicy.SimpleTLS
	default:
		promise.Sends = meshpolicy.Plaintext
		if promise.takesMutualTLS() {
			promise.Sends = meshpolicy.MutualTLS
		}
	}
	return promise
}

func (p Promise) takesMutualTLS() bool {
	return p.Sidecar == api.SidecarEnabled && (p.Mode == api.MTLSPermissive || p.Mode == api.MTLSStrict)
}

// Expectations returns what every path should see if the promise holds.
func (p Promise) Expectations() Expectations {
	expectations := Expectations{}
	for _, path := range paths.All() {
		if path.ThroughMesh {
			expectations[path.Name] = p.throughTheMesh()
		} else {
			expectations[path.Name] = p.Around()
		}
	}
	return expectations
}

// OfAnyCode lets every HTTP answer do where one is expected.
func (e Expectations) OfAnyCode() {
	for name, expected := range e {
		if expected.Kind == Answer {
			expected.Code = AnyCode
			e[name] = expected
		}
	}
}

// Around is what a request without a certificate of the mesh should see: one that goes around the client's sidecar, or
// comes from a pod without one.
func (p Promise) Around() Expectation {
	var expected Expectation
	switch {
	case p.Sidecar == api.SidecarDisabled:
		expected = answer("no sidecar stands before the server")
	case p.Mode == api.MTLSDisable:
		expected = answer("DISABLE leaves every connection to the server as it is")
	case p.Mode == api.MTLSPermissive:
		expected = answer("PERMISSIVE accepts connections without a certificate of the mesh")
	default:
		expected = Expectation{Kind: Refusal, Why: "STRICT demands a certificate of the mesh, and this path has none"}
	}
	expected.Mode = p.Mode
	if p.Sidecar == api.SidecarDisabled {
		expected.Mode = api.MTLSDisable
	}
	return expected
}

func (p Promise) throughTheMesh() Expectation {
	switch {
	case p.Sends == meshpolicy.Plaintext && p.Sidecar == api.SidecarEnabled && p.Mode == api.MTLSStrict:
		return Expectation{Kind: Refusal, Why: "STRICT demands a certificate of the mesh, and the client's sidecar is told to send none"}
	case p.Sends == meshpolicy.Plaintext:
		expected := p.Around()
		expected.Encryption, expected.Mode = api.EncryptionPlaintext, ""
		return expected
	case p.Sends == meshpolicy.MutualTLS && p.takesMutualTLS():
		expected := answer("STRICT demands a certificate of the mesh, and the client's sidecar has one")
		if p.Mode == api.MTLSPermissive {
			expected = answer("PERMISSIVE accepts the mutual TLS of the client's sidecar")
		}
		expected.Encryption = api.EncryptionMutualTLS
		return expected
	case p.Sends == meshpolicy.MutualTLS:
		return Expectation{Kind: Failure, Why: "the client's sidecar is told to send mutual TLS, and no sidecar takes it"}
	default:
		return Expectation{Kind: Failure, Why: "the client's sidecar is told to wrap the client's TLS in TLS of its own, which the server does not expect"}
	}
}

func answer(why string) Expectation { return Expectation{Kind: Answer, Code: OK, Why: why} }

// Override replaces the expectations of the paths that the spec speaks of.
func (e Expectations) Override(overrides []api.PathExpectation) {
	for _, override := range overrides {
		expected := Expectation{Kind: Refusal, Why: "spec.expect says so: " + override.Reason, Reason: override.Reason}
		if override.See.String() == Denied {
			expected.Kind, expected.Encryption = Denial, e[override.Path].Encryption
		} else if code, err := strconv.Atoi(override.See.String()); err == nil {
			expected.Kind, expected.Code = Answer, code
			expected.Encryption = e[override.Path].Encryption
		}
		e[override.Path] = expected
	}
}
