package prober

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

func TestInvalidRequests(t *testing.T) {
	// Whoever takes a connection here was asked for none.
	address := startPeer(t, func(*net.TCPConn) { t.Error("an invalid request caused a connection") })
	for name, change := range map[string]func(*observation.Request){
		"no address":                  func(r *observation.Request) { r.Address = "" },
		"no port":                     func(r *observation.Request) { r.Address = "127.0.0.1" },
		"empty port":                  func(r *observation.Request) { r.Address = "127.0.0.1:" },
		"port 0":                      func(r *observation.Request) { r.Address = "127.0.0.1:0" },
		"port that is no number":      func(r *observation.Request) { r.Address = "127.0.0.1:https" },
		"port that is no port":        func(r *observation.Request) { r.Address = "127.0.0.1:65536" },
		"no host":                     func(r *observation.Request) { r.Address = ":443" },
		"IPv6 without brackets":       func(r *observation.Request) { r.Address = "::1:443" },
		"no time-out":                 func(r *observation.Request) { r.Timeout = 0 },
		"negative time-out":           func(r *observation.Request) { r.Timeout = -time.Second },
		"no path":                     func(r *observation.Request) { r.Path = "" },
		"path that joins the name":    func(r *observation.Request) { r.Path = ".example/" },
		"path that is no path":        func(r *observation.Request) { r.Path = "/%zz" },
		"path with a line break":      func(r *observation.Request) { r.Path = "/ HTTP/1.1\r\nHost: other" },
		"server name that is no name": func(r *observation.Request) { r.ServerName = "no name" },
	} {
		t.Run(name, func(t *testing.T) {
			request := requestTo(address)
			change(&request)
			seen := probedWithin(t, request, slack)
			wantClass(t, seen, observation.InvalidRequest)
			if seen.Error == "" || seen.Connected != 0 || seen.Remote != "" {
				t.Errorf("%+v, want an error and no connection", seen)
			}
		})
	}
}

func TestNames(t *testing.T) {
	server := newIdentity(t)
	address := startTLSPeer(t, server.config(tls.VersionTLS13, tls.NoClientCert), answer("HTTP/1.1 200 OK\r\n\r\n"))
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	resolveWith(t, startResolver(t, "nginx.probes.svc.cluster.local."))
	for name, c := range map[string]struct {
		host, remote string
		want         observation.Class
	}{
		"resolved":          {"nginx.probes.svc.cluster.local.", address, observation.Answered},
		"unknown":           {"gone.probes.svc.cluster.local.", "", observation.NameNotResolved},
		"not a domain name": {"no..name", "", observation.NameNotResolved},
	} {
		t.Run(name, func(t *testing.T) {
			seen := probed(t, net.JoinHostPort(c.host, port))
			wantClass(t, seen, c.want)
			if seen.Remote != c.remote {
				t.Errorf("dialed %q, want %q", seen.Remote, c.remote)
			}
		})
	}
}

func TestResolverThatDoesNotAnswer(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	resolveWith(t, silent.LocalAddr().String())
	request := requestTo("nginx.probes.svc.cluster.local.:443")
	request.Timeout = 300 * time.Millisecond
	seen := probedWithin(t, request, request.Timeout+slack)
	wantClass(t, seen, observation.NameNotResolved)
	if seen.Remote != "" || seen.Connected != 0 {
		t.Errorf("%+v, want no connection", seen)
	}
}

// resolveWith sends the queries of the test to a resolver of its own.
func resolveWith(t *testing.T, address string) {
	t.Helper()
	before := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = before })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", address)
	}}
}

// startResolver starts a DNS server that knows one name, as 127.0.0.1 (RFC 1035, section 4.1).
func startResolver(t *testing.T, known string) (address string) {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buffer := make([]byte, 1500)
		for {
			n, client, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(resolved(buffer[:n], known), client)
		}
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return server.LocalAddr().String()
}

func resolved(query []byte, known string) []byte {
	const header, typeA = 12, 1
	name, end := "", header
	for query[end] != 0 {
		length := int(query[end])
		name += string(query[end+1:end+1+length]) + "."
		end += 1 + length
	}
	question := query[header : end+5]
	response := []byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}
	if name != known {
		const nameError = 3
		response[3] |= nameError
	}
	response = append(response, question...)
	if name == known && query[end+2] == typeA {
		response[7] = 1
		response = append(response, 0xc0, header, 0, typeA, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1)
	}
	return response
}

func TestShorten(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"short":              {"broken pipe", "broken pipe"},
		"just short enough":  {strings.Repeat("a", maxErrorBytes), strings.Repeat("a", maxErrorBytes)},
		"one byte too long":  {strings.Repeat("a", maxErrorBytes+1), strings.Repeat("a", maxErrorBytes-3) + "…"},
		"cut in a character": {strings.Repeat("a", maxErrorBytes-4) + "ö" + "aaaa", strings.Repeat("a", maxErrorBytes-4) + "…"},
	} {
		if got := shorten(c.text); got != c.want || len(got) > maxErrorBytes || !utf8.ValidString(got) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
