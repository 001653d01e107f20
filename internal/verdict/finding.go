package verdict

import (
	"fmt"
	"time"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// finding is what one request means, or what all requests along one path in one run mean together.
type finding struct {
	outcome  api.Outcome
	reason   string
	message  string
	observed string
	// result is what decided.
	result observation.Result
	// brokenEndpoint says that the connection to an endpoint failed which leaves the path open.
	brokenEndpoint bool
	// endpoints sums up those that were dialed one by one; nil where none were.
	endpoints *api.EndpointsStatus
}

func (f *finding) unknown(reason, message string) {
	f.outcome, f.reason, f.message = api.OutcomeUnknown, reason, message
}

// findAll judges one run, path by path. The path sleep comes first: it is the positive control of the others' refusals.
func findAll(in Input, run observation.Run) map[api.PathName]finding {
	findings := map[api.PathName]finding{}
	for _, name := range api.PathNames() {
		result, ok := run.Results[string(name)]
		if !ok {
			result.Failed = &observation.Failure{Kind: observation.NoVantage, Message: "no request was sent"}
		}
		findings[name] = findPath(in, name, run, result)
	}
	return findings
}

func findPath(in Input, name api.PathName, run observation.Run, result observation.Result) finding {
	expected := in.Expectations[name]
	found := find(expected, in.Server, result)
	if needsControl(expected, found) && !in.controlled(run.Started, run.Results[string(api.PathSleep)], run.Results) {
		found.unknown(api.ReasonNoPositiveControl, noControl)
	}
	if len(result.Endpoints) > 0 {
		found = in.withEndpoints(found, expected, result.Endpoints)
	}
	return found
}

const noControl = "the request failed as it should, but none got through in the same run, so the failure proves nothing"

func needsControl(expected expectation.Expectation, found finding) bool {
	return expected.Kind != expectation.Answer && found.outcome == api.OutcomeMatch
}

// controlled says whether a failure in a run that began at started proves something: because the path sleep got through in
// that run or, where it is not to get through, because another path reached the server, or kubelet's readiness probes
// have vouched for the server since before.
func (in Input) controlled(started time.Time, sleep observation.Result, others map[string]observation.Result) bool {
	expected := in.Expectations[api.PathSleep]
	if expected.Kind == expectation.Answer {
		found := find(expected, in.Server, sleep)
		return found.outcome == api.OutcomeMatch || found.reason == api.ReasonPlaintextInMesh
	}
	for _, result := range others {
		if result.Failed == nil && result.Seen.Class == observation.Answered && in.Server.owns(result.Seen) {
			return true
		}
	}
	return !in.CheckedSince.IsZero() && started.After(in.CheckedSince)
}

// find holds what one request met against what it should.
func find(expected expectation.Expectation, server Server, result observation.Result) finding {
	if result.Failed != nil {
		reason := api.ReasonNotProbed
		if result.Failed.Kind == observation.ExecForbidden {
			reason = api.ReasonExecForbidden
		}
		return finding{outcome: api.OutcomeUnknown, reason: reason, message: result.Failed.Message, observed: notProbed, result: result}
	}
	seen := result.Seen
	found := finding{observed: Word(seen), result: result}
	switch expected.Kind {
	case expectation.Refusal:
		found.outcome, found.reason, found.message = findRefusal(expected, server, seen)
	case expectation.Failure:
		found.outcome, found.reason, found.message = findFailure(expected, server, seen)
	default:
		found.outcome, found.reason, found.message = findAnswer(expected, server, seen)
	}
	return found
}

// findNothing words the classes that say nothing of the server.
func findNothing(seen observation.Observation) (api.Outcome, string, string) {
	switch seen.Class {
	case observation.NameNotResolved, observation.InvalidRequest:
		return api.OutcomeUnknown, api.ReasonNotProbed, "no request was sent: " + seen.Error
	default:
		return api.OutcomeUnknown, api.ReasonNotProbed, fmt.Sprintf("the agent reported %q, which this operator does not know", seen.Class)
	}
}

func findAnswer(expected expectation.Expectation, server Server, seen observation.Observation) (api.Outcome, string, string) {
	switch {
	case Word(seen) == notProbed:
		return findNothing(seen)
	case seen.Class == observation.Answered:
		return findInAnswer(expected, server, seen)
	case seen.Class == observation.ClientCertificateRequired:
		return api.OutcomeMismatch, api.ReasonRefused,
			fmt.Sprintf("refused by %s, which demands a client certificate (alert %s); expected %s: %s", peer(seen), seen.Alert, expected, expected.Why)
	case seen.Class == observation.NotTLS:
		return api.OutcomeMismatch, api.ReasonNotTLS, fmt.Sprintf("%s; expected %s: %s", ending(seen), expected, expected.Why)
	default:
		return api.OutcomeMismatch, api.ReasonNoAnswer, fmt.Sprintf("%s; expected %s: %s", ending(seen), expected, expected.Why)
	}
}

func findInAnswer(expected expectation.Expectation, server Server, seen observation.Observation) (api.Outcome, string, string) {
	switch {
	case !server.owns(seen) && len(server.Fingerprints) == 0 && server.CA != nil && seen.SPIFFE() == "":
		return api.OutcomeMismatch, api.ReasonUnexpectedCertificate,
			fmt.Sprintf("the answer came from %s, whose certificate target.ca does not vouch for under the name %s", peer(seen), server.Name)
	case !server.owns(seen):
		return api.OutcomeMismatch, api.ReasonUnexpectedCertificate,
			fmt.Sprintf("the answer came from %s, which is not the server's certificate", peer(seen))
	case seen.HTTPCode != expected.Code:
		return api.OutcomeMismatch, api.ReasonUnexpectedStatusCode,
			fmt.Sprintf("the server answered %d instead of %s", seen.HTTPCode, expected)
	case expected.Encryption == api.EncryptionMutualTLS && seen.Wrapping() == observation.PassedOn:
		return api.OutcomeMismatch, api.ReasonPlaintextInMesh,
			fmt.Sprintf("the server answered %d, but the counters of the client's Envoy show that it passed the connection on without mutual TLS; expected: %s", seen.HTTPCode, expected.Why)
	default:
		return api.OutcomeMatch, api.ReasonAnswered,
			fmt.Sprintf("the server answered %d with its own certificate: %s", seen.HTTPCode, expected.Why)
	}
}

func findRefusal(expected expectation.Expectation, server Server, seen observation.Observation) (api.Outcome, string, string) {
	switch {
	case server.owns(seen), seen.Class == observation.Answered && server.isSidecar(seen.SPIFFE()):
		// Whatever came after it: the server's own certificate means that nothing before it asked for one. And a sidecar
		// that answers itself has let the request in.
		return api.OutcomeMismatch, api.ReasonMTLSNotEnforced,
			fmt.Sprintf("the request reached the server (%s) without a certificate of the mesh; expected refused: %s", Word(seen), expected.Why)
	case Word(seen) == notProbed:
		return findNothing(seen)
	case seen.Class == observation.NotTLS:
		return api.OutcomeMismatch, api.ReasonNotTLS,
			"the request reached something that speaks no TLS, without a certificate of the mesh; expected refused: " + expected.Why
	case seen.Class == observation.ClientCertificateRequired && server.isSidecar(seen.SPIFFE()) && !server.vouchesFor(seen):
		return api.OutcomeUnknown, api.ReasonInconclusive,
			fmt.Sprintf("refused by %s, but the certificate that says so does not chain to the mesh's root (ConfigMap istio-ca-root-cert)", peer(seen))
	case seen.Class == observation.ClientCertificateRequired && server.isSidecar(seen.SPIFFE()):
		return api.OutcomeMatch, api.ReasonRefusedByMesh,
			fmt.Sprintf("refused by %s (alert %s): %s", peer(seen), seen.Alert, expected.Why)
	case seen.Class == observation.ClientCertificateRequired, seen.Class == observation.Answered:
		return api.OutcomeMismatch, api.ReasonUnexpectedCertificate,
			fmt.Sprintf("%s by %s, which is not the server's sidecar", Word(seen), peer(seen))
	default:
		return api.OutcomeUnknown, api.ReasonInconclusive,
			ending(seen) + ", which proves neither that mutual TLS is enforced nor that it is not"
	}
}

// findFailure expects the client's sidecar and the server not to come to terms: the client's sidecar then ends the
// connection, and the client sees nothing of a TLS handshake. Whoever shows a certificate was reached without TLS around the
// client's, and any other end, such as a time-out, may have other causes.
func findFailure(expected expectation.Expectation, server Server, seen observation.Observation) (api.Outcome, string, string) {
	switch {
	case Word(seen) == notProbed:
		return findNothing(seen)
	case seen.Class == observation.Answered, server.owns(seen):
		return api.OutcomeMismatch, api.ReasonUnexpectedAnswer,
			fmt.Sprintf("the request reached the server (%s); expected no answer: %s", Word(seen), expected.Why)
	case seen.Class == observation.ClientCertificateRequired:
		return api.OutcomeMismatch, api.ReasonUnexpectedAnswer,
			fmt.Sprintf("refused by %s; expected no answer, because the client's sidecar should not come so far: %s", peer(seen), expected.Why)
	case seen.Leaf != nil, seen.CertificateRequested:
		return api.OutcomeMismatch, api.ReasonUnexpectedAnswer,
			fmt.Sprintf("the TLS handshake was answered by %s, then %s; expected no answer, because the client's sidecar should not come so far: %s",
				peer(seen), ending(seen), expected.Why)
	case seen.Class == observation.HandshakeClosed, seen.Class == observation.HandshakeReset,
		// A server that takes the TLS of the client's sidecar and reads the client's as HTTP answers "400 Bad Request".
		seen.Class == observation.NotTLS && seen.Wrapping() == observation.WrappedInTLS:
		return api.OutcomeMatch, api.ReasonFailedAsDeclared, ending(seen) + ", as declared: " + expected.Why
	default:
		return api.OutcomeUnknown, api.ReasonInconclusive, ending(seen) + ", which does not prove what was expected: " + expected.Why
	}
}

// Computed is what should be seen if the proxies do what Istio computes.
type Computed struct {
	// Paths has no entry for a path of which the endpoints promise different things.
	Paths expectation.Expectations
	// Endpoints are by the ID of the endpoint.
	Endpoints map[string]expectation.Expectation
	// Counted demands that it was counted how an answered request was sent, where that is computed and the agent can count.
	// Envoy may set its counters back when a policy reaches it, and a request that went uncounted does not show that policy.
	Counted bool
}

// AsComputed says whether a run shows what Istio computes: on every path and endpoint of which something is computed the
// same sort of end, whatever the status code, and the same encryption where it was counted or is to be.
func AsComputed(computed Computed, server Server, run observation.Run) bool {
	for _, name := range api.PathNames() {
		result, ok := run.Results[string(name)]
		if !ok {
			return false
		}
		expected, ok := computed.Paths[name]
		if ok && !showsKind(expected, server, result) {
			return false
		}
		if computed.Counted && expected.Encryption != "" && result.Seen.Counted != nil && encryption(result.Seen) == api.EncryptionUnknown {
			return false
		}
		for _, endpoint := range result.Endpoints {
			expected, ok := computed.Endpoints[endpoint.Endpoint.ID]
			if endpoint.Asked.IsZero() || ok && !showsKind(expected, server, endpoint.Result) {
				return false
			}
		}
	}
	return true
}

func showsKind(expected expectation.Expectation, server Server, result observation.Result) bool {
	if result.Failed != nil {
		return false
	}
	seen := result.Seen
	switch expected.Kind {
	case expectation.Answer:
		if seen.Class != observation.Answered || !server.owns(seen) {
			return false
		}
		switch seen.Wrapping() {
		case observation.WrappedInTLS:
			return expected.Encryption != api.EncryptionPlaintext
		case observation.PassedOn:
			return expected.Encryption != api.EncryptionMutualTLS
		default:
			return true
		}
	default:
		return find(expected, server, result).outcome == api.OutcomeMatch
	}
}

// encryption is how the request left the client's pod.
func encryption(seen observation.Observation) api.Encryption {
	switch {
	case seen.Wrapping() == observation.PassedOn && (seen.Leaf != nil || seen.Class == observation.NotTLS):
		// Something came back through the connection. Where nothing did, Envoy's own handshake may have failed, which it
		// counts as little as none.
		return api.EncryptionPlaintext
	case seen.Wrapping() == observation.WrappedInTLS && seen.Class == observation.Answered:
		// Only a sidecar that took the mesh's certificate can have passed the request on to the server.
		return api.EncryptionMutualTLS
	default:
		return api.EncryptionUnknown
	}
}
