package prober

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

const (
	countedHost = "nginx.probes.svc.cluster.local"
	nginxStats  = "cluster.outbound|443||nginx.probes.svc.cluster.local;."
	passthrough = "cluster.PassthroughCluster;."
	taken       = "upstream_cx_total"
	wrapped     = "ssl.handshake"
	members     = "membership_change"

	ok = "HTTP/1.1 200 OK\r\n\r\n"
)

// envoy is a sidecar, as far as its admin interface goes.
type envoy struct {
	admin string

	mu       sync.Mutex
	stats    map[string]uint64
	readings []reading
}

// reading is how the counters were asked for, and when they were given.
type reading struct {
	query        url.Values
	asked, given time.Time
}

func startEnvoy(t *testing.T, stats map[string]uint64) *envoy {
	t.Helper()
	e := &envoy{stats: maps.Clone(stats)}
	server := httptest.NewServer(http.HandlerFunc(e.serve))
	t.Cleanup(server.Close)
	e.admin = server.Listener.Addr().String()
	return e
}

// serve answers as Envoy does: a line for every counter whose name matches the filter somewhere, and of those that were
// never incremented only if they are wanted.
func (e *envoy) serve(w http.ResponseWriter, r *http.Request) {
	asked := time.Now()
	query, malformed := url.ParseQuery(r.URL.RawQuery)
	filter, err := regexp.Compile(query.Get("filter"))
	if err != nil || malformed != nil || !query.Has("filter") || r.URL.Path != "/stats" || r.Method != http.MethodGet {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(e.stats)) {
		if filter.MatchString(name) && (e.stats[name] > 0 || !query.Has("usedonly")) {
			fmt.Fprintf(w, "%s: %d\n", name, e.stats[name])
		}
	}
	e.readings = append(e.readings, reading{query, asked, time.Now()})
}

func (e *envoy) add(names ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, name := range names {
		e.stats[name]++
	}
}

func (e *envoy) reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name := range e.stats {
		e.stats[name] = 0
	}
}

// startCountedPeer starts a server on the way to which each connection is counted under these names.
func startCountedPeer(t *testing.T, e *envoy, names ...string) (address string) {
	t.Helper()
	return startTLSPeer(t, newIdentity(t).config(tls.VersionTLS13, tls.NoClientCert), func(conn *tls.Conn, err error) {
		e.add(names...)
		answer(ok)(conn, err)
	})
}

func countedRequest(address, admin string) observation.Request {
	request := requestTo(address)
	request.Count = &observation.Count{Admin: admin, Host: countedHost, Port: 443}
	return request
}

// probedAlone probes with times that the counting must not need.
func probedAlone(t *testing.T, request observation.Request) observation.Observation {
	t.Helper()
	return probedAloneReading(t, request, ample)
}

func probedAloneReading(t *testing.T, request observation.Request, readTime time.Duration) observation.Observation {
	t.Helper()
	started := time.Now()
	seen := newTurns(ample, readTime).probe(context.Background(), request)
	if took := time.Since(started); took > slack {
		t.Errorf("the probe took %v, want %v or less", took, slack)
	}
	if seen.Counted == nil {
		t.Fatal("no word of what was counted")
	}
	if len(seen.Counted.Error) > maxErrorBytes {
		t.Errorf("the error is %d bytes long, want %d or less", len(seen.Counted.Error), maxErrorBytes)
	}
	return seen
}

func wantCounted(t *testing.T, seen observation.Observation, want observation.Counted) {
	t.Helper()
	if seen.Counted == nil || *seen.Counted != want {
		t.Errorf("counted %+v, want %+v", seen.Counted, want)
	}
}

// wantUncounted checks that the numbers are 0 which mean nothing.
func wantUncounted(t *testing.T, seen observation.Observation, because string) {
	t.Helper()
	if seen.Counted == nil || !strings.Contains(seen.Counted.Error, because) {
		t.Errorf("counted %+v, want the error %q", seen.Counted, because)
		return
	}
	wantCounted(t, seen, observation.Counted{Error: seen.Counted.Error})
}

func TestWhatIsCounted(t *testing.T) {
	const (
		subset      = "cluster.outbound|443|v1|nginx.probes.svc.cluster.local;."
		unseparated = "cluster.outbound|443||nginx.probes.svc.cluster.local."
	)
	busy := map[string]uint64{
		nginxStats + taken: 1000, nginxStats + wrapped: 900, nginxStats + members: 3, passthrough + taken: 500, passthrough + members: 2,
	}
	for name, c := range map[string]struct {
		before map[string]uint64
		during []string
		want   observation.Counted
	}{
		"wrapped":             {busy, []string{nginxStats + taken, nginxStats + wrapped}, observation.Counted{Connections: 1, Handshakes: 1}},
		"as it is":            {busy, []string{nginxStats + taken}, observation.Counted{Connections: 1}},
		"passed through":      {busy, []string{passthrough + taken}, observation.Counted{Passthrough: 1}},
		"by none of these":    {busy, nil, observation.Counted{}},
		"of a subset":         {busy, []string{subset + taken, subset + wrapped}, observation.Counted{Connections: 1, Handshakes: 1}},
		"without a separator": {busy, []string{unseparated + taken, unseparated + wrapped}, observation.Counted{Connections: 1, Handshakes: 1}},
		"together with somebody else": {busy, []string{nginxStats + taken, nginxStats + wrapped, nginxStats + taken, nginxStats + wrapped},
			observation.Counted{Connections: 2, Handshakes: 2}},
		"together with somebody else, by another subset": {busy, []string{nginxStats + taken, subset + taken, subset + wrapped},
			observation.Counted{Connections: 2, Handshakes: 1}},
		"the first connection of all": {map[string]uint64{nginxStats + members: 1, passthrough + members: 1},
			[]string{nginxStats + taken, nginxStats + wrapped}, observation.Counted{Connections: 1, Handshakes: 1}},
		"no connection yet": {map[string]uint64{nginxStats + members: 1}, nil, observation.Counted{}},
		"the first, of a Service that Envoy does not know": {map[string]uint64{passthrough + members: 1},
			[]string{passthrough + taken}, observation.Counted{Passthrough: 1}},
		"handshakes of others": {busy, []string{passthrough + wrapped}, observation.Counted{}},
	} {
		t.Run(name, func(t *testing.T) {
			e := startEnvoy(t, c.before)
			seen := probedAlone(t, countedRequest(startCountedPeer(t, e, c.during...), e.admin))
			wantClass(t, seen, observation.Answered)
			wantCounted(t, seen, c.want)
		})
	}
}

func TestOnlyTheCountersOfTheServiceAreCounted(t *testing.T) {
	const host = "a+b.(x|y).[z]*.example"
	others := []string{
		"cluster.outbound|443||aab.(x|y).[z]*.example;.upstream_cx_total",
		"cluster.outbound|443||a+bX(x|y).[z]*.example;.upstream_cx_total",
		"cluster.outbound|443||a+b.x.z.example;.upstream_cx_total",
		"cluster.outbound|443||y.[z]*.example;.upstream_cx_total",
		"cluster.outbound|443||c.a+b.(x|y).[z]*.example;.upstream_cx_total",
		"cluster.outbound|443||a+b.(x|y).[z]*.example.org;.upstream_cx_total",
		"cluster.outbound|443|v1|other|a+b.(x|y).[z]*.example;.upstream_cx_total",
		"cluster.outbound|4433||a+b.(x|y).[z]*.example;.upstream_cx_total",
		"cluster.outbound|8443||a+b.(x|y).[z]*.example;.upstream_cx_total",
		"cluster.inbound|443||a+b.(x|y).[z]*.example;.upstream_cx_total",
		"cluster.outbound|443||a+b.(x|y).[z]*.example;.upstream_cx_total_more",
		"cluster.outbound|443||a+b.(x|y).[z]*.example;.more.ssl.handshake",
		"cluster.InboundPassthroughCluster;.upstream_cx_total",
		"listener.cluster.PassthroughCluster;.upstream_cx_total",
	}
	own := "cluster.outbound|443|v1|" + host + ";."
	e := startEnvoy(t, nil)
	e.stats = map[string]uint64{own + members: 1}
	request := countedRequest(startCountedPeer(t, e, append(others, own+taken, own+wrapped)...), e.admin)
	request.Count.Host = host
	wantCounted(t, probedAlone(t, request), observation.Counted{Connections: 1, Handshakes: 1})
}

// An Envoy that does not filter tells of more than was asked for, and of what are no counters.
func TestAnswersWithMoreThanWasAskedFor(t *testing.T) {
	const rest = "server.version: 7\ncluster.xds-grpc.ssl.handshake: 9\ncluster.outbound|443||nginx.probes.svc.cluster.local;.upstream_cx_length_ms: P0(1,1) P50(2,2)\n" +
		"control_plane.identifier: \"istiod: 1\"\n\n"
	got, err := parseStats([]byte(rest+nginxStats+taken+": 3\r\n"+nginxStats+wrapped+": 2\n"+passthrough+taken+": 1"), statNames(observation.Count{Host: countedHost, Port: 443}))
	if want := (counters{connections: 3, handshakes: 2, passthrough: 1, kept: true}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestProbesThatFailAreCounted(t *testing.T) {
	e := startEnvoy(t, map[string]uint64{nginxStats + members: 1})
	address := startPeer(t, func(conn *net.TCPConn) {
		e.add(nginxStats + taken)
		reset(conn)
	})
	seen := probedAlone(t, countedRequest(address, e.admin))
	wantClass(t, seen, observation.HandshakeReset)
	wantCounted(t, seen, observation.Counted{Connections: 1})
}

func TestRequestsThatAreInvalidAreCountedAsNothing(t *testing.T) {
	e := startEnvoy(t, map[string]uint64{nginxStats + members: 1})
	seen := probedAlone(t, countedRequest("nowhere", e.admin))
	wantClass(t, seen, observation.InvalidRequest)
	wantCounted(t, seen, observation.Counted{})
}

func TestNothingIsCountedUnasked(t *testing.T) {
	e := startEnvoy(t, map[string]uint64{nginxStats + members: 1})
	if seen := newTurns(ample, ample).probe(t.Context(), requestTo(startCountedPeer(t, e, nginxStats+taken))); seen.Counted != nil {
		t.Errorf("counted %+v, want no word of it", seen.Counted)
	}
	if len(e.readings) > 0 {
		t.Error("the counters were read without being asked for")
	}
}

// The counters are read around the probe and not within it, so that its times are its own.
func TestReadingTakesNoTimeOfTheProbe(t *testing.T) {
	e := startEnvoy(t, map[string]uint64{nginxStats + members: 1})
	seen := probedAlone(t, countedRequest(startCountedPeer(t, e, nginxStats+taken), e.admin))
	if len(e.readings) != 2 {
		t.Fatalf("%d readings, want 2", len(e.readings))
	}
	before, after := e.readings[0], e.readings[1]
	if finished := seen.Started.Add(seen.Finished); seen.Started.Before(before.given) || finished.After(after.asked) {
		t.Errorf("the probe went from %v to %v, the readings until %v and from %v", seen.Started, finished, before.given, after.asked)
	}
}

// To go through all that Envoy knows of a large mesh takes long.
func TestOnlyCountersInUseAreAskedFor(t *testing.T) {
	e := startEnvoy(t, map[string]uint64{nginxStats + members: 1})
	probedAlone(t, countedRequest(startCountedPeer(t, e, nginxStats+taken), e.admin))
	for _, reading := range e.readings {
		if reading.query.Get("type") != "Counters" || !reading.query.Has("usedonly") {
			t.Errorf("asked for %v", reading.query)
		}
	}
}

func TestWhatCannotBeCountedIsProbedAllTheSame(t *testing.T) {
	_, nobody := boundSocket(t)
	respond := func(response string) func(*testing.T) string {
		return func(t *testing.T) string {
			return startPeer(t, func(conn *net.TCPConn) {
				_, _ = conn.Read(make([]byte, 1))
				_, _ = io.WriteString(conn, response)
				finish(conn)
			})
		}
	}
	body := func(body string) func(*testing.T) string {
		return respond(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	}
	for name, c := range map[string]struct {
		admin   func(*testing.T) string
		because string
	}{
		"nobody there":      {func(*testing.T) string { return nobody }, "connection refused"},
		"no address":        {func(*testing.T) string { return "" }, "admin interface of Envoy"},
		"no port":           {func(*testing.T) string { return "127.0.0.1" }, "missing port"},
		"no address at all": {func(*testing.T) string { return "a b:\n" }, "is not host:port"},
		"closed":            {respond(""), "EOF"},
		"reset":             {func(t *testing.T) string { return startPeer(t, reset) }, "connection reset"},
		"reset when asked": {func(t *testing.T) string {
			return startPeer(t, func(conn *net.TCPConn) {
				_, _ = conn.Read(make([]byte, 1))
				reset(conn)
			})
		}, "connection reset"},
		"half an answer": {respond("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + nginxStats), "EOF"},
		"half a chunk":   {respond("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n" + nginxStats), "EOF"},
		"no end known":   {respond("HTTP/1.1 200 OK\r\n\r\n" + nginxStats + taken + ": 1\n"), "where it ends"},
		"longer in chunks": {func(t *testing.T) string {
			return startFlood(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\nspam\n\r\n")
		}, "longer than"},
		"no HTTP":            {respond("SSH-2.0-OpenSSH_9.2p1\r\n"), "malformed HTTP"},
		"forbidden":          {respond("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), "answered 403"},
		"not there":          {respond("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), "answered 404"},
		"elsewhere":          {respond("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"), "answered 302"},
		"another page":       {body("<html>ssl.handshake: 1</html>"), "no counters of the Service"},
		"nothing":            {body(""), "no counters of the Service"},
		"no number":          {body(nginxStats + taken + ": many\n"), `is "many"`},
		"no value":           {body(nginxStats + taken + "\n"), `is ""`},
		"negative":           {body(nginxStats + taken + ": -1\n"), `is "-1"`},
		"more than a number": {body(nginxStats + taken + ": " + strings.Repeat("1", 1000) + "\n"), "the counter"},
		"beyond 64 bits":     {body(nginxStats + taken + ": 18446744073709551616\n"), `is "18446744073709551616"`},
		"too long":           {body(strings.Repeat("cluster.x: 1\n", maxStatsBytes/10)), "longer than"},
		"endless header":     {func(t *testing.T) string { return startFlood(t, "HTTP/1.1 200 OK\r\n", "A: b\r\n") }, "longer than"},
		"endless line":       {func(t *testing.T) string { return startFlood(t, "", "spam") }, "longer than"},
		"endless body": {func(t *testing.T) string {
			return startFlood(t, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", nginxStats+taken+": 1\n")
		}, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			nginx := startTLSPeer(t, newIdentity(t).config(tls.VersionTLS13, tls.NoClientCert), answer(ok))
			seen := probedAlone(t, countedRequest(nginx, c.admin(t)))
			wantClass(t, seen, observation.Answered)
			wantUncounted(t, seen, c.because)
			// An address that differs every time would make two failures out of one.
			if strings.Contains(seen.Counted.Error, "->") {
				t.Errorf("the error %q tells from what port the counters were asked for", seen.Counted.Error)
			}
		})
	}
}

func TestAdminThatHangs(t *testing.T) {
	for name, admin := range map[string]func(*net.TCPConn){
		"before the answer": stall,
		"in the answer": func(conn *net.TCPConn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"+nginxStats)
			stall(conn)
		},
	} {
		t.Run(name, func(t *testing.T) {
			nginx := startTLSPeer(t, newIdentity(t).config(tls.VersionTLS13, tls.NoClientCert), answer(ok))
			seen := probedAloneReading(t, countedRequest(nginx, startPeer(t, admin)), readTime)
			wantClass(t, seen, observation.Answered)
			wantUncounted(t, seen, "no answer in time")
		})
	}
}

func startFlood(t *testing.T, start, more string) (address string) {
	t.Helper()
	return startPeer(t, func(conn *net.TCPConn) {
		_, _ = conn.Read(make([]byte, 1))
		_, err := io.WriteString(conn, start)
		for err == nil {
			_, err = io.WriteString(conn, more)
		}
	})
}

func TestRequestsThatNameNoService(t *testing.T) {
	e := startEnvoy(t, map[string]uint64{nginxStats + members: 1})
	for _, change := range map[string]func(*observation.Count){
		"no host": func(c *observation.Count) { c.Host = "" },
		"no port": func(c *observation.Count) { c.Port = 0 },
	} {
		request := countedRequest(startCountedPeer(t, e, nginxStats+taken), e.admin)
		change(request.Count)
		seen := probedAlone(t, request)
		wantClass(t, seen, observation.Answered)
		wantUncounted(t, seen, "names no Service")
	}
}

// What grew since the first reading is not known without a second, or without the same counters there.
func TestEnvoyThatChangesMeanwhile(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*envoy)
		because string
	}{
		"restarts":             {func(e *envoy) { e.reset(); e.add(nginxStats+taken, nginxStats+wrapped) }, "set back"},
		"forgets the Service":  {func(e *envoy) { delete(e.stats, nginxStats+taken) }, "set back"},
		"forgets a handshake":  {func(e *envoy) { e.stats[nginxStats+wrapped]--; e.add(nginxStats + taken) }, "set back"},
		"forgets passthroughs": {func(e *envoy) { e.stats[passthrough+taken]--; e.add(nginxStats + taken) }, "set back"},
	} {
		t.Run(name, func(t *testing.T) {
			e := startEnvoy(t, map[string]uint64{nginxStats + taken: 5, nginxStats + wrapped: 5, passthrough + taken: 5, nginxStats + members: 1})
			address := startTLSPeer(t, newIdentity(t).config(tls.VersionTLS13, tls.NoClientCert), func(conn *tls.Conn, err error) {
				c.change(e)
				answer(ok)(conn, err)
			})
			seen := probedAlone(t, countedRequest(address, e.admin))
			wantClass(t, seen, observation.Answered)
			wantUncounted(t, seen, c.because)
		})
	}
	t.Run("falls silent", func(t *testing.T) {
		e := startEnvoy(t, map[string]uint64{nginxStats + members: 1})
		var once sync.Once
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answered := false
			once.Do(func() { e.serve(w, r); answered = true })
			if !answered {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
		defer server.Close()
		seen := probedAlone(t, countedRequest(startCountedPeer(t, e, nginxStats+taken), server.Listener.Addr().String()))
		wantClass(t, seen, observation.Answered)
		wantUncounted(t, seen, "answered 503")
	})
}
