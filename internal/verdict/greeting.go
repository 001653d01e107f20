package verdict

import (
	"fmt"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// greetings hold the hellos to an endpoint after which no request follows against what must stand before it. A plain
// request cannot tell DISABLE from PERMISSIVE, nor a sidecar that verifies its peers from one that takes any certificate.
func (c Criteria) greetings(expected expectation.Expectation, endpoint observation.EndpointResult) claims {
	switch expected.Mode {
	case api.MTLSStrict:
		return claims{c.forged(endpoint.Forged)}
	case api.MTLSPermissive, api.MTLSDisable:
		return claims{c.takesMutualTLS(expected.Mode, endpoint)}
	default:
		return nil
	}
}

func (c Criteria) forged(greeted observation.Handshake) claim {
	const what = api.QuestionWhat
	if missing, ok := notGreeted(greeted); ok {
		return missing
	}
	seen := greeted.Seen
	sidecar, proved := c.Server.sidecarAnswered(seen)
	switch {
	case seen.Class == observation.Alerted && sidecar && proved:
		return shown(what, fmt.Sprintf("a certificate that the mesh did not issue is refused (alert %s)", seen.Alert))
	case seen.Class == observation.Handshaken && sidecar:
		return proven(what, api.ReasonUntrustedCertificateAccepted,
			fmt.Sprintf("%s takes a certificate that the mesh did not issue: it was shown one that is signed by itself, and let the connection stand", peer(seen)))
	case seen.Class == observation.Handshaken && c.reached(seen):
		return proven(what, api.ReasonMTLSNotEnforced, fmt.Sprintf("a connection got in (%s) without a certificate of the mesh", peer(seen)))
	default:
		return unknown(what, api.ReasonInconclusive, "whether a certificate that the mesh did not issue is refused: "+ending(seen))
	}
}

// takesMutualTLS asks as sidecars greet each other. One that takes mutual TLS shows its own certificate and asks for one.
func (c Criteria) takesMutualTLS(mode api.MTLSMode, endpoint observation.EndpointResult) claim {
	const what = api.QuestionWhat
	if missing, ok := notGreeted(endpoint.Mesh); ok {
		return missing
	}
	seen := endpoint.Mesh.Seen
	sidecar, proved := c.Server.sidecarAnswered(seen)
	takes := mode == api.MTLSPermissive
	switch {
	case sidecar && !proved:
		return unknown(what, api.ReasonInconclusive, fmt.Sprintf("%s takes mutual TLS, but its certificate does not chain to the mesh's root (ConfigMap istio-ca-root-cert)", peer(seen)))
	case sidecar && takes:
		return shown(what, fmt.Sprintf("%s takes mutual TLS", peer(seen)))
	case sidecar:
		return contradicted(what, api.ReasonMutualTLSAccepted, fmt.Sprintf("the sidecar %s takes mutual TLS, as under PERMISSIVE", peer(seen)))
	case !c.cameToApplication(endpoint):
		return unknown(what, api.ReasonInconclusive, "whether a sidecar takes mutual TLS: "+ending(seen))
	case takes:
		return contradicted(what, api.ReasonMutualTLSNotAccepted, "no sidecar takes mutual TLS: a hello of the mesh came to the application")
	default:
		return shown(what, "no sidecar takes mutual TLS")
	}
}

// cameToApplication says whether a hello of the mesh came to the application: what answers it is what answers the plain
// request, or it speaks no TLS, or it wants nothing of the mesh's protocol (no_application_protocol, RFC 7301, section 3.2)
// while the plain request got through to it. A connection that only broke may have other causes.
func (c Criteria) cameToApplication(endpoint observation.EndpointResult) bool {
	seen, plain := endpoint.Mesh.Seen, endpoint.Seen
	switch {
	case seen.Class == observation.NotTLS:
		return true
	case seen.Leaf == nil:
		return seen.Alert != "" && endpoint.Failed == nil && c.reached(plain)
	case seen.CertificateRequested && seen.SPIFFE() != "":
		// A sidecar of the mesh, if not one of the service accounts that are known; or an application with a certificate of
		// such a form, which shows it to everybody.
		return plain.Leaf != nil && plain.Leaf.SHA256 == seen.Leaf.SHA256
	default:
		return true
	}
}

func notGreeted(greeted observation.Handshake) (claim, bool) {
	switch {
	case greeted.Asked.IsZero():
		return unknown(api.QuestionWhat, api.ReasonEndpointsNotAsked, "what stands before it has not been asked yet"), true
	case greeted.Failed != nil:
		return unknown(api.QuestionWhat, api.ReasonNotProbed, greeted.Failed.Message), true
	default:
		return claim{}, false
	}
}
