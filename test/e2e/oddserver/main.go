// Oddserver answers HTTPS in ways that are unusual and allowed, each on a port of its own: oddserver PORT=MANNER …
// A request to http://127.0.0.1:9000/PORT?manner=MANNER changes the manner of a port, and manner "closed" stops it from
// listening, as if its server had died and its pod had not. With for=DURATION the port goes back after that long.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	control = "127.0.0.1:9000"
	// started is there when every port listens; the pod's readiness probe looks for it.
	started = "/tmp/oddserver-started"
)

// manner is one way to answer.
type manner struct {
	certificate func() (tls.Certificate, error)
	configure   func(*http.Server)
	answer      http.HandlerFunc
	// hangs leaves a connection open and unread.
	hangs bool
}

var manners = map[string]manner{
	"plain":              {},
	"not-found":          {answer: status(http.StatusNotFound)},
	"unavailable":        {answer: status(http.StatusServiceUnavailable)},
	"hanging":            {hangs: true},
	"early-hints":        {answer: hint},
	"http2-only":         {configure: speakHTTP2},
	"rsa-key-exchange":   {certificate: weakRSA, configure: exchangeKeysByRSA},
	"huge-rsa":           {certificate: hugeRSA},
	"negative-serial":    {certificate: negativeSerial},
	"spiffe-name":        {certificate: spiffeName},
	"client-certificate": {configure: demandCertificate},
}

func main() {
	ports := map[string]*port{}
	for _, argument := range os.Args[1:] {
		number, name, _ := strings.Cut(argument, "=")
		ports[number] = &port{number: number}
		if err := ports[number].serve(name); err != nil {
			log.Fatal(err)
		}
	}
	if err := os.WriteFile(started, nil, 0o600); err != nil {
		log.Fatal(err)
	}
	log.Fatal((&http.Server{Addr: control, Handler: controller(ports), ReadHeaderTimeout: time.Minute}).ListenAndServe())
}

func controller(ports map[string]*port) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, name := ports[strings.Trim(r.URL.Path, "/")], r.FormValue("manner")
		if p == nil {
			http.NotFound(w, r)
			return
		}
		before := p.present()
		if err := p.serve(name); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if limit, err := time.ParseDuration(r.FormValue("for")); err == nil {
			time.AfterFunc(limit, func() { log.Print(p.serve(before)) })
		}
	}
}

// port is one of the ports; at most one server listens on it.
type port struct {
	number string
	mutex  sync.Mutex
	name   string
	close  func()
}

func (p *port) present() string {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.name
}

// serve ends what the port does and begins with another manner.
func (p *port) serve(name string) error {
	chosen, known := manners[name]
	if !known && name != "closed" {
		return fmt.Errorf("no manner is called %q", name)
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.close != nil {
		p.close()
	}
	p.name, p.close = name, nil
	if !known {
		return nil
	}
	listener, err := net.Listen("tcp", ":"+p.number)
	if err != nil {
		return err
	}
	if chosen.hangs {
		p.close = func() { _ = listener.Close() }
		go hang(listener)
		return nil
	}
	server, err := chosen.server()
	if err != nil {
		return err
	}
	p.close = func() { _ = server.Close() }
	go func() { log.Print(server.ServeTLS(listener, "", "")) }()
	return nil
}

func (m manner) server() (*http.Server, error) {
	issue, answer := m.certificate, m.answer
	if issue == nil {
		issue = ordinary
	}
	if answer == nil {
		answer = status(http.StatusOK)
	}
	certificate, err := issue()
	if err != nil {
		return nil, err
	}
	server := &http.Server{
		Handler: answer, ReadHeaderTimeout: time.Minute, Protocols: new(http.Protocols),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}},
	}
	server.Protocols.SetHTTP1(true)
	if m.configure != nil {
		m.configure(server)
	}
	return server, nil
}

// hang accepts and says nothing, until the client has enough.
func hang(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(io.Discard, connection)
			_ = connection.Close()
		}()
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, "odd\n")
	}
}

// hint sends 103 before 200 (RFC 8297).
func hint(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Link", "</style.css>; rel=preload")
	w.WriteHeader(http.StatusEarlyHints)
	w.WriteHeader(http.StatusOK)
}

// speakHTTP2 refuses clients that offer application protocols without HTTP/2, and has no other.
func speakHTTP2(s *http.Server) {
	s.Protocols.SetHTTP1(false)
	s.Protocols.SetHTTP2(true)
}

// demandCertificate breaks the handshake with whoever has no certificate, be it anybody's.
func demandCertificate(s *http.Server) { s.TLSConfig.ClientAuth = tls.RequireAnyClientCert }

// exchangeKeysByRSA leaves no cipher suite with a Diffie-Hellman exchange (RFC 5246, section 7.4.7.1).
func exchangeKeysByRSA(s *http.Server) {
	s.TLSConfig.MaxVersion = tls.VersionTLS12
	s.TLSConfig.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384}
}

func template() *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "oddserver"}, DNSNames: []string{"oddserver"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

func selfSigned(template *x509.Certificate, key crypto.Signer) (tls.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func ordinary() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	return selfSigned(template(), key)
}

func weakRSA() (tls.Certificate, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return tls.Certificate{}, err
	}
	return selfSigned(template(), key)
}

// hugeRSA has a modulus of more than the 8192 bits that Go's client takes. Its primes are Mersenne's, and no secret:
// finding others of that size takes a minute.
func hugeRSA() (tls.Certificate, error) {
	const exponent, first, second = 65537, 4253, 4423
	one := big.NewInt(1)
	mersenne := func(bits uint) *big.Int { return new(big.Int).Sub(new(big.Int).Lsh(one, bits), one) }
	p, q := mersenne(first), mersenne(second)
	order := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: exponent},
		D:         new(big.Int).ModInverse(big.NewInt(exponent), order),
		Primes:    []*big.Int{p, q},
	}
	key.Precompute()
	return selfSigned(template(), key)
}

// spiffeName is an application's own certificate under a SPIFFE ID that is not the mesh's.
func spiffeName() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	named := template()
	named.URIs = []*url.URL{{Scheme: "spiffe", Host: "example.org", Path: "/ns/shop/sa/till"}}
	return selfSigned(named, key)
}

// signed is a certificate as it is encoded (RFC 5280, section 4.1).
type signed struct {
	Body      asn1.RawValue
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

// negativeSerial turns the sign of the serial number and signs anew, since the library makes no such certificate.
func negativeSerial() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	const positive, signBit = 0x7a, 0x80
	serial := []byte{positive, 'o', 'd', 'd', 's', 'e', 'r', 'i', 'a', 'l'}
	ordinary := template()
	ordinary.SerialNumber = new(big.Int).SetBytes(serial)
	usual, err := selfSigned(ordinary, key)
	if err != nil {
		return usual, err
	}
	var certificate signed
	if _, err := asn1.Unmarshal(usual.Certificate[0], &certificate); err != nil {
		return usual, err
	}
	body := certificate.Body.FullBytes
	at := strings.Index(string(body), string(serial))
	body[at] |= signBit
	digest := sha256.Sum256(body)
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return usual, err
	}
	certificate.Signature = asn1.BitString{Bytes: signature, BitLength: len(signature) * 8}
	der, err := asn1.Marshal(certificate)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
