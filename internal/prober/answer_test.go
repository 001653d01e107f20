package prober

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

func TestAnswersOfAnHTTPSServer(t *testing.T) {
	nginx := newIdentity(t)
	for _, version := range versions {
		for _, code := range []int{http.StatusOK, http.StatusServiceUnavailable} {
			t.Run(fmt.Sprintf("%s/%d", tls.VersionName(version), code), func(t *testing.T) {
				const body = "hello"
				response := fmt.Sprintf("HTTP/1.1 %d %s\r\nServer: nginx\r\nContent-Length: %d\r\n\r\n%s", code, http.StatusText(code), len(body), body)
				negotiated := make(chan tls.ConnectionState, 1)
				address := startTLSPeer(t, nginx.config(version, tls.NoClientCert), func(conn *tls.Conn, err error) {
					negotiated <- conn.ConnectionState()
					answer(response)(conn, err)
				})
				before := time.Now()
				seen := probed(t, address)
				wantClass(t, seen, observation.Answered)
				wantOrder(t, before, seen)
				want := observation.Observation{
					ID: 7, Class: observation.Answered, HTTPCode: code, Remote: address,
					TLSVersion: tls.VersionName(version), CipherSuite: tls.CipherSuiteName((<-negotiated).CipherSuite),
					Leaf:    &nginx.evidence,
					Started: seen.Started, Connected: seen.Connected, Handshaken: seen.Handshaken, Finished: seen.Finished,
				}
				if !reflect.DeepEqual(seen, want) {
					t.Errorf("got  %+v, leaf %+v\nwant %+v, leaf %+v", seen, seen.Leaf, want, want.Leaf)
				}
			})
		}
	}
}

func wantOrder(t *testing.T, before time.Time, seen observation.Observation) {
	t.Helper()
	if seen.Started.Before(before) || seen.Started.After(time.Now()) {
		t.Errorf("started at %v, which is not between %v and now", seen.Started, before)
	}
	if seen.Connected <= 0 || seen.Handshaken <= seen.Connected || seen.Finished <= seen.Handshaken || seen.Finished > time.Since(before) {
		t.Errorf("connected after %v, handshaken after %v, finished after %v", seen.Connected, seen.Handshaken, seen.Finished)
	}
}

func TestAnyResponseIsAnAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		response string
		code     int
	}{
		"no content":           {"HTTP/1.1 204 No Content\r\n\r\n", 204},
		"redirect, unfollowed": {"HTTP/1.1 301 Moved Permanently\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 301},
		"HTTP/1.0":             {"HTTP/1.0 404 Not Found\r\n\r\ngone", 404},
		"no reason":            {"HTTP/1.1 502 \r\n\r\n", 502},
		"body that never ends": {"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhel", 200},
		"chunk that never ends": {
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nhel", 200},
	} {
		t.Run(name, func(t *testing.T) {
			seen := probed(t, startTLSPeer(t, newIdentity(t).config(tls.VersionTLS13, tls.NoClientCert), answer(c.response)))
			wantClass(t, seen, observation.Answered)
			if seen.HTTPCode != c.code || seen.Error != "" {
				t.Errorf("code %d and error %q, want %d and none", seen.HTTPCode, seen.Error, c.code)
			}
		})
	}
}

// told is what a server learns of its client.
type told struct {
	serverName, method, host, target, agent string
	protocols                               []string
	close                                   bool
}

func TestWhatTheServerIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		serverName, path string
		want             told
	}{
		"name and path":    {serverName, "/a/b?c=d", told{serverName: serverName, host: serverName, target: "/a/b?c=d"}},
		"trailing dot":     {serverName + ".", "/", told{serverName: serverName, host: serverName, target: "/"}},
		"no name":          {"", "/", told{host: "ADDRESS", target: "/"}},
		"path with spaces": {serverName, "/a b", told{serverName: serverName, host: serverName, target: "/a%20b"}},
	} {
		t.Run(name, func(t *testing.T) {
			heard := make(chan told, 1)
			config := newIdentity(t).config(tls.VersionTLS13, tls.NoClientCert)
			var hello told
			config.GetConfigForClient = func(info *tls.ClientHelloInfo) (*tls.Config, error) {
				hello.serverName, hello.protocols = info.ServerName, info.SupportedProtos
				return nil, nil
			}
			address := startTLSPeer(t, config, func(conn *tls.Conn, _ error) {
				request, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					t.Error(err)
					return
				}
				hello.method, hello.host, hello.target = request.Method, request.Host, request.RequestURI
				hello.agent, hello.close = request.UserAgent(), request.Close
				heard <- hello
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
				drain(conn)
			})
			request := requestTo(address)
			request.ServerName, request.Path = c.serverName, c.path
			wantClass(t, probedWithin(t, request, slack), observation.Answered)
			want := c.want
			want.host = strings.Replace(want.host, "ADDRESS", address, 1)
			want.method, want.agent, want.close, want.protocols = "GET", "httpsmeshprobe", true, []string{"h2", "http/1.1"}
			select {
			case got := <-heard:
				if !reflect.DeepEqual(got, want) {
					t.Errorf("told %+v, want %+v", got, want)
				}
			default:
				t.Error("the server heard no request")
			}
		})
	}
}

func TestNoMoreThanFourURIsAreEvidence(t *testing.T) {
	uris := []string{"https://a.example", "https://b.example", "https://c.example", workload, "spiffe://cluster.local/ns/x/sa/fifth"}
	seen := probed(t, startTLSPeer(t, newIdentity(t, uris...).config(tls.VersionTLS13, tls.NoClientCert), answer("HTTP/1.1 200 OK\r\n\r\n")))
	if seen.Leaf == nil || !reflect.DeepEqual(seen.Leaf.URIs, uris[:maxURIs]) {
		t.Errorf("leaf %+v, want the URIs %q", seen.Leaf, uris[:maxURIs])
	}
}

// A mesh can be told to accept post-quantum key exchange alone (Istio's COMPLIANCE_POLICY=pqc); its refusals must still
// be seen for what they are.
func TestEveryKeyExchangeIsOffered(t *testing.T) {
	for _, curve := range []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521} {
		t.Run(curve.String(), func(t *testing.T) {
			config := newIdentity(t, workload).config(tls.VersionTLS13, tls.RequireAnyClientCert)
			config.CurvePreferences = []tls.CurveID{curve}
			wantClass(t, probed(t, startTLSPeer(t, config, refuse)), observation.ClientCertificateRequired)
		})
	}
}

func TestChains(t *testing.T) {
	const unasked, asked = false, true
	issuer := newIdentity(t)
	for name, c := range map[string]struct {
		leaf    identity
		issuers int
		ask     bool
		chain   int
	}{
		"workload":                         {newIdentity(t, workload), 1, unasked, 2},
		"workload, asked for":              {newIdentity(t, workload), 1, asked, 2},
		"workload with too many to keep":   {newIdentity(t, workload), 9, unasked, maxChain},
		"server outside the mesh":          {newIdentity(t), 1, unasked, 0},
		"server outside the mesh, URI SAN": {newIdentity(t, "https://nginx.example"), 1, unasked, 0},
		"outside, asked for":               {newIdentity(t), 1, asked, 2},
		"outside, alone, asked for":        {newIdentity(t), 0, asked, 1},
		"outside, asked for, too many":     {newIdentity(t), 9, asked, maxChain},
	} {
		t.Run(name, func(t *testing.T) {
			config := c.leaf.config(tls.VersionTLS13, tls.NoClientCert)
			sent := append([][]byte{c.leaf.der}, slices.Repeat([][]byte{issuer.der}, c.issuers)...)
			config.Certificates[0].Certificate = sent
			want := c.leaf.evidence
			want.Chain = nil
			if c.chain > 0 {
				want.Chain = sent[:c.chain]
			}
			request := requestTo(startTLSPeer(t, config, answer("HTTP/1.1 200 OK\r\n\r\n")))
			request.Chain = c.ask
			seen := probedWithin(t, request, slack)
			if !reflect.DeepEqual(seen.Leaf, &want) {
				t.Errorf("leaf %+v, want %+v", seen.Leaf, want)
			}
		})
	}
}

// A line longer than the operator reads would end the stream, and every probe of the container with it.
func TestNoCertificateMakesAnObservationTooLong(t *testing.T) {
	const maxObservationBytes = 128 << 10 // in internal/agents
	leaf := func(uri string, length int) *x509.Certificate {
		parsed, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		return &x509.Certificate{Raw: make([]byte, length), URIs: slices.Repeat([]*url.URL{parsed}, maxURIs)}
	}
	// Of all that may be in a URI, "&" takes the most bytes in JSON.
	short, half, long := "https://&", "https://"+strings.Repeat("&", maxURIBytes/2-8), "https://"+strings.Repeat("&", maxURIBytes)
	for name, c := range map[string]struct {
		leaf        *x509.Certificate
		uris, chain int
	}{
		"short":                         {leaf(short, 1000), maxURIs, maxChain},
		"URIs as long as allowed":       {leaf(half, 1000), 2, maxChain},
		"a URI too long":                {leaf(long, 1000), 0, maxChain},
		"a chain as long as allowed":    {leaf(half, maxChainBytes/maxChain), 2, maxChain},
		"a chain that is a bit longer":  {leaf(half, maxChainBytes/maxChain+1), 2, 0},
		"a certificate that is as long": {leaf(half, maxChainBytes+1), 2, 0},
	} {
		evidence := leafEvidence(slices.Repeat([]*x509.Certificate{c.leaf}, maxChain), true)
		if len(evidence.URIs) != c.uris || len(evidence.Chain) != c.chain {
			t.Errorf("%s: %d URIs and %d certificates, want %d and %d", name, len(evidence.URIs), len(evidence.Chain), c.uris, c.chain)
		}
		everything := strings.Repeat("&", maxErrorBytes)
		line, err := json.Marshal(observation.Observation{
			ID: math.MaxUint64, Class: observation.ClosedAfterCertificateRequest, Started: time.Now(), Connected: ample, Handshaken: ample, Finished: ample,
			Remote: everything, TLSVersion: everything, CipherSuite: everything, Leaf: evidence, Alert: everything, Error: everything,
			Sent: &observation.Sent{Cluster: everything, Host: everything, Handshakes: 1, Past: true, Error: everything},
		})
		if err != nil || len(line) >= maxObservationBytes {
			t.Errorf("%s: %d bytes, %v; want less than %d", name, len(line), err, maxObservationBytes)
		}
	}
}
