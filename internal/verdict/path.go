// Package verdict holds what was observed against what is expected, and words the result as status conditions. It
// never turns "could not be asked" into a pass or a fail, and it counts a refusal only beside a request of the same run
// that got through.
package verdict

import (
	"crypto/x509"
	"fmt"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// Server is how the expected server shows who it is.
type Server struct {
	// Fingerprints are the SHA-256 fingerprints of the certificates that the server itself may present: its present one
	// and, while it is being replaced, the one before.
	Fingerprints []string
	// Namespace and ServiceAccount make up the SPIFFE ID of its sidecar.
	Namespace, ServiceAccount string
	// Roots are the mesh's root certificates, which the sidecar's must chain to; nil where they are not known.
	Roots *x509.CertPool
}

// owns says whether the server itself presented the certificate.
func (s Server) owns(leaf *observation.Certificate) bool {
	if leaf == nil {
		return false
	}
	for _, fingerprint := range s.Fingerprints {
		if fingerprint == leaf.SHA256 {
			return true
		}
	}
	return false
}

// isSidecar says whether the SPIFFE ID is that of the server's sidecar, in whatever trust domain. The form is Istio's:
// spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT (istio.io/istio pkg/spiffe).
func (s Server) isSidecar(id string) bool {
	_, path, ok := strings.Cut(strings.TrimPrefix(id, "spiffe://"), "/")
	return ok && path == "ns/"+s.Namespace+"/sa/"+s.ServiceAccount
}

// vouchesFor says whether the mesh's root vouches for the sidecar's certificate at the time of the observation. Where the
// root is not known, the SPIFFE ID and the request for a client certificate have to do.
func (s Server) vouchesFor(seen observation.Observation) bool {
	if s.Roots == nil {
		return true
	}
	var leaf *x509.Certificate
	intermediates := x509.NewCertPool()
	for i, der := range seen.Leaf.Chain {
		certificate, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
			return false
		case i == 0:
			leaf = certificate
		default:
			intermediates.AddCert(certificate)
		}
	}
	if leaf == nil {
		return false
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: s.Roots, Intermediates: intermediates, CurrentTime: seen.Started, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err == nil
}

// Input is everything a verdict on the paths rests on.
type Input struct {
	Expectations map[api.PathName]expectation.Expectation
	Server       Server
	// Runs are the latest runs that were made under these expectations, oldest first.
	Runs []observation.Run
	// FailureThreshold is how many mismatches in a row make a path False; at least 1.
	FailureThreshold int
	// Previous are the conditions' statuses from before the first of Runs, where they still speak of the same spec.
	Previous map[api.PathName]metav1.ConditionStatus
}

// Path is the verdict on one path.
type Path struct {
	Status   metav1.ConditionStatus
	Reason   string
	Message  string
	Evidence api.PathStatus
}

// Paths judges every path by the latest run and by those before it. Without runs there is nothing to judge and it
// returns nil.
func Paths(in Input) []Path {
	if len(in.Runs) == 0 {
		return nil
	}
	paths := make([]Path, 0, len(in.Expectations))
	for _, name := range api.PathNames() {
		paths = append(paths, judgePath(in, name))
	}
	return paths
}

func judgePath(in Input, name api.PathName) Path {
	findings := make([]finding, len(in.Runs))
	for i, run := range in.Runs {
		findings[i] = findAll(in, run)[name]
	}
	latest := findings[len(findings)-1]
	failures := consecutiveMismatches(findings)
	path := Path{Reason: latest.reason, Message: latest.message}
	switch latest.outcome {
	case api.OutcomeMatch:
		path.Status = metav1.ConditionTrue
	case api.OutcomeUnknown:
		path.Status = metav1.ConditionUnknown
	case api.OutcomeMismatch:
		path.Status = metav1.ConditionFalse
		// A path that was False before already goes on saying why.
		if before := statusBefore(in, name, findings[:len(findings)-failures]); failures < in.FailureThreshold && before != metav1.ConditionFalse {
			path.Status, path.Reason = before, api.ReasonBelowThreshold
			path.Message = fmt.Sprintf("mismatch %d of %d before this turns False: %s", failures, in.FailureThreshold, latest.message)
		}
	}
	run := in.Runs[len(in.Runs)-1]
	path.Evidence = evidence(name, in.Expectations[name], latest, run, failures)
	return path
}

// statusBefore is the status that the runs before a streak of mismatches had led to.
func statusBefore(in Input, name api.PathName, before []finding) metav1.ConditionStatus {
	if len(before) > 0 {
		if before[len(before)-1].outcome == api.OutcomeMatch {
			return metav1.ConditionTrue
		}
		return metav1.ConditionUnknown
	}
	if previous, ok := in.Previous[name]; ok {
		return previous
	}
	return metav1.ConditionUnknown
}

// Satisfied says whether a run found on every path what is expected there.
func Satisfied(expectations map[api.PathName]expectation.Expectation, server Server, run observation.Run) bool {
	for _, found := range findAll(Input{Expectations: expectations, Server: server}, run) {
		if found.outcome != api.OutcomeMatch {
			return false
		}
	}
	return true
}

func consecutiveMismatches(findings []finding) int {
	count := 0
	for i := len(findings) - 1; i >= 0 && findings[i].outcome == api.OutcomeMismatch; i-- {
		count++
	}
	return count
}

// finding is what one path's result in one run means.
type finding struct {
	outcome  api.Outcome
	reason   string
	message  string
	observed string
}

// findAll judges one run. The path sleep comes first, because it is the positive control of the refusals: without a
// request that got through, a refusal may be nothing but a server that is down.
func findAll(in Input, run observation.Run) map[api.PathName]finding {
	findings := map[api.PathName]finding{}
	for _, name := range api.PathNames() {
		result, ok := run.Results[string(name)]
		if !ok {
			result.Failed = &observation.Failure{Kind: observation.NoVantage, Message: "no request was sent"}
		}
		expected := in.Expectations[name]
		found := find(expected, in.Server, result)
		if expected.Refused && found.outcome == api.OutcomeMatch && findings[api.PathSleep].outcome != api.OutcomeMatch {
			found.outcome, found.reason = api.OutcomeUnknown, api.ReasonNoPositiveControl
			found.message = "the request was refused, but none got through on the path sleep in the same run, so the refusal proves nothing"
		}
		findings[name] = found
	}
	return findings
}

func find(expected expectation.Expectation, server Server, result observation.Result) finding {
	if result.Failed != nil {
		reason := api.ReasonNotProbed
		if result.Failed.Kind == observation.ExecForbidden {
			reason = api.ReasonExecForbidden
		}
		return finding{api.OutcomeUnknown, reason, result.Failed.Message, notProbed}
	}
	seen := result.Seen
	found := finding{observed: Word(seen)}
	if expected.Refused {
		found.outcome, found.reason, found.message = findRefusal(expected, server, seen)
	} else {
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
		if !server.owns(seen.Leaf) {
			return api.OutcomeMismatch, api.ReasonUnexpectedCertificate,
				fmt.Sprintf("the answer came from %s, which is not the server's certificate", peer(seen))
		}
		if strconv.Itoa(seen.HTTPCode) != expectation.OK {
			return api.OutcomeMismatch, api.ReasonUnexpectedStatusCode,
				fmt.Sprintf("the server answered %d instead of %s", seen.HTTPCode, expectation.OK)
		}
		return api.OutcomeMatch, api.ReasonAnswered,
			fmt.Sprintf("the server answered %d with its own certificate: %s", seen.HTTPCode, expected.Why)
	case seen.Class == observation.ClientCertificateRequired:
		return api.OutcomeMismatch, api.ReasonRefused,
			fmt.Sprintf("refused by %s, which demands a client certificate (alert %s); expected 200: %s", peer(seen), seen.Alert, expected.Why)
	default:
		return api.OutcomeMismatch, api.ReasonNoAnswer,
			fmt.Sprintf("%s; expected 200: %s", ending(seen), expected.Why)
	}
}

func findRefusal(expected expectation.Expectation, server Server, seen observation.Observation) (api.Outcome, string, string) {
	switch {
	case server.owns(seen.Leaf), seen.Class == observation.Answered && server.isSidecar(seen.SPIFFE()):
		// Whatever came after it: the server's own certificate means that nothing before it asked for one. And a sidecar
		// that answers itself has let the request in.
		return api.OutcomeMismatch, api.ReasonMTLSNotEnforced,
			fmt.Sprintf("the request reached the server (%s) without a certificate of the mesh; expected refused: %s", Word(seen), expected.Why)
	case Word(seen) == notProbed:
		return findNothing(seen)
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

func evidence(name api.PathName, expected expectation.Expectation, found finding, run observation.Run, failures int) api.PathStatus {
	started := metav1.NewTime(run.Started)
	status := api.PathStatus{
		Name:                name,
		Expected:            expected.String(),
		Observed:            found.observed,
		Outcome:             found.outcome,
		ConsecutiveFailures: int32(min(failures, maxCounted)),
		LastProbeTime:       &started,
		Message:             clip(found.message, maxMessage),
	}
	result := run.Results[string(name)]
	if result.Failed != nil || result.Seen.Class == "" {
		return status
	}
	seen := result.Seen
	status.HTTPCode = int32(seen.HTTPCode)
	status.TLSVersion, status.CipherSuite = clip(seen.TLSVersion, maxVersion), clip(seen.CipherSuite, maxName)
	status.Peer = clip(peerID(seen), maxPeer)
	status.ClientCertificateRequested = seen.CertificateRequested
	status.Alert = clip(seen.Alert, maxName)
	status.Latency = &metav1.Duration{Duration: seen.Finished.Round(latencyPrecision)}
	return status
}
