package observation

import (
	"strconv"
	"strings"
)

// Sent is what the client's own Envoy did with one request, by its counters right before and right after it. While the
// agent counts, it sends nothing else through that Envoy, so that one connection is this request's and nobody else's.
type Sent struct {
	// Cluster is the Envoy cluster that took the connection, such as outbound|443||web.shop.svc.cluster.local or
	// PassthroughCluster; "" where no cluster did (Past) or it is not known (Error).
	Cluster string `json:"cluster,omitempty"`
	// Host is the host of that cluster, as host:port; "" where Envoy did not tell.
	Host string `json:"host,omitempty"`
	// Handshakes are the TLS handshakes that Envoy itself finished with that host: 0 or 1. With 0 the client's bytes went
	// out as they were if something came back (Leaf); if nothing did, Envoy's own handshake may have failed.
	Handshakes uint64 `json:"handshakes,omitempty"`
	// Past says that the counters were read and that none moved: the connection did not go through Envoy.
	Past bool `json:"past,omitempty"`
	// Error is why it is not known; then the rest means nothing.
	Error string `json:"error,omitempty"`
}

// ClusterPassthrough is the cluster by which Envoy passes on, as it is, what it knows no Service for
// (istio.io/istio pilot/pkg/networking/util, PassthroughCluster), and ClusterBlackHole the one that it ends in where the
// mesh allows no such thing.
const (
	ClusterPassthrough = "PassthroughCluster"
	ClusterBlackHole   = "BlackHoleCluster"
)

// Cluster is an outbound cluster's name, taken apart: outbound|PORT|SUBSET|HOST
// (istio.io/istio pilot/pkg/model, BuildSubsetKey).
type Cluster struct {
	Port         uint32
	Subset, Host string
}

// ParseCluster takes a cluster's name apart; ok is false for one that stands for no Service.
func ParseCluster(name string) (cluster Cluster, ok bool) {
	parts := strings.Split(strings.TrimSuffix(name, ";"), "|")
	if len(parts) != 4 || parts[0] != "outbound" {
		return Cluster{}, false
	}
	port, err := strconv.ParseUint(parts[1], 10, 16)
	if err != nil {
		return Cluster{}, false
	}
	return Cluster{Port: uint32(port), Subset: parts[2], Host: parts[3]}, true
}

// Wrapping is what the client's Envoy did with one request.
type Wrapping string

const (
	// WrappedInTLS means that Envoy finished a TLS handshake of its own on the request's connection.
	WrappedInTLS Wrapping = "WrappedInTLS"
	// PassedOn means that it finished none, or that the request went past Envoy.
	PassedOn Wrapping = "PassedOn"
	// NotCounted means that it is not known.
	NotCounted Wrapping = "NotCounted"
)

// Wrapping tells how the client's Envoy sent the request.
func (o Observation) Wrapping() Wrapping {
	switch {
	case o.Sent == nil || o.Sent.Error != "":
		return NotCounted
	case o.Sent.Handshakes > 0:
		return WrappedInTLS
	default:
		return PassedOn
	}
}
