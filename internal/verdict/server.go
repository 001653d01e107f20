package verdict

import (
	"crypto/x509"
	"slices"
	"strings"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// Server is how the expected server shows who it is.
type Server struct {
	// Fingerprints are the SHA-256 fingerprints of the certificates that the server itself may present: its present one
	// and, while it is being replaced, the one before. Where there are none, CA decides.
	Fingerprints []string
	// CA must vouch for the server's certificate under the name Name; where it is nil too, any certificate that is not its
	// sidecar's may be the server's own.
	CA   *x509.CertPool
	Name string
	// Namespace and ServiceAccounts make up the SPIFFE IDs of its sidecars.
	Namespace       string
	ServiceAccounts []string
	// Roots are the mesh's root certificates, which the sidecar's must chain to; nil where they are not known.
	Roots *x509.CertPool
}

// known says whether it can be told from the certificate alone that a server is the expected one.
func (s Server) known() bool { return len(s.Fingerprints) > 0 || s.CA != nil }

// owns says whether the certificate that was seen is the server's own: one that is known beforehand, or, where none is, any
// but its sidecar's.
func (s Server) owns(seen observation.Observation) bool {
	switch {
	case seen.Leaf == nil:
		return false
	case len(s.Fingerprints) > 0:
		return slices.Contains(s.Fingerprints, seen.Leaf.SHA256)
	case s.CA != nil:
		return verifies(seen, x509.VerifyOptions{Roots: s.CA, DNSName: s.Name})
	default:
		return !s.isSidecar(seen.SPIFFE())
	}
}

// sidecarAnswered says whether the server's sidecar showed its certificate and asked for the client's. proved is false
// where the certificate does not chain to the mesh's root.
func (s Server) sidecarAnswered(seen observation.Observation) (answered, proved bool) {
	if !seen.CertificateRequested || !s.isSidecar(seen.SPIFFE()) {
		return false, false
	}
	return true, s.vouchesFor(seen)
}

// isSidecar says whether the SPIFFE ID is that of the server's sidecar, in whatever trust domain. The form is Istio's:
// spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT (istio.io/istio pkg/spiffe).
func (s Server) isSidecar(id string) bool {
	_, path, ok := strings.Cut(strings.TrimPrefix(id, "spiffe://"), "/")
	account, inNamespace := strings.CutPrefix(path, "ns/"+s.Namespace+"/sa/")
	return ok && inNamespace && slices.Contains(s.ServiceAccounts, account)
}

// vouchesFor says whether the mesh's root vouches for the sidecar's certificate at the time of the observation. Where the
// root is not known, the SPIFFE ID and the request for a client certificate have to do.
func (s Server) vouchesFor(seen observation.Observation) bool {
	return s.Roots == nil || verifies(seen, x509.VerifyOptions{Roots: s.Roots})
}

// verifies checks the chain that the peer sent, at the time at which it did.
func verifies(seen observation.Observation, options x509.VerifyOptions) bool {
	var leaf *x509.Certificate
	options.Intermediates = x509.NewCertPool()
	for i, der := range seen.Leaf.Chain {
		certificate, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
			return false
		case i == 0:
			leaf = certificate
		default:
			options.Intermediates.AddCert(certificate)
		}
	}
	if leaf == nil {
		return false
	}
	options.CurrentTime, options.KeyUsages = seen.Started, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	_, err := leaf.Verify(options)
	return err == nil
}
