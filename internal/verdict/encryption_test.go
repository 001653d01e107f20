package verdict

import (
	"testing"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// A connection on which Envoy's own handshake fails (a DestinationRule SIMPLE whose server no system CA vouches for, or
// ISTIO_MUTUAL to a server without sidecar) is counted like one that was passed on as it was.
func TestEncryptionIsToldByWhatCameBack(t *testing.T) {
	leaf := &observation.Certificate{SHA256: "aa"}
	passedOn := &observation.Counted{Connections: 1}
	wrapped := &observation.Counted{Connections: 1, Handshakes: 1}
	for _, test := range []struct {
		name string
		seen observation.Observation
		want api.Encryption
	}{
		{"answered through a connection as it was", observation.Observation{Class: observation.Answered, Leaf: leaf, Counted: passedOn}, api.EncryptionPlaintext},
		{"answered through mutual TLS", observation.Observation{Class: observation.Answered, Leaf: leaf, Counted: wrapped}, api.EncryptionMutualTLS},
		{"refused by the server's sidecar", observation.Observation{Class: observation.ClientCertificateRequired, Leaf: leaf, Counted: passedOn}, api.EncryptionPlaintext},
		{"a server without TLS answered", observation.Observation{Class: observation.NotTLS, Counted: passedOn}, api.EncryptionPlaintext},
		{"reset before anything came back", observation.Observation{Class: observation.HandshakeReset, Counted: passedOn}, api.EncryptionUnknown},
		{"closed before anything came back", observation.Observation{Class: observation.HandshakeClosed, Counted: passedOn}, api.EncryptionUnknown},
		{"wrapped, and not answered", observation.Observation{Class: observation.HandshakeClosed, Counted: wrapped}, api.EncryptionUnknown},
		{"not counted", observation.Observation{Class: observation.Answered, Leaf: leaf}, api.EncryptionUnknown},
	} {
		if got := encryption(test.seen); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}
