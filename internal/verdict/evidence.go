package verdict

import (
	"fmt"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// reached says whether a request without a certificate of the mesh came to something that did not ask for one: an
// application, or a sidecar that lets it in.
func (c Criteria) reached(seen observation.Observation) bool {
	switch {
	case seen.Class == observation.Answered, seen.Class == observation.NotTLS:
		return true
	case seen.Leaf == nil:
		return false
	case c.Server.isSidecar(seen.SPIFFE()):
		// A sidecar that has shown its certificate lets in whom it does not ask for one. A handshake that failed before it
		// could ask says nothing.
		return !seen.CertificateRequested && seen.Handshaken > 0
	case seen.SPIFFE() != "" && seen.CertificateRequested && !c.Server.known():
		// Some workload's sidecar, though not the server's; or an application that looks like one.
		return false
	default:
		return c.Server.owns(seen)
	}
}

// plain holds a request without a certificate of the mesh against what it should meet.
func (c Criteria) plain(path api.PathName, expected expectation.Expectation, seen observation.Observation) claims {
	switch expected.Kind {
	case expectation.Refusal:
		return c.refusal(expected, seen)
	case expectation.Denial:
		return c.denial(path, seen)
	default:
		return append(c.owner(seen), c.answer(path, expected, seen))
	}
}

// owner says whose certificate answered, as far as the server's own can be known.
func (c Criteria) owner(seen observation.Observation) claims {
	switch {
	case seen.Class != observation.Answered || !c.Server.known():
		return nil
	case c.Server.owns(seen):
		return claims{shown(api.QuestionWho, "the server's own certificate answered")}
	case len(c.Server.Fingerprints) == 0:
		return claims{contradicted(api.QuestionWho, api.ReasonUnexpectedCertificate,
			fmt.Sprintf("the answer came from %s, whose certificate target.ca does not vouch for under the name %s", peer(seen), c.Server.Name))}
	default:
		return claims{contradicted(api.QuestionWho, api.ReasonUnexpectedCertificate,
			fmt.Sprintf("the answer came from %s, which is not the server's certificate", peer(seen)))}
	}
}

func (c Criteria) refusal(expected expectation.Expectation, seen observation.Observation) claims {
	sidecar, proved := c.Server.sidecarAnswered(seen)
	switch {
	case Word(seen) == notProbed:
		return claims{nothingSent(seen)}
	case seen.Class == observation.ClientCertificateRequired && expected.Reason != "" && !sidecar:
		return claims{c.stranger(expected, seen)}
	case seen.Class == observation.NotTLS:
		return claims{proven(api.QuestionWhat, api.ReasonNotTLS, "the request reached something that speaks no TLS, without a certificate of the mesh")}
	case c.reached(seen):
		return claims{proven(api.QuestionWhat, api.ReasonMTLSNotEnforced,
			fmt.Sprintf("the request got in (%s) without a certificate of the mesh", Word(seen)))}
	case seen.Class == observation.ClientCertificateRequired && !sidecar:
		return claims{c.stranger(expected, seen)}
	case seen.Class == observation.ClientCertificateRequired && !proved:
		return claims{unknown(api.QuestionWho, api.ReasonInconclusive,
			fmt.Sprintf("refused by %s, but its certificate does not chain to the mesh's root (ConfigMap istio-ca-root-cert)", peer(seen)))}
	case seen.Class == observation.ClientCertificateRequired:
		return claims{
			shown(api.QuestionWho, "that is the server's own sidecar, by its certificate"),
			shown(api.QuestionWhat, fmt.Sprintf("refused by %s (alert %s)", peer(seen), seen.Alert)),
		}
	default:
		return claims{unknown(api.QuestionWhat, api.ReasonInconclusive, ending(seen)+", which proves neither that mutual TLS is enforced nor that it is not")}
	}
}

// stranger is a refusal by somebody else than the server's sidecar. An application may demand certificates too, and where
// spec.expect says so, that is as it should be.
func (c Criteria) stranger(expected expectation.Expectation, seen observation.Observation) claim {
	said := fmt.Sprintf("refused by %s, which is not the server's sidecar", peer(seen))
	if expected.Reason != "" && c.Server.owns(seen) {
		return shown(api.QuestionWhat, said)
	}
	return contradicted(api.QuestionWho, api.ReasonUnexpectedCertificate, said)
}

// answer says whether a request that should get through was answered as it should be.
func (c Criteria) answer(path api.PathName, expected expectation.Expectation, seen observation.Observation) claim {
	sidecar, _ := c.Server.sidecarAnswered(seen)
	const what = api.QuestionWhat
	switch {
	case Word(seen) == notProbed:
		return nothingSent(seen)
	case seen.Class == observation.Answered && (expected.Code == expectation.AnyCode || seen.HTTPCode == expected.Code):
		return shown(what, fmt.Sprintf("the server answered %d", seen.HTTPCode))
	case seen.Class == observation.Answered:
		return contradicted(what, api.ReasonUnexpectedStatusCode, fmt.Sprintf("the server answered %d instead of %s", seen.HTTPCode, expected))
	case seen.Class == observation.ClientCertificateRequired && sidecar:
		return contradicted(what, api.ReasonRefused, fmt.Sprintf("refused by %s, the server's sidecar, for want of a client certificate (alert %s)", peer(seen), seen.Alert))
	case seen.Class == observation.ClientCertificateRequired:
		return contradicted(what, api.ReasonApplicationRefused,
			fmt.Sprintf("the application (%s) itself demands a client certificate (alert %s); if it should, say so in spec.expect: refused", peer(seen), seen.Alert))
	case c.denied(path, seen):
		return contradicted(what, api.ReasonAuthorizationDenied, fmt.Sprintf("%s; %s does not admit this client", ending(seen), c.Denials[path]))
	default:
		return unanswered(seen)
	}
}

// unanswered words the ends of a request that got no answer, each with a reason of its own: by it somebody tells an outage
// from a hole.
func unanswered(seen observation.Observation) claim {
	const what = api.QuestionWhat
	switch seen.Class {
	case observation.ConnectionRefused, observation.Unreachable, observation.ConnectTimeout:
		return contradicted(what, api.ReasonNoConnection, ending(seen))
	case observation.HandshakeTimeout, observation.ResponseTimeout:
		return contradicted(what, api.ReasonTimedOut, ending(seen))
	case observation.NotTLS:
		return contradicted(what, api.ReasonNotTLS, ending(seen))
	case observation.NotHTTP, observation.Handshaken:
		return contradicted(what, api.ReasonUnexpectedAnswer, ending(seen))
	case observation.Alerted, observation.HandshakeFailed:
		// The two sides found no TLS that both speak: curl may.
		return unknown(what, api.ReasonInconclusive, fmt.Sprintf("%s, so that this client cannot ask it: %s", ending(seen), seen.Error))
	default:
		return contradicted(what, api.ReasonConnectionBroken, ending(seen))
	}
}

// denied says whether a request broke off before anybody showed a certificate, as it does where an AuthorizationPolicy keeps
// its client out, and there is such a policy.
func (c Criteria) denied(path api.PathName, seen observation.Observation) bool {
	return c.Denials[path] != "" && closedUnseen(seen)
}

func closedUnseen(seen observation.Observation) bool {
	return seen.Leaf == nil && (seen.Class == observation.HandshakeClosed || seen.Class == observation.HandshakeReset)
}

func (c Criteria) denial(path api.PathName, seen observation.Observation) claims {
	const what = api.QuestionWhat
	switch {
	case Word(seen) == notProbed:
		return claims{nothingSent(seen)}
	case c.denied(path, seen):
		return claims{shown(what, fmt.Sprintf("%s; %s does not admit this client", ending(seen), c.Denials[path]))}
	case closedUnseen(seen):
		return claims{unknown(what, api.ReasonInconclusive, ending(seen)+", and no AuthorizationPolicy is known that does not admit this client")}
	case c.reached(seen):
		return claims{contradicted(what, api.ReasonUnexpectedAnswer, fmt.Sprintf("the request got in (%s)", Word(seen)))}
	default:
		return claims{unknown(what, api.ReasonInconclusive, ending(seen)+", which does not prove that an AuthorizationPolicy keeps this client out")}
	}
}

// failure expects the client's sidecar and the server not to come to terms: the client's sidecar then ends the connection,
// and the client sees nothing of a TLS handshake. Whoever shows a certificate was reached without TLS around the client's,
// and any other end, such as a time-out, may have other causes. alive says that somebody saw the server in the same run.
func (c Criteria) failure(seen observation.Observation, alive bool) claim {
	const what = api.QuestionWhat
	unlikely := "although the client's sidecar should not come so far"
	switch {
	case Word(seen) == notProbed:
		return nothingSent(seen)
	case seen.Class == observation.Answered:
		return contradicted(what, api.ReasonUnexpectedAnswer, fmt.Sprintf("the request was answered (%d)", seen.HTTPCode))
	case seen.Class == observation.ClientCertificateRequired:
		return contradicted(what, api.ReasonUnexpectedAnswer, fmt.Sprintf("refused by %s, %s", peer(seen), unlikely))
	case seen.Leaf != nil, seen.CertificateRequested:
		return contradicted(what, api.ReasonUnexpectedAnswer, fmt.Sprintf("the TLS handshake was answered by %s, %s; then %s", peer(seen), unlikely, ending(seen)))
	case !closedUnseen(seen) && (seen.Class != observation.NotTLS || seen.Wrapping() != observation.WrappedInTLS):
		// A server that takes the TLS of the client's sidecar and reads the client's as HTTP answers "400 Bad Request".
		return unknown(what, api.ReasonInconclusive, ending(seen)+", which may have another cause than the modes that are declared")
	case !alive:
		return unknown(what, api.ReasonNoPositiveControl, ending(seen)+"; but nobody saw the server in the same run, so that it may simply be down")
	default:
		return shown(what, ending(seen)+", as declared")
	}
}

// alive says whether a run saw the server, or its sidecar, on another path than through the mesh.
func (c Criteria) alive(run observation.Run) bool {
	sees := func(result observation.Result) bool {
		sidecar, proved := c.Server.sidecarAnswered(result.Seen)
		return result.Failed == nil && (sidecar && proved || result.Seen.Class == observation.Answered && c.Server.owns(result.Seen))
	}
	for name, result := range run.Results {
		if path, ok := pathNamed(name); !ok || path.ThroughMesh {
			continue
		}
		if sees(result) {
			return true
		}
		for _, endpoint := range result.Endpoints {
			if endpoint.Asked.Equal(run.Started) && sees(endpoint.Result) {
				return true
			}
		}
	}
	return false
}

// nothingSent words the classes that say nothing of the server.
func nothingSent(seen observation.Observation) claim {
	switch seen.Class {
	case observation.NameNotResolved, observation.InvalidRequest:
		return unknown(api.QuestionWhat, api.ReasonNotProbed, "no request was sent: "+seen.Error)
	default:
		return unknown(api.QuestionWhat, api.ReasonNotProbed, fmt.Sprintf("the agent reported %q, which this operator does not know", clip(string(seen.Class), maxName)))
	}
}
