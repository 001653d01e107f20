// Package meshpolicy computes the mutual TLS that Istio's policies ask for: the mode that holds before a server's pod
// and port, what a client's sidecar sends there, and the objects that decide both. It follows istio.io/istio as of
// 1.31 with istiod's feature flags at their defaults; test/oracle compares it with Istio's own code.
package meshpolicy

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
