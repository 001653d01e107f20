package delivered

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// The types below are as much of Envoy's API as is looked at (api/envoy/config/cluster/v3, …/endpoint/v3).
type (
	clustersDump struct {
		Configs []struct {
			Cluster *cluster `json:"cluster"`
		} `json:"configs"`
	}
	cluster struct {
		Name        string `json:"name"`
		Type        string `json:"type"`
		ClusterType *struct {
			Name string `json:"name"`
		} `json:"cluster_type"`
		EDS struct {
			ServiceName string `json:"service_name"`
		} `json:"eds_cluster_config"`
		LoadAssignment         *assignment      `json:"load_assignment"`
		Metadata               metadata         `json:"metadata"`
		TransportSocket        *transportSocket `json:"transport_socket"`
		TransportSocketMatches []socketMatch    `json:"transport_socket_matches"`
		TransportSocketMatcher json.RawMessage  `json:"transport_socket_matcher"`
		CommonLB               struct {
			PanicThreshold *struct {
				Value float64 `json:"value"`
			} `json:"healthy_panic_threshold"`
		} `json:"common_lb_config"`
		OutlierDetection json.RawMessage `json:"outlier_detection"`
		HealthChecks     json.RawMessage `json:"health_checks"`
	}
	socketMatch struct {
		Name            string           `json:"name"`
		Match           map[string]any   `json:"match"`
		TransportSocket *transportSocket `json:"transport_socket"`
	}
	transportSocket struct {
		Name        string `json:"name"`
		TypedConfig struct {
			CommonTLSContext struct {
				SDS []struct {
					Name string `json:"name"`
				} `json:"tls_certificate_sds_secret_configs"`
			} `json:"common_tls_context"`
		} `json:"typed_config"`
	}
	assignmentsDump struct {
		Configs []struct {
			Assignment *assignment `json:"endpoint_config"`
		} `json:"configs"`
	}
	assignment struct {
		ClusterName string `json:"cluster_name"`
		Endpoints   []struct {
			LBEndpoints []lbEndpoint `json:"lb_endpoints"`
		} `json:"endpoints"`
	}
	lbEndpoint struct {
		Endpoint struct {
			Address address `json:"address"`
		} `json:"endpoint"`
		HealthStatus string   `json:"health_status"`
		Metadata     metadata `json:"metadata"`
	}
)

func parseClusters(dump []byte) (map[string]cluster, error) {
	var parsed clustersDump
	if err := json.Unmarshal(dump, &parsed); err != nil {
		return nil, fmt.Errorf("clusters: %w", err)
	}
	clusters := map[string]cluster{}
	for _, config := range parsed.Configs {
		if config.Cluster != nil {
			clusters[config.Cluster.Name] = *config.Cluster
		}
	}
	return clusters, nil
}

func parseAssignments(dump []byte) (map[string]assignment, error) {
	var parsed assignmentsDump
	if err := json.Unmarshal(dump, &parsed); err != nil {
		return nil, fmt.Errorf("endpoints: %w", err)
	}
	assignments := map[string]assignment{}
	for _, config := range parsed.Configs {
		if config.Assignment != nil {
			assignments[config.Assignment.ClusterName] = *config.Assignment
		}
	}
	return assignments, nil
}

// discovery is how a cluster gets its endpoints.
type discovery int

const (
	discoveryUnknown discovery = iota
	discoveryEDS
	// discoveryOwn has its endpoints, or the names to look up, in its own configuration.
	discoveryOwn
	// discoveryAddressed sends to where the connection was addressed.
	discoveryAddressed
)

func (c cluster) discovery() discovery {
	kind := c.Type
	if c.ClusterType != nil {
		kind = c.ClusterType.Name
	}
	switch kind {
	case "EDS", "envoy.cluster.eds":
		return discoveryEDS
	// STATIC is the default, which the dump may leave out.
	case "", "STATIC", "STRICT_DNS", "LOGICAL_DNS", "envoy.cluster.static", "envoy.cluster.strict_dns", "envoy.cluster.logical_dns", "envoy.cluster.dns":
		return discoveryOwn
	case "ORIGINAL_DST", "envoy.cluster.original_dst":
		return discoveryAddressed
	}
	return discoveryUnknown
}

func (c cluster) serviceName() string {
	if c.EDS.ServiceName != "" {
		return c.EDS.ServiceName
	}
	return c.Name
}

// describe says what there is to know of a leg.
func describe(led leg, clusters map[string]cluster, assignments map[string]assignment) (observation.Leg, error) {
	described := observation.Leg{Cluster: led.cluster, Weight: led.weight}
	cluster, ok := clusters[led.cluster]
	if !ok {
		return described, fmt.Errorf("the cluster %s, to which Envoy leads, is not there", led.cluster)
	}
	if set(cluster.TransportSocketMatcher) {
		return described, unknown("the cluster %s has a transport_socket_matcher", led.cluster)
	}
	described.Config = cluster.Metadata.FilterMetadata.Istio.Config
	if len(described.Config) > maxNameBytes {
		return described, unknown("a name of %d bytes", len(described.Config))
	}
	described.TLS = cluster.tls()
	var endpoints assignment
	switch cluster.discovery() {
	case discoveryEDS:
		if endpoints, ok = assignments[cluster.serviceName()]; !ok {
			return described, fmt.Errorf("no endpoints are told of the cluster %s", led.cluster)
		}
	case discoveryOwn:
		if cluster.LoadAssignment != nil {
			endpoints = *cluster.LoadAssignment
		}
	case discoveryAddressed:
	default:
		return described, unknown("the cluster %s is of a type of its own", led.cluster)
	}
	return described, cluster.addEndpoints(&described, endpoints)
}

// maxLegBytes is how much the endpoints of one leg take at most, so that MaxLegs of them fit into a line that is read.
const maxLegBytes = 4 << 10

// addEndpoints adds them in an order of their own: Envoy's is another one each time. Those that Envoy wraps as it does the
// fewest are left out last, so that the ones that are left out are all alike unless there are many of several sorts.
func (c cluster) addEndpoints(described *observation.Leg, endpoints assignment) error {
	var all []observation.LegEndpoint
	for _, locality := range endpoints.Endpoints {
		for _, endpoint := range locality.LBEndpoints {
			if c.spares(endpoint) {
				continue
			}
			address := endpoint.Endpoint.Address.String()
			if address == "" {
				return unknown("an endpoint of the cluster %s has an address of another sort", c.Name)
			}
			all = append(all, observation.LegEndpoint{Address: address, TLS: c.tlsTo(endpoint)})
		}
	}
	alike := map[observation.LegTLS]int{}
	for _, endpoint := range all {
		alike[endpoint.TLS]++
	}
	slices.SortFunc(all, func(a, b observation.LegEndpoint) int {
		return cmp.Or(cmp.Compare(alike[a.TLS], alike[b.TLS]), cmp.Compare(a.TLS, b.TLS), cmp.Compare(a.Address, b.Address))
	})
	all = slices.Compact(all)
	fitting, length := 0, 0
	for fitting < min(len(all), observation.MaxLegEndpoints) {
		length += len(all[fitting].Address) + len(all[fitting].TLS) + len(`{"address":"","tls":""},`)
		if length > maxLegBytes {
			break
		}
		fitting++
	}
	described.Endpoints, described.EndpointsLeftOut = all[:fitting:fitting], len(all)-fitting
	described.LeftOutTLS = tlsOfAll(all[fitting:])
	slices.SortFunc(described.Endpoints, func(a, b observation.LegEndpoint) int { return cmp.Compare(a.Address, b.Address) })
	return nil
}

// tlsOfAll is what Envoy wraps connections to all of some endpoints in; TLSByEndpoint where they differ, "" of none.
func tlsOfAll(endpoints []observation.LegEndpoint) observation.LegTLS {
	var found observation.LegTLS
	for i, endpoint := range endpoints {
		if i > 0 && endpoint.TLS != found {
			return observation.TLSByEndpoint
		}
		found = endpoint.TLS
	}
	return found
}

// spares says whether Envoy never leads anything to an endpoint: istiod delivers pods that are not ready too, as unhealthy
// (istio.io/istio pilot/pkg/features, PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS). A cluster that panics leads to them after all,
// and one that watches its hosts itself may find another state each moment, of which no change of configuration tells.
func (c cluster) spares(endpoint lbEndpoint) bool {
	panics := c.CommonLB.PanicThreshold == nil || c.CommonLB.PanicThreshold.Value != 0
	if panics || set(c.OutlierDetection) || set(c.HealthChecks) {
		return false
	}
	switch endpoint.HealthStatus {
	case "UNHEALTHY", "DRAINING", "TIMEOUT":
		return true
	}
	return false
}

func (a address) String() string {
	switch {
	case a.SocketAddress != nil:
		return net.JoinHostPort(a.SocketAddress.Address, strconv.FormatUint(uint64(a.SocketAddress.PortValue), 10))
	case a.EnvoyInternalAddress != nil:
		return "envoy://" + a.EnvoyInternalAddress.ServerListenerName + "/" + a.EnvoyInternalAddress.EndpointID
	case a.Pipe != nil:
		return "unix://" + a.Pipe.Path
	}
	return ""
}

func (c cluster) tls() observation.LegTLS {
	if len(c.TransportSocketMatches) > 0 {
		return observation.TLSByEndpoint
	}
	return c.TransportSocket.tls()
}

// tlsTo takes the first socket of which every condition holds of the endpoint, else the cluster's own
// (Envoy's TransportSocketMatcherImpl::resolve).
func (c cluster) tlsTo(endpoint lbEndpoint) observation.LegTLS {
	for _, match := range c.TransportSocketMatches {
		if holds(match.Match, endpoint.Metadata.FilterMetadata.SocketMatch) {
			return match.TransportSocket.tls()
		}
	}
	return c.TransportSocket.tls()
}

func holds(wanted, has map[string]any) bool {
	for key, value := range wanted {
		there, ok := has[key]
		if !ok || fmt.Sprint(there) != fmt.Sprint(value) {
			return false
		}
	}
	return true
}

// workloadSecret is the name under which Envoy asks for the workload's own certificate
// (istio.io/istio pkg/security, WorkloadKeyCertResourceName).
const workloadSecret = "default"

func (t *transportSocket) tls() observation.LegTLS {
	switch {
	case t == nil || t.Name == "envoy.transport_sockets.raw_buffer":
		return observation.TLSNone
	case t.Name == "envoy.transport_sockets.tls" && len(t.TypedConfig.CommonTLSContext.SDS) == 1 && t.TypedConfig.CommonTLSContext.SDS[0].Name == workloadSecret:
		return observation.TLSMutual
	}
	return observation.TLSOther
}
