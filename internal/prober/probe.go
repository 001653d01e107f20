// Package prober makes one TLS connection and reports what it saw. It is the part of the agent that runs inside the
// probed containers, so it uses the standard library alone.
package prober

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

const (
	// alertWait is how long a TLS 1.3 client that was asked for a certificate only listens before it sends its request.
	// It finishes its handshake before the server has judged its empty Certificate message (RFC 8446, section 4.4.2.4),
	// and data sent into a connection that the server is closing can turn the alert into a reset.
	alertWait = time.Second

	maxHeaderBytes = 64 << 10
	maxErrorBytes  = 256
	maxURIs        = 4
	maxChain       = 4

	// An observation must fit into the line that the operator reads (maxObservationBytes in internal/runner), or it costs
	// every probe of the container its stream. The chain is a third longer in base64, and a URI up to six times in JSON.
	maxChainBytes = 24 << 10
	maxURIBytes   = 2 << 10 // as long as a SPIFFE ID may be
)

// Probe carries out one request on a connection of its own. It counts nothing: that takes the agent, which knows what
// else is under way (Serve). It always returns within request.Timeout or when ctx ends, whichever is first, and never
// fails: whatever happens is the observation.
func Probe(ctx context.Context, request observation.Request) observation.Observation {
	p := &probe{request: request, seen: observation.Observation{ID: request.ID, Started: time.Now()}}
	if request.Timeout <= 0 {
		p.end(observation.InvalidRequest, errors.New("timeout must be positive"))
		return p.seen
	}
	ctx, cancel := context.WithTimeout(ctx, request.Timeout)
	defer cancel()
	p.run(ctx)
	p.seen.Finished = time.Since(p.seen.Started)
	return p.seen
}

type probe struct {
	request observation.Request
	seen    observation.Observation
}

func (p *probe) end(class observation.Class, err error) {
	p.seen.Class = class
	if err != nil {
		p.seen.Error = shorten(err.Error())
	}
}

func (p *probe) run(ctx context.Context) {
	request, err := p.httpRequest(ctx)
	if err != nil {
		p.end(observation.InvalidRequest, err)
		return
	}
	raw := p.connect(ctx)
	if raw == nil {
		return
	}
	defer raw.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = raw.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()

	conn := tls.Client(raw, p.tlsConfig())
	if !p.handshake(ctx, conn) {
		return
	}
	defer conn.Close()
	p.exchange(ctx, conn, request)
}

func (p *probe) httpRequest(ctx context.Context) (*http.Request, error) {
	if !strings.HasPrefix(p.request.Path, "/") {
		return nil, fmt.Errorf("path %q does not begin with /", p.request.Path)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+p.host()+p.request.Path, nil)
	if err != nil {
		return nil, err
	}
	request.Close = true
	request.Header.Set("User-Agent", "httpsmeshprobe")
	return request, nil
}

func (p *probe) connect(ctx context.Context) net.Conn {
	host, port, err := net.SplitHostPort(p.request.Address)
	if err != nil {
		p.end(observation.InvalidRequest, err)
		return nil
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 || host == "" {
		p.end(observation.InvalidRequest, fmt.Errorf("address %q is not host:port", p.request.Address))
		return nil
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		p.end(observation.NameNotResolved, whyNotResolved(host, err))
		return nil
	}
	p.seen.Remote = net.JoinHostPort(addresses[0], port)
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.seen.Remote)
	switch {
	case err == nil:
		p.seen.Connected = time.Since(p.seen.Started)
		return conn
	case errors.Is(err, syscall.ECONNREFUSED):
		p.end(observation.ConnectionRefused, err)
	case errors.Is(err, syscall.ECONNRESET):
		// A peer that turns a connection away refuses it; this one stood, and was reset before it could be used.
		p.seen.Connected = time.Since(p.seen.Started)
		p.end(observation.HandshakeReset, err)
	case isTimeout(err):
		p.end(observation.ConnectTimeout, err)
	default:
		p.end(observation.Unreachable, err)
	}
	return nil
}

// whyNotResolved leaves out the ports that a look-up happened to use: the same failure must read the same every time.
func whyNotResolved(host string, err error) error {
	var dnsErr *net.DNSError
	switch {
	case errors.As(err, &dnsErr) && dnsErr.IsNotFound:
		return fmt.Errorf("no address for %s", host)
	case isTimeout(err):
		return fmt.Errorf("no answer to the look-up of %s in time", host)
	default:
		return fmt.Errorf("the look-up of %s failed", host)
	}
}

// tlsConfig verifies nothing: who answered is evidence to be judged elsewhere, not a reason to stop. The peer still has
// to prove that it holds the certificate's key, which the handshake itself demands.
func (p *probe) tlsConfig() *tls.Config {
	return &tls.Config{
		ServerName:         strings.TrimSuffix(p.request.ServerName, "."),
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"http/1.1"},
		// It is called as soon as the certificate has come, so the leaf is seen even where the handshake fails later.
		VerifyConnection: func(state tls.ConnectionState) error {
			p.seen.Leaf = leafEvidence(state.PeerCertificates, p.request.Chain)
			return nil
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			p.seen.CertificateRequested = true
			return &tls.Certificate{}, nil
		},
	}
}

func (p *probe) handshake(ctx context.Context, conn *tls.Conn) bool {
	err := conn.HandshakeContext(ctx)
	state := conn.ConnectionState()
	if state.Version != 0 {
		p.seen.TLSVersion = tls.VersionName(state.Version)
	}
	if state.CipherSuite != 0 {
		p.seen.CipherSuite = tls.CipherSuiteName(state.CipherSuite)
	}
	if err == nil {
		p.seen.Handshaken = time.Since(p.seen.Started)
		return true
	}
	p.endFailed(err, stage{
		timeout: observation.HandshakeTimeout,
		closed:  observation.HandshakeClosed,
		reset:   observation.HandshakeReset,
		other:   observation.HandshakeFailed,
	})
	return false
}

// exchange sends the request and reads the response's header.
func (p *probe) exchange(ctx context.Context, conn *tls.Conn, request *http.Request) {
	limited := &io.LimitedReader{R: conn, N: maxHeaderBytes}
	reader := bufio.NewReader(limited)
	failed := stage{
		timeout: observation.ResponseTimeout,
		closed:  observation.ResponseClosed,
		reset:   observation.ResponseReset,
		other:   observation.NotHTTP,
	}
	if p.seen.CertificateRequested && conn.ConnectionState().Version == tls.VersionTLS13 {
		if err := listen(ctx, conn, reader); err != nil {
			p.endFailed(err, failed)
			return
		}
	}
	// A failed write is not the end: the alert that explains it may be waiting to be read.
	writeErr := request.Write(conn)
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		if limited.N == 0 {
			p.end(observation.NotHTTP, fmt.Errorf("the header is longer than %d bytes", maxHeaderBytes))
			return
		}
		if writeErr != nil && !isAlert(err) {
			err = writeErr
		}
		p.endFailed(err, failed)
		return
	}
	// The body is not closed: that would read it to its end, which may never come. The connection is closed anyway.
	p.seen.HTTPCode = response.StatusCode
	p.end(observation.Answered, nil)
}

func (p *probe) host() string {
	if name := strings.TrimSuffix(p.request.ServerName, "."); name != "" {
		return name
	}
	return p.request.Address
}

// listen waits for the peer's verdict on the empty client certificate. Silence means that the peer does not mind.
func listen(ctx context.Context, conn *tls.Conn, reader *bufio.Reader) error {
	deadline, _ := ctx.Deadline()
	wait := min(alertWait, time.Until(deadline)/2)
	_ = conn.SetReadDeadline(time.Now().Add(wait))
	_, err := reader.Peek(1)
	if err != nil && isTimeout(err) && ctx.Err() == nil {
		err = nil
	}
	_ = conn.SetReadDeadline(deadline)
	return err
}

// stage names the classes in which one part of a probe can fail.
type stage struct{ timeout, closed, reset, other observation.Class }

func (p *probe) endFailed(err error, failed stage) {
	if code, ok := alertCode(err); ok {
		p.seen.Alert = alertName(code)
		p.end(p.alertClass(code), err)
		return
	}
	class := failed.other
	var notTLS tls.RecordHeaderError
	switch {
	// Only our own context closes the connection from this side.
	case isTimeout(err), errors.Is(err, net.ErrClosed):
		class = failed.timeout
	// Later in the connection, the same error means a broken record of a peer that did speak TLS.
	case errors.As(err, &notTLS) && p.seen.TLSVersion == "":
		class = observation.NotTLS
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		class = failed.reset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		class = failed.closed
	}
	if p.seen.CertificateRequested && (class == failed.closed || class == failed.reset) {
		class = observation.ClosedAfterCertificateRequest
	}
	p.end(class, err)
}

// alertClass decides whether an alert is the refusal of a client without certificate: certificate_required in TLS 1.3
// (RFC 8446, section 4.4.2.4), and in TLS 1.2 handshake_failure (RFC 5246, section 7.4.6) or, from Go servers,
// bad_certificate.
func (p *probe) alertClass(code uint8) observation.Class {
	if !p.seen.CertificateRequested {
		return observation.Alerted
	}
	switch {
	case code == alertCertificateRequired,
		p.seen.TLSVersion == tls.VersionName(tls.VersionTLS12) && (code == alertHandshakeFailure || code == alertBadCertificate):
		return observation.ClientCertificateRequired
	}
	return observation.Alerted
}

func isAlert(err error) bool {
	_, ok := alertCode(err)
	return ok
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, context.Canceled) || errors.As(err, &netErr) && netErr.Timeout()
}

// leafEvidence takes down who the peer is, and for a workload of the mesh, or for anybody where it is asked for, also
// what links the peer to a root.
func leafEvidence(chain []*x509.Certificate, anybody bool) *observation.Certificate {
	leaf := chain[0]
	sum := sha256.Sum256(leaf.Raw)
	evidence := &observation.Certificate{SHA256: hex.EncodeToString(sum[:]), NotAfter: leaf.NotAfter}
	length := 0
	for _, uri := range leaf.URIs[:min(len(leaf.URIs), maxURIs)] {
		text := uri.String()
		if length += len(text); length > maxURIBytes {
			break
		}
		evidence.URIs = append(evidence.URIs, text)
	}
	if anybody || evidence.SPIFFE() != "" {
		evidence.Chain = chainEvidence(chain[:min(len(chain), maxChain)])
	}
	return evidence
}

// chainEvidence is nothing where the whole is too long: a chain without its end would look like one that leads nowhere.
func chainEvidence(chain []*x509.Certificate) [][]byte {
	var encoded [][]byte
	length := 0
	for _, certificate := range chain {
		if length += len(certificate.Raw); length > maxChainBytes {
			return nil
		}
		encoded = append(encoded, certificate.Raw)
	}
	return encoded
}

func shorten(text string) string {
	if len(text) <= maxErrorBytes {
		return text
	}
	return fmt.Sprintf("%s…", strings.ToValidUTF8(text[:maxErrorBytes-len("…")], ""))
}
