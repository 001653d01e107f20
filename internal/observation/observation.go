// Package observation holds what one probe is asked and what it saw: the wire format between the operator and the
// agent (newline-delimited JSON), and the classes into which evidence falls. It knows neither Kubernetes nor policy.
package observation

import "time"

// Request asks the agent for one TLS connection and, where the peer lets it, one HTTP request.
type Request struct {
	// ID is copied into the observation. 0 is a ping: the agent answers at once and connects to nothing.
	ID uint64 `json:"id"`
	// Address is what to dial, as host:port.
	Address string `json:"address,omitempty"`
	// ServerName goes into the server_name extension (RFC 6066, section 3) and the Host header.
	ServerName string `json:"serverName,omitempty"`
	// Path is the request target, beginning with "/".
	Path string `json:"path,omitempty"`
	// Timeout bounds the whole probe.
	Timeout time.Duration `json:"timeoutNs,omitempty"`
	// Chain asks for the certificate chain of any peer, not only of one with a SPIFFE ID.
	Chain bool `json:"chain,omitempty"`
	// Count asks what the client's Envoy counted during this probe.
	Count *Count `json:"count,omitempty"`
	// Hello is what sort of TLS hello to make; Identity is the SPIFFE ID in the certificate of HelloForged.
	Hello    Hello  `json:"hello,omitempty"`
	Identity string `json:"identity,omitempty"`
}

// Hello is a sort of TLS hello. What a peer makes of each tells what stands before it.
type Hello string

const (
	// HelloHTTPS is a plain HTTPS client's, without a certificate, and an HTTP request follows.
	HelloHTTPS Hello = ""
	// HelloMesh is how Istio's sidecars greet each other (ALPN istio), without a certificate. A sidecar that takes mutual TLS
	// answers it with its own certificate and asks for one, under PERMISSIVE as under STRICT; nobody else does. No request
	// follows.
	HelloMesh Hello = "Mesh"
	// HelloForged is the same with a certificate that is signed by itself and names Identity. A sidecar that verifies its
	// peers refuses it. No request follows.
	HelloForged Hello = "Forged"
)

// Count asks the agent to hold the counters of its pod's Envoy before the probe against those after it.
type Count struct {
	// Admin is host:port of Envoy's admin interface, such as 127.0.0.1:15000.
	Admin string `json:"admin"`
	// Host is the Service's host as Istio names it in its clusters, such as nginx.shop.svc.cluster.local.
	Host string `json:"host"`
	// Port is the Service's port.
	Port uint32 `json:"port"`
}

// Class is how a probe ended, told by the evidence and never by an exit code.
type Class string

const (
	// Answered means that an HTTP response came back.
	Answered Class = "Answered"
	// ClientCertificateRequired means that the peer asked for a client certificate and, given none, ended the
	// connection with an alert that says so.
	ClientCertificateRequired Class = "ClientCertificateRequired"
	// ClosedAfterCertificateRequest means that the peer asked for a client certificate and the connection then ended
	// without an alert: probably a refusal, but no proof of one.
	ClosedAfterCertificateRequest Class = "ClosedAfterCertificateRequest"
	// NameNotResolved means that the name in Address has no address, or that the resolver did not answer.
	NameNotResolved Class = "NameNotResolved"
	// ConnectionRefused means that the TCP connection was refused.
	ConnectionRefused Class = "ConnectionRefused"
	// Unreachable means that the TCP connection failed in another way.
	Unreachable Class = "Unreachable"
	// ConnectTimeout means that the TCP connection was not established in time.
	ConnectTimeout Class = "ConnectTimeout"
	// NotTLS means that the peer's first bytes are no TLS record.
	NotTLS Class = "NotTLS"
	// Alerted means that the peer sent a TLS alert which says nothing of client certificates.
	Alerted Class = "Alerted"
	// HandshakeTimeout means that the TLS handshake did not finish in time.
	HandshakeTimeout Class = "HandshakeTimeout"
	// HandshakeClosed means that the peer closed the connection during the handshake.
	HandshakeClosed Class = "HandshakeClosed"
	// HandshakeReset means that the connection was reset during the handshake.
	HandshakeReset Class = "HandshakeReset"
	// HandshakeFailed means that the handshake failed on our side, for example on a malformed message.
	HandshakeFailed Class = "HandshakeFailed"
	// ResponseTimeout means that the handshake succeeded and no response came in time.
	ResponseTimeout Class = "ResponseTimeout"
	// ResponseClosed means that the handshake succeeded and the peer closed the connection before a response.
	ResponseClosed Class = "ResponseClosed"
	// ResponseReset means that the handshake succeeded and the connection was reset before a response.
	ResponseReset Class = "ResponseReset"
	// NotHTTP means that the handshake succeeded and what came back is no HTTP response.
	NotHTTP Class = "NotHTTP"
	// Handshaken means that a handshake after which no request was to follow succeeded, and that the peer let the
	// connection stand.
	Handshaken Class = "Handshaken"
	// InvalidRequest means that the agent could not make sense of the request.
	InvalidRequest Class = "InvalidRequest"
)

// Classes lists every class.
func Classes() []Class {
	return []Class{
		Answered, ClientCertificateRequired, ClosedAfterCertificateRequest, NameNotResolved, ConnectionRefused,
		Unreachable, ConnectTimeout, NotTLS, Alerted, HandshakeTimeout, HandshakeClosed, HandshakeReset,
		HandshakeFailed, ResponseTimeout, ResponseClosed, ResponseReset, NotHTTP, Handshaken, InvalidRequest,
	}
}

// Certificate is the evidence taken from the peer's leaf certificate.
type Certificate struct {
	// SHA256 is the fingerprint of the DER encoding, in lower-case hexadecimal.
	SHA256 string `json:"sha256"`
	// URIs are the URI subject alternative names; a workload of the mesh has one spiffe:// ID there. At most 4.
	URIs []string `json:"uris,omitempty"`
	// NotAfter is when the certificate ends.
	NotAfter time.Time `json:"notAfter"`
	// Chain is the leaf and what the peer sent to link it to a root, in DER: of a peer with a SPIFFE ID, and of any peer
	// where the request asks for it. At most 4 certificates. It is empty where they are too long to report, and so is the
	// answer of an agent that is too old to be asked: no chain is no evidence of a wrong one.
	Chain [][]byte `json:"chain,omitempty"`
}

// Observation is what one probe saw. The zero value of a field means that the probe did not get so far.
type Observation struct {
	ID    uint64 `json:"id"`
	Class Class  `json:"class,omitempty"`
	// Started is when the probe began, by the clock of the pod's node.
	Started time.Time `json:"started,omitzero"`
	// Connected, Handshaken and Finished are the times since Started at which the TCP connection stood, the TLS
	// handshake was complete on our side, and the probe ended.
	Connected  time.Duration `json:"connectedNs,omitempty"`
	Handshaken time.Duration `json:"handshakenNs,omitempty"`
	Finished   time.Duration `json:"finishedNs,omitempty"`
	// Remote is the address that was dialed, after the name was resolved.
	Remote string `json:"remote,omitempty"`
	// TLSVersion and CipherSuite are what was negotiated, by their IANA names.
	TLSVersion  string `json:"tlsVersion,omitempty"`
	CipherSuite string `json:"cipherSuite,omitempty"`
	// Leaf is the peer's own certificate, seen even where the handshake failed later.
	Leaf *Certificate `json:"leaf,omitempty"`
	// CertificateRequested says that the peer sent a CertificateRequest.
	CertificateRequested bool `json:"certificateRequested,omitempty"`
	// Alert is the name of the alert that the peer sent (RFC 8446, section 6).
	Alert string `json:"alert,omitempty"`
	// HTTPCode is the status code of the response.
	HTTPCode int `json:"httpCode,omitempty"`
	// Sent is what the client's Envoy did with the request, and Delivered what it is configured to do with such requests;
	// nil where the request does not ask for it (Count).
	Sent      *Sent      `json:"sent,omitempty"`
	Delivered *Delivered `json:"delivered,omitempty"`
	// Error is the error as Go words it, at most 256 bytes; for people, never for decisions.
	Error string `json:"error,omitempty"`
}

// SPIFFE is the peer's SPIFFE ID, or "".
func (o Observation) SPIFFE() string { return o.Leaf.SPIFFE() }

// SPIFFE is the SPIFFE ID in the certificate, or "".
func (c *Certificate) SPIFFE() string {
	if c == nil {
		return ""
	}
	for _, uri := range c.URIs {
		if len(uri) > len(spiffeScheme) && uri[:len(spiffeScheme)] == spiffeScheme {
			return uri
		}
	}
	return ""
}

const spiffeScheme = "spiffe://"
