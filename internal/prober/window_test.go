package prober

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

const webHost = "web.mp-agent.svc.cluster.local"

func realText(t testing.TB, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What a real Envoy answered to the agent's own question.
func TestRealCounters(t *testing.T) {
	read, err := parseStats(realText(t, "stats.txt"), view{count: observation.Count{Host: webHost, Port: 443}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]tally{
		"BlackHoleCluster":                              {unplaced: 2},
		"PassthroughCluster":                            {connections: 4},
		"outbound|443|a|" + webHost:                     {connections: 9, handshakes: 9},
		"outbound|443|b|" + webHost:                     {connections: 3},
		"outbound|443||" + webHost:                      {connections: 8, handshakes: 5},
		"outbound|443||api.example.com":                 {connections: 2},
		"outbound|443||bare.mp-agent.svc.cluster.local": {connections: 2, unplaced: 2},
	}
	if !maps.Equal(read.clusters, want) || !read.kept {
		t.Errorf("got  %+v, kept %t\nwant %+v", read.clusters, read.kept, want)
	}
	for _, part := range []string{"cluster_manager.cluster_modified=9\n", "listener_manager.listener_in_place_updated=6\n", "|a|" + webHost + " updates=1\n"} {
		if !strings.Contains(read.mark, part) {
			t.Errorf("the mark\n%s lacks %q", read.mark, part)
		}
	}
	if other, _ := parseStats(realText(t, "stats.txt"), view{count: observation.Count{Host: "other", Port: 443}}); other.kept {
		t.Error("counters are kept of a Service that is not there")
	}
}

func TestRealHosts(t *testing.T) {
	hosts, err := parseHosts(realText(t, "clusters.txt"))
	want := map[string]map[string]uint64{
		"BlackHoleCluster":          {},
		"PassthroughCluster":        {"198.18.0.14:8443": 1},
		"outbound|443||" + webHost:  {"198.18.0.6:8443": 0, "198.18.0.5:8443": 0},
		"outbound|443|a|" + webHost: {"198.18.0.6:8443": 4, "198.18.0.5:8443": 5},
		"outbound|443|b|" + webHost: {"198.18.0.6:8443": 3, "198.18.0.5:8443": 0},
	}
	if err != nil || !reflect.DeepEqual(hosts, want) {
		t.Errorf("got  %v, %v\nwant %v", hosts, err, want)
	}
}

// A mark that stays while the configuration changes would keep what was delivered before.
func TestMarks(t *testing.T) {
	const own = "cluster.outbound|443||" + webHost + ";."
	base := "listener_manager.listener_added: 3\n" + own + "update_success: 5\n" + own + "update_no_rebuild: 2\n" + own + "membership_change: 1\n"
	for name, c := range map[string]struct {
		stats string
		same  bool
	}{
		"the same":            {base, true},
		"connections":         {base + own + "upstream_cx_total: 7\n" + own + "ssl.handshake: 7\n", true},
		"the same once more":  {strings.NewReplacer("update_success: 5", "update_success: 6", "no_rebuild: 2", "no_rebuild: 3").Replace(base), true},
		"other endpoints":     {strings.Replace(base, "update_success: 5", "update_success: 6", 1), false},
		"another membership":  {strings.Replace(base, "membership_change: 1", "membership_change: 2", 1), false},
		"another listener":    {strings.Replace(base, "added: 3", "added: 4", 1), false},
		"a cluster's removal": {base + "cluster_manager.cluster_removed: 1\n", false},
	} {
		v := view{count: observation.Count{Host: webHost, Port: 443}}
		before, _ := parseStats([]byte(base), v)
		after, err := parseStats([]byte(c.stats), v)
		if err != nil || (before.mark == after.mark) != c.same {
			t.Errorf("%s: from %q to %q, %v", name, before.mark, after.mark, err)
		}
	}
}

func TestHostsOfAWindow(t *testing.T) {
	type hosts map[string]uint64
	for name, c := range map[string]struct {
		before, after hosts
		want          string
	}{
		"one more":                       {hosts{"a": 5, "b": 7}, hosts{"a": 6, "b": 7}, "a"},
		"the first":                      {hosts{}, hosts{"a": 1}, "a"},
		"came back":                      {hosts{"a": 5}, hosts{"a": 1}, "a"},
		"came back, nobody connected":    {hosts{"a": 5, "b": 1}, hosts{"a": 0, "b": 2}, "b"},
		"came back and another":          {hosts{"a": 5, "b": 1}, hosts{"a": 1, "b": 2}, ""},
		"none":                           {hosts{"a": 5}, hosts{"a": 5}, ""},
		"two":                            {hosts{"a": 5, "b": 7}, hosts{"a": 6, "b": 8}, ""},
		"two more":                       {hosts{"a": 5}, hosts{"a": 7}, ""},
		"gone":                           {hosts{"a": 5}, hosts{}, ""},
		"back with as many as before":    {hosts{"a": 1}, hosts{"a": 1}, ""},
		"a host that nobody knew of":     {hosts{"a": 1}, hosts{"a": 1, "b": 1}, "b"},
		"one that had some at its first": {hosts{"a": 1}, hosts{"a": 1, "b": 3}, ""},
	} {
		w := window{before: reading{hosts: map[string]map[string]uint64{"c": c.before}}, after: reading{hosts: map[string]map[string]uint64{"c": c.after}}}
		if got := w.host("c"); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Whatever happens beside, a handshake is claimed or denied only where the sum leaves no other way.
func TestHandshakesAreNeverAnothers(t *testing.T) {
	for others := range uint64(4) {
		for stragglers := range 3 {
			for own := range uint64(2) {
				for theirs := uint64(0); theirs <= others+uint64(stragglers); theirs++ {
					w := window{
						before:     reading{clusters: map[string]tally{"c": {connections: 10, handshakes: 6}}},
						after:      reading{clusters: map[string]tally{"c": {connections: 11 + others, handshakes: 6 + own + theirs}}},
						stragglers: map[string]int{"c": stragglers},
					}
					if got, err := w.handshakes("c"); err == nil && got != own {
						t.Errorf("%d others and %d stragglers made %d handshakes beside %d: %d", others, stragglers, theirs, own, got)
					}
				}
			}
		}
	}
}

func TestOnlyTheServiceAndWhatMayTakeItsPlaceIsAskedFor(t *testing.T) {
	v := view{count: observation.Count{Host: "a+b.example", Port: 443}, legs: "outbound|443|v1|x.y\n"}
	for question, matches := range map[string]bool{
		"outbound|443||a+b.example":   true,
		"outbound|443|v2|a+b.example": true,
		"outbound|443|v1|x.y":         true,
		"PassthroughCluster":          true,
		"BlackHoleCluster":            true,
		"outbound|443|v1|xzy":         false,
		"outbound|4430||a+b.example":  false,
		"outbound|443||aab.example":   false,
		"InboundPassthroughCluster":   false,
	} {
		if got := matchesFilter(t, v.hosts(), question); got != matches {
			t.Errorf("hosts of %s are asked for: %t, want %t", question, got, matches)
		}
	}
	for question, matches := range map[string]bool{
		"cluster.outbound|443||other;.upstream_cx_total":       true,
		"cluster.outbound|443||other.ssl.handshake":            true,
		"cluster.outbound|443||other;.update_success":          false,
		"cluster.outbound|443||a+b.example;.update_success":    true,
		"cluster.PassthroughCluster;.upstream_cx_none_healthy": true,
		"cluster.inbound|443||;.upstream_cx_total":             false,
		"cluster.xds-grpc.upstream_cx_total":                   false,
		"listener_manager.listener_modified":                   true,
		"cluster.outbound|443||other;.upstream_cx_total_more":  false,
	} {
		if got := matchesFilter(t, v.stats(), question); got != matches {
			t.Errorf("%s is asked for: %t, want %t", question, got, matches)
		}
	}
}

func FuzzCounters(f *testing.F) {
	f.Add(realText(f, "stats.txt"), realText(f, "clusters.txt"))
	f.Add([]byte("cluster.outbound|443||"+webHost+".ssl.handshake: 18446744073709551615\n"), []byte("outbound|443||a::[fd00::1]:1::cx_total::1\n::cx_total::\n"))
	f.Fuzz(func(t *testing.T, stats, clusters []byte) {
		v := view{count: observation.Count{Host: webHost, Port: 443}}
		before, err := parseStats(realText(t, "stats.txt"), v)
		if err != nil {
			t.Fatal(err)
		}
		after, err := parseStats(stats, v)
		if err != nil && len(err.Error()) > 3*maxErrorBytes {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
		after.hosts, _ = parseHosts(clusters)
		before.hosts, _ = parseHosts(realText(t, "clusters.txt"))
		w := window{before: before, after: after}
		if cluster, err := w.took(); err == nil && cluster != "" {
			if handshakes, err := w.handshakes(cluster); err == nil && handshakes > 1 {
				t.Errorf("%d handshakes", handshakes)
			}
			w.host(cluster)
		}
	})
}
