//go:debug x509negativeserial=1
//go:debug tlsmaxrsasize=16384
package prober

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

func TestInterimResponsesAreNotTheAnswer(t *testing.T) {
	const early = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
	for name, c := range map[string]struct {
		response string
		code     int
	}{
		"early hints":             {early + "HTTP/1.1 200 OK\r\n\r\n", 200},
		"two of them":             {early + early + "HTTP/1.1 503 Service Unavailable\r\n\r\n", 503},
		"continue":                {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 204},
		"switching is no interim": {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", 101},
	} {
		t.Run(name, func(t *testing.T) {
			seen := probed(t, startTLSPeer(t, newIdentity(t).config(tls.VersionTLS13, tls.NoClientCert), answer(c.response)))
			wantClass(t, seen, observation.Answered)
			if seen.HTTPCode != c.code {
				t.Errorf("code %d, want %d", seen.HTTPCode, c.code)
			}
		})
	}
	endless := startTLSPeer(t, newIdentity(t).config(tls.VersionTLS13, tls.NoClientCert), func(conn *tls.Conn, err error) {
		for err == nil {
			_, err = io.WriteString(conn, early)
		}
	})
	wantClass(t, probed(t, endless), observation.NotHTTP)
}

// startHTTP2 starts a server of net/http that speaks nothing but HTTP/2.
func startHTTP2(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{Certificates: []tls.Certificate{newIdentity(t).certificate}, NextProtos: []string{"h2"}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestServersThatSpeakOnlyHTTP2(t *testing.T) {
	for _, code := range []int{200, 204, 206, 302, 400, 404, 418, 500, 503, 599} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			heard := make(chan *http.Request, 1)
			seen := probed(t, startHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
				heard <- r
				w.Header().Set("Link", "</a.css>; rel=preload")
				w.WriteHeader(http.StatusEarlyHints)
				w.WriteHeader(code)
			}))
			wantClass(t, seen, observation.Answered)
			if seen.HTTPCode != code {
				t.Errorf("code %d, want %d", seen.HTTPCode, code)
			}
			if r := <-heard; r.Host != serverName || r.RequestURI != "/" || r.UserAgent() != userAgent || r.ProtoMajor != 2 || r.Method != http.MethodGet {
				t.Errorf("heard %+v", r)
			}
		})
	}
}

func TestLongPathsInHTTP2(t *testing.T) {
	for _, length := range []int{1, 100, 126, 127, 128, 300, 5000} {
		path := "/" + strings.Repeat("a", length)
		address := startHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
			if r.RequestURI != path {
				w.WriteHeader(http.StatusTeapot)
			}
		})
		request := requestTo(address)
		request.Path = path
		if seen := probedWithin(t, request, slack); seen.HTTPCode != http.StatusOK {
			t.Errorf("%d: %s, code %d (%s)", length, seen.Class, seen.HTTPCode, seen.Error)
		}
	}
}

func TestHTTP2ThatGoesWrong(t *testing.T) {
	settings := frame(frameSettings, 0, 0, nil)
	for name, c := range map[string]struct {
		frames []byte
		want   observation.Class
	}{
		"closed":                                {settings, observation.ResponseClosed},
		"cut off":                               {settings[:4], observation.ResponseClosed},
		"not HTTP/2":                            {[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), observation.NotHTTP},
		"reset":                                 {append(settings[:9:9], frame(frameReset, 0, 1, make([]byte, 4))...), observation.NotHTTP},
		"going away":                            {append(settings[:9:9], frame(frameGoAway, 0, 0, make([]byte, 8))...), observation.NotHTTP},
		"an empty goodbye":                      {frame(frameGoAway, 0, 0, nil), observation.NotHTTP},
		"no status":                             {frame(frameHeaders, flagEndHeaders, 1, nil), observation.NotHTTP},
		"another field":                         {frame(frameHeaders, flagEndHeaders, 1, []byte{0x40, 1, 'a', 1, 'b'}), observation.NotHTTP},
		"a status of words":                     {frame(frameHeaders, flagEndHeaders, 1, []byte{0x48, 3, 'a', 'b', 'c'}), observation.NotHTTP},
		"a status too long":                     {frame(frameHeaders, flagEndHeaders, 1, []byte{0x48, 0x7f, '2'}), observation.NotHTTP},
		"half a status":                         {frame(frameHeaders, flagEndHeaders, 1, []byte{0x48}), observation.NotHTTP},
		"padding alone":                         {frame(frameHeaders, flagPadded|flagPriority, 1, []byte{1}), observation.NotHTTP},
		"a huge frame":                          {[]byte{0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0}, observation.NotHTTP},
		"frames without end":                    {bytes.Repeat(settings, maxFrames+1), observation.NotHTTP},
		"another stream":                        {frame(frameHeaders, flagEndHeaders, 3, []byte{0x88}), observation.ResponseClosed},
		"as it is":                              {frame(frameHeaders, flagEndHeaders, 1, []byte{0x48, 3, '4', '2', '9'}), observation.Answered},
		"after a resize, padded, with priority": {frame(frameHeaders, flagEndHeaders|flagPadded|flagPriority, 1, []byte{2, 0, 0, 0, 0, 1, 0x20, 0x3f, 0xe1, 0x1f, 0x8d, 0, 0}), observation.Answered},
	} {
		t.Run(name, func(t *testing.T) {
			config := newIdentity(t).config(tls.VersionTLS13, tls.NoClientCert)
			config.NextProtos = []string{"h2"}
			seen := probed(t, startTLSPeer(t, config, func(conn *tls.Conn, _ error) {
				_, _ = conn.Read(make([]byte, 1))
				go drain(conn)
				_, _ = conn.Write(c.frames)
				_ = conn.CloseWrite()
				drain(conn)
			}))
			wantClass(t, seen, c.want)
		})
	}
}

func FuzzStatus(f *testing.F) {
	f.Add(byte(flagEndHeaders), []byte{0x48, 0x82, 0x64, 0x02})
	f.Add(byte(flagPadded|flagPriority), []byte{1})
	f.Fuzz(func(t *testing.T, flags byte, payload []byte) {
		if code, err := statusOf(flags, payload); err == nil && (code < 100 || code > 999) {
			t.Errorf("status %d", code)
		}
	})
}

func TestOldKeyExchanges(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	certificate := certify(t, key)
	for _, suite := range []uint16{
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
	} {
		t.Run(tls.CipherSuiteName(suite), func(t *testing.T) {
			config := &tls.Config{Certificates: []tls.Certificate{certificate}, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}}
			seen := probed(t, startTLSPeer(t, config, answer(ok)))
			wantClass(t, seen, observation.Answered)
			if want := tls.CipherSuiteName(suite); seen.CipherSuite != want {
				t.Errorf("spoke %s, want %s", seen.CipherSuite, want)
			}
		})
	}
	// What curl refuses, so do we.
	broken := &tls.Config{Certificates: []tls.Certificate{certificate}, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}}
	wantClass(t, probed(t, startTLSPeer(t, broken, refuse)), observation.Alerted)
}

func TestLongRSAKeys(t *testing.T) {
	for bits, want := range map[int]observation.Class{10240: observation.Answered, 17408: observation.HandshakeFailed} {
		t.Run(strconv.Itoa(bits), func(t *testing.T) {
			certificate := certify(t, newManyPrimes(t, bits))
			certificate.SupportedSignatureAlgorithms = []tls.SignatureScheme{tls.PKCS1WithSHA256}
			config := &tls.Config{Certificates: []tls.Certificate{certificate}, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
			wantClass(t, probed(t, startTLSPeer(t, config, answer(ok))), want)
		})
	}
}

// manyPrimes is an RSA key of many small primes: made and used quickly, and like any other to who verifies.
type manyPrimes struct {
	public  rsa.PublicKey
	primes  []*big.Int
	private *big.Int
}

func newManyPrimes(t *testing.T, bits int) *manyPrimes {
	t.Helper()
	const each = 512
	for {
		key := &manyPrimes{public: rsa.PublicKey{E: 65537}}
		product, totient := big.NewInt(1), big.NewInt(1)
		for range bits / each {
			prime, err := rand.Prime(rand.Reader, each)
			if err != nil {
				t.Fatal(err)
			}
			key.primes = append(key.primes, prime)
			product.Mul(product, prime)
			totient.Mul(totient, new(big.Int).Sub(prime, big.NewInt(1)))
		}
		key.public.N = product
		if key.private = new(big.Int).ModInverse(big.NewInt(int64(key.public.E)), totient); key.private != nil {
			return key
		}
	}
}

func (k *manyPrimes) Public() crypto.PublicKey { return &k.public }

// Sign makes a signature of PKCS #1, version 1.5 (RFC 8017, section 9.2), by the Chinese remainder theorem.
func (k *manyPrimes) Sign(_ io.Reader, digest []byte, options crypto.SignerOpts) ([]byte, error) {
	if options.HashFunc() != crypto.SHA256 {
		return nil, errors.New("not with this hash")
	}
	const digestInfo = "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
	size := (k.public.N.BitLen() + 7) / 8
	end := append([]byte(digestInfo), digest...)
	padded := append([]byte{0, 1}, bytes.Repeat([]byte{0xff}, size-3-len(end))...)
	message := new(big.Int).SetBytes(append(append(padded, 0), end...))
	signature, so := new(big.Int), big.NewInt(1)
	for _, prime := range k.primes {
		exponent := new(big.Int).Mod(k.private, new(big.Int).Sub(prime, big.NewInt(1)))
		rest := new(big.Int).Exp(new(big.Int).Mod(message, prime), exponent, prime)
		step := new(big.Int).Mul(new(big.Int).Sub(rest, signature), new(big.Int).ModInverse(so, prime))
		signature.Add(signature, new(big.Int).Mul(step.Mod(step, prime), so))
		so.Mul(so, prime)
	}
	return signature.FillBytes(make([]byte, size)), nil
}

func certify(t *testing.T, key crypto.Signer) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), SignatureAlgorithm: x509.SHA256WithRSA, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestNegativeSerialNumbers(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not on this machine")
	}
	file := filepath.Join(t.TempDir(), "server.pem")
	made, err := exec.Command(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-set_serial", "-5", "-subj", "/CN=odd", "-keyout", file, "-out", file+".crt").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, made)
	}
	pair, err := tls.LoadX509KeyPair(file+".crt", file)
	if err != nil {
		t.Fatal(err)
	}
	if parsed, err := x509.ParseCertificate(pair.Certificate[0]); err != nil || parsed.SerialNumber.Sign() >= 0 {
		t.Fatalf("serial number %v, %v", parsed, err)
	}
	seen := probed(t, startTLSPeer(t, &tls.Config{Certificates: []tls.Certificate{pair}}, answer(ok)))
	wantClass(t, seen, observation.Answered)
	sum := sha256.Sum256(pair.Certificate[0])
	if seen.Leaf == nil || seen.Leaf.SHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("leaf %+v", seen.Leaf)
	}
}

// The agent is another program than the test: what it tolerates is set in its own source.
func TestTheAgentToleratesAsMuch(t *testing.T) {
	source, err := os.ReadFile("../../cmd/probe/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{"//go:debug x509negativeserial=1\n", "//go:debug tlsmaxrsasize=16384\n"} {
		if !bytes.Contains(source, []byte(setting)) {
			t.Errorf("cmd/probe lacks %s", setting)
		}
	}
}

func TestHellosOfTheMesh(t *testing.T) {
	const identity = "spiffe://cluster.local/ns/probes/sa/somebody"
	issuer := newIdentity(t)
	roots := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(issuer.der)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(leaf)
	for _, version := range versions {
		for name, c := range map[string]struct {
			auth        tls.ClientAuthType
			protocols   []string
			mesh, forge observation.Class
			asked       bool
		}{
			"sidecar":                    {tls.RequireAndVerifyClientCert, []string{"istio"}, observation.ClientCertificateRequired, observation.Alerted, true},
			"sidecar that takes anybody": {tls.RequireAnyClientCert, []string{"istio"}, observation.ClientCertificateRequired, observation.Handshaken, true},
			"sidecar that only asks":     {tls.RequestClientCert, []string{"istio"}, observation.Handshaken, observation.Handshaken, true},
			"server without protocols":   {tls.NoClientCert, nil, observation.Handshaken, observation.Handshaken, false},
			"server of another protocol": {tls.NoClientCert, []string{"http/1.1"}, observation.Alerted, observation.Alerted, false},
		} {
			t.Run(tls.VersionName(version)+"/"+name, func(t *testing.T) {
				config := newIdentity(t, workload).config(version, c.auth)
				config.NextProtos, config.ClientCAs = c.protocols, roots
				var shown []*x509.Certificate
				config.VerifyConnection = func(state tls.ConnectionState) error { shown = state.PeerCertificates; return nil }
				wrote := make(chan int, 2)
				address := startTLSPeer(t, config, func(conn *tls.Conn, err error) {
					n := 0
					if err == nil {
						n, _ = conn.Read(make([]byte, 1))
					}
					wrote <- n
				})
				for hello, want := range map[observation.Hello]observation.Class{observation.HelloMesh: c.mesh, observation.HelloForged: c.forge} {
					shown = nil
					seen := probedWithin(t, observation.Request{ID: 7, Address: address, ServerName: serverName, Timeout: ample, Hello: hello, Identity: identity}, slack)
					wantClass(t, seen, want)
					if n := <-wrote; n > 0 || seen.HTTPCode != 0 {
						t.Errorf("%s: a request followed", hello)
					}
					if seen.CertificateRequested != c.asked || (seen.Leaf == nil) != (c.protocols != nil && c.auth == tls.NoClientCert) {
						t.Errorf("%s: certificate requested %t, leaf %v", hello, seen.CertificateRequested, seen.Leaf)
					}
					if want == observation.Handshaken && hello == observation.HelloForged && c.asked && (len(shown) != 1 || shown[0].URIs[0].String() != identity) {
						t.Errorf("showed %v, want a certificate of %s", shown, identity)
					}
				}
			})
		}
	}
}

func TestSidecarsThatHangUp(t *testing.T) {
	for name, fault := range map[string]phase{"in the handshake": afterServerFlight} {
		address := startFault(t, newIdentity(t, workload).config(tls.VersionTLS13, tls.RequireAnyClientCert), fault, finish)
		request := observation.Request{ID: 7, Address: address, Timeout: ample, Hello: observation.HelloMesh}
		seen := probedWithin(t, request, slack)
		if wantClass(t, seen, observation.ClosedAfterCertificateRequest); seen.SPIFFE() != workload {
			t.Errorf("%s: leaf %+v", name, seen.Leaf)
		}
	}
}

func TestForgedCertificates(t *testing.T) {
	forger := &forgery{made: map[string]forged{}}
	for name, identity := range map[string]string{"nothing": "", "no SPIFFE ID": "https://a.example", "no trust domain": "spiffe:///ns", "too long": "spiffe://a/" + strings.Repeat("b", maxIdentity), "garbage": "spiffe://%zz"} {
		if certificate, err := forger.of(identity); err == nil {
			t.Errorf("%s: %v, want an error", name, certificate)
		}
	}
	first, err := forger.of("spiffe://a/b")
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := forger.of("spiffe://a/b"); again != first {
		t.Error("a certificate is made anew for every hello")
	}
	for i := range 3 * maxForged {
		if _, err := forger.of(fmt.Sprintf("spiffe://a/%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(forger.made) > maxForged {
		t.Errorf("%d certificates are kept, want %d or less", len(forger.made), maxForged)
	}
	leaf, err := x509.ParseCertificate(first.Certificate[0])
	if err != nil || leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) != nil || time.Now().Before(leaf.NotBefore) || time.Now().After(leaf.NotAfter) {
		t.Errorf("%+v, %v", leaf, err)
	}
}
