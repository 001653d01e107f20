package observation

// Delivered is where the client's Envoy would lead a connection to the address that was asked, by the configuration that
// istiod has delivered to it: what stands between what is computed and what is observed.
type Delivered struct {
	// Listener is the listener that takes the address; "" where none does, and Envoy passes on to where it was addressed.
	Listener string `json:"listener,omitempty"`
	// Config is the object that made the filter chain, as Istio names it in Envoy's metadata, such as
	// /apis/networking.istio.io/v1/namespaces/shop/virtual-service/lead; "" where Istio names none.
	Config string `json:"config,omitempty"`
	// Legs are the clusters to which the chain leads, at most MaxLegs; LegsLeftOut counts the others.
	Legs        []Leg `json:"legs,omitempty"`
	LegsLeftOut int   `json:"legsLeftOut,omitempty"`
	// Error is why it is not known; then the rest means nothing.
	Error string `json:"error,omitempty"`
}

// Bounds of what is reported of one address, so that an observation stays far below the longest line that is read.
const (
	MaxLegs         = 8
	MaxLegEndpoints = 64
)

// Leg is one cluster to which connections are led.
type Leg struct {
	Cluster string `json:"cluster"`
	// Weight is its share, by the sum of all legs' weights; 1 where it is the only one.
	Weight uint32 `json:"weight"`
	// Config is the DestinationRule that shaped the cluster, as Istio names it in Envoy's metadata; "" where there is none.
	Config string `json:"config,omitempty"`
	// TLS is what Envoy wraps connections to the leg in; TLSByEndpoint where that depends on the endpoint.
	TLS LegTLS `json:"tls"`
	// Endpoints are the hosts of the cluster, at most MaxLegEndpoints; EndpointsLeftOut counts the others. A cluster that
	// sends to where the connection was addressed has none.
	Endpoints        []LegEndpoint `json:"endpoints,omitempty"`
	EndpointsLeftOut int           `json:"endpointsLeftOut,omitempty"`
	// LeftOutTLS is what Envoy wraps connections to those that are left out in: TLSByEndpoint where they differ.
	LeftOutTLS LegTLS `json:"leftOutTLS,omitempty"`
}

// LegEndpoint is one host of a cluster.
type LegEndpoint struct {
	// Address is host:port, or another form where Envoy has one (a host name, a HBONE tunnel).
	Address string `json:"address"`
	TLS     LegTLS `json:"tls"`
}

// LegTLS is what Envoy wraps connections in.
type LegTLS string

const (
	// TLSNone sends the client's bytes as they are.
	TLSNone LegTLS = "None"
	// TLSMutual wraps them in TLS with the mesh's own certificate (ISTIO_MUTUAL, or auto mTLS).
	TLSMutual LegTLS = "Mutual"
	// TLSOther wraps them in TLS with another certificate, or with none.
	TLSOther LegTLS = "Other"
	// TLSByEndpoint depends on the endpoint.
	TLSByEndpoint LegTLS = "ByEndpoint"
)
