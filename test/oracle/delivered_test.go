package oracle

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/meshprobe/httpsmeshprobe/internal/delivered"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// Addresses and names of theMesh.
const (
	web      = "web.shop.svc.cluster.local"
	webAt    = "10.2.0.1:443"
	webA     = "10.1.0.1:8443"
	webB     = "10.1.0.2:8443"
	otherPod = "10.1.0.5:8443"
	nobody   = "203.0.113.9:443"
)

// routed is a question about one configuration, with what is true of it.
type routed struct {
	address, name string
	// object and shapes are the objects behind the chain and behind the legs, as a user reads them.
	object string
	shapes []string
	// legs are without Config, which shapes has.
	legs []observation.Leg
	// passes is whether no listener takes the address.
	passes bool
	// says is a part of the error.
	says string
}

func byEndpoint(cluster string, weight uint32, endpoints ...observation.LegEndpoint) observation.Leg {
	return observation.Leg{Cluster: cluster, Weight: weight, TLS: observation.TLSByEndpoint, Endpoints: endpoints}
}

func all(tls observation.LegTLS, cluster string, weight uint32, addresses ...string) observation.Leg {
	leg := observation.Leg{Cluster: cluster, Weight: weight, TLS: tls}
	for _, address := range addresses {
		leg.Endpoints = append(leg.Endpoints, observation.LegEndpoint{Address: address, TLS: tls})
	}
	return leg
}

func mutual(address string) observation.LegEndpoint {
	return observation.LegEndpoint{Address: address, TLS: observation.TLSMutual}
}

func plaintext(address string) observation.LegEndpoint {
	return observation.LegEndpoint{Address: address, TLS: observation.TLSNone}
}

func outbound(subset, host string) string { return "outbound|443|" + subset + "|" + host }

func only(leg observation.Leg) []observation.Leg { return []observation.Leg{leg} }

var (
	passthrough = only(all(observation.TLSNone, observation.ClusterPassthrough, 1))
	blackHole   = only(all(observation.TLSNone, observation.ClusterBlackHole, 1))
	toWeb       = byEndpoint(outbound("", web), 1, mutual(webA), mutual(webB))
	toOther     = byEndpoint(outbound("", "other.shop.svc.cluster.local"), 1, plaintext(otherPod))
)

// TestDelivered holds what internal/delivered reads against the truth about each configuration, and, for every address
// and name of the mesh, against Istio's own simulation of its listeners.
func TestDelivered(t *testing.T) {
	tally := map[string]int{}
	for name, c := range deliveries {
		t.Run(name, func(t *testing.T) {
			mesh := newMesh(t, c.configuration)
			for _, want := range c.routes {
				compareWithTruth(t, mesh, want)
			}
			compareWithSimulation(t, mesh, tally)
		})
	}
	for _, answer := range slices.Sorted(maps.Keys(tally)) {
		t.Logf("%8d times %s", tally[answer], answer)
	}
}

func compareWithTruth(t *testing.T, mesh *proxied, want routed) {
	t.Helper()
	got := delivered.Read(t.Context(), mesh.ask, helloTo(want.address, want.name))
	if want.says != "" || got.Error != "" {
		if want.says == "" || !strings.Contains(got.Error, want.says) {
			t.Errorf("%s %q: error %q, want %q", want.address, want.name, got.Error, want.says)
		}
		return
	}
	if object := verdict.ConfigObject(got.Config); object != want.object {
		t.Errorf("%s %q: led by %q, want %q", want.address, want.name, object, want.object)
	}
	if passes := got.Listener == ""; passes != want.passes {
		t.Errorf("%s %q: listener %q, want none: %t", want.address, want.name, got.Listener, want.passes)
	}
	legs, shapes := slices.Clone(got.Legs), make([]string, len(got.Legs))
	for i := range legs {
		shapes[i], legs[i].Config = verdict.ConfigObject(legs[i].Config), ""
	}
	if wanted := append(slices.Clone(want.shapes), make([]string, len(shapes)-min(len(shapes), len(want.shapes)))...); !slices.Equal(shapes, wanted) {
		t.Errorf("%s %q: shaped by %q, want %q", want.address, want.name, shapes, wanted)
	}
	if !reflect.DeepEqual(legs, want.legs) {
		t.Errorf("%s %q:\ngot  %+v\nwant %+v", want.address, want.name, legs, want.legs)
	}
}

// compareWithSimulation asks about every address that a listener, a Service or a pod has, and about some that nobody has.
func compareWithSimulation(t *testing.T, mesh *proxied, tally map[string]int) {
	t.Helper()
	for _, address := range mesh.addresses() {
		for _, name := range helloNames() {
			for _, protocols := range [][]string{asCurl, asSidecar} {
				hello := delivered.Hello{Address: netip.MustParseAddrPort(address), ServerName: name, Protocols: protocols}
				got := delivered.Read(t.Context(), mesh.ask, hello)
				want, says := mesh.simulated(t, hello)
				tally[answered(want, says)]++
				switch {
				case says != "" && !strings.Contains(got.Error, says):
					t.Errorf("%v: got %+v, want an error that says %q, as Istio's simulation", hello, got, says)
				case says == "" && !reflect.DeepEqual(got, want):
					t.Errorf("%v, Istio's simulation differs:\ngot  %+v\nwant %+v", hello, got, want)
				}
			}
		}
	}
}

// answered words the sort of an answer.
func answered(want observation.Delivered, says string) string {
	switch {
	case says != "":
		return "an error: " + says
	case want.Listener == "":
		return "no listener, to " + want.Legs[0].Cluster
	case want.Legs[0].Cluster == observation.ClusterPassthrough:
		return "a listener without route for the name"
	case want.Config != "":
		return fmt.Sprintf("%d legs by a VirtualService", len(want.Legs))
	}
	return "a listener that leads to its Service, " + string(want.Legs[0].TLS)
}

func (p *proxied) addresses() []string {
	addresses := []string{nobody, "203.0.113.9:80", "203.0.113.9:15001"}
	for _, made := range p.listeners {
		at := made.GetAddress().GetSocketAddress()
		if ip, err := netip.ParseAddr(at.GetAddress()); err == nil && !ip.IsUnspecified() {
			addresses = append(addresses, netip.AddrPortFrom(ip, uint16(at.GetPortValue())).String())
		}
	}
	for _, service := range theMesh {
		if ip, err := netip.ParseAddr(service.clusterIP); err == nil {
			addresses = append(addresses, netip.AddrPortFrom(ip, uint16(service.number)).String())
		}
		for _, pod := range service.pods {
			addresses = append(addresses, pod.address+":8443")
		}
	}
	slices.Sort(addresses)
	return slices.Compact(addresses)
}

func helloNames() []string {
	names := []string{"", "web.shop", "web", "a.example.com", "b.a.example.com", "example.com", "nowhere.invalid"}
	for _, service := range theMesh {
		names = append(names, service.host())
	}
	return names
}

// What the agent offers in ALPN (internal/prober).
var (
	asCurl    = []string{"h2", "http/1.1"}
	asSidecar = []string{"istio"}
)

func helloTo(address, name string) delivered.Hello {
	return delivered.Hello{Address: netip.MustParseAddrPort(address), ServerName: name, Protocols: asCurl}
}
