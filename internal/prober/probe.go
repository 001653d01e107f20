// Package prober makes one TLS connection and reports what it saw. It is the part of the agent that runs inside the
// probed containers, so it uses the standard library alone.
package prober

import (
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
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/delivered"
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

	// An observation must fit into the line that the operator reads (maxObservationBytes in internal/agents), or it costs
	// every probe of the container its stream. The chain is a third longer in base64, and a URI up to six times in JSON.
	maxChainBytes = 24 << 10
	maxURIBytes   = 2 << 10 // as long as a SPIFFE ID may be
)

// Probe carries out one request on a connection of its own. It follows nothing of it through Envoy: that takes the agent,
// which knows what else is under way (Serve). It always returns within request.Timeout or when ctx ends, whichever is
// first, and never fails: whatever happens is the observation.
func Probe(ctx context.Context, request observation.Request) observation.Observation {
	p := newProbe(request)
	if p.prepare(ctx) {
		p.carryOut(ctx)
	}
	return p.seen
}

type probe struct {
	request observation.Request
	seen    observation.Observation
	progress
	// prepared is how long it took to prepare the request, and http what is sent when the connection stands.
	prepared time.Duration
	http     *http.Request
	forged   *tls.Certificate
}

// progress lets somebody look on while the probe goes on.
type progress struct {
	// connected is closed when the TCP connection stands, local and remote being its ends.
	connected     chan struct{}
	local, remote netip.AddrPort
	// settled is closed at the first sign that the TLS handshake came to an end: the peer's certificate, or the end of the
	// probe. Whatever Envoy does to bring a connection about, it has done then.
	settled chan struct{}
	// seenOff, where there is one, is closed when the connection has been looked at; it stays open until then.
	seenOff chan struct{}
}

func newProbe(request observation.Request) *probe {
	return &probe{
		request:  request,
		seen:     observation.Observation{ID: request.ID, Started: time.Now()},
		progress: progress{connected: make(chan struct{}), settled: make(chan struct{})},
	}
}

func (p *probe) settle() {
	select {
	case <-p.settled:
	default:
		close(p.settled)
	}
}

func (p *probe) end(class observation.Class, err error) {
	p.seen.Class = class
	if err != nil {
		p.seen.Error = shorten(err.Error())
	}
}

// prepare does what is to be done before the connection: it looks at the request, and resolves the name. False is the end.
func (p *probe) prepare(ctx context.Context) bool {
	if p.request.Timeout <= 0 {
		p.end(observation.InvalidRequest, errors.New("timeout must be positive"))
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, p.request.Timeout)
	defer cancel()
	defer func() { p.prepared = time.Since(p.seen.Started) }()
	if err := p.compose(); err != nil {
		p.end(observation.InvalidRequest, err)
	} else {
		p.resolve(ctx)
	}
	if p.seen.Class != "" {
		p.seen.Finished = time.Since(p.seen.Started)
	}
	return p.seen.Class == ""
}

// carryOut goes on where prepare ended. What passed in between is not this request's time.
func (p *probe) carryOut(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, p.request.Timeout-p.prepared)
	defer cancel()
	defer p.settle()
	p.seen.Started = time.Now().Add(-p.prepared)
	p.converse(ctx)
	if p.seen.Finished == 0 {
		p.seen.Finished = time.Since(p.seen.Started)
	}
}

func (p *probe) converse(ctx context.Context) {
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
	defer p.linger(ctx)

	conn := tls.Client(raw, p.tlsConfig())
	if !p.handshake(ctx, conn) {
		return
	}
	p.settle()
	if p.http == nil {
		p.wait(ctx, conn)
		return
	}
	p.exchange(ctx, conn)
}

// linger leaves the connection open for whoever looks on.
func (p *probe) linger(ctx context.Context) {
	p.seen.Finished = time.Since(p.seen.Started)
	p.settle()
	if p.seenOff == nil {
		return
	}
	select {
	case <-p.seenOff:
	case <-ctx.Done():
	}
}

// compose makes what is to be sent.
func (p *probe) compose() error {
	switch p.request.Hello {
	case observation.HelloHTTPS:
		return p.composeHTTP()
	case observation.HelloMesh:
		return nil
	case observation.HelloForged:
		var err error
		p.forged, err = forgeries.of(p.request.Identity)
		return err
	}
	return fmt.Errorf("there is no hello %q", p.request.Hello)
}

func (p *probe) composeHTTP() error {
	if !strings.HasPrefix(p.request.Path, "/") {
		return fmt.Errorf("path %q does not begin with /", p.request.Path)
	}
	request, err := http.NewRequest(http.MethodGet, "https://"+p.host()+p.request.Path, nil)
	if err != nil {
		return err
	}
	request.Close = true
	request.Header.Set("User-Agent", userAgent)
	p.http = request
	return nil
}

const userAgent = "httpsmeshprobe"

func (p *probe) resolve(ctx context.Context) {
	host, port, err := net.SplitHostPort(p.request.Address)
	if err != nil {
		p.end(observation.InvalidRequest, err)
		return
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 || host == "" {
		p.end(observation.InvalidRequest, fmt.Errorf("address %q is not host:port", p.request.Address))
		return
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		p.end(observation.NameNotResolved, whyNotResolved(host, err))
		return
	}
	p.seen.Remote = net.JoinHostPort(addresses[0], port)
}

func (p *probe) connect(ctx context.Context) net.Conn {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.seen.Remote)
	switch {
	case err == nil:
		p.seen.Connected = time.Since(p.seen.Started)
		p.local, p.remote = addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())
		close(p.connected)
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

func addrPort(address net.Addr) netip.AddrPort {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := tcp.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
}

// hello is what the client's Envoy gets to see.
func (p *probe) hello() delivered.Hello {
	// Remote is an address once the name is resolved; one with a zone leads to no Service.
	address, _ := netip.ParseAddrPort(p.seen.Remote)
	return delivered.Hello{
		Address:    netip.AddrPortFrom(address.Addr().Unmap(), address.Port()),
		ServerName: strings.TrimSuffix(p.request.ServerName, "."), Protocols: p.protocols(),
	}
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

func (p *probe) host() string {
	if name := strings.TrimSuffix(p.request.ServerName, "."); name != "" {
		return name
	}
	return p.request.Address
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
	if !p.seen.CertificateRequested || p.forged != nil {
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
