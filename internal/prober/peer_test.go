package prober

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

const (
	// ample is the time-out of probes that must end long before it, whatever else the machine is doing.
	ample = time.Minute
	// slack is what a loaded machine may add to the time that a probe or a server takes.
	slack = 20 * time.Second

	workload = "spiffe://cluster.local/ns/probes/sa/nginx"

	serverName = "nginx.probes.svc"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if left := leftGoroutines(); code == 0 && left != "" {
		fmt.Fprintf(os.Stderr, "goroutines are left after the tests:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// leftGoroutines are the stacks of the goroutines besides the caller's that do not end in time.
func leftGoroutines() string {
	stacks := make([]byte, 1<<20)
	var left string
	polled(func() bool {
		all := strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n")
		own := func(stack string) bool { return strings.Contains(stack, "leftGoroutines") }
		others := all[:0]
		for _, stack := range all {
			if !own(stack) && !strings.Contains(stack, "os/signal.") {
				others = append(others, stack)
			}
		}
		left = strings.Join(others, "\n\n")
		return left == ""
	})
	return left
}

// polled asks until the answer is yes, for no longer than slack.
func polled(yes func() bool) bool {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(slack); time.Now().Before(deadline); <-ticker.C {
		if yes() {
			return true
		}
	}
	return yes()
}

// startPeer starts a TCP server whose connections are handled by handle, each in a goroutine of its own, and closed after.
func startPeer(t *testing.T, handle func(*net.TCPConn)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var handlers sync.WaitGroup
	handlers.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			handlers.Go(func() {
				defer conn.Close()
				handle(conn.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		handlers.Wait()
	})
	return listener.Addr().String()
}

// startTLSPeer starts a server that hands over connections after its side of the handshake, whatever came of it.
func startTLSPeer(t *testing.T, config *tls.Config, handle func(*tls.Conn, error)) (address string) {
	t.Helper()
	return startPeer(t, func(raw *net.TCPConn) {
		conn := tls.Server(raw, config)
		handle(conn, conn.Handshake())
	})
}

// answer is the rest of a connection on which response is sent whatever the request is.
func answer(response string) func(*tls.Conn, error) {
	return func(conn *tls.Conn, err error) {
		if err != nil {
			return
		}
		_, _ = conn.Read(make([]byte, 1))
		_, _ = io.WriteString(conn, response)
		drain(conn)
	}
}

// drain reads until the client hangs up, so that closing afterwards can cause no reset.
func drain(conn io.Reader) {
	_, _ = io.Copy(io.Discard, conn)
}

// What can go wrong with a connection at any moment.
func stall(conn *net.TCPConn) { drain(conn) }

func finish(conn *net.TCPConn) {
	_ = conn.CloseWrite()
	drain(conn)
}

func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

func send(data string) func(*net.TCPConn) {
	return func(conn *net.TCPConn) {
		_, _ = io.WriteString(conn, data)
		finish(conn)
	}
}

// versions are those that a probe speaks.
var versions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

func plainAlert(code uint8) func(*net.TCPConn) {
	const record, fatal = 21, 2
	return send(string([]byte{record, 3, 3, 0, 2, fatal, code}))
}

// A phase takes a connection to some moment and does there what is to go wrong.
type phase func(conn *net.TCPConn, config *tls.Config, fault func(*net.TCPConn))

// startFault starts a server on whose connections something goes wrong at a certain moment.
func startFault(t *testing.T, config *tls.Config, at phase, fault func(*net.TCPConn)) (address string) {
	t.Helper()
	return startPeer(t, func(conn *net.TCPConn) { at(conn, config, fault) })
}

func atAccept(conn *net.TCPConn, _ *tls.Config, fault func(*net.TCPConn)) { fault(conn) }

func atClientHello(conn *net.TCPConn, _ *tls.Config, fault func(*net.TCPConn)) {
	_, _ = io.ReadFull(conn, make([]byte, 5))
	fault(conn)
}

// inServerHello stops within the first record of the server.
func inServerHello(conn *net.TCPConn, config *tls.Config, fault func(*net.TCPConn)) {
	_ = tls.Server(&cutConn{Conn: conn, left: func([]byte) int { return 20 }}, config).Handshake()
	fault(conn)
}

// afterServerHello stops between the first record of the server, which settles the version, and the second.
func afterServerHello(conn *net.TCPConn, config *tls.Config, fault func(*net.TCPConn)) {
	first := func(flight []byte) int { return 5 + int(flight[3])<<8 + int(flight[4]) }
	_ = tls.Server(&cutConn{Conn: conn, left: first}, config).Handshake()
	fault(conn)
}

// afterServerFlight stops where the server has said all that it says before its verdict on the client, and the client
// has begun to answer.
func afterServerFlight(conn *net.TCPConn, config *tls.Config, fault func(*net.TCPConn)) {
	_ = tls.Server(&oneFlightConn{Conn: conn}, config).Handshake()
	fault(conn)
}

func afterHandshake(conn *net.TCPConn, config *tls.Config, fault func(*net.TCPConn)) {
	_ = tls.Server(conn, config).Handshake()
	fault(conn)
}

func atRequest(conn *net.TCPConn, config *tls.Config, fault func(*net.TCPConn)) {
	_, _ = tls.Server(conn, config).Read(make([]byte, 1))
	fault(conn)
}

func inHeader(conn *net.TCPConn, config *tls.Config, fault func(*net.TCPConn)) {
	secured := tls.Server(conn, config)
	_, _ = secured.Read(make([]byte, 1))
	_, _ = io.WriteString(secured, "HTTP/1.1 200 OK\r\nServer: ngi")
	fault(conn)
}

var errCut = errors.New("cut by the test")

// cutConn sends the first bytes of a flight, as many as left says, and fails from then on.
type cutConn struct {
	net.Conn
	left func(flight []byte) int
	cut  bool
}

func (c *cutConn) Write(flight []byte) (int, error) {
	if c.cut {
		return 0, errCut
	}
	c.cut = true
	_, _ = c.Conn.Write(flight[:c.left(flight)])
	return 0, errCut
}

// oneFlightConn fails when the client has answered to what was written first.
type oneFlightConn struct {
	net.Conn
	written bool
}

func (c *oneFlightConn) Write(flight []byte) (int, error) {
	c.written = true
	return c.Conn.Write(flight)
}

func (c *oneFlightConn) Read(buffer []byte) (int, error) {
	if !c.written {
		return c.Conn.Read(buffer)
	}
	_, _ = c.Conn.Read(make([]byte, 1))
	return 0, errCut
}

// identity is a certificate with its key, and the evidence that a probe must take from it.
type identity struct {
	certificate tls.Certificate
	der         []byte
	evidence    observation.Certificate
}

func newIdentity(t *testing.T, uris ...string) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "my-nginx", Organization: []string{"my-nginx"}},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour).UTC().Truncate(time.Second),
	}
	for _, text := range uris {
		uri, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, uri)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	evidence := observation.Certificate{SHA256: hex.EncodeToString(sum[:]), URIs: uris, NotAfter: template.NotAfter}
	if slices.Contains(uris, workload) {
		evidence.Chain = [][]byte{der}
	}
	return identity{
		certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		der:         der,
		evidence:    evidence,
	}
}

func (i identity) config(version uint16, auth tls.ClientAuthType) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{i.certificate},
		MinVersion:   version,
		MaxVersion:   version,
		ClientAuth:   auth,
	}
}

func requestTo(address string) observation.Request {
	return observation.Request{ID: 7, Address: address, ServerName: serverName, Path: "/", Timeout: ample}
}

// probed probes address with a time-out that the probe must not need.
func probed(t *testing.T, address string) observation.Observation {
	t.Helper()
	return probedWithin(t, requestTo(address), slack)
}

func probedWithin(t *testing.T, request observation.Request, limit time.Duration) observation.Observation {
	t.Helper()
	started := time.Now()
	seen := Probe(context.Background(), request)
	if took := time.Since(started); took > limit {
		t.Errorf("the probe took %v, want %v or less", took, limit)
	}
	if seen.ID != request.ID {
		t.Errorf("ID %d, want %d", seen.ID, request.ID)
	}
	if len(seen.Error) > maxErrorBytes {
		t.Errorf("the error is %d bytes long, want %d or less", len(seen.Error), maxErrorBytes)
	}
	return seen
}

func wantClass(t *testing.T, seen observation.Observation, class observation.Class) {
	t.Helper()
	if seen.Class != class {
		t.Errorf("class %s (%s), want %s", seen.Class, seen.Error, class)
	}
}
