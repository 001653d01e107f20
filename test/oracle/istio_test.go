package oracle

import (
	"fmt"
	"slices"
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pilot/pkg/model"
	generator "istio.io/istio/pilot/pkg/networking/core"
	"istio.io/istio/pilot/pkg/security/authn"
	"istio.io/istio/pilot/pkg/xds/endpoints"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/host"
	"istio.io/istio/pkg/config/mesh"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// istio is pilot, with the world's Services and pods in its Kubernetes registry and the policies that it is given.
type istio struct {
	env       *model.Environment
	generator *generator.ConfigGeneratorImpl
}

func newIstio(t testing.TB, inhabitants world) *istio {
	t.Helper()
	server := xds.NewFakeDiscoveryServer(t, xds.FakeOptions{KubernetesObjects: inhabitants.objects()})
	env := server.Env()
	env.GatewayAPIController = nil
	return &istio{env: env, generator: generator.NewConfigGenerator(model.DisabledCache{})}
}

// store is a config store that holds one set of policies. Pilot lists, and does nothing else with it.
type store struct {
	model.ConfigStore
	configs map[config.GroupVersionKind][]config.Config
}

func (s store) List(kind config.GroupVersionKind, _ string) []config.Config { return s.configs[kind] }

type watcher struct {
	model.Watcher
	config *meshconfig.MeshConfig
}

func (w watcher) Mesh() *meshconfig.MeshConfig { return w.config }

// push is what pilot makes of one set of policies.
func (i *istio) push(policies set) *model.PushContext {
	i.env.ConfigStore = store{configs: policies.configs()}
	meshConfig := mesh.DefaultMeshConfig()
	if policies.Mesh.RootNamespace != "" {
		meshConfig.RootNamespace = policies.Mesh.RootNamespace
	}
	meshConfig.EnableAutoMtls = wrapperspb.Bool(policies.Mesh.AutoMTLS)
	meshConfig.DefaultDestinationRuleExportTo = policies.Mesh.DestinationRuleExportTo
	meshConfig.DefaultServiceExportTo = policies.Mesh.ServiceExportTo
	i.env.Watcher = watcher{config: meshConfig}
	push := model.NewPushContext()
	push.InitContext(i.env, nil, nil)
	return push
}

// mode is what pilot enforces before a port of a pod (pilot/pkg/security/authn, ComposePeerAuthentication, on what
// pilot/pkg/model selects).
func mode(push *model.PushContext, pod meshpolicy.Pod, port uint32) api.MTLSMode {
	policy := authn.NewMtlsPolicy(push, push.AuthnPolicies, pod.Namespace, pod.Labels, false)
	return api.MTLSMode(policy.GetMutualTLSModeForPort(port).String())
}

// sidecar is a client's proxy with what pilot makes for it.
type sidecar struct {
	istio    *istio
	push     *model.PushContext
	proxy    *model.Proxy
	clusters map[string]*discovery.Resource
	read     map[string]upstream
}

// upstream is a cluster with its endpoints; the cluster is nil where pilot makes none.
type upstream struct {
	cluster    *cluster.Cluster
	assignment *endpoint.ClusterLoadAssignment
}

func (i *istio) sidecar(push *model.PushContext, client meshpolicy.Client) sidecar {
	proxy := &model.Proxy{
		Type: model.SidecarProxy, ID: "client." + client.Namespace, ConfigNamespace: client.Namespace,
		IPAddresses: []string{"10.99.0.1"}, DNSDomain: client.Namespace + ".svc.cluster.local",
		Labels:       client.Labels,
		Metadata:     &model.NodeMetadata{Namespace: client.Namespace, Labels: client.Labels, ClusterID: "Kubernetes"},
		IstioVersion: model.MaxIstioVersion,
	}
	proxy.DiscoverIPMode()
	proxy.SetSidecarScope(push)
	resources, _ := i.generator.BuildClusters(proxy, &model.PushRequest{Push: push})
	made := sidecar{istio: i, push: push, proxy: proxy, clusters: map[string]*discovery.Resource{}, read: map[string]upstream{}}
	for _, resource := range resources {
		made.clusters[resource.Name] = resource
	}
	return made
}

func (s sidecar) upstream(t testing.TB, service meshpolicy.Service) upstream {
	t.Helper()
	name := model.BuildSubsetKey(model.TrafficDirectionOutbound, "", host.Name(service.Name+"."+service.Namespace+".svc.cluster.local"), int(service.Port))
	if known, ok := s.read[name]; ok {
		return known
	}
	var found upstream
	if resource := s.clusters[name]; resource != nil {
		found.cluster = &cluster.Cluster{}
		if err := resource.Resource.UnmarshalTo(found.cluster); err != nil {
			t.Fatalf("read cluster %s: %v", name, err)
		}
		builder := endpoints.NewEndpointBuilder(name, s.proxy, s.push)
		found.assignment = builder.BuildClusterLoadAssignment(s.istio.env.EndpointIndex)
	}
	s.read[name] = found
	return found
}

// sends is what Envoy would put on the wire to one endpoint, given the cluster and the endpoints that pilot made.
func (s sidecar) sends(t testing.TB, service meshpolicy.Service, pod meshpolicy.Pod) meshpolicy.Sends {
	t.Helper()
	to := s.upstream(t, service)
	switch {
	case to.cluster == nil:
		// Without a cluster the connection takes the PassthroughCluster.
		return meshpolicy.Plaintext
	case to.cluster.GetType() == cluster.Cluster_ORIGINAL_DST:
		// Envoy makes up the host from the address that was asked for; it has no metadata.
		return onTheWire(t, socket(to.cluster, nil))
	}
	wanted := addresses[pod.String()]
	for _, locality := range to.assignment.GetEndpoints() {
		for _, candidate := range locality.LbEndpoints {
			address := candidate.GetEndpoint().GetAddress().GetSocketAddress()
			if address.GetAddress() == wanted && address.GetPortValue() == service.TargetPort {
				return onTheWire(t, socket(to.cluster, candidate.Metadata))
			}
		}
	}
	t.Fatalf("pilot has no endpoint for %s in %s", pod, service)
	return ""
}

// socket follows Envoy: the first match whose fields are all in the endpoint's metadata, else the cluster's own.
func socket(made *cluster.Cluster, metadata *core.Metadata) *core.TransportSocket {
	have := metadata.GetFilterMetadata()["envoy.transport_socket_match"].GetFields()
	for _, match := range made.TransportSocketMatches {
		fits := true
		for key, want := range match.GetMatch().GetFields() {
			fits = fits && proto.Equal(have[key], want)
		}
		if fits {
			return match.TransportSocket
		}
	}
	return made.TransportSocket
}

func onTheWire(t testing.TB, socket *core.TransportSocket) meshpolicy.Sends {
	t.Helper()
	if socket == nil || socket.Name == "envoy.transport_sockets.raw_buffer" {
		return meshpolicy.Plaintext
	}
	var context tls.UpstreamTlsContext
	if err := socket.GetTypedConfig().UnmarshalTo(&context); err != nil {
		t.Fatalf("read transport socket %s: %v", socket.Name, err)
	}
	certificates := context.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs()
	switch {
	case len(certificates) == 0:
		return meshpolicy.SimpleTLS
	case certificates[0].Name == "default" && slices.Contains(context.CommonTlsContext.AlpnProtocols, "istio"):
		return meshpolicy.MutualTLS
	default:
		return meshpolicy.OtherTLS
	}
}

// question is one that both are asked: what does the client send to the endpoint?
type question struct {
	client  meshpolicy.Client
	service meshpolicy.Service
	pod     meshpolicy.Pod
}

func (q question) String() string {
	return fmt.Sprintf("client %s %v -> %s:%d -> %s %v", q.client.Namespace, q.client.Labels, q.service, q.service.Port, q.pod, q.pod.Labels)
}
