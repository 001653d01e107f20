package delivered

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// Addresses and names of the mesh whose Envoy gave the answers in testdata.
const (
	webAddress = "198.19.111.172:443"
	web        = "web.mp-agent.svc.cluster.local"
	whole      = "outbound|443||" + web
	subsetA    = "outbound|443|a|" + web
	subsetB    = "outbound|443|b|" + web
	bare       = "outbound|443||bare.mp-agent.svc.cluster.local"
	rule       = "/apis/networking.istio.io/v1/namespaces/mp-agent/destination-rule/shape"
	virtual    = "/apis/networking.istio.io/v1/namespaces/mp-agent/virtual-service/lead"
)

// envoy answers as Envoy does: only what fits the name_regex as a whole.
type envoy struct {
	dumps map[string]dump
	asked []url.Values
}

type dump struct {
	Configs []map[string]any `json:"configs"`
}

func realEnvoy(t testing.TB) *envoy {
	t.Helper()
	e := &envoy{dumps: map[string]dump{}}
	for resource, file := range map[string]string{
		"dynamic_listeners": "listeners.json", "dynamic_active_clusters": "clusters.json", "dynamic_endpoint_configs": "endpoints.json",
	} {
		text, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		var read dump
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		e.dumps[resource] = read
	}
	return e
}

func (e *envoy) ask(_ context.Context, path string) ([]byte, error) {
	parsed, err := url.Parse(path)
	if err != nil {
		return nil, err
	}
	query := parsed.Query()
	names, err := regexp.Compile("^(?:" + query.Get("name_regex") + ")$")
	if err != nil || parsed.Path != "/config_dump" {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	e.asked = append(e.asked, query)
	if query.Get("resource") == "dynamic_endpoint_configs" && !query.Has("include_eds") {
		return nil, errors.New("answered 400")
	}
	var answer dump
	for _, config := range e.dumps[query.Get("resource")].Configs {
		if names.MatchString(nameOf(config)) {
			answer.Configs = append(answer.Configs, config)
		}
	}
	return json.Marshal(answer)
}

func nameOf(config map[string]any) string {
	for _, inner := range []string{"cluster", "endpoint_config"} {
		if resource, ok := config[inner].(map[string]any); ok {
			config = resource
		}
	}
	for _, key := range []string{"name", "cluster_name"} {
		if name, ok := config[key].(string); ok {
			return name
		}
	}
	return ""
}

func hello(address, name string) Hello {
	return Hello{Address: netip.MustParseAddrPort(address), ServerName: name, Protocols: []string{"h2", "http/1.1"}}
}

func endpoints(tls observation.LegTLS, addresses ...string) []observation.LegEndpoint {
	var all []observation.LegEndpoint
	for _, address := range addresses {
		all = append(all, observation.LegEndpoint{Address: address, TLS: tls})
	}
	return all
}

// What a real Envoy was told by a real istiod: a VirtualService over two subsets and another Service, a DestinationRule that
// takes one of the subsets out of mutual TLS, a headless Service, a ServiceEntry with a name to look up.
func TestRealAnswers(t *testing.T) {
	webHosts := []string{"198.18.0.5:8443", "198.18.0.6:8443"}
	passthrough := []observation.Leg{{Cluster: observation.ClusterPassthrough, Weight: 1, TLS: observation.TLSNone}}
	led := observation.Delivered{Listener: "198.19.111.172_443", Config: virtual, Legs: []observation.Leg{
		{Cluster: subsetA, Weight: 70, Config: rule, TLS: observation.TLSByEndpoint, Endpoints: endpoints(observation.TLSMutual, webHosts...)},
		{Cluster: subsetB, Weight: 20, Config: rule, TLS: observation.TLSNone, Endpoints: endpoints(observation.TLSNone, webHosts...)},
		{Cluster: bare, Weight: 10, TLS: observation.TLSByEndpoint, Endpoints: endpoints(observation.TLSNone, "198.18.0.14:8443")},
	}}
	for name, c := range map[string]struct {
		hello Hello
		want  observation.Delivered
	}{
		"VirtualService":                     {hello(webAddress, web), led},
		"VirtualService, other letters":      {hello(webAddress, "WEB.mp-agent.svc.cluster.local"), led},
		"server name of no route":            {hello(webAddress, "web.mp-agent"), observation.Delivered{Listener: "198.19.111.172_443", Legs: passthrough}},
		"no server name":                     {hello(webAddress, ""), observation.Delivered{Listener: "198.19.111.172_443", Legs: passthrough}},
		"no listener of the address":         {hello("198.19.111.173:8443", web), observation.Delivered{Legs: passthrough}},
		"no listener, where Envoy itself is": {hello("198.19.111.173:15001", web), observation.Delivered{Legs: []observation.Leg{{Cluster: observation.ClusterBlackHole, Weight: 1, TLS: observation.TLSNone}}}},
		"headless": {hello("198.18.0.5:8443", "headless"), observation.Delivered{Listener: "198.18.0.5_8443", Legs: []observation.Leg{
			{Cluster: "outbound|8443||headless.mp-agent.svc.cluster.local", Weight: 1, TLS: observation.TLSMutual}}}},
		"ServiceEntry": {hello("198.19.250.1:443", "api.example.com"), observation.Delivered{Listener: "198.19.250.1_443", Legs: []observation.Leg{
			{Cluster: "outbound|443||api.example.com", Weight: 1, TLS: observation.TLSNone, Endpoints: endpoints(observation.TLSNone, web+":443")}}}},
		"listener that is being drained": {hello("198.19.111.174:443", "elsewhere.example.com"), observation.Delivered{Legs: passthrough}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Read(t.Context(), realEnvoy(t).ask, c.hello); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// A listener for any address takes what has none of its own.
func TestWildcardListener(t *testing.T) {
	for address, takes := range map[string]bool{"0.0.0.0": true, "::": true, "198.19.250.9": false} {
		e := realEnvoy(t)
		at := e.number(t, "dynamic_listeners", "198.19.250.1_443")
		e.set("dynamic_listeners", at, "0.0.0.0_443", "name")
		e.set("dynamic_listeners", at, address, "active_state", "listener", "address", "socket_address", "address")
		got := Read(t.Context(), e.ask, hello("198.19.111.174:443", "elsewhere.example.com"))
		if led := got.Legs[0].Cluster == "outbound|443||api.example.com"; led != takes {
			t.Errorf("%s: %+v, want it taken: %t", address, got, takes)
		}
		if got := Read(t.Context(), e.ask, hello(webAddress, web)); got.Listener != "198.19.111.172_443" {
			t.Errorf("%s: %+v, want the listener of the address itself", address, got)
		}
	}
}

// Pods that are not ready are delivered as unhealthy hosts. What Envoy never leads a request to is no endpoint; what it
// may lead one to is.
func TestUnhealthyHosts(t *testing.T) {
	type change struct {
		field string
		value any
	}
	const panic, outliers, checks = "common_lb_config", "outlier_detection", "health_checks"
	for name, c := range map[string]struct {
		status  string
		changes []change
		listed  bool
	}{
		"healthy":         {"HEALTHY", nil, true},
		"not known":       {"UNKNOWN", nil, true},
		"degraded":        {"DEGRADED", nil, true},
		"not ready":       {"UNHEALTHY", nil, false},
		"draining":        {"DRAINING", nil, false},
		"timed out":       {"TIMEOUT", nil, false},
		"default panic":   {"UNHEALTHY", []change{{panic, map[string]any{}}}, true},
		"panic":           {"UNHEALTHY", []change{{panic, map[string]any{"healthy_panic_threshold": map[string]any{"value": 50}}}}, true},
		"outliers thrown": {"UNHEALTHY", []change{{outliers, map[string]any{}}}, true},
		"checked":         {"UNHEALTHY", []change{{checks, []any{map[string]any{}}}}, true},
	} {
		e := realEnvoy(t)
		for _, changed := range c.changes {
			e.set("dynamic_active_clusters", e.number(t, "dynamic_active_clusters", bare), changed.value, "cluster", changed.field)
		}
		e.set("dynamic_endpoint_configs", e.number(t, "dynamic_endpoint_configs", bare), c.status,
			"endpoint_config", "endpoints", 0, "lb_endpoints", 0, "health_status")
		got := Read(t.Context(), e.ask, hello(webAddress, web))
		if got.Error != "" || len(got.Legs) != 3 || (len(got.Legs[2].Endpoints) == 1) != c.listed {
			t.Errorf("%s: %+v, want it listed: %t", name, got, c.listed)
		}
	}
}

// A dump of everything is megabytes in a big mesh.
func TestNothingIsAskedForWithoutName(t *testing.T) {
	e := realEnvoy(t)
	Read(t.Context(), e.ask, hello(webAddress, web))
	if len(e.asked) != 3 {
		t.Errorf("%d questions, want 3", len(e.asked))
	}
	for _, query := range e.asked {
		names := regexp.MustCompile("^(?:" + query.Get("name_regex") + ")$")
		if query.Get("name_regex") == "" || names.MatchString("outbound|443||other.mp-agent.svc.cluster.local") {
			t.Errorf("asked for %v", query)
		}
	}
}

// set changes one field of a dump, by its way there.
func (e *envoy) set(resource string, number int, value any, way ...any) *envoy {
	var at any = e.dumps[resource].Configs[number]
	for i, step := range way {
		switch step := step.(type) {
		case int:
			at = at.([]any)[step]
		case string:
			if i == len(way)-1 {
				at.(map[string]any)[step] = value
				return e
			}
			at = at.(map[string]any)[step]
		}
	}
	return e
}

func (e *envoy) number(t *testing.T, resource, name string) int {
	t.Helper()
	for i, config := range e.dumps[resource].Configs {
		if nameOf(config) == name {
			return i
		}
	}
	t.Fatalf("no %s in %s", name, resource)
	return 0
}

// What is not understood is said, and never passed over.
func TestWhatIsNotKnownIsSaid(t *testing.T) {
	const listeners, clusters = "dynamic_listeners", "dynamic_active_clusters"
	listener := []any{"active_state", "listener"}
	chain := append(listener[:2:2], "filter_chains", 0)
	proxy := append(chain[:4:4], "filters", 0)
	config := append(proxy[:6:6], "typed_config")
	way := func(base []any, more ...any) []any { return append(base[:len(base):len(base)], more...) }
	for name, c := range map[string]struct {
		resource, of string
		value        any
		way          []any
		because      string
	}{
		"HTTP":                         {listeners, "198.19.111.172_443", "envoy.filters.network.http_connection_manager", way(proxy, "name"), "HTTP"},
		"another filter":               {listeners, "198.19.111.172_443", "envoy.filters.network.sni_cluster", way(proxy, "name"), "sni_cluster"},
		"no filters":                   {listeners, "198.19.111.172_443", []any{}, way(chain, "filters"), "leads nowhere"},
		"another condition":            {listeners, "198.19.111.172_443", map[string]any{"source_ports": []any{1}}, way(chain, "filter_chain_match"), "source_ports"},
		"a condition of another shape": {listeners, "198.19.111.172_443", "tls", way(chain, "filter_chain_match"), "matches by"},
		"a matcher":                    {listeners, "198.19.111.172_443", map[string]any{}, way(listener, "filter_chain_matcher"), "filter_chain_matcher"},
		"another listener filter":      {listeners, "198.19.111.172_443", []any{map[string]any{"name": "custom"}}, way(listener, "listener_filters"), `"custom"`},
		"an inspector with exceptions": {listeners, "198.19.111.172_443", []any{map[string]any{
			"name": "envoy.filters.listener.tls_inspector", "filter_disabled": map[string]any{"any_match": true}}}, way(listener, "listener_filters"), "not always"},
		"a tunnel":             {listeners, "198.19.111.172_443", map[string]any{"hostname": "x"}, way(config, "tunneling_config"), "tunneling_config"},
		"clusters twice":       {listeners, "198.19.111.172_443", "x", way(config, "cluster"), "one place"},
		"no clusters":          {listeners, "198.19.111.172_443", map[string]any{}, way(config, "weighted_clusters"), "no clusters"},
		"a cluster's matcher":  {clusters, subsetA, map[string]any{}, []any{"cluster", "transport_socket_matcher"}, "transport_socket_matcher"},
		"a cluster's own type": {clusters, subsetA, map[string]any{"name": "envoy.clusters.aggregate"}, []any{"cluster", "cluster_type"}, "type of its own"},
		"a cluster gone":       {clusters, subsetA, "other", []any{"cluster", "name"}, "is not there"},
		"endpoints elsewhere":  {clusters, subsetA, "other", []any{"cluster", "eds_cluster_config", "service_name"}, "no endpoints"},
		"a name without end":   {listeners, "198.19.111.172_443", map[string]any{"filter_metadata": map[string]any{"istio": map[string]any{"config": strings.Repeat("x", 9999)}}}, way(chain, "metadata"), "9999 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			e := realEnvoy(t)
			got := Read(t.Context(), e.set(c.resource, e.number(t, c.resource, c.of), c.value, c.way...).ask, hello(webAddress, web))
			if !strings.Contains(got.Error, c.because) || len(got.Error) > maxErrorBytes {
				t.Errorf("got %+v, want an error that says %q", got, c.because)
			}
		})
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing": "", "garbage": "\x00\xff", "another page": "<html>", "half": `{"configs": [{"name": "x"`, "other types": `{"configs": 7}`,
		"other types within": `{"configs": [{"active_state": {"listener": {"name": 7}}}]}`, "empty": `{}`, "null": `null`,
	} {
		got := Read(t.Context(), func(context.Context, string) ([]byte, error) { return []byte(answer), nil }, hello(webAddress, web))
		if got.Error == "" {
			t.Errorf("%s: got %+v, want an error", name, got)
		}
	}
	got := Read(t.Context(), func(context.Context, string) ([]byte, error) { return nil, errors.New("answered 503") }, hello(webAddress, web))
	if !strings.Contains(got.Error, "answered 503") {
		t.Errorf("got %+v, want the error of the question", got)
	}
}

// chains tells by name which filter chain Envoy takes.
func TestChoiceOfTheFilterChain(t *testing.T) {
	port, other := uint32(443), uint32(444)
	for name, c := range map[string]struct {
		matches map[string]chainMatch
		hello   Hello
		want    string
	}{
		"exact name before wildcard":     {map[string]chainMatch{"exact": {ServerNames: []string{"a.b.c"}}, "wild": {ServerNames: []string{"*.b.c"}}, "any": {}}, hello("1.1.1.1:443", "a.b.c"), "exact"},
		"longer wildcard":                {map[string]chainMatch{"short": {ServerNames: []string{"*.c"}}, "long": {ServerNames: []string{"*.b.c"}}}, hello("1.1.1.1:443", "a.b.c"), "long"},
		"wildcard of several labels":     {map[string]chainMatch{"short": {ServerNames: []string{"*.c"}}, "any": {}}, hello("1.1.1.1:443", "a.b.c"), "short"},
		"wildcard is not the name":       {map[string]chainMatch{"wild": {ServerNames: []string{"*.b.c"}}, "any": {}}, hello("1.1.1.1:443", "b.c"), "any"},
		"no name, only names":            {map[string]chainMatch{"exact": {ServerNames: []string{"a.b.c"}}}, hello("1.1.1.1:443", ""), ""},
		"port":                           {map[string]chainMatch{"port": {DestinationPort: &port}, "any": {}}, hello("1.1.1.1:443", "a"), "port"},
		"another port":                   {map[string]chainMatch{"port": {DestinationPort: &other}, "any": {}}, hello("1.1.1.1:443", "a"), "any"},
		"narrower prefix":                {map[string]chainMatch{"wide": {PrefixRanges: []prefix{{"1.0.0.0", 8}}}, "narrow": {PrefixRanges: []prefix{{"1.1.0.0", 16}}}}, hello("1.1.1.1:443", ""), "narrow"},
		"prefix of IPv6":                 {map[string]chainMatch{"six": {PrefixRanges: []prefix{{"fd00::", 8}}}, "any": {}}, hello("[fd00::1]:443", ""), "six"},
		"prefix elsewhere":               {map[string]chainMatch{"two": {PrefixRanges: []prefix{{"2.0.0.0", 8}}}, "any": {}}, hello("1.1.1.1:443", ""), "any"},
		"port is not gone back upon":     {map[string]chainMatch{"port": {DestinationPort: &port, ServerNames: []string{"x"}}, "any": {}}, hello("1.1.1.1:443", "a"), ""},
		"name is not gone back upon":     {map[string]chainMatch{"name": {ServerNames: []string{"a"}, TransportProtocol: "raw_buffer"}, "any": {}}, hello("1.1.1.1:443", "a"), ""},
		"transport":                      {map[string]chainMatch{"tls": {TransportProtocol: "tls"}, "raw": {TransportProtocol: "raw_buffer"}, "any": {}}, hello("1.1.1.1:443", ""), "tls"},
		"protocol that is offered":       {map[string]chainMatch{"http": {ApplicationProtocols: []string{"http/1.1"}}, "any": {}}, hello("1.1.1.1:443", ""), "http"},
		"protocol that is offered first": {map[string]chainMatch{"http": {ApplicationProtocols: []string{"http/1.1"}}, "h2": {ApplicationProtocols: []string{"h2"}}}, hello("1.1.1.1:443", ""), "h2"},
		"protocol of the mesh":           {map[string]chainMatch{"mesh": {ApplicationProtocols: []string{"istio"}}, "any": {}}, hello("1.1.1.1:443", ""), "any"},
	} {
		l := listener{Name: "l", ListenerFilters: []listenerFilter{{Name: "envoy.filters.listener.tls_inspector"}}}
		for chain, match := range c.matches {
			raw, err := json.Marshal(withoutEmpty(match))
			if err != nil {
				t.Fatal(err)
			}
			l.FilterChains = append(l.FilterChains, filterChain{Name: chain, Match: raw})
		}
		got := ""
		if chain, err := l.choose(c.hello); err == nil {
			got = chain.Name
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		l.DefaultFilterChain = &filterChain{Name: "default"}
		if chain, err := l.choose(c.hello); err != nil || c.want == "" && chain.Name != "default" || c.want != "" && chain.Name != c.want {
			t.Errorf("%s, with a default: %v, %v", name, chain, err)
		}
	}
}

func withoutEmpty(match chainMatch) map[string]any {
	fields := map[string]any{}
	value := reflect.ValueOf(match)
	for i := range value.NumField() {
		if !value.Field(i).IsZero() {
			fields[value.Type().Field(i).Tag.Get("json")] = value.Field(i).Interface()
		}
	}
	return fields
}

// Without the listener filter that reads it, Envoy does not know the server name.
func TestWithoutInspectorNoNameMatches(t *testing.T) {
	e := realEnvoy(t)
	e.set("dynamic_listeners", e.number(t, "dynamic_listeners", "198.19.111.172_443"), []any{}, "active_state", "listener", "listener_filters")
	got := Read(t.Context(), e.ask, hello(webAddress, web))
	if got.Error != "" || len(got.Legs) != 1 || got.Legs[0].Cluster != observation.ClusterPassthrough {
		t.Errorf("got %+v, want PassthroughCluster", got)
	}
}

// One observation is one line, of bounded length.
func TestBounds(t *testing.T) {
	e := realEnvoy(t)
	var many []any
	for i := range 5000 {
		many = append(many, map[string]any{"endpoint": map[string]any{"address": map[string]any{"socket_address": map[string]any{
			"address": fmt.Sprintf("10.0.%d.%d", i/250, i%250), "port_value": 8443}}}})
	}
	e.set("dynamic_endpoint_configs", e.number(t, "dynamic_endpoint_configs", subsetA), []any{map[string]any{"lb_endpoints": many}}, "endpoint_config", "endpoints")
	var legs []any
	for range 20 {
		legs = append(legs, map[string]any{"name": subsetA, "weight": 5})
	}
	e.set("dynamic_listeners", e.number(t, "dynamic_listeners", "198.19.111.172_443"), map[string]any{"clusters": legs},
		"active_state", "listener", "filter_chains", 0, "filters", 0, "typed_config", "weighted_clusters")
	got := Read(t.Context(), e.ask, hello(webAddress, web))
	line, err := json.Marshal(got)
	if err != nil || got.Error != "" || len(got.Legs) != observation.MaxLegs || got.LegsLeftOut != 20-observation.MaxLegs {
		t.Fatalf("%d legs and %d left out, %s, %v", len(got.Legs), got.LegsLeftOut, got.Error, err)
	}
	if leg := got.Legs[0]; len(leg.Endpoints) != observation.MaxLegEndpoints || leg.EndpointsLeftOut != 5000-observation.MaxLegEndpoints {
		t.Errorf("%d endpoints and %d left out", len(leg.Endpoints), leg.EndpointsLeftOut)
	}
	if most := 48 << 10; len(line) > most {
		t.Errorf("%d bytes, want %d or less", len(line), most)
	}
}

func FuzzRead(f *testing.F) {
	for _, file := range []string{"listeners.json", "clusters.json", "endpoints.json"} {
		text, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, text, text)
	}
	listeners, _ := os.ReadFile(filepath.Join("testdata", "listeners.json"))
	clusters, _ := os.ReadFile(filepath.Join("testdata", "clusters.json"))
	assignments, _ := os.ReadFile(filepath.Join("testdata", "endpoints.json"))
	f.Add(listeners, clusters, assignments)
	f.Fuzz(func(t *testing.T, listeners, clusters, assignments []byte) {
		answers := [][]byte{listeners, clusters, assignments}
		ask := func(context.Context, string) ([]byte, error) {
			answer := answers[0]
			answers = answers[1:]
			return answer, nil
		}
		got := Read(context.Background(), ask, hello(webAddress, web))
		if len(got.Error) > maxErrorBytes || len(got.Legs) > observation.MaxLegs || got.Error == "" && len(got.Legs) == 0 {
			t.Errorf("%+v", got)
		}
		for _, leg := range got.Legs {
			if len(leg.Endpoints) > observation.MaxLegEndpoints || len(leg.Cluster) > maxNameBytes || len(leg.Config) > maxNameBytes || leg.TLS == "" {
				t.Errorf("%+v", leg)
			}
		}
	})
}
