package prober

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

var (
	duringHandshake = stage{
		timeout: observation.HandshakeTimeout, closed: observation.HandshakeClosed, reset: observation.HandshakeReset, other: observation.HandshakeFailed,
	}
	beforeResponse = stage{
		timeout: observation.ResponseTimeout, closed: observation.ResponseClosed, reset: observation.ResponseReset, other: observation.NotHTTP,
	}
	// Once the server has asked for a certificate, hanging up may be its answer to there being none.
	askedDuringHandshake = stage{
		timeout: observation.HandshakeTimeout, closed: observation.ClosedAfterCertificateRequest, reset: observation.ClosedAfterCertificateRequest,
		other: observation.HandshakeFailed,
	}
	askedBeforeResponse = stage{
		timeout: observation.ResponseTimeout, closed: observation.ClosedAfterCertificateRequest, reset: observation.ClosedAfterCertificateRequest,
		other: observation.NotHTTP,
	}
)

// moment is where something goes wrong, and what a probe must call it.
type moment struct {
	name    string
	version uint16
	auth    tls.ClientAuthType
	at      phase
	want    stage
}

// moments are all the phases of a connection. A TLS 1.3 client has finished its handshake when the server has sent its
// first flight; in TLS 1.2 the server has the last word.
func moments() []moment {
	const asks, asksNot = tls.RequireAnyClientCert, tls.NoClientCert
	handshaken := map[uint16]stage{tls.VersionTLS12: duringHandshake, tls.VersionTLS13: beforeResponse}
	asked := map[uint16]stage{tls.VersionTLS12: askedDuringHandshake, tls.VersionTLS13: askedBeforeResponse}
	var all []moment
	for _, version := range versions {
		all = append(all,
			moment{"after accept", version, asksNot, atAccept, duringHandshake},
			moment{"after ClientHello", version, asksNot, atClientHello, duringHandshake},
			moment{"in ServerHello", version, asksNot, inServerHello, duringHandshake},
			moment{"after ServerHello", version, asksNot, afterServerHello, duringHandshake},
			moment{"after ServerHello of a server that asks", version, asks, afterServerHello, duringHandshake},
			moment{"after the server's first flight", version, asksNot, afterServerFlight, handshaken[version]},
			moment{"after CertificateRequest", version, asks, afterServerFlight, asked[version]},
			moment{"after handshake", version, asksNot, afterHandshake, beforeResponse},
			moment{"after handshake in which a certificate was asked for", version, tls.RequestClientCert, afterHandshake, askedBeforeResponse},
			moment{"after request", version, asksNot, atRequest, beforeResponse},
			moment{"in the response's header", version, asksNot, inHeader, beforeResponse},
		)
	}
	return all
}

func TestConnectionsThatEnd(t *testing.T) {
	server := newIdentity(t, workload)
	for _, m := range moments() {
		for name, c := range map[string]struct {
			fault func(*net.TCPConn)
			want  observation.Class
		}{
			"closed": {finish, m.want.closed},
			"reset":  {reset, m.want.reset},
		} {
			t.Run(fmt.Sprintf("%s/%s/%s", tls.VersionName(m.version), m.name, name), func(t *testing.T) {
				address := startFault(t, server.config(m.version, m.auth), m.at, c.fault)
				seen := probed(t, address)
				wantClass(t, seen, c.want)
				wantEvidence(t, seen, m, server)
				if seen.Remote != address || seen.Connected <= 0 || seen.Alert != "" || seen.HTTPCode != 0 || seen.Error == "" {
					t.Errorf("%+v is not what such a connection leaves", seen)
				}
			})
		}
	}
}

// wantEvidence checks that what came before the fault was noted, even though the probe failed later.
func wantEvidence(t *testing.T, seen observation.Observation, m moment, server identity) {
	t.Helper()
	asked := m.want == askedDuringHandshake || m.want == askedBeforeResponse
	if seen.CertificateRequested != asked {
		t.Errorf("%s: certificate requested %t, want %t", m.name, seen.CertificateRequested, asked)
	}
	flight := m.want != duringHandshake || strings.HasSuffix(m.name, "first flight")
	if (seen.Leaf != nil) != flight || flight && seen.Leaf.SHA256 != server.evidence.SHA256 {
		t.Errorf("%s: leaf %+v, want one: %t", m.name, seen.Leaf, flight)
	}
	hello := flight || strings.HasPrefix(m.name, "after ServerHello")
	if want := tls.VersionName(m.version); hello && seen.TLSVersion != want || !hello && seen.TLSVersion != "" {
		t.Errorf("%s: version %q, want %q: %t", m.name, seen.TLSVersion, want, hello)
	}
	if finished := m.want == beforeResponse || m.want == askedBeforeResponse; (seen.Handshaken > 0) != finished {
		t.Errorf("%s: handshaken after %v, want it to be: %t", m.name, seen.Handshaken, finished)
	}
}

// The stalls go on side by side, so that the test takes as long as one of them.
func TestStallsEndWithTheTimeout(t *testing.T) {
	const timeout = 4 * time.Second
	server := newIdentity(t, workload)
	var probes sync.WaitGroup
	defer probes.Wait()
	for _, m := range moments() {
		address := startFault(t, server.config(m.version, m.auth), m.at, stall)
		probes.Go(func() {
			request := requestTo(address)
			request.Timeout = timeout
			seen := probedWithin(t, request, timeout+slack)
			if seen.Class != m.want.timeout || seen.Finished < timeout {
				t.Errorf("%s, %s: %s (%s) after %v, want %s after %v or more",
					tls.VersionName(m.version), m.name, seen.Class, seen.Error, seen.Finished, m.want.timeout, timeout)
			}
			wantEvidence(t, seen, m, server)
		})
	}
}

func TestStallsEndWithTheContext(t *testing.T) {
	server := newIdentity(t, workload)
	for _, m := range moments() {
		t.Run(tls.VersionName(m.version)+"/"+m.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			address := startFault(t, server.config(m.version, m.auth), m.at, func(conn *net.TCPConn) {
				cancel()
				stall(conn)
			})
			began := time.Now()
			seen := Probe(ctx, requestTo(address))
			// The server may be further than the client: what it sent is under way when the context ends.
			earlier := []observation.Class{observation.ConnectTimeout, observation.HandshakeTimeout}
			if seen.Class != m.want.timeout && !slices.Contains(earlier, seen.Class) {
				t.Errorf("class %s (%s), want %s or an earlier time-out", seen.Class, seen.Error, m.want.timeout)
			}
			if took := time.Since(began); took > slack {
				t.Errorf("the probe ended %v after its context", took)
			}
		})
	}
	t.Run("before connecting", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		wantClass(t, Probe(ctx, requestTo("127.0.0.1:1")), observation.ConnectTimeout)
	})
}

func TestConnectTimeout(t *testing.T) {
	const timeout = 300 * time.Millisecond
	request := requestTo(fullListener(t))
	request.Timeout = timeout
	seen := probedWithin(t, request, timeout+slack)
	wantClass(t, seen, observation.ConnectTimeout)
	if seen.Connected != 0 || seen.Remote != request.Address || seen.Finished < timeout {
		t.Errorf("%+v, want no connection to %s for %v", seen, request.Address, timeout)
	}
}

// boundSocket is a socket that has an address and does not listen there yet.
func boundSocket(t *testing.T) (socket int, address string) {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(socket) })
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return socket, fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
}

// fullListener is the address of a listener whose queue is full, so that the kernel drops whoever knocks.
func fullListener(t *testing.T) (address string) {
	t.Helper()
	socket, address := boundSocket(t)
	if err := syscall.Listen(socket, 0); err != nil {
		t.Fatal(err)
	}
	for range 16 {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return address
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Skip("this kernel accepts more connections than a listener's queue has room for")
	return ""
}

func TestConnectionRefused(t *testing.T) {
	// The port stays taken, so that no other program can begin to listen there.
	_, address := boundSocket(t)
	seen := probed(t, address)
	wantClass(t, seen, observation.ConnectionRefused)
	if seen.Connected != 0 || seen.Remote != address {
		t.Errorf("%+v, want no connection to %s", seen, address)
	}
}

// The kernel may know of the reset before the client knows of the connection: then it is the dialing that fails.
func TestResetAtOnceIsNeverTakenForUnreachable(t *testing.T) {
	const rounds = 1000
	address := startPeer(t, reset)
	for range rounds {
		if seen := probed(t, address); seen.Class != observation.HandshakeReset || seen.Connected <= 0 {
			t.Fatalf("class %s (%s) after a connection in %v, want %s", seen.Class, seen.Error, seen.Connected, observation.HandshakeReset)
		}
	}
}

func TestUnreachable(t *testing.T) {
	// A broadcast address takes no TCP connection: the kernel itself says so.
	wantClass(t, probed(t, "255.255.255.255:443"), observation.Unreachable)
}

func TestServersThatSpeakNoTLS(t *testing.T) {
	for name, banner := range map[string]string{
		"HTTP":             "HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nConnection: close\r\n\r\n",
		"SSH":              "SSH-2.0-OpenSSH_9.2p1\r\n",
		"MySQL":            "\x4a\x00\x00\x00\x0a8.0.35\x00",
		"SSL 2":            "\x80\x2e\x01\x00\x02" + strings.Repeat("\x00", 41),
		"zeros":            strings.Repeat("\x00", 64),
		"endless":          strings.Repeat("spam", 1<<20),
		"oversized record": "\x16\x03\x03\xff\xff" + strings.Repeat("x", 1<<16),
	} {
		t.Run(name, func(t *testing.T) {
			seen := probed(t, startFault(t, nil, atAccept, send(banner)))
			wantClass(t, seen, observation.NotTLS)
			if seen.TLSVersion != "" || seen.Leaf != nil || seen.Alert != "" || seen.Connected <= 0 {
				t.Errorf("%+v, want a connection and nothing else", seen)
			}
		})
	}
}

func TestGarbage(t *testing.T) {
	server := newIdentity(t, workload)
	const (
		noRecord       = "this is no TLS record"
		badServerHello = "\x16\x03\x03\x00\x0c\x02\x00\x00\x08\x13\x37\x13\x37\x13\x37\x13\x37"
		wrongMessage   = "\x16\x03\x03\x00\x04\x0e\x00\x00\x00"
		closeNotify    = "\x15\x03\x03\x00\x02\x01\x00"
		badCiphertext  = "\x17\x03\x03\x00\x20" + "0123456789abcdef0123456789abcdef"
	)
	for name, c := range map[string]struct {
		at   phase
		data string
		want observation.Class
	}{
		"malformed ServerHello":        {atClientHello, badServerHello, observation.HandshakeFailed},
		"another message":              {atClientHello, wrongMessage, observation.HandshakeFailed},
		"close_notify":                 {atClientHello, closeNotify, observation.HandshakeClosed},
		"plain text after ServerHello": {afterServerHello, noRecord, observation.HandshakeFailed},
		"bad record after ServerHello": {afterServerHello, badCiphertext, observation.HandshakeFailed},
		"plain text after handshake":   {afterHandshake, noRecord, observation.NotHTTP},
		"bad record after handshake":   {afterHandshake, badCiphertext, observation.NotHTTP},
	} {
		for _, version := range versions {
			t.Run(tls.VersionName(version)+"/"+name, func(t *testing.T) {
				seen := probed(t, startFault(t, server.config(version, tls.NoClientCert), c.at, send(c.data)))
				wantClass(t, seen, c.want)
				if seen.Alert != "" {
					t.Errorf("alert %q is our own, not the peer's", seen.Alert)
				}
			})
		}
	}
}

func TestResponsesThatAreNoHTTP(t *testing.T) {
	config := newIdentity(t).config(tls.VersionTLS13, tls.NoClientCert)
	for name, response := range map[string]string{
		"banner":           "SSH-2.0-OpenSSH_9.2p1\r\n",
		"no status code":   "HTTP/1.1 fine\r\n\r\n",
		"malformed header": "HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
		"binary":           strings.Repeat("\x00\xff", 1000) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			seen := probed(t, startTLSPeer(t, config, answer(response)))
			wantClass(t, seen, observation.NotHTTP)
			if seen.HTTPCode != 0 || seen.Error == "" {
				t.Errorf("code %d and error %q, want 0 and some", seen.HTTPCode, seen.Error)
			}
		})
	}
	for name, start := range map[string]string{"endless header": "HTTP/1.1 200 OK\r\n", "endless line": "HTTP/1.1 200 OK\r\nA: "} {
		t.Run(name, func(t *testing.T) {
			more := "B: c\r\n"
			if !strings.HasSuffix(start, "\n") {
				more = "spam and spam"
			}
			address := startTLSPeer(t, config, func(conn *tls.Conn, _ error) {
				_, _ = conn.Read(make([]byte, 1))
				_, err := io.WriteString(conn, start)
				for err == nil {
					_, err = io.WriteString(conn, more)
				}
			})
			wantClass(t, probed(t, address), observation.NotHTTP)
		})
	}
}

// A server that only asks for a certificate and then answers too much has refused nobody.
func TestHeaderSize(t *testing.T) {
	const field = 1 << 10
	server := newIdentity(t)
	for name, c := range map[string]struct {
		fields int
		want   observation.Class
	}{
		"just fits":    {maxHeaderBytes/field - 1, observation.Answered},
		"does not fit": {maxHeaderBytes / field, observation.NotHTTP},
	} {
		for _, auth := range []tls.ClientAuthType{tls.NoClientCert, tls.RequestClientCert} {
			t.Run(name+"/"+auth.String(), func(t *testing.T) {
				header := strings.Repeat("A: "+strings.Repeat("a", field-len("A: \r\n"))+"\r\n", c.fields)
				address := startTLSPeer(t, server.config(tls.VersionTLS12, auth), answer("HTTP/1.1 200 OK\r\n"+header+"\r\n"))
				wantClass(t, probed(t, address), c.want)
			})
		}
	}
}

// FuzzServerInTheClear lets a server say anything without a key: it must end the probe, and prove nothing.
func FuzzServerInTheClear(f *testing.F) {
	const (
		certificateRequired = "\x15\x03\x03\x00\x02\x02\x74"
		warning             = "\x15\x03\x03\x00\x02\x01\x70"
		changeCipherSpec    = "\x14\x03\x03\x00\x01\x01"
	)
	for _, seed := range []string{
		"", "\x16", "\x16\x03\x03\x00\x00", "\x16\x03\x03\x00\x20half", "\x16\x10\x00\x00\x01\x02", certificateRequired, warning,
		strings.Repeat(warning, 100), changeCipherSpec, "\x8b\x1d\xe2\x0f\x9c\x44\xd7\x03\x5e\xa1",
	} {
		f.Add([]byte(seed))
	}
	possible := []observation.Class{observation.NotTLS, observation.Alerted, observation.HandshakeClosed, observation.HandshakeFailed}
	f.Fuzz(func(t *testing.T, said []byte) {
		seen := probed(t, startFault(t, nil, atClientHello, send(string(said))))
		if !slices.Contains(possible, seen.Class) || seen.CertificateRequested || seen.Leaf != nil {
			t.Errorf("%+v, want one of %v and no evidence", seen, possible)
		}
	})
}
