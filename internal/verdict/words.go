package verdict

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

const (
	notProbed        = "not probed"
	timedOut         = "timeout"
	noConnection     = "no connection"
	maxCounted       = 10
	latencyPrecision = 10 * time.Microsecond

	// The limits of the API's fields, in characters; bytes are never fewer.
	maxMessage  = 1024
	maxPeer     = 512
	maxName     = 64
	maxVersion  = 16
	maxHandled  = 256
	maxObject   = 512
	maxModes    = 128
	maxEvidence = 512
	maxLegs     = 8
)

// Word is how the status spells what a request met: an HTTP status code, refused, or a short word. "refused" is said
// of a demanded client certificate alone; a TCP connection that is refused is "no connection".
func Word(seen observation.Observation) string {
	switch seen.Class {
	case observation.Answered:
		return strconv.Itoa(seen.HTTPCode)
	case observation.ClientCertificateRequired:
		return expectation.Refused
	case observation.ConnectionRefused, observation.Unreachable:
		return noConnection
	case observation.ConnectTimeout, observation.HandshakeTimeout, observation.ResponseTimeout:
		return timedOut
	case observation.HandshakeClosed, observation.ResponseClosed, observation.ClosedAfterCertificateRequest:
		return "closed"
	case observation.HandshakeReset, observation.ResponseReset:
		return "reset"
	case observation.NotTLS:
		return "no TLS"
	case observation.NotHTTP:
		return "no HTTP"
	case observation.Alerted:
		return "alert"
	case observation.HandshakeFailed:
		return "no handshake"
	case observation.Handshaken:
		return "handshake"
	default:
		return notProbed
	}
}

// ending words how a request ended that was neither answered nor refused.
func ending(seen observation.Observation) string {
	switch seen.Class {
	case observation.ConnectionRefused:
		return "the TCP connection was refused"
	case observation.Unreachable:
		return "no TCP connection came about"
	case observation.ConnectTimeout:
		return "no TCP connection came about in time"
	case observation.NotTLS:
		return "what answered speaks no TLS"
	case observation.Alerted:
		return fmt.Sprintf("the peer ended the connection with the alert %s", seen.Alert)
	case observation.HandshakeTimeout:
		return "the TLS handshake did not finish in time"
	case observation.HandshakeClosed:
		return "the peer closed the connection during the TLS handshake"
	case observation.HandshakeReset:
		return "the connection was reset during the TLS handshake"
	case observation.HandshakeFailed:
		return "the TLS handshake failed"
	case observation.Handshaken:
		return "the TLS handshake succeeded, and the peer let the connection stand"
	case observation.ResponseTimeout:
		return "no response came in time after the TLS handshake"
	case observation.ResponseClosed:
		return "the peer closed the connection after the TLS handshake"
	case observation.ResponseReset:
		return "the connection was reset after the TLS handshake"
	case observation.ClosedAfterCertificateRequest:
		return "the peer asked for a client certificate and closed the connection without an alert"
	case observation.NotHTTP:
		return "what came back is no HTTP response"
	default:
		return "nothing was observed"
	}
}

// peer names who answered the handshake, for messages.
func peer(seen observation.Observation) string {
	if id := peerID(seen); id != "" {
		return clip(id, maxPeer)
	}
	return "a peer without certificate"
}

func peerID(seen observation.Observation) string {
	if id := seen.SPIFFE(); id != "" {
		return id
	}
	if seen.Leaf != nil {
		return "sha256:" + seen.Leaf.SHA256
	}
	return ""
}

// clip shortens text to the API's limit for a field. The API server would refuse a whole status for one field that is
// too long, and the verdict before would stay.
func clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit-len("…")], "") + "…"
}
