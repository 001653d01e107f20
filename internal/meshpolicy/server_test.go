package meshpolicy_test

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

const (
	root = "istio-system"

	strict     = api.MTLSStrict
	permissive = api.MTLSPermissive
	disable    = api.MTLSDisable
	unset      = api.MTLSUnset
)

var (
	created = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	server  = meshpolicy.Pod{Namespace: "shop", Name: "nginx-1", Labels: map[string]string{"app": "nginx", "tier": "web"}, Sidecar: true}
	nginx   = map[string]string{"app": "nginx"}
)

const port = 8443

// policy is a PeerAuthentication of the age that is given in minutes.
func policy(namespace, name string, mode api.MTLSMode, selector map[string]string, minutesOld int) meshpolicy.PeerAuthentication {
	return meshpolicy.PeerAuthentication{
		Namespace: namespace, Name: name, Mode: mode, Selector: selector, Created: created.Add(-time.Duration(minutesOld) * time.Minute),
	}
}

func withPorts(policy meshpolicy.PeerAuthentication, modes map[uint32]api.MTLSMode) meshpolicy.PeerAuthentication {
	policy.PortModes = modes
	return policy
}

type policies = []meshpolicy.PeerAuthentication

// rules holds beside every set of policies what Istio enforces, and the object that decides it ("" for none).
var rules = map[string]struct {
	policies policies
	mode     api.MTLSMode
	scope    meshpolicy.Scope
	decider  string
}{
	"nothing":            {nil, permissive, meshpolicy.ScopeDefault, ""},
	"mesh":               {policies{policy(root, "mesh", strict, nil, 0)}, strict, meshpolicy.ScopeMesh, "mesh"},
	"namespace":          {policies{policy("shop", "ns", strict, nil, 0)}, strict, meshpolicy.ScopeNamespace, "ns"},
	"workload":           {policies{policy("shop", "own", strict, nginx, 0)}, strict, meshpolicy.ScopeWorkload, "own"},
	"empty selector map": {policies{policy("shop", "ns", strict, map[string]string{}, 0)}, strict, meshpolicy.ScopeNamespace, "ns"},
	"several labels, all match": {policies{policy("shop", "own", strict, map[string]string{"app": "nginx", "tier": "web"}, 0)},
		strict, meshpolicy.ScopeWorkload, "own"},

	"namespace over mesh, whatever their age": {policies{policy(root, "mesh", strict, nil, 9), policy("shop", "ns", disable, nil, 0)},
		disable, meshpolicy.ScopeNamespace, "ns"},
	"workload over namespace over mesh": {policies{policy(root, "mesh", disable, nil, 9), policy("shop", "ns", strict, nil, 5), policy("shop", "own", permissive, nginx, 0)},
		permissive, meshpolicy.ScopeWorkload, "own"},
	"a wider level may be stricter and still yields": {policies{policy(root, "mesh", strict, nil, 9), policy("shop", "own", disable, nginx, 0)},
		disable, meshpolicy.ScopeWorkload, "own"},

	"UNSET in the workload inherits the namespace": {policies{policy("shop", "ns", strict, nil, 0), policy("shop", "own", unset, nginx, 5)},
		strict, meshpolicy.ScopeNamespace, "ns"},
	"UNSET in the namespace inherits the mesh": {policies{policy(root, "mesh", strict, nil, 0), policy("shop", "ns", unset, nil, 5), policy("shop", "own", unset, nginx, 5)},
		strict, meshpolicy.ScopeMesh, "mesh"},
	"UNSET everywhere": {policies{policy(root, "mesh", unset, nil, 0), policy("shop", "ns", unset, nil, 0), policy("shop", "own", unset, nginx, 0)},
		permissive, meshpolicy.ScopeDefault, ""},
	"no mode is UNSET": {policies{policy("shop", "ns", strict, nil, 0), policy("shop", "own", "", nginx, 5)},
		strict, meshpolicy.ScopeNamespace, "ns"},

	"the oldest of the workload wins":  {policies{policy("shop", "own", strict, nginx, 1), policy("shop", "legacy", permissive, nginx, 2)}, permissive, meshpolicy.ScopeWorkload, "legacy"},
	"the oldest of the namespace wins": {policies{policy("shop", "a", strict, nil, 1), policy("shop", "b", disable, nil, 2)}, disable, meshpolicy.ScopeNamespace, "b"},
	"the oldest of the mesh wins":      {policies{policy(root, "a", strict, nil, 1), policy(root, "b", disable, nil, 2)}, disable, meshpolicy.ScopeMesh, "b"},
	"the oldest wins even though it is UNSET": {policies{policy("shop", "own", strict, nginx, 1), policy("shop", "legacy", unset, nginx, 2)},
		permissive, meshpolicy.ScopeDefault, ""},
	"of the same second the first by name": {policies{policy("shop", "b", strict, nginx, 1), policy("shop", "a", disable, nginx, 1), policy("shop", "c", permissive, nginx, 1)},
		disable, meshpolicy.ScopeWorkload, "a"},
	"age comes before name": {policies{policy("shop", "a", strict, nginx, 1), policy("shop", "z", disable, nginx, 2)}, disable, meshpolicy.ScopeWorkload, "z"},
	"an older one that does not select is no rival": {policies{policy("shop", "own", strict, nginx, 1), policy("shop", "other", disable, map[string]string{"app": "redis"}, 9)},
		strict, meshpolicy.ScopeWorkload, "own"},

	"a selector in the root namespace is ignored": {policies{policy(root, "selecting", strict, nginx, 9)}, permissive, meshpolicy.ScopeDefault, ""},
	"and does not hide the mesh's": {policies{policy(root, "selecting", disable, nginx, 9), policy(root, "mesh", strict, nil, 0)},
		strict, meshpolicy.ScopeMesh, "mesh"},
	"another value":                  {policies{policy("shop", "own", strict, map[string]string{"app": "redis"}, 0)}, permissive, meshpolicy.ScopeDefault, ""},
	"a label that is not there":      {policies{policy("shop", "own", strict, map[string]string{"zone": "a"}, 0)}, permissive, meshpolicy.ScopeDefault, ""},
	"an absent label is not empty":   {policies{policy("shop", "own", strict, map[string]string{"zone": ""}, 0)}, permissive, meshpolicy.ScopeDefault, ""},
	"one label of two":               {policies{policy("shop", "own", strict, map[string]string{"app": "nginx", "zone": "a"}, 0)}, permissive, meshpolicy.ScopeDefault, ""},
	"another namespace":              {policies{policy("other", "ns", strict, nil, 0)}, permissive, meshpolicy.ScopeDefault, ""},
	"another namespace's workload":   {policies{policy("other", "own", strict, nginx, 0)}, permissive, meshpolicy.ScopeDefault, ""},
	"a stranger's older one, beside": {policies{policy("other", "ns", disable, nil, 9), policy("shop", "ns", strict, nil, 0)}, strict, meshpolicy.ScopeNamespace, "ns"},

	"port level over workload level": {policies{withPorts(policy("shop", "own", strict, nginx, 0), map[uint32]api.MTLSMode{8443: disable})},
		disable, meshpolicy.ScopePort, "own"},
	"another port": {policies{withPorts(policy("shop", "own", strict, nginx, 0), map[uint32]api.MTLSMode{443: disable, 80: permissive})},
		strict, meshpolicy.ScopeWorkload, "own"},
	"port level UNSET inherits the workload": {policies{withPorts(policy("shop", "own", strict, nginx, 0), map[uint32]api.MTLSMode{8443: unset})},
		strict, meshpolicy.ScopeWorkload, "own"},
	"port level UNSET inherits the namespace": {policies{policy("shop", "ns", disable, nil, 0), withPorts(policy("shop", "own", unset, nginx, 0), map[uint32]api.MTLSMode{8443: unset})},
		disable, meshpolicy.ScopeNamespace, "ns"},
	"port level alone": {policies{policy("shop", "ns", strict, nil, 9), withPorts(policy("shop", "own", unset, nginx, 0), map[uint32]api.MTLSMode{8443: permissive})},
		permissive, meshpolicy.ScopePort, "own"},
	"port level without selector is ignored": {policies{withPorts(policy("shop", "ns", strict, nil, 0), map[uint32]api.MTLSMode{8443: disable})},
		strict, meshpolicy.ScopeNamespace, "ns"},
	"port level of the mesh is ignored": {policies{withPorts(policy(root, "mesh", strict, nil, 0), map[uint32]api.MTLSMode{8443: disable})},
		strict, meshpolicy.ScopeMesh, "mesh"},
	"port level of the younger is ignored": {policies{policy("shop", "old", strict, nginx, 9), withPorts(policy("shop", "young", unset, nginx, 0), map[uint32]api.MTLSMode{8443: disable})},
		strict, meshpolicy.ScopeWorkload, "old"},
}

func TestRules(t *testing.T) {
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			wantDecision(t, meshpolicy.ForServer(meshpolicy.Mesh{}, rule.policies, server, port), rule.mode, rule.scope, rule.decider)
		})
	}
}

// Lists from a cache have no order.
func TestTheOrderOfTheListDoesNotMatter(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, rule := range rules {
		want := meshpolicy.ForServer(meshpolicy.Mesh{}, rule.policies, server, port)
		for range 5 {
			shuffled := slices.Clone(rule.policies)
			random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			before := slices.Clone(shuffled)
			if got := meshpolicy.ForServer(meshpolicy.Mesh{}, shuffled, server, port); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, want %+v", name, got, want)
			}
			if !reflect.DeepEqual(shuffled, before) {
				t.Errorf("%s: the list that was handed in has changed", name)
			}
		}
	}
}

func wantDecision(t *testing.T, got meshpolicy.Server, mode api.MTLSMode, scope meshpolicy.Scope, decider string) {
	t.Helper()
	by := ""
	if got.Decider != nil {
		by = got.Decider.Name
	}
	if got.Mode != mode || got.Scope != scope || by != decider {
		t.Errorf("%s at %s level by %q, want %s at %s level by %q", got.Mode, got.Scope, by, mode, scope, decider)
	}
}

// In the root namespace there is the mesh's policy and none of the namespace; a selector is ignored there even though
// the workload stands beside it, which takes the probe's own PeerAuthentication out of force.
func TestAWorkloadInTheRootNamespace(t *testing.T) {
	inRoot := server
	inRoot.Namespace = root
	mesh, own := policy(root, "mesh", strict, nil, 5), policy(root, "own", disable, nginx, 9)
	decide := func(policies ...meshpolicy.PeerAuthentication) meshpolicy.Server {
		return meshpolicy.ForServer(meshpolicy.Mesh{}, policies, inRoot, port)
	}
	wantDecision(t, decide(own), permissive, meshpolicy.ScopeDefault, "")
	wantDecision(t, decide(own, mesh), strict, meshpolicy.ScopeMesh, "mesh")
	wantDecision(t, decide(policy("shop", "ns", disable, nil, 9), mesh), strict, meshpolicy.ScopeMesh, "mesh")
	if lost := decide(own, mesh).Overridden; lost != nil {
		t.Errorf("overridden are %v, want none: what is ignored overrides nothing and is not overridden", lost)
	}
}

func TestAnotherRootNamespace(t *testing.T) {
	mesh := meshpolicy.Mesh{RootNamespace: "mesh-root"}
	former := policy(root, "mesh", strict, nil, 5)
	wantDecision(t, meshpolicy.ForServer(mesh, policies{former}, server, port), permissive, meshpolicy.ScopeDefault, "")
	present := policy("mesh-root", "mesh", disable, nil, 0)
	wantDecision(t, meshpolicy.ForServer(mesh, policies{former, present}, server, port), disable, meshpolicy.ScopeMesh, "mesh")
}

func TestOverridden(t *testing.T) {
	old, young := policy("shop", "old", strict, nginx, 9), policy("shop", "young", disable, nginx, 1)
	ports := withPorts(policy("shop", "ports", unset, nginx, 5), map[uint32]api.MTLSMode{port: permissive})
	namespace, mesh := policy("shop", "ns", permissive, nil, 20), policy(root, "mesh", permissive, nil, 20)
	for name, c := range map[string]struct {
		policies policies
		want     []string
	}{
		"none":                           {policies{old}, nil},
		"the narrowest first":            {policies{mesh, namespace, old}, []string{"ns", "mesh"}},
		"the oldest of a level first":    {policies{young, ports, old}, []string{"ports", "young"}},
		"what sets no mode is not":       {policies{old, policy("shop", "unset", unset, nginx, 1), policy("shop", "ns", "", nil, 20)}, nil},
		"what sets another port is not":  {policies{old, withPorts(policy("shop", "other", unset, nginx, 1), map[uint32]api.MTLSMode{80: strict})}, nil},
		"ports without selector are not": {policies{old, withPorts(policy("shop", "ns", unset, nil, 1), map[uint32]api.MTLSMode{port: strict})}, nil},
		"what does not apply is not": {policies{old, policy("other", "ns", strict, nil, 1), policy("shop", "redis", strict, map[string]string{"app": "redis"}, 1),
			policy(root, "selecting", strict, nginx, 1)}, nil},
		"a younger one behind one that is UNSET": {policies{policy("shop", "unset", unset, nginx, 9), young}, []string{"young"}},
		"a namesake elsewhere":                   {policies{policy("shop", "same", strict, nil, 9), policy(root, "same", disable, nil, 9)}, []string{"same"}},
	} {
		var got []string
		for _, lost := range meshpolicy.ForServer(meshpolicy.Mesh{}, c.policies, server, port).Overridden {
			got = append(got, lost.Name)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestServerString(t *testing.T) {
	own, legacy := policy("shop", "own", strict, nginx, 1), policy("shop", "legacy", permissive, nginx, 2)
	quiet := policy("shop", "quiet", unset, nginx, 9)
	for want, policies := range map[string]policies{
		"no PeerAuthentication sets a mode, so Istio's default holds: PERMISSIVE": nil,
		"PeerAuthentication istio-system/mesh (mesh level) sets STRICT":           {policy(root, "mesh", strict, nil, 0)},
		"PeerAuthentication shop/ns (namespace level) sets DISABLE":               {policy("shop", "ns", disable, nil, 0), policy(root, "mesh", strict, nil, 0)},
		"PeerAuthentication shop/own (workload level) sets STRICT":                {own, policy("shop", "ns", disable, nil, 9)},
		"PeerAuthentication shop/own (port level) sets DISABLE":                   {withPorts(own, map[uint32]api.MTLSMode{port: disable})},

		"PeerAuthentication shop/legacy (older, selects the same pods) sets PERMISSIVE":                              {own, legacy},
		"PeerAuthentication shop/a (as old but first by name, selects the same pods) sets DISABLE":                   {own, policy("shop", "a", disable, nginx, 1)},
		"PeerAuthentication shop/own (port level, older, selects the same pods) sets DISABLE":                        {withPorts(own, map[uint32]api.MTLSMode{port: disable}), policy("shop", "young", strict, nginx, 0)},
		"PeerAuthentication shop/ns (namespace level, older, in the same namespace) sets DISABLE":                    {policy("shop", "ns", disable, nil, 2), policy("shop", "other", strict, nil, 1)},
		"PeerAuthentication istio-system/a (mesh level, older, in the same namespace) sets DISABLE":                  {policy(root, "a", disable, nil, 2), policy(root, "b", strict, nil, 1)},
		"PeerAuthentication shop/legacy (workload level) sets PERMISSIVE":                                            {legacy, policy("shop", "unset", unset, nginx, 0)},
		"PeerAuthentication shop/ns (namespace level, as old but first by name, in the same namespace) sets DISABLE": {policy("shop", "ns", disable, nil, 1), policy("shop", "other", strict, nil, 1)},

		"PeerAuthentication shop/quiet (older, selects the same pods) sets no mode and takes PeerAuthentication shop/own out of force; so Istio's default holds: PERMISSIVE": {quiet, own},
		"PeerAuthentication shop/quiet (older, selects the same pods) sets no mode and takes PeerAuthentication shop/own out of force; " +
			"PeerAuthentication shop/ns (namespace level) sets DISABLE": {quiet, own, policy("shop", "ns", disable, nil, 0)},
		"PeerAuthentication shop/quiet (older, in the same namespace) sets no mode and takes PeerAuthentication shop/ns out of force; " +
			"PeerAuthentication istio-system/mesh (mesh level) sets STRICT": {policy("shop", "quiet", unset, nil, 9), policy("shop", "ns", disable, nil, 0), policy(root, "mesh", strict, nil, 0)},
	} {
		if got := meshpolicy.ForServer(meshpolicy.Mesh{}, policies, server, port).String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// An UNSET policy shadows only its own level, and only where that level decides nothing.
func TestSilent(t *testing.T) {
	quiet, own := policy("shop", "quiet", unset, nginx, 9), policy("shop", "own", strict, nginx, 1)
	for name, c := range map[string]struct {
		policies policies
		want     string
	}{
		"nobody behind it":           {policies{quiet}, ""},
		"a wider level behind it":    {policies{quiet, policy("shop", "ns", strict, nil, 1)}, ""},
		"a younger one":              {policies{quiet, own}, "quiet"},
		"two of them":                {policies{quiet, policy("shop", "second", unset, nginx, 8), own}, "quiet"},
		"the decider is older":       {policies{policy("shop", "older", strict, nginx, 10), quiet, own}, ""},
		"below the level that rules": {policies{own, policy("shop", "quiet-ns", unset, nil, 9), policy("shop", "ns", strict, nil, 1)}, ""},
		"in the namespace":           {policies{policy("shop", "quiet-ns", unset, nil, 9), policy("shop", "ns", strict, nil, 1)}, "quiet-ns"},
	} {
		got := ""
		if silent := meshpolicy.ForServer(meshpolicy.Mesh{}, c.policies, server, port).Silent; silent != nil {
			got = silent.Name
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
