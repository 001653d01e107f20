package delivered

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// virtualOutbound is the listener to which iptables redirects everything; it hands a connection over to the listener of
// the address that it was sent to, and keeps it where there is none (istio.io/istio pilot/pkg/model, VirtualOutboundListenerName).
const virtualOutbound = "virtualOutbound"

// listenerNames matches the listeners that may take an address. Istio names them ADDRESS_PORT
// (istio.io/istio pilot/pkg/networking/core, getListenerName).
func listenerNames(address netip.AddrPort) string {
	port := fmt.Sprintf("_%d", address.Port())
	return exactly([]string{address.Addr().String() + port, "0.0.0.0" + port, "::" + port, virtualOutbound})
}

// The types below are as much of Envoy's API as is looked at (api/envoy/config/listener/v3).
type (
	listenersDump struct {
		Configs []struct {
			Name        string `json:"name"`
			ActiveState *struct {
				Listener listener `json:"listener"`
			} `json:"active_state"`
		} `json:"configs"`
	}
	listener struct {
		Name                string  `json:"name"`
		Address             address `json:"address"`
		AdditionalAddresses []struct {
			Address address `json:"address"`
		} `json:"additional_addresses"`
		FilterChains       []filterChain    `json:"filter_chains"`
		DefaultFilterChain *filterChain     `json:"default_filter_chain"`
		FilterChainMatcher json.RawMessage  `json:"filter_chain_matcher"`
		ListenerFilters    []listenerFilter `json:"listener_filters"`
	}
	listenerFilter struct {
		Name           string          `json:"name"`
		FilterDisabled json.RawMessage `json:"filter_disabled"`
	}
	filterChain struct {
		Name     string          `json:"name"`
		Match    json.RawMessage `json:"filter_chain_match"`
		Filters  []filter        `json:"filters"`
		Metadata metadata        `json:"metadata"`
	}
	filter struct {
		Name        string          `json:"name"`
		TypedConfig json.RawMessage `json:"typed_config"`
	}
	// chainMatch is read strictly: a condition that is not known would be taken for one that holds.
	chainMatch struct {
		DestinationPort      *uint32  `json:"destination_port"`
		PrefixRanges         []prefix `json:"prefix_ranges"`
		ServerNames          []string `json:"server_names"`
		TransportProtocol    string   `json:"transport_protocol"`
		ApplicationProtocols []string `json:"application_protocols"`
	}
	prefix struct {
		AddressPrefix string `json:"address_prefix"`
		PrefixLen     uint8  `json:"prefix_len"`
	}
	address struct {
		SocketAddress *struct {
			Address   string `json:"address"`
			PortValue uint32 `json:"port_value"`
		} `json:"socket_address"`
		Pipe *struct {
			Path string `json:"path"`
		} `json:"pipe"`
		EnvoyInternalAddress *struct {
			ServerListenerName string `json:"server_listener_name"`
			EndpointID         string `json:"endpoint_id"`
		} `json:"envoy_internal_address"`
	}
	metadata struct {
		FilterMetadata struct {
			Istio struct {
				Config string `json:"config"`
			} `json:"istio"`
			SocketMatch map[string]any `json:"envoy.transport_socket_match"`
		} `json:"filter_metadata"`
	}
)

// route is where a filter chain leads.
type route struct {
	listener, config string
	legs             []leg
}

// chooseRoute chooses listener and filter chain as Envoy does.
func chooseRoute(dump []byte, hello Hello) (route, error) {
	var listeners listenersDump
	if err := json.Unmarshal(dump, &listeners); err != nil {
		return route{}, fmt.Errorf("listeners: %w", err)
	}
	chosen := chooseListener(listeners, hello.Address)
	if chosen == nil {
		return route{}, unknown("no listener for %s, and no %s", hello.Address, virtualOutbound)
	}
	found := route{listener: chosen.Name}
	if chosen.Name == virtualOutbound {
		found.listener = ""
	}
	chain, err := chosen.choose(hello)
	if err != nil {
		return found, err
	}
	found.config = chain.Metadata.FilterMetadata.Istio.Config
	if len(found.config) > maxNameBytes {
		return route{}, unknown("a name of %d bytes", len(found.config))
	}
	found.legs, err = chain.legs()
	for _, leg := range found.legs {
		if len(leg.cluster) > maxNameBytes {
			return found, unknown("a name of %d bytes", len(leg.cluster))
		}
	}
	return found, err
}

// maxNameBytes bounds what is reported: outbound|PORT|SUBSET|HOST and the path of an object are far shorter.
const maxNameBytes = 700

// chooseListener takes the listener of exactly that address before one of any address at that port (Envoy's
// ConnectionHandlerImpl::getBalancedHandlerByAddress).
func chooseListener(dump listenersDump, wanted netip.AddrPort) *listener {
	var any, caught *listener
	for _, config := range dump.Configs {
		if config.ActiveState == nil {
			continue
		}
		candidate := &config.ActiveState.Listener
		if candidate.Name == virtualOutbound {
			caught = candidate
			continue
		}
		addresses := []address{candidate.Address}
		for _, additional := range candidate.AdditionalAddresses {
			addresses = append(addresses, additional.Address)
		}
		for _, address := range addresses {
			at, ok := address.parse()
			switch {
			case !ok || at.Port() != wanted.Port():
			case at.Addr() == wanted.Addr():
				return candidate
			case at.Addr().IsUnspecified() && (at.Addr().Is6() || wanted.Addr().Is4()):
				any = candidate
			}
		}
	}
	if any != nil {
		return any
	}
	return caught
}

func (a address) parse() (netip.AddrPort, bool) {
	if a.SocketAddress == nil || a.SocketAddress.PortValue > 1<<16-1 {
		return netip.AddrPort{}, false
	}
	ip, err := netip.ParseAddr(a.SocketAddress.Address)
	return netip.AddrPortFrom(ip.Unmap(), uint16(a.SocketAddress.PortValue)), err == nil
}

// seen is what the listener's filters make out of a hello.
type seen struct {
	destination netip.AddrPort
	serverName  string
	transport   string
	protocols   []string
}

func (l *listener) see(hello Hello) (seen, error) {
	// Without the filter that reads it, a hello is bytes.
	made := seen{destination: hello.Address, transport: "raw_buffer"}
	for _, filter := range l.ListenerFilters {
		switch filter.Name {
		case "envoy.filters.listener.tls_inspector":
			made.serverName = strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
			made.transport, made.protocols = "tls", hello.Protocols
		case "envoy.filters.listener.http_inspector", "envoy.filters.listener.original_dst":
		default:
			return seen{}, unknown("the listener filter %q", filter.Name)
		}
		if set(filter.FilterDisabled) {
			return seen{}, unknown("the listener filter %q is not always there", filter.Name)
		}
	}
	return made, nil
}

// choose chooses the filter chain.
func (l *listener) choose(hello Hello) (*filterChain, error) {
	if set(l.FilterChainMatcher) {
		return nil, unknown("the listener %s has a filter_chain_matcher", l.Name)
	}
	made, err := l.see(hello)
	if err != nil {
		return nil, err
	}
	var chains []candidate
	for i := range l.FilterChains {
		match, err := parseMatch(l.FilterChains[i].Match)
		if err != nil {
			return nil, unknown("a filter chain of the listener %s matches by %v", l.Name, err)
		}
		chains = append(chains, candidate{&l.FilterChains[i], match})
	}
	switch left := made.narrow(chains); {
	case len(left) > 1:
		return nil, unknown("%d filter chains of the listener %s match alike", len(left), l.Name)
	case len(left) == 1:
		return left[0].chain, nil
	case l.DefaultFilterChain != nil:
		return l.DefaultFilterChain, nil
	default:
		return nil, fmt.Errorf("no filter chain of the listener %s takes the hello: Envoy closes the connection", l.Name)
	}
}

func parseMatch(raw json.RawMessage) (chainMatch, error) {
	var match chainMatch
	if !set(raw) {
		return match, nil
	}
	strict := json.NewDecoder(bytes.NewReader(raw))
	strict.DisallowUnknownFields()
	return match, strict.Decode(&match)
}

func set(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

type candidate struct {
	chain *filterChain
	match chainMatch
}

// narrow keeps the filter chains that match, one criterion after the other in Envoy's order, the most specific value of
// each: what matched less specifically is out, even if nothing is left by the next criterion
// (FilterChainManagerImpl::findFilterChain).
func (s seen) narrow(chains []candidate) []candidate {
	chains = best(chains, func(m chainMatch) int {
		switch {
		case m.DestinationPort == nil:
			return 1
		case *m.DestinationPort == uint32(s.destination.Port()):
			return 2
		}
		return 0
	})
	chains = best(chains, s.byDestination)
	chains = best(chains, s.byServerName)
	chains = best(chains, func(m chainMatch) int {
		return either(m.TransportProtocol == "", m.TransportProtocol == s.transport)
	})
	return best(chains, s.byProtocol)
}

// best keeps the candidates of the highest rank; rank 0 is no match.
func best(chains []candidate, rank func(chainMatch) int) []candidate {
	highest := 1
	var kept []candidate
	for _, chain := range chains {
		switch ranked := rank(chain.match); {
		case ranked > highest:
			highest, kept = ranked, []candidate{chain}
		case ranked == highest:
			kept = append(kept, chain)
		}
	}
	return kept
}

func either(anything, exactly bool) int {
	switch {
	case anything:
		return 1
	case exactly:
		return 2
	}
	return 0
}

func (s seen) byDestination(m chainMatch) int {
	if len(m.PrefixRanges) == 0 {
		return 1
	}
	rank := 0
	for _, within := range m.PrefixRanges {
		ip, err := netip.ParseAddr(within.AddressPrefix)
		if err != nil {
			continue
		}
		if prefix, err := ip.Unmap().Prefix(int(within.PrefixLen)); err == nil && prefix.Contains(s.destination.Addr()) {
			rank = max(rank, 2+prefix.Bits())
		}
	}
	return rank
}

// byServerName ranks an exact name before the longest suffix before no name.
func (s seen) byServerName(m chainMatch) int {
	if len(m.ServerNames) == 0 {
		return 1
	}
	rank := 0
	for _, name := range m.ServerNames {
		suffix, wildcard := strings.CutPrefix(name, "*.")
		switch {
		case s.serverName == "":
		case name == s.serverName:
			rank = max(rank, 1<<16)
		case wildcard && strings.HasSuffix(s.serverName, "."+suffix):
			rank = max(rank, 2+len(suffix))
		}
	}
	return rank
}

// byProtocol ranks by the place that a protocol has in what the client offers.
func (s seen) byProtocol(m chainMatch) int {
	if len(m.ApplicationProtocols) == 0 {
		return 1
	}
	for i, protocol := range s.protocols {
		if slices.Contains(m.ApplicationProtocols, protocol) {
			return 2 + len(s.protocols) - i
		}
	}
	return 0
}

// leg is a cluster and its share.
type leg struct {
	cluster string
	weight  uint32
}

// passingOn are the network filters that leave open where the connection goes.
var passingOn = []string{
	"istio.stats", "istio_authn", "istio.metadata_exchange", "envoy.filters.network.metadata_exchange",
	"envoy.filters.network.rbac", "envoy.filters.network.connection_limit", "envoy.filters.network.local_ratelimit",
}

// tcpProxy is as much of Envoy's tcp_proxy as says where it leads.
type tcpProxy struct {
	Cluster          string `json:"cluster"`
	WeightedClusters *struct {
		Clusters []struct {
			Name          string          `json:"name"`
			Weight        uint32          `json:"weight"`
			MetadataMatch json.RawMessage `json:"metadata_match"`
		} `json:"clusters"`
	} `json:"weighted_clusters"`
	TunnelingConfig json.RawMessage `json:"tunneling_config"`
	MetadataMatch   json.RawMessage `json:"metadata_match"`
	OnDemand        json.RawMessage `json:"on_demand"`
}

func (c *filterChain) legs() ([]leg, error) {
	for _, filter := range c.Filters {
		switch filter.Name {
		case "envoy.filters.network.tcp_proxy":
			var proxy tcpProxy
			if err := json.Unmarshal(filter.TypedConfig, &proxy); err != nil {
				return nil, fmt.Errorf("tcp_proxy: %w", err)
			}
			return proxy.legs()
		case "envoy.filters.network.http_connection_manager":
			return nil, unknown("the filter chain takes the connection for HTTP")
		}
		if !slices.Contains(passingOn, filter.Name) {
			return nil, unknown("the network filter %q", filter.Name)
		}
	}
	return nil, unknown("a filter chain leads nowhere")
}

func (p tcpProxy) legs() ([]leg, error) {
	for name, raw := range map[string]json.RawMessage{"tunneling_config": p.TunnelingConfig, "metadata_match": p.MetadataMatch, "on_demand": p.OnDemand} {
		if set(raw) {
			return nil, unknown("tcp_proxy has a %s", name)
		}
	}
	switch {
	case p.WeightedClusters == nil && p.Cluster == "", p.WeightedClusters != nil && p.Cluster != "":
		return nil, unknown("tcp_proxy without one place to lead to")
	case p.WeightedClusters == nil:
		return []leg{{p.Cluster, 1}}, nil
	}
	var legs []leg
	for _, weighted := range p.WeightedClusters.Clusters {
		if set(weighted.MetadataMatch) || weighted.Name == "" {
			return nil, unknown("a weighted cluster has a metadata_match, or no name")
		}
		legs = append(legs, leg{weighted.Name, weighted.Weight})
	}
	if len(legs) == 0 {
		return nil, unknown("tcp_proxy weighs no clusters")
	}
	return legs, nil
}
