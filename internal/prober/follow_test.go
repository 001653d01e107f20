package prober

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

const (
	hostA = "10.1.0.1:8443"
	hostB = "[fd00::1]:8443"
)

func TestWhereARequestWasSent(t *testing.T) {
	const subset = "outbound|443|v1|" + countedHost
	const other = "outbound|443||other.probes.svc.cluster.local"
	for name, c := range map[string]struct {
		taken func(*envoy) func()
		want  observation.Sent
	}{
		"wrapped":                            {func(e *envoy) func() { return e.wraps(nginx, hostA) }, observation.Sent{Cluster: nginx, Host: hostA, Handshakes: 1}},
		"as it is":                           {func(e *envoy) func() { return e.plain(nginx, hostA) }, observation.Sent{Cluster: nginx, Host: hostA}},
		"IPv6":                               {func(e *envoy) func() { return e.wraps(nginx, hostB) }, observation.Sent{Cluster: nginx, Host: hostB, Handshakes: 1}},
		"a subset":                           {func(e *envoy) func() { return e.plain(subset, hostA) }, observation.Sent{Cluster: subset, Host: hostA}},
		"passed by":                          {func(e *envoy) func() { return e.plain(observation.ClusterPassthrough, "10.0.0.1:443") }, observation.Sent{Cluster: observation.ClusterPassthrough, Host: "10.0.0.1:443"}},
		"elsewhere, one host":                {func(e *envoy) func() { return e.wraps(other, hostA) }, observation.Sent{Cluster: other, Host: hostA, Handshakes: 1}},
		"elsewhere, one of two that is used": {func(e *envoy) func() { e.hosts[other][hostB] = 0; return e.plain(other, hostA) }, observation.Sent{Cluster: other, Host: hostA}},
		"elsewhere, one of two":              {func(e *envoy) func() { e.hosts[other][hostB] = 1; return e.plain(other, hostA) }, observation.Sent{Cluster: other}},
		"a cluster without a host": {func(e *envoy) func() {
			return func() { e.add(nginx, "upstream_cx_none_healthy") }
		}, observation.Sent{Cluster: nginx}},
		"nowhere": {func(e *envoy) func() {
			return func() { e.add(observation.ClusterBlackHole, "upstream_cx_none_healthy") }
		}, observation.Sent{Cluster: observation.ClusterBlackHole}},
		"one more by somebody else": {func(e *envoy) func() {
			return func() { e.connect(nginx, hostA); e.connect(nginx, hostB) }
		}, observation.Sent{Error: errSeveral.Error()}},
		"one elsewhere by somebody else": {func(e *envoy) func() {
			return func() { e.connect(nginx, hostA); e.connect(other, hostA) }
		}, observation.Sent{Error: errSeveral.Error()}},
		"counters set back":                 {func(e *envoy) func() { return func() { e.reset(); e.connect(nginx, hostA) } }, observation.Sent{Error: errSetBack.Error()}},
		"taken by Envoy, counted to nobody": {func(*envoy) func() { return func() {} }, observation.Sent{Error: errUncounted.Error()}},
		"a handshake too many": {func(e *envoy) func() {
			return func() { e.wraps(nginx, hostA)(); e.add(nginx, "ssl.handshake") }
		}, observation.Sent{Cluster: nginx, Host: hostA, Error: errShared.Error()}},
	} {
		for _, ends := range []string{";", ""} {
			t.Run(name+ends, func(t *testing.T) {
				e := startEnvoy(t)
				e.ends = ends
				e.knows(nginx, hostA, hostB)
				e.knows(subset, hostB, hostA)
				e.knows(other, hostA)
				seen := followed(t, startFollower(t), countedRequest(e.proxy(startBackend(t), c.taken(e)), e.admin))
				wantClass(t, seen, observation.Answered)
				wantSent(t, seen, c.want)
			})
		}
	}
}

// The kernel of a test has both ends of every connection, as that of a pod has of those that Envoy takes.
func TestRequestsPastEnvoy(t *testing.T) {
	for name, c := range map[string]struct {
		capture capture
		kept    bool
		backend func(*testing.T) string
		past    bool
		because string
	}{
		"the kernel says so":                       {uncaptured, true, startBackend, true, ""},
		"the kernel says so, nothing kept":         {uncaptured, false, startBackend, true, ""},
		"the kernel says so, hanging":              {uncaptured, true, startHanging, true, ""},
		"the kernel says otherwise":                {captured, true, startBackend, false, errUncounted.Error()},
		"the kernel says otherwise, nothing kept":  {captured, false, startBackend, false, "no counters of the Service"},
		"the kernel does not tell":                 {captureUnknown, true, startBackend, false, errUntraced.Error()},
		"the kernel does not tell, nobody answers": {captureUnknown, true, func(t *testing.T) string { return startFault(t, nil, atClientHello, reset) }, false, errUntraced.Error()},
		"the kernel says otherwise, hanging":       {captured, true, startHanging, false, errHanging.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			e := startEnvoy(t)
			if c.kept {
				e.knows(nginx, hostA)
			}
			f := startFollower(t)
			f.capture = func(netip.AddrPort, netip.AddrPort) capture { return c.capture }
			request := countedRequest(c.backend(t), e.admin)
			request.Timeout = 2 * time.Second
			seen := followed(t, f, request)
			if c.past {
				wantSent(t, seen, observation.Sent{Past: true})
				return
			}
			wantUnknown(t, seen, c.because)
		})
	}
}

// Somebody else's connection, wrapped in TLS, is no evidence of a request that went past Envoy.
func TestConnectionsOfOthersAreNotTaken(t *testing.T) {
	e := startEnvoy(t)
	e.knows(nginx, hostA)
	f := startFollower(t)
	f.capture = func(netip.AddrPort, netip.AddrPort) capture { return uncaptured }
	seen := followed(t, f, countedRequest(e.proxy(startBackend(t), e.wraps(nginx, hostA)), e.admin))
	wantSent(t, seen, observation.Sent{Past: true})
}

func TestCaptureOfOwnConnections(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if got := captureOf(addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())); got != captured {
		t.Errorf("a connection within the machine: %d, want %d", got, captured)
	}
	local, remote := addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())
	conn.Close()
	if got := captureOf(netip.AddrPortFrom(local.Addr(), 1), remote); got != captureUnknown {
		t.Errorf("a connection that is not there: %d, want %d", got, captureUnknown)
	}
}

func TestSocketTables(t *testing.T) {
	const head = "  sl  local_address rem_address   st tx_queue rx_queue\n"
	local, remote := netip.MustParseAddrPort("198.18.0.9:50000"), netip.MustParseAddrPort("198.19.1.2:443")
	row := func(from, to netip.AddrPort, state string, six int) string {
		return fmt.Sprintf("   0: %s %s %s 00000000:00000000\n", procAddresses(from)[six], procAddresses(to)[six], state)
	}
	proxy := netip.MustParseAddrPort("127.0.0.1:15001")
	for name, c := range map[string]struct {
		table string
		want  capture
	}{
		"nothing":                     {head, captureUnknown},
		"ours alone":                  {head + row(local, remote, "01", 0), uncaptured},
		"ours, closed by the peer":    {head + row(local, remote, "08", 0), uncaptured},
		"ours, closed":                {head + row(local, remote, "07", 0), captureUnknown},
		"ours to elsewhere":           {head + row(local, proxy, "01", 0), captureUnknown},
		"Envoy's":                     {head + row(local, remote, "01", 0) + row(proxy, local, "01", 0), captured},
		"Envoy's first":               {head + row(proxy, local, "01", 0) + row(local, remote, "01", 0), captured},
		"Envoy's that stands not yet": {head + row(local, remote, "01", 0) + row(proxy, local, "03", 0), captured},
		"Envoy's in IPv6":             {head + row(proxy, local, "01", 1), captured},
		"short lines":                 {head + "\n0:\n" + row(local, remote, "01", 1), uncaptured},
		"an endless line":             {head + row(local, remote, "01", 0) + strings.Repeat("x", 1<<20), captureUnknown},
	} {
		if got := findSocket(strings.NewReader(c.table), local, remote); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// all probes at the same time, and returns what each saw.
func all(f *follower, requests []observation.Request) []observation.Observation {
	seen := make([]observation.Observation, len(requests))
	var probes sync.WaitGroup
	for i, request := range requests {
		probes.Go(func() { seen[i] = f.probe(context.Background(), request) })
	}
	probes.Wait()
	return seen
}

func TestFiftyAtOnceAreAllToldApart(t *testing.T) {
	const services = 50
	e := startEnvoy(t)
	backend := startBackend(t)
	var requests []observation.Request
	var want []observation.Sent
	for i := range services {
		host := fmt.Sprintf("s%d.probes.svc.cluster.local", i)
		cluster := "outbound|443||" + host
		e.knows(cluster, hostA, hostB)
		taken, sent := e.plain(cluster, hostA), observation.Sent{Cluster: cluster, Host: hostA}
		if i%2 == 0 {
			taken, sent.Handshakes = e.wraps(cluster, hostA), 1
		}
		request := countedRequest(e.proxy(backend, taken), e.admin)
		request.Count.Host = host
		requests, want = append(requests, request), append(want, sent)
	}
	for i, seen := range all(startFollower(t), requests) {
		wantClass(t, seen, observation.Answered)
		wantSent(t, seen, want[i])
	}
	if asked := len(e.questions("/stats")); asked > 2*services {
		t.Errorf("%d readings of all counters, want %d or less", asked, 2*services)
	}
}

// Many to the same Service share its counters, and are told apart all the same.
func TestTwentyToOneServiceAtOnce(t *testing.T) {
	e := startEnvoy(t)
	e.knows(nginx, hostA, hostB)
	wrapped, plain := e.proxy(startBackend(t), e.wraps(nginx, hostA)), e.proxy(startBackend(t), e.plain(nginx, hostB))
	var requests []observation.Request
	for range 10 {
		requests = append(requests, countedRequest(wrapped, e.admin), countedRequest(plain, e.admin))
	}
	for i, seen := range all(startFollower(t), requests) {
		wantSent(t, seen, []observation.Sent{{Cluster: nginx, Host: hostA, Handshakes: 1}, {Cluster: nginx, Host: hostB}}[i%2])
	}
}

// A server that hangs costs nobody else's attribution, and its own is known.
func TestHangingNeighbours(t *testing.T) {
	const hanging = "outbound|443||hanging.probes.svc.cluster.local"
	e := startEnvoy(t)
	e.knows(nginx, hostA, hostB)
	e.knows(hanging, hostA)
	var requests []observation.Request
	for range 5 {
		stuck := countedRequest(e.proxy(startHanging(t), e.plain(hanging, hostA)), e.admin)
		stuck.Count.Host, stuck.Timeout = "hanging.probes.svc.cluster.local", 2*time.Second
		requests = append(requests, stuck, countedRequest(e.proxy(startBackend(t), e.wraps(nginx, hostB)), e.admin))
	}
	for i, seen := range all(startFollower(t), requests) {
		if i%2 == 0 {
			wantClass(t, seen, observation.HandshakeTimeout)
			wantSent(t, seen, observation.Sent{Cluster: hanging, Host: hostA})
			continue
		}
		wantClass(t, seen, observation.Answered)
		wantSent(t, seen, observation.Sent{Cluster: nginx, Host: hostB, Handshakes: 1})
	}
}

// A handshake that ends late is told from that of another request to the same cluster, or it is not known: it is never
// taken for another's.
func TestStragglersHandshakes(t *testing.T) {
	e := startEnvoy(t)
	e.knows(nginx, hostA, hostB)
	open := make(chan struct{})
	taken := make(chan struct{})
	late := e.proxy(startTLSPeer(t, newIdentity(t).config(tls.VersionTLS13, tls.NoClientCert), answer(ok)), func() {
		e.connect(nginx, hostA)
		close(taken)
		<-open
		e.add(nginx, "ssl.handshake")
	})
	f := startFollower(t)
	var first observation.Observation
	var probes sync.WaitGroup
	probes.Go(func() { first = f.probe(context.Background(), countedRequest(late, e.admin)) })
	<-taken
	if !polled(func() bool { return f.lane.traffic().stragglers[nginx] == 1 }) {
		t.Fatal("the first request does not leave the lane")
	}
	plain := followed(t, f, countedRequest(e.proxy(startBackend(t), e.plain(nginx, hostB)), e.admin))
	wantSent(t, plain, observation.Sent{Cluster: nginx, Host: hostB})
	wrapped := followed(t, f, countedRequest(e.proxy(startBackend(t), e.wraps(nginx, hostB)), e.admin))
	wantUnknown(t, wrapped, errShared.Error())
	if wrapped.Sent.Cluster != nginx || wrapped.Sent.Host != hostB {
		t.Errorf("sent %+v, want cluster and host", wrapped.Sent)
	}
	close(open)
	probes.Wait()
	// One plain, two wrapped, of which one may be either's: the first is not known either.
	wantUnknown(t, first, errShared.Error())
	if left := f.lane.traffic().stragglers; len(left) > 0 {
		t.Errorf("%v straggle", left)
	}
}

func TestStragglerAlone(t *testing.T) {
	for name, handshakes := range map[string]uint64{"wrapped": 1, "as it is": 0} {
		t.Run(name, func(t *testing.T) {
			e := startEnvoy(t)
			e.knows(nginx, hostA)
			f := startFollower(t)
			address := e.proxy(startBackend(t), func() {
				e.connect(nginx, hostA)
				polled(func() bool { return f.lane.traffic().stragglers[nginx] == 1 })
				if handshakes > 0 {
					e.add(nginx, "ssl.handshake")
				}
			})
			wantSent(t, followed(t, f, countedRequest(address, e.admin)), observation.Sent{Cluster: nginx, Host: hostA, Handshakes: handshakes})
		})
	}
}

// A request of which it is not known where it is may be counted in anybody's window.
func TestStraysSpoilCounting(t *testing.T) {
	for name, change := range map[string]func(*observation.Request){
		"no count":         func(r *observation.Request) { r.Count = nil },
		"count of nothing": func(r *observation.Request) { r.Count.Host = "" },
	} {
		t.Run(name, func(t *testing.T) {
			e := startEnvoy(t)
			e.knows(nginx, hostA)
			g := startGate(t)
			f := startFollower(t)
			stray := countedRequest(g.address, e.admin)
			change(&stray)
			var probes sync.WaitGroup
			probes.Go(func() { f.probe(context.Background(), stray) })
			<-g.arrived
			request := countedRequest(e.proxy(startBackend(t), e.wraps(nginx, hostA)), e.admin)
			wantUnknown(t, followed(t, f, request), errStrays.Error())
			close(g.open)
			probes.Wait()
			wantSent(t, followed(t, f, request), observation.Sent{Cluster: nginx, Host: hostA, Handshakes: 1})
		})
	}
}

func TestRequestsWithoutConnection(t *testing.T) {
	e := startEnvoy(t)
	e.knows(nginx, hostA)
	_, nobody := boundSocket(t)
	f := startFollower(t)
	for address, class := range map[string]observation.Class{"nowhere": observation.InvalidRequest, nobody: observation.ConnectionRefused} {
		seen := followed(t, f, countedRequest(address, e.admin))
		wantClass(t, seen, class)
		wantUnknown(t, seen, errNoConnection.Error())
	}
}

func TestNothingIsFollowedUnasked(t *testing.T) {
	e := startEnvoy(t)
	if seen := startFollower(t).probe(t.Context(), requestTo(startBackend(t))); seen.Sent != nil || seen.Delivered != nil {
		t.Errorf("sent %+v, delivered %+v, want no word of it", seen.Sent, seen.Delivered)
	}
	if len(e.asked) > 0 {
		t.Error("the counters were read without being asked for")
	}
}

func TestAdminThatIsOfNoUse(t *testing.T) {
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
	const counter = "cluster." + nginx + ";.upstream_cx_total"
	for name, c := range map[string]struct {
		admin   func(*testing.T) string
		because string
	}{
		"nobody there":      {func(*testing.T) string { return nobody }, "connection refused"},
		"no address":        {func(*testing.T) string { return "" }, "host:port"},
		"no port":           {func(*testing.T) string { return "127.0.0.1" }, "host:port"},
		"no address at all": {func(*testing.T) string { return "a b:\n" }, "host:port"},
		"closed":            {respond(""), "EOF"},
		"hanging":           {startHanging, "no answer in time"},
		"half an answer":    {respond("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + counter), "EOF"},
		"no end known":      {respond("HTTP/1.1 200 OK\r\n\r\n" + counter + ": 1\n"), "where it ends"},
		"no HTTP":           {respond("SSH-2.0-OpenSSH_9.2p1\r\n"), "malformed HTTP"},
		"forbidden":         {respond("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), "answered 403"},
		"elsewhere":         {respond("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"), "answered 302"},
		"another page":      {body("<html>ssl.handshake: 1</html>"), "no counters"},
		"nothing":           {body(""), "no counters"},
		"no number":         {body(counter + ": many\n"), `is "many"`},
		"negative":          {body(counter + ": -1\n"), `is "-1"`},
		"beyond 64 bits":    {body(counter + ": 18446744073709551616\n"), `is "18446744073709551616"`},
		"too long":          {body(strings.Repeat("cluster.x: 1\n", maxAdminBytes/10)), "longer than"},
		"endless header":    {func(t *testing.T) string { return startFlood(t, "HTTP/1.1 200 OK\r\n", "A: b\r\n") }, "exceeded"},
		"endless body": {func(t *testing.T) string {
			return startFlood(t, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", counter+": 1\n")
		}, "longer than"},
		"endless chunks": {func(t *testing.T) string {
			return startFlood(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\nspam\n\r\n")
		}, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			backend := startBackend(t)
			seen := followed(t, startFollower(t), countedRequest(backend, c.admin(t)))
			wantClass(t, seen, observation.Answered)
			wantUnknown(t, seen, c.because)
			if seen.Delivered == nil || seen.Delivered.Error == "" {
				t.Errorf("delivered %+v, want an error", seen.Delivered)
			}
			// An address that differs every time would make two failures out of one.
			if strings.Contains(seen.Sent.Error, "->") {
				t.Errorf("the error %q tells from what port the counters were asked for", seen.Sent.Error)
			}
		})
	}
}

func TestFollowingFitsIntoWhatTheOperatorWaits(t *testing.T) {
	// Slack in internal/agents, less something for the way.
	const most = 5*time.Second - 300*time.Millisecond
	if followTime > most || laneWait+readTime > followTime {
		t.Errorf("following a request takes up to %v, of which %v before it, want %v or less", followTime, laneWait+readTime, most)
	}
}

// What is delivered is asked again when it may have changed, and not else.
func TestDeliveredIsReadAnew(t *testing.T) {
	e := startEnvoy(t)
	e.knows(nginx, hostA)
	address := e.proxy(startBackend(t), e.wraps(nginx, hostA))
	f := startFollower(t)
	ask := func() int {
		before := len(e.questions("/config_dump"))
		if seen := followed(t, f, countedRequest(address, e.admin)); seen.Delivered == nil || seen.Delivered.Error == "" {
			t.Errorf("delivered %+v, want an error: there is no listener", seen.Delivered)
		}
		return len(e.questions("/config_dump")) - before
	}
	e.dumps["dynamic_listeners"] = `{}`
	ask()
	f.delivered.age(2 * arrivalTime)
	ask()
	if asked := ask(); asked != 0 {
		t.Errorf("%d questions though nothing changed", asked)
	}
	e.mu.Lock()
	e.stats["listener_manager.listener_modified"]++
	e.mu.Unlock()
	if asked := ask(); asked == 0 {
		t.Error("no question though a listener changed")
	}
	if asked := ask(); asked == 0 {
		t.Error("no question though the change may still be on its way")
	}
	f.delivered.age(2 * arrivalTime)
	ask()
	if asked := ask(); asked != 0 {
		t.Errorf("%d questions though nothing changed any more", asked)
	}
	f.delivered.age(2 * deliveredAge)
	if asked := ask(); asked == 0 {
		t.Error("no question after so long")
	}
}

// age makes what is remembered older.
func (d *deliveries) age(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for to, known := range d.known {
		known.since, known.read = known.since.Add(-by), known.read.Add(-by)
		d.known[to] = known
	}
}
