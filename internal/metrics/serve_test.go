package metrics

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func TestServeOff(t *testing.T) {
	options, err := Serve(Off, "/no/such/directory")
	if err != nil || options.BindAddress != "0" {
		t.Errorf("got address %q and error %v, want 0, which turns the server off", options.BindAddress, err)
	}
}

// Whether strangers are turned away is tested on the lab (test/e2e).
func TestServeAsksWhoItIs(t *testing.T) {
	options, err := Serve(":8443", "")
	if err != nil || !options.SecureServing || options.FilterProvider == nil {
		t.Errorf("got secure %v, a filter: %v, error %v; want HTTPS with a filter", options.SecureServing, options.FilterProvider != nil, err)
	}
}

func TestServeWithoutTheCertificateThatIsNamed(t *testing.T) {
	empty, half := t.TempDir(), t.TempDir()
	certificate, _ := keyPair(t, "metrics.test")
	write(t, filepath.Join(half, "tls.crt"), certificate)
	for _, directory := range []string{empty, half} {
		if _, err := Serve(":8443", directory); err == nil || !strings.Contains(err.Error(), "--metrics-cert-path") {
			t.Errorf("got %v, want an error that names --metrics-cert-path", err)
		}
	}
}

func TestServeShowsTheCertificateInTheDirectory(t *testing.T) {
	directory := t.TempDir()
	certificate, key := keyPair(t, "metrics.test")
	write(t, filepath.Join(directory, "tls.crt"), certificate)
	write(t, filepath.Join(directory, "tls.key"), key)
	options, err := Serve("127.0.0.1:0", directory)
	if err != nil {
		t.Fatal(err)
	}
	options.FilterProvider = nil // there is no API server to ask
	server, err := metricsserver.NewServer(options, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Start(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	leaf, protocol := shown(t, server.(interface{ GetBindAddr() string }).GetBindAddr)
	if leaf.Subject.CommonName != "metrics.test" || protocol != "http/1.1" {
		t.Errorf("got the certificate of %q and protocol %q, want metrics.test and http/1.1", leaf.Subject.CommonName, protocol)
	}
}

// shown is the certificate of the server at address and the protocol it picks.
func shown(t *testing.T, address func() string) (*x509.Certificate, string) {
	t.Helper()
	for address() == "" {
		time.Sleep(time.Millisecond)
	}
	connection, err := tls.Dial("tcp", address(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	state := connection.ConnectionState()
	return state.PeerCertificates[0], state.NegotiatedProtocol
}

func keyPair(t *testing.T, name string) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	template.Subject.CommonName = name
	leaf, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
