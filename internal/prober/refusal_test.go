package prober

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// often is how many times a refusal must be recognised in a row: a lost race shows as a reset now and then.
const often = 50

// refuse hangs up as a server does whose handshake failed: the alert is sent, what the client still sends is not read.
func refuse(conn *tls.Conn, err error) {
	if err == nil {
		drain(conn)
	}
}

// refuseAndReset leaves the client as little time to read the alert as a server can.
func refuseAndReset(conn *tls.Conn, err error) {
	if err == nil {
		drain(conn)
		return
	}
	reset(conn.NetConn().(*net.TCPConn))
}

func TestServersThatDemandAClientCertificate(t *testing.T) {
	sidecar := newIdentity(t, workload)
	alerts := map[uint16]string{tls.VersionTLS12: "handshake_failure", tls.VersionTLS13: "certificate_required"}
	for _, version := range versions {
		for name, hangUp := range map[string]func(*tls.Conn, error){"closes": refuse, "resets": refuseAndReset} {
			t.Run(tls.VersionName(version)+"/"+name, func(t *testing.T) {
				address := startTLSPeer(t, sidecar.config(version, tls.RequireAnyClientCert), hangUp)
				for range often {
					wantRefusal(t, probed(t, address), version, alerts[version], sidecar)
				}
			})
		}
	}
}

func wantRefusal(t *testing.T, seen observation.Observation, version uint16, alert string, server identity) {
	t.Helper()
	wantClass(t, seen, observation.ClientCertificateRequired)
	if seen.Alert != alert || !seen.CertificateRequested {
		t.Errorf("alert %q, certificate requested %t; want %q, true", seen.Alert, seen.CertificateRequested, alert)
	}
	if !reflect.DeepEqual(seen.Leaf, &server.evidence) || seen.SPIFFE() != workload {
		t.Errorf("leaf %+v, want %+v", seen.Leaf, server.evidence)
	}
	if seen.TLSVersion != tls.VersionName(version) || seen.CipherSuite == "" || seen.HTTPCode != 0 || seen.Error == "" {
		t.Errorf("version %q, cipher suite %q, code %d, error %q", seen.TLSVersion, seen.CipherSuite, seen.HTTPCode, seen.Error)
	}
}

func TestServersThatOnlyAskForAClientCertificate(t *testing.T) {
	for _, version := range versions {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			config := newIdentity(t, workload).config(version, tls.RequestClientCert)
			seen := probed(t, startTLSPeer(t, config, answer("HTTP/1.1 200 OK\r\n\r\n")))
			wantClass(t, seen, observation.Answered)
			if !seen.CertificateRequested || seen.HTTPCode != 200 || seen.Alert != "" {
				t.Errorf("certificate requested %t, code %d, alert %q; want true, 200, none", seen.CertificateRequested, seen.HTTPCode, seen.Alert)
			}
			// Sent earlier, the request could turn the alert of a server that refuses into a reset.
			if waited := seen.Finished - seen.Handshaken; version == tls.VersionTLS13 && waited < alertWait {
				t.Errorf("the request was sent within %v of the handshake, want %v or more", waited, alertWait)
			}
		})
	}
}

// A refusal after the time for which a probe only listens is a refusal all the same.
func TestRefusalAfterTheRequest(t *testing.T) {
	config := newIdentity(t, workload).config(tls.VersionTLS13, tls.RequireAnyClientCert)
	address := startPeer(t, func(raw *net.TCPConn) {
		// The server is kept from reading what the client answers until the client has sent its request as well.
		held := &heldConn{Conn: raw}
		_ = tls.Server(held, config).Handshake()
	})
	seen := probed(t, address)
	wantClass(t, seen, observation.ClientCertificateRequired)
}

// heldConn hands over what the client answers to the first flight when the client has sent three application data
// records: its Certificate, its Finished and its request.
type heldConn struct {
	net.Conn
	written bool
	held    []byte
	records int
}

func (c *heldConn) Write(flight []byte) (int, error) {
	c.written = true
	return c.Conn.Write(flight)
}

func (c *heldConn) Read(buffer []byte) (int, error) {
	const header, applicationData, wanted = 5, 23, 3
	for c.written && c.records < wanted {
		record := make([]byte, header)
		if _, err := io.ReadFull(c.Conn, record); err != nil {
			return 0, err
		}
		body := make([]byte, int(record[3])<<8+int(record[4]))
		if _, err := io.ReadFull(c.Conn, body); err != nil {
			return 0, err
		}
		if record[0] == applicationData {
			c.records++
		}
		c.held = append(append(c.held, record...), body...)
	}
	if len(c.held) > 0 {
		n := copy(buffer, c.held)
		c.held = c.held[n:]
		return n, nil
	}
	return c.Conn.Read(buffer)
}

// A server that refuses may close before the request is written: then it is the alert that tells why, not the error of
// the write.
func TestAlertBehindAWriteThatFails(t *testing.T) {
	config := newIdentity(t, workload).config(tls.VersionTLS13, tls.NoClientCert)
	config.VerifyConnection = func(tls.ConnectionState) error { return errors.New("not today") }
	raw, err := net.Dial("tcp", startTLSPeer(t, config, refuse))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(ample))
	muted := &mutableConn{Conn: raw}
	p := newProbe(requestTo(raw.RemoteAddr().String()))
	if !p.prepare(t.Context()) {
		t.Fatal(p.seen.Error)
	}
	conn := tls.Client(muted, p.tlsConfig())
	if !p.handshake(t.Context(), conn) {
		t.Fatalf("the handshake failed: %s", p.seen.Error)
	}
	muted.mute = true
	p.exchange(t.Context(), conn)
	wantClass(t, p.seen, observation.Alerted)
	if p.seen.Alert != "bad_certificate" {
		t.Errorf("alert %q, want bad_certificate", p.seen.Alert)
	}
}

// mutableConn is to its client a connection that the peer has closed, as soon as it is muted.
type mutableConn struct {
	net.Conn
	mute bool
}

func (c *mutableConn) Write(data []byte) (int, error) {
	if c.mute {
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(data)
}

func TestOpenSSLServers(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not on this machine")
	}
	sidecar := newIdentity(t, workload)
	alerts := map[uint16]string{tls.VersionTLS12: "handshake_failure", tls.VersionTLS13: "certificate_required"}
	flags := map[uint16]string{tls.VersionTLS12: "-tls1_2", tls.VersionTLS13: "-tls1_3"}
	for _, version := range versions {
		t.Run(tls.VersionName(version)+"/demands", func(t *testing.T) {
			address := startOpenSSL(t, openssl, sidecar, flags[version], "-Verify", "1")
			for range often {
				wantRefusal(t, probed(t, address), version, alerts[version], sidecar)
			}
		})
		t.Run(tls.VersionName(version)+"/asks", func(t *testing.T) {
			seen := probed(t, startOpenSSL(t, openssl, sidecar, flags[version], "-verify", "1"))
			wantClass(t, seen, observation.Answered)
			if !seen.CertificateRequested || seen.HTTPCode != 200 {
				t.Errorf("certificate requested %t, code %d; want true, 200", seen.CertificateRequested, seen.HTTPCode)
			}
		})
	}
}

func startOpenSSL(t *testing.T, openssl string, server identity, flags ...string) (address string) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(server.certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "server.pem")
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	if err := os.WriteFile(file, both, 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(openssl, append([]string{"s_server", "-accept", "127.0.0.1:0", "-www", "-cert", file, "-key", file}, flags...)...)
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	drained := make(chan struct{})
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-drained
		_ = command.Wait()
	})
	for lines.Scan() {
		if address, found := strings.CutPrefix(lines.Text(), "ACCEPT "); found {
			go func() {
				defer close(drained)
				drain(output)
			}()
			return address
		}
	}
	close(drained)
	t.Fatal("openssl s_server says nothing of the address at which it listens")
	return ""
}

func TestClassOfAnAlert(t *testing.T) {
	const (
		refusal   = observation.ClientCertificateRequired
		internal  = 80
		unknownCA = 48
	)
	for _, c := range []struct {
		version   uint16
		requested bool
		code      uint8
		want      observation.Class
	}{
		{tls.VersionTLS13, true, alertCertificateRequired, refusal},
		{tls.VersionTLS13, true, alertHandshakeFailure, observation.Alerted},
		{tls.VersionTLS13, true, alertBadCertificate, observation.Alerted},
		{tls.VersionTLS13, true, internal, observation.Alerted},
		{tls.VersionTLS13, true, unknownCA, observation.Alerted},
		{tls.VersionTLS13, false, alertCertificateRequired, observation.Alerted},
		{tls.VersionTLS12, true, alertCertificateRequired, refusal},
		{tls.VersionTLS12, true, alertHandshakeFailure, refusal},
		{tls.VersionTLS12, true, alertBadCertificate, refusal},
		{tls.VersionTLS12, true, internal, observation.Alerted},
		{tls.VersionTLS12, true, unknownCA, observation.Alerted},
		{tls.VersionTLS12, false, alertHandshakeFailure, observation.Alerted},
		{tls.VersionTLS12, false, alertBadCertificate, observation.Alerted},
		{0, false, alertHandshakeFailure, observation.Alerted},
	} {
		p := &probe{seen: observation.Observation{CertificateRequested: c.requested}}
		if c.version != 0 {
			p.seen.TLSVersion = tls.VersionName(c.version)
		}
		if got := p.alertClass(c.code); got != c.want {
			t.Errorf("%s in %q, certificate requested %t: %s, want %s", alertName(c.code), p.seen.TLSVersion, c.requested, got, c.want)
		}
	}
}

func TestAlertsAfterTheCertificateRequest(t *testing.T) {
	sidecar := newIdentity(t, workload)
	for code, want := range map[uint8]observation.Class{
		alertHandshakeFailure:    observation.ClientCertificateRequired,
		alertBadCertificate:      observation.ClientCertificateRequired,
		alertCertificateRequired: observation.ClientCertificateRequired,
		48:                       observation.Alerted,
		80:                       observation.Alerted,
	} {
		t.Run("TLS 1.2/"+alertName(code), func(t *testing.T) {
			seen := probed(t, startFault(t, sidecar.config(tls.VersionTLS12, tls.RequireAnyClientCert), afterServerFlight, plainAlert(code)))
			wantClass(t, seen, want)
			if seen.Alert != alertName(code) || !seen.CertificateRequested {
				t.Errorf("alert %q, certificate requested %t; want %q, true", seen.Alert, seen.CertificateRequested, alertName(code))
			}
		})
	}
	t.Run("TLS 1.3/bad_certificate", func(t *testing.T) {
		config := sidecar.config(tls.VersionTLS13, tls.RequestClientCert)
		config.VerifyConnection = func(tls.ConnectionState) error { return errors.New("not today") }
		seen := probed(t, startTLSPeer(t, config, refuse))
		wantClass(t, seen, observation.Alerted)
		if seen.Alert != "bad_certificate" || !seen.CertificateRequested {
			t.Errorf("alert %q, certificate requested %t; want bad_certificate, true", seen.Alert, seen.CertificateRequested)
		}
	})
}

func TestAlertsThatSayNothingOfClientCertificates(t *testing.T) {
	for _, code := range []uint8{alertHandshakeFailure, alertBadCertificate, alertCertificateRequired, 70, 80, 112, 255} {
		t.Run(alertName(code), func(t *testing.T) {
			seen := probed(t, startFault(t, nil, atClientHello, plainAlert(code)))
			wantClass(t, seen, observation.Alerted)
			if seen.Alert != alertName(code) || seen.CertificateRequested || seen.Leaf != nil || seen.TLSVersion != "" {
				t.Errorf("%+v, want the alert %s and nothing else", seen, alertName(code))
			}
		})
	}
	other := newIdentity(t).config(tls.VersionTLS13, tls.NoClientCert)
	other.NextProtos = []string{"other"}
	for alert, config := range map[string]*tls.Config{
		"protocol_version":        newIdentity(t).config(tls.VersionTLS11, tls.NoClientCert),
		"no_application_protocol": other,
	} {
		t.Run("server/"+alert, func(t *testing.T) {
			seen := probed(t, startTLSPeer(t, config, refuse))
			wantClass(t, seen, observation.Alerted)
			if seen.Alert != alert {
				t.Errorf("alert %q, want %q", seen.Alert, alert)
			}
		})
	}
}

// crypto/tls words alerts differently, but a code that means the same shares a word with it.
func TestAlertNames(t *testing.T) {
	seen := map[string]uint8{}
	for code := range alertNames {
		name := alertName(code)
		if other, twice := seen[name]; twice {
			t.Errorf("%d and %d are both %q", code, other, name)
		}
		seen[name] = code
		words := strings.Fields(tls.AlertError(code).Error())
		if !slices.ContainsFunc(strings.Split(name, "_"), func(word string) bool { return slices.Contains(words, word) }) {
			t.Errorf("%d is %s, and to crypto/tls %q", code, name, words)
		}
	}
	if got := alertName(200); got != "alert_200" {
		t.Errorf("an unknown alert is called %q, want alert_200", got)
	}
}
