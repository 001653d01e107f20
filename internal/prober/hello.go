package prober

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

const (
	protocolHTTP1 = "http/1.1"
	protocolHTTP2 = "h2"
	// protocolMesh is how Istio's sidecars know each other's TLS (istio.io/istio pilot/pkg/networking/util, ALPNInMesh).
	protocolMesh = "istio"
)

// protocols are those offered in ALPN: as curl does, or as a sidecar does.
func (p *probe) protocols() []string {
	if p.request.Hello == observation.HelloHTTPS {
		return []string{protocolHTTP2, protocolHTTP1}
	}
	return []string{protocolMesh}
}

// tlsConfig verifies nothing: who answered is evidence to be judged elsewhere, not a reason to stop. The peer still has
// to prove that it holds the certificate's key, which the handshake itself demands.
func (p *probe) tlsConfig() *tls.Config {
	return &tls.Config{
		ServerName:         strings.TrimSuffix(p.request.ServerName, "."),
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS12,
		CipherSuites:       cipherSuites,
		NextProtos:         p.protocols(),
		// It is called as soon as the certificate has come, so the leaf is seen even where the handshake fails later.
		VerifyConnection: func(state tls.ConnectionState) error {
			p.seen.Leaf = leafEvidence(state.PeerCertificates, p.request.Chain)
			p.settle()
			return nil
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			p.seen.CertificateRequested = true
			if p.forged != nil {
				return p.forged, nil
			}
			return &tls.Certificate{}, nil
		},
	}
}

// cipherSuites of TLS 1.2 are all that OpenSSL offers at its default security level and Go knows: also those of RSA key
// exchange and of CBC, which Go leaves out by itself, but neither RC4 nor 3DES.
var cipherSuites = func() []uint16 {
	var suites []uint16
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if !strings.Contains(suite.Name, "RC4") && !strings.Contains(suite.Name, "3DES") {
			suites = append(suites, suite.ID)
		}
	}
	return suites
}()

// forgery makes certificates that nobody but their holder has signed, one for each identity.
type forgery struct {
	mu   sync.Mutex
	made map[string]forged
}

type forged struct {
	certificate *tls.Certificate
	until       time.Time
}

const (
	maxForged   = 64
	forgedTime  = 24 * time.Hour
	maxIdentity = maxURIBytes
)

var forgeries = &forgery{made: map[string]forged{}}

// of is a certificate for a SPIFFE ID.
func (f *forgery) of(identity string) (*tls.Certificate, error) {
	uri, err := url.Parse(identity)
	if err != nil || uri.Scheme != "spiffe" || uri.Host == "" || len(identity) > maxIdentity {
		return nil, fmt.Errorf("the identity %q is no SPIFFE ID", shorten(identity))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if known, ok := f.made[identity]; ok && time.Now().Before(known.until) {
		return known.certificate, nil
	}
	certificate, err := selfSigned(uri)
	if err != nil {
		return nil, err
	}
	if len(f.made) >= maxForged {
		clear(f.made)
	}
	f.made[identity] = forged{certificate, time.Now().Add(forgedTime / 2)}
	return certificate, nil
}

func selfSigned(uri *url.URL) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{userAgent}},
		// The server's clock may be behind ours.
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(forgedTime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs:        []*url.URL{uri},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
