// Package delivered reads where the client's Envoy would lead a connection, out of the configuration that istiod has
// delivered to it: the listener that takes the address, the filter chain that takes the hello, the clusters behind it, and
// their endpoints. It follows Envoy's own rules of choice step by step, and where it meets anything that it does not know,
// it says so in place of guessing. It makes no connections: whoever calls it asks Envoy's admin interface.
package delivered

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// Hello is what Envoy gets to see of a connection.
type Hello struct {
	// Address is the address that was dialed.
	Address netip.AddrPort
	// ServerName is the server_name extension, or "", and Protocols are those offered in ALPN.
	ServerName string
	Protocols  []string
}

// Ask answers a GET of Envoy's admin interface for a path with its query. It bounds what it reads.
type Ask func(ctx context.Context, path string) ([]byte, error)

// Read finds out where Envoy leads a hello. What cannot be found out is Delivered.Error, at most 256 bytes.
func Read(ctx context.Context, ask Ask, hello Hello) observation.Delivered {
	delivered, err := read(ctx, ask, hello)
	if err != nil {
		delivered.Error = shorten(err.Error())
	}
	return delivered
}

func read(ctx context.Context, ask Ask, hello Hello) (observation.Delivered, error) {
	dump, err := ask(ctx, configDump("dynamic_listeners", listenerNames(hello.Address)))
	if err != nil {
		return observation.Delivered{}, fmt.Errorf("listeners: %w", err)
	}
	route, err := chooseRoute(dump, hello)
	delivered := observation.Delivered{Listener: route.listener, Config: route.config}
	if err != nil {
		return delivered, err
	}
	legs := route.legs[:min(len(route.legs), observation.MaxLegs)]
	delivered.LegsLeftOut = len(route.legs) - len(legs)
	dump, err = ask(ctx, configDump("dynamic_active_clusters", exactly(clusterNames(legs))))
	if err != nil {
		return delivered, fmt.Errorf("clusters: %w", err)
	}
	clusters, err := parseClusters(dump)
	if err != nil {
		return delivered, err
	}
	assignments, err := readAssignments(ctx, ask, legs, clusters)
	if err != nil {
		return delivered, err
	}
	for _, leg := range legs {
		described, err := describe(leg, clusters, assignments)
		if err != nil {
			return delivered, err
		}
		delivered.Legs = append(delivered.Legs, described)
	}
	return delivered, nil
}

// readAssignments reads the endpoints that EDS has delivered; no clusters, no question.
func readAssignments(ctx context.Context, ask Ask, legs []leg, clusters map[string]cluster) (map[string]assignment, error) {
	var names []string
	for _, leg := range legs {
		if cluster, ok := clusters[leg.cluster]; ok && cluster.discovery() == discoveryEDS {
			names = append(names, cluster.serviceName())
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	dump, err := ask(ctx, configDump("dynamic_endpoint_configs", exactly(names))+"&include_eds=on")
	if err != nil {
		return nil, fmt.Errorf("endpoints: %w", err)
	}
	return parseAssignments(dump)
}

// configDump asks for some resources by name: all of them are megabytes in a big mesh.
func configDump(resource, names string) string {
	return "/config_dump?" + url.Values{"resource": {resource}, "name_regex": {names}}.Encode()
}

func exactly(names []string) string {
	quoted := make([]string, 0, len(names))
	for _, name := range names {
		quoted = append(quoted, regexp.QuoteMeta(name))
	}
	return "^(" + strings.Join(quoted, "|") + ")$"
}

func clusterNames(legs []leg) []string {
	names := make([]string, 0, len(legs))
	for _, leg := range legs {
		names = append(names, leg.cluster)
	}
	return names
}

var errUnknown = errors.New("a configuration of Envoy that is not known here")

func unknown(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errUnknown, fmt.Sprintf(format, args...))
}

const maxErrorBytes = 256

func shorten(text string) string {
	text = strings.ToValidUTF8(text, "")
	if len(text) <= maxErrorBytes {
		return text
	}
	return strings.ToValidUTF8(text[:maxErrorBytes-len("…")], "") + "…"
}
