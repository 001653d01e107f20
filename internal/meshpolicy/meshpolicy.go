// Package meshpolicy computes the mutual TLS that Istio's policies ask for: the mode that holds before a server's pod
// and port, what a client's sidecar sends there, and the objects that decide both. It follows istio.io/istio as of
// 1.31 with istiod's feature flags at their defaults; test/oracle compares it with Istio's own code.
package meshpolicy

import api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"

// Mesh is what matters of Istio's mesh config.
type Mesh struct {
	// RootNamespace holds the policies of the whole mesh; "" means istio-system.
	RootNamespace string
	// AutoMTLS is enableAutoMtls, which is on unless it is turned off.
	AutoMTLS bool
	// DestinationRuleExportTo is defaultDestinationRuleExportTo; empty means that rules are public.
	DestinationRuleExportTo []string
	// ServiceExportTo is defaultServiceExportTo; empty means that services are public.
	ServiceExportTo []string
	// ClusterDomain is the suffix of the services' names; "" means cluster.local.
	ClusterDomain string
}

// The defaults of istio.io/istio, pkg/config/constants and pkg/config/mesh.
const (
	defaultRootNamespace = "istio-system"
	defaultClusterDomain = "cluster.local"
)

func (m Mesh) rootNamespace() string {
	if m.RootNamespace == "" {
		return defaultRootNamespace
	}
	return m.RootNamespace
}

func (m Mesh) clusterDomain() string {
	if m.ClusterDomain == "" {
		return defaultClusterDomain
	}
	return m.ClusterDomain
}

// Workload is one server pod and the port of its container.
type Workload struct {
	Namespace string
	Labels    map[string]string
	Port      uint32
}

// Effective is the mode that the policies compute and why.
type Effective struct {
	// Mode is DISABLE, PERMISSIVE or STRICT.
	Mode  api.MTLSMode
	Scope Scope
	// Decider is the object that sets the mode; nil where none does and Istio's default holds.
	Decider *PeerAuthentication
}

// String names the deciding object and what it sets, for messages.
func (e Effective) String() string {
	return Server{Mode: e.Mode, Scope: e.Scope, Decider: e.Decider, Capture: Captured}.String()
}

// Compute returns the effective mode for a workload; ForServer tells more.
func Compute(policies []PeerAuthentication, workload Workload, rootNamespace string) Effective {
	levels := levelsFor(policies, workload.Namespace, workload.Labels, rootNamespace)
	mode, scope, decider := levels.decide(workload.Port)
	return Effective{Mode: mode, Scope: scope, Decider: decider}
}
