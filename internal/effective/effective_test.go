package effective_test

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/effective"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

// twoPods is a Service with two pods, one of which has a PeerAuthentication of its own.
func twoPods(own api.MTLSMode) *inventory.Inventory {
	labelled := func(name string) meshpolicy.Pod {
		return meshpolicy.Pod{Namespace: "shop", Name: name, Sidecar: true,
			Labels: map[string]string{"name": name, meshpolicy.LabelTLSMode: meshpolicy.TLSModeIstio}}
	}
	i := &inventory.Inventory{
		Probe: &api.HTTPSMeshProbe{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}},
		Mesh:  meshpolicy.Mesh{AutoMTLS: true},
		PeerAuthentications: []meshpolicy.PeerAuthentication{
			{Namespace: "shop", Name: "default", Mode: api.MTLSStrict},
			{Namespace: "shop", Name: "own", Mode: own, Selector: map[string]string{"name": "web-1"}},
		},
		Target: inventory.Target{Namespace: "shop", Name: "web", Endpoints: []inventory.Endpoint{
			{IP: "10.0.0.1", Port: 8443, UID: "u0", Pod: labelled("web-0")}, {IP: "10.0.0.2", Port: 8443, UID: "u1", Pod: labelled("web-1")},
		}},
	}
	i.Probe.Spec.Target.Sidecar, i.Probe.Spec.Target.Service = api.SidecarEnabled, &api.TargetService{Name: "web"}
	return i
}

func TestWhatEndpointsPromise(t *testing.T) {
	byDefault := meshpolicy.Object{Kind: "PeerAuthentication", Namespace: "shop", Name: "default"}
	itsOwn := meshpolicy.Object{Kind: "PeerAuthentication", Namespace: "shop", Name: "own"}

	alike := effective.Of(twoPods(api.MTLSUnset))
	if alike.Modes != "STRICT, MutualTLS from the client" || !slices.Equal(alike.Deciders, []meshpolicy.Object{byDefault}) {
		t.Errorf("alike: %s by %v", alike.Modes, alike.Deciders)
	}
	if len(alike.Computed) != len(paths.Names()) || alike.Computed[api.PathOutsider].Kind != expectation.Refusal {
		t.Errorf("alike: %v", alike.Computed)
	}
	for _, id := range []string{"u0/10.0.0.1:8443", "u1/10.0.0.2:8443"} {
		if expected, ok := alike.ComputedEndpoints[id]; !ok || expected.Kind != expectation.Refusal {
			t.Errorf("alike, %s: %v %v", id, expected, ok)
		}
	}

	different := effective.Of(twoPods(api.MTLSPermissive))
	if different.Modes != "PERMISSIVE+STRICT, MutualTLS from the client" || !slices.Equal(different.Deciders, []meshpolicy.Object{byDefault, itsOwn}) {
		t.Errorf("different: %s by %v", different.Modes, different.Deciders)
	}
	if _, single := different.Computed[api.PathOutsider]; single || different.Promised(api.PathOutsider) != api.OutcomeUnknown {
		t.Errorf("different: the Service's address leads to either, and %v is expected of it", different.Computed[api.PathOutsider])
	}
	if got := different.ComputedEndpoints["u1/10.0.0.2:8443"].Kind; got != expectation.Answer {
		t.Errorf("different: %v", got)
	}
}

// What is not judged is not computed, for no endpoint.
func TestNothingIsComputedBesideAmbient(t *testing.T) {
	i := twoPods(api.MTLSUnset)
	i.Target.Endpoints[1].Pod.Sidecar = false
	i.Target.Endpoints[1].Pod.Annotations = map[string]string{"ambient.istio.io/redirection": "enabled"}
	got := effective.Of(i)
	if len(got.Computed) != 0 || len(got.ComputedEndpoints) != 0 || got.Agreement.Status != metav1.ConditionUnknown {
		t.Errorf("%v, %v, %v", got.Computed, got.ComputedEndpoints, got.Agreement)
	}
}
