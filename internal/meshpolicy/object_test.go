package meshpolicy_test

import (
	"slices"
	"testing"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

func TestObjectsAreNamedAndOrdered(t *testing.T) {
	young := meshpolicy.PeerAuthentication{Namespace: "shop", Name: "b", Created: time.Unix(9, 0)}.Object()
	old := meshpolicy.PeerAuthentication{Namespace: "shop", Name: "b", Created: time.Unix(1, 0)}.Object()
	rule := meshpolicy.DestinationRule{Namespace: "shop", Name: "b"}.Object()
	other := meshpolicy.PeerAuthentication{Namespace: "attic", Name: "z"}.Object()
	if young != old || young == rule || young.String() != "PeerAuthentication shop/b" || rule.String() != "DestinationRule shop/b" {
		t.Errorf("%v, %v and %v", young, old, rule)
	}
	if got, want := meshpolicy.Distinct([]meshpolicy.Object{young, rule, other, old}), []meshpolicy.Object{rule, other, young}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	service := meshpolicy.Service{Namespace: "shop", Name: "web"}
	if service.Object() != (meshpolicy.Object{Kind: "Service", Namespace: "shop", Name: "web"}) || service.String() != "Service shop/web" {
		t.Errorf("%v", service.Object())
	}
}

func TestDeciders(t *testing.T) {
	auth := func(name string) meshpolicy.Object {
		return meshpolicy.Object{Kind: "PeerAuthentication", Namespace: "shop", Name: name}
	}
	destination := func(name string) meshpolicy.Object {
		return meshpolicy.Object{Kind: "DestinationRule", Namespace: "shop", Name: name}
	}
	quiet := meshpolicy.DestinationRule{Namespace: "shop", Name: "quiet", Host: "nginx", HasTrafficPolicy: true, Created: time.Unix(1, 0)}
	loud := meshpolicy.DestinationRule{Namespace: "shop", Name: "loud", Host: "nginx", Created: time.Unix(2, 0),
		TLS: &meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSDisable}}
	hidden := quiet
	hidden.Name, hidden.WorkloadSelector = "hiding", map[string]string{"app": "nobody"}
	for name, c := range map[string]struct {
		policies policies
		rules    []meshpolicy.DestinationRule
		server   []meshpolicy.Object
		client   []meshpolicy.Object
	}{
		"nothing":             {nil, nil, nil, nil},
		"a namespace's":       {policies{policy("shop", "ns", strict, nil, 0)}, nil, []meshpolicy.Object{auth("ns")}, nil},
		"auto mTLS follows":   {policies{policy("shop", "ns", disable, nil, 0)}, nil, []meshpolicy.Object{auth("ns")}, []meshpolicy.Object{auth("ns")}},
		"a silent one":        {policies{policy("shop", "old", "", nil, 1), policy("shop", "young", strict, nil, 0)}, nil, []meshpolicy.Object{auth("old")}, nil},
		"a rule":              {nil, []meshpolicy.DestinationRule{loud}, nil, []meshpolicy.Object{destination("loud")}},
		"a rule without TLS":  {nil, []meshpolicy.DestinationRule{quiet}, nil, nil},
		"a rule that hides":   {nil, []meshpolicy.DestinationRule{quiet, loud}, nil, []meshpolicy.Object{destination("quiet")}},
		"a rule for nobody":   {nil, []meshpolicy.DestinationRule{hidden}, nil, nil},
		"a rule beside quiet": {policies{policy("shop", "ns", disable, nil, 0)}, []meshpolicy.DestinationRule{quiet, loud}, []meshpolicy.Object{auth("ns")}, []meshpolicy.Object{destination("quiet"), auth("ns")}},
	} {
		t.Run(name, func(t *testing.T) {
			mesh := meshpolicy.Mesh{AutoMTLS: true}
			service := meshpolicy.Service{Namespace: "shop", Name: "nginx", Port: 443, TargetPort: port}
			pod := meshpolicy.Pod{Namespace: "shop", Name: "nginx-1", Sidecar: true, Labels: map[string]string{meshpolicy.LabelTLSMode: meshpolicy.TLSModeIstio}}
			if got := meshpolicy.ForServer(mesh, c.policies, pod, port).Deciders(); !slices.Equal(got, c.server) {
				t.Errorf("server: %v, want %v", got, c.server)
			}
			client := meshpolicy.Client{Namespace: "shop", Sidecar: true}
			if got := meshpolicy.ForClient(mesh, c.rules, c.policies, client, service, pod); !slices.Equal(got.Deciders(), c.client) {
				t.Errorf("client: %v (%s), want %v", got.Deciders(), got.Why, c.client)
			}
		})
	}
}
