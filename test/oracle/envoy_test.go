package oracle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	admin "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/simulation"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pilot/test/xdstest"

	"github.com/meshprobe/httpsmeshprobe/internal/delivered"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// proxied is the client's Envoy with what pilot has made for it. It answers questions of Envoy's admin interface, and
// says by Istio's own simulation where a connection goes.
type proxied struct {
	listeners   []*listener.Listener
	clusters    map[string]*cluster.Cluster
	assignments map[string]*endpoint.ClusterLoadAssignment
	simulation  *simulation.Simulation
	// dumps are the resources by what the admin interface calls them, then by name.
	dumps map[string]map[string]*anypb.Any
}

func newProxied(t *testing.T, server *xds.FakeDiscoveryServer) *proxied {
	t.Helper()
	labels := map[string]string{"app": "client"}
	proxy := server.SetupProxy(&model.Proxy{
		ID: "client.shop", ConfigNamespace: "shop", IPAddresses: []string{"10.1.0.99"}, Labels: labels, IstioVersion: model.MaxIstioVersion,
		Metadata: &model.NodeMetadata{Namespace: "shop", Labels: labels, ClusterID: "Kubernetes"},
	})
	p := &proxied{
		clusters: map[string]*cluster.Cluster{}, assignments: map[string]*endpoint.ClusterLoadAssignment{},
		simulation: simulation.NewSimulation(t, server, proxy),
		dumps:      map[string]map[string]*anypb.Any{"dynamic_listeners": {}, "dynamic_active_clusters": {}, "dynamic_endpoint_configs": {}},
	}
	p.listeners = p.simulation.Listeners
	for _, made := range p.listeners {
		p.dumps["dynamic_listeners"][made.Name] = packed(t, &admin.ListenersConfigDump_DynamicListener{
			Name: made.Name, ActiveState: &admin.ListenersConfigDump_DynamicListenerState{Listener: packed(t, made)},
		})
	}
	for _, made := range p.simulation.Clusters {
		p.clusters[made.Name] = made
		p.dumps["dynamic_active_clusters"][made.Name] = packed(t, &admin.ClustersConfigDump_DynamicCluster{Cluster: packed(t, made)})
	}
	for _, made := range server.Endpoints(proxy) {
		p.assignments[made.ClusterName] = made
		p.dumps["dynamic_endpoint_configs"][made.ClusterName] = packed(t, &admin.EndpointsConfigDump_DynamicEndpointConfig{EndpointConfig: packed(t, made)})
	}
	p.simulation.Listeners = withNamedChains(p.listeners)
	return p
}

func packed(t *testing.T, message proto.Message) *anypb.Any {
	t.Helper()
	wrapped, err := anypb.New(message)
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

// withNamedChains numbers the filter chains, so that a simulation that names the one it matched tells which it was.
func withNamedChains(listeners []*listener.Listener) []*listener.Listener {
	var named []*listener.Listener
	for _, made := range listeners {
		made = proto.Clone(made).(*listener.Listener)
		for i, chain := range made.FilterChains {
			chain.Name = strconv.Itoa(i)
		}
		if made.DefaultFilterChain != nil {
			made.DefaultFilterChain.Name = "default"
		}
		named = append(named, made)
	}
	return named
}

// ask answers as Envoy does: what fits the name_regex as a whole, with the names of fields as in the API's definition
// (source/server/admin/config_dump_handler.cc).
func (p *proxied) ask(_ context.Context, path string) ([]byte, error) {
	parsed, err := url.Parse(path)
	if err != nil {
		return nil, err
	}
	query := parsed.Query()
	resources, ok := p.dumps[query.Get("resource")]
	if parsed.Path != "/config_dump" || !ok {
		return nil, fmt.Errorf("answered 404 to %s", path)
	}
	if query.Get("resource") == "dynamic_endpoint_configs" && !query.Has("include_eds") {
		return nil, errors.New("answered 400: include_eds is missing")
	}
	names, err := regexp.Compile("^(?:" + query.Get("name_regex") + ")$")
	if err != nil {
		return nil, err
	}
	dump := &admin.ConfigDump{}
	for name, resource := range resources {
		if names.MatchString(name) {
			dump.Configs = append(dump.Configs, resource)
		}
	}
	return protojson.MarshalOptions{UseProtoNames: true}.Marshal(dump)
}

// Words of the errors by which internal/delivered says why it names no legs.
const (
	saysMissing = "is not there"
	saysUnknown = `the network filter "` + unknownFilter + `"`
)

// simulated says by Istio's simulation and the generated messages what internal/delivered is to read, or a part of the
// error that it is to say. The simulation knows one protocol of a hello: all that are offered have to lead to the same.
func (p *proxied) simulated(t *testing.T, hello delivered.Hello) (observation.Delivered, string) {
	t.Helper()
	found, says := p.simulatedFor(t, hello, hello.Protocols[0])
	for _, protocol := range hello.Protocols[1:] {
		if alike, saysAlike := p.simulatedFor(t, hello, protocol); says != saysAlike || !reflect.DeepEqual(found, alike) {
			t.Fatalf("%v: Istio's simulation leads %s elsewhere", hello, protocol)
		}
	}
	return found, says
}

func (p *proxied) simulatedFor(t *testing.T, hello delivered.Hello, protocol string) (observation.Delivered, string) {
	t.Helper()
	result := p.simulation.Run(simulation.Call{
		Address: hello.Address.Addr().String(), Port: int(hello.Address.Port()), CallMode: simulation.CallModeOutbound,
		Protocol: simulation.TCP, TLS: simulation.TLS, Sni: hello.ServerName, Alpn: protocol,
	})
	if result.Error != nil {
		t.Fatalf("%v: Istio's simulation: %v", hello, result.Error)
	}
	chain := p.chain(t, result)
	if slices.ContainsFunc(chain.Filters, func(filter *listener.Filter) bool { return filter.Name == unknownFilter }) {
		return observation.Delivered{}, saysUnknown
	}
	return p.leads(t, result, chain)
}

// leads is where a filter chain leads, by the generated messages.
func (p *proxied) leads(t *testing.T, result simulation.Result, chain *listener.FilterChain) (observation.Delivered, string) {
	t.Helper()
	found := observation.Delivered{
		Listener: strings.TrimPrefix(result.ListenerMatched, model.VirtualOutboundListenerName),
		Config:   chain.GetMetadata().GetFilterMetadata()["istio"].GetFields()["config"].GetStringValue(),
	}
	proxy := xdstest.ExtractTCPProxy(t, chain)
	if proxy.GetWeightedClusters() == nil {
		found.Legs = []observation.Leg{{Cluster: result.ClusterMatched, Weight: 1}}
	}
	for _, weighted := range proxy.GetWeightedClusters().GetClusters() {
		found.Legs = append(found.Legs, observation.Leg{Cluster: weighted.Name, Weight: weighted.Weight})
	}
	for i := range found.Legs {
		if p.clusters[found.Legs[i].Cluster] == nil {
			return observation.Delivered{}, saysMissing
		}
		p.describe(t, &found.Legs[i])
	}
	return found, ""
}

func (p *proxied) chain(t *testing.T, result simulation.Result) *listener.FilterChain {
	t.Helper()
	for _, made := range p.simulation.Listeners {
		if made.Name != result.ListenerMatched {
			continue
		}
		for _, chain := range append(slices.Clone(made.FilterChains), made.DefaultFilterChain) {
			if chain.GetName() == result.FilterChainMatched {
				return chain
			}
		}
	}
	t.Fatalf("no filter chain %s of %s", result.FilterChainMatched, result.ListenerMatched)
	return nil
}

// describe adds what the generated cluster and endpoints say.
func (p *proxied) describe(t *testing.T, leg *observation.Leg) {
	t.Helper()
	made := p.clusters[leg.Cluster]
	leg.Config = made.GetMetadata().GetFilterMetadata()["istio"].GetFields()["config"].GetStringValue()
	leg.TLS = observation.TLSByEndpoint
	if len(made.TransportSocketMatches) == 0 {
		leg.TLS = legTLS[onTheWire(t, made.TransportSocket)]
	}
	assignment := made.LoadAssignment
	if made.GetType() == cluster.Cluster_EDS {
		assignment = p.assignments[cmp.Or(made.GetEdsClusterConfig().GetServiceName(), made.Name)]
	}
	for _, locality := range assignment.GetEndpoints() {
		for _, host := range locality.LbEndpoints {
			if host.HealthStatus == core.HealthStatus_UNHEALTHY && made.OutlierDetection == nil {
				continue
			}
			address := host.GetEndpoint().GetAddress().GetSocketAddress()
			leg.Endpoints = append(leg.Endpoints, observation.LegEndpoint{
				Address: net.JoinHostPort(address.GetAddress(), strconv.Itoa(int(address.GetPortValue()))),
				TLS:     legTLS[onTheWire(t, socket(made, host.Metadata))],
			})
		}
	}
	slices.SortFunc(leg.Endpoints, func(a, b observation.LegEndpoint) int { return cmp.Compare(a.Address, b.Address) })
}

var legTLS = map[meshpolicy.Sends]observation.LegTLS{
	meshpolicy.Plaintext: observation.TLSNone, meshpolicy.MutualTLS: observation.TLSMutual,
	meshpolicy.SimpleTLS: observation.TLSOther, meshpolicy.OtherTLS: observation.TLSOther,
}
