package prober

import (
	"bytes"
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
	nginx       = "outbound|443||" + countedHost

	ok = "HTTP/1.1 200 OK\r\n\r\n"
)

// envoy is a sidecar: its proxies take connections and pass them on, and count them, and its admin interface tells of it.
type envoy struct {
	t     *testing.T
	admin string

	mu sync.Mutex
	// stats are by name, as Envoy writes it, and hosts the connections by cluster and host.
	stats map[string]uint64
	hosts map[string]map[string]uint64
	dumps map[string]string
	// ends is what follows the name of a cluster in the name of its counters, and asked what was asked for.
	ends  string
	asked []*url.URL
}

func startEnvoy(t *testing.T) *envoy {
	t.Helper()
	e := &envoy{
		t: t, ends: ";", dumps: map[string]string{},
		stats: map[string]uint64{"cluster_manager.cluster_added": 7, "listener_manager.listener_added": 9},
		hosts: map[string]map[string]uint64{observation.ClusterPassthrough: {}, observation.ClusterBlackHole: {}},
	}
	server := httptest.NewServer(http.HandlerFunc(e.serve))
	t.Cleanup(server.Close)
	e.admin = server.Listener.Addr().String()
	return e
}

// serve answers as Envoy does: a line for every counter whose name matches the filter somewhere, and of those that were
// never incremented only if they are wanted.
func (e *envoy) serve(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, r.URL)
	query := r.URL.Query()
	filter, err := regexp.Compile(query.Get("filter"))
	if err != nil || r.Method != http.MethodGet {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	var answer bytes.Buffer
	defer func() { _, _ = answer.WriteTo(w) }()
	switch r.URL.Path {
	case "/stats":
		for _, name := range slices.Sorted(maps.Keys(e.stats)) {
			if filter.MatchString(name) && (e.stats[name] > 0 || !query.Has("usedonly")) {
				fmt.Fprintf(&answer, "%s: %d\n", name, e.stats[name])
			}
		}
	case "/clusters":
		for _, cluster := range slices.Sorted(maps.Keys(e.hosts)) {
			if !filter.MatchString(cluster) {
				continue
			}
			fmt.Fprintf(&answer, "%s::observability_name::%s;\n%[1]s::added_via_api::true\n", cluster, cluster)
			for host, connections := range e.hosts[cluster] {
				fmt.Fprintf(&answer, "%s::%s::cx_active::0\n%[1]s::%[2]s::cx_total::%d\n%[1]s::%[2]s::rq_total::%[3]d\n", cluster, host, connections)
			}
		}
	case "/config_dump":
		answer.WriteString(e.dumps[query.Get("resource")])
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (e *envoy) add(cluster, counter string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stats["cluster."+cluster+e.ends+"."+counter]++
}

// connect counts one connection to a host of a cluster.
func (e *envoy) connect(cluster, host string) {
	e.add(cluster, "upstream_cx_total")
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hosts[cluster][host]++
}

// knows makes a cluster with hosts that had connections already.
func (e *envoy) knows(cluster string, hosts ...string) {
	e.add(cluster, "membership_change")
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hosts[cluster] = map[string]uint64{}
	for i, host := range hosts {
		e.hosts[cluster][host] = uint64(10 * i)
		e.stats["cluster."+cluster+e.ends+".upstream_cx_total"] += uint64(10 * i)
	}
}

func (e *envoy) reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name := range e.stats {
		e.stats[name] = 0
	}
}

// proxy takes connections, counts each by taken, and passes it on to the backend.
func (e *envoy) proxy(backend string, taken func()) (address string) {
	return startPeer(e.t, func(conn *net.TCPConn) {
		taken()
		upstream, err := net.Dial("tcp", backend)
		if err != nil {
			return
		}
		defer upstream.Close()
		var back sync.WaitGroup
		back.Go(func() {
			_, _ = io.Copy(conn, upstream)
			_ = conn.CloseWrite()
		})
		_, _ = io.Copy(upstream, conn)
		_ = upstream.(*net.TCPConn).CloseWrite()
		back.Wait()
	})
}

// wraps counts what mutual TLS to a host of a cluster does, and plain what plaintext does.
func (e *envoy) wraps(cluster, host string) func() {
	return func() {
		e.connect(cluster, host)
		e.add(cluster, "ssl.handshake")
	}
}

func (e *envoy) plain(cluster, host string) func() { return func() { e.connect(cluster, host) } }

// questions are those that were asked under a path.
func (e *envoy) questions(path string) []url.Values {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []url.Values
	for _, asked := range e.asked {
		if asked.Path == path {
			all = append(all, asked.Query())
		}
	}
	return all
}

func startBackend(t *testing.T) string {
	t.Helper()
	return startTLSPeer(t, newIdentity(t).config(tls.VersionTLS13, tls.NoClientCert), answer(ok))
}

func startHanging(t *testing.T) string { t.Helper(); return startPeer(t, stall) }

func countedRequest(address, admin string) observation.Request {
	request := requestTo(address)
	request.Count = &observation.Count{Admin: admin, Host: countedHost, Port: 443}
	return request
}

func startFollower(t *testing.T) *follower {
	t.Helper()
	f := newFollower()
	t.Cleanup(f.admin.close)
	return f
}

// followed probes by itself.
func followed(t *testing.T, f *follower, request observation.Request) observation.Observation {
	t.Helper()
	started := time.Now()
	seen := f.probe(context.Background(), request)
	if took := time.Since(started); took > slack {
		t.Errorf("the probe took %v, want %v or less", took, slack)
	}
	if seen.Sent == nil {
		t.Fatal("no word of where the request was sent")
	}
	if len(seen.Sent.Error) > maxErrorBytes {
		t.Errorf("the error is %d bytes long, want %d or less", len(seen.Sent.Error), maxErrorBytes)
	}
	return seen
}

func wantSent(t *testing.T, seen observation.Observation, want observation.Sent) {
	t.Helper()
	if seen.Sent == nil || *seen.Sent != want {
		t.Errorf("sent %+v, want %+v", seen.Sent, want)
	}
}

func wantUnknown(t *testing.T, seen observation.Observation, because string) {
	t.Helper()
	if seen.Sent == nil || seen.Sent.Past || seen.Wrapping() != observation.NotCounted || !strings.Contains(seen.Sent.Error, because) {
		t.Errorf("sent %+v, want the error %q", seen.Sent, because)
	}
}

// startFlood starts a server that never ends its answer.
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

// matchesFilter says whether a question's filter takes a name.
func matchesFilter(t *testing.T, question, name string) bool {
	t.Helper()
	parsed, err := url.Parse(question)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(parsed.Query().Get("filter")).MatchString(name)
}
