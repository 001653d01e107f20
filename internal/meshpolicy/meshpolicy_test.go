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
	server  = meshpolicy.Workload{Namespace: "shop", Labels: map[string]string{"app": "nginx", "tier": "web"}, Port: 8443}
	nginx   = map[string]string{"app": "nginx"}
)

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
			wantEffective(t, meshpolicy.Compute(rule.policies, server, root), rule.mode, rule.scope, rule.decider)
		})
	}
}

// Lists from a cache have no order.
func TestTheOrderOfTheListDoesNotMatter(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, rule := range rules {
		for range 5 {
			shuffled := slices.Clone(rule.policies)
			random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			before := slices.Clone(shuffled)
			t.Run(name, func(t *testing.T) {
				wantEffective(t, meshpolicy.Compute(shuffled, server, root), rule.mode, rule.scope, rule.decider)
			})
			if !reflect.DeepEqual(shuffled, before) {
				t.Errorf("%s: the list that was handed in has changed", name)
			}
		}
	}
}

func wantEffective(t *testing.T, got meshpolicy.Effective, mode api.MTLSMode, scope meshpolicy.Scope, decider string) {
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
	wantEffective(t, meshpolicy.Compute(policies{own}, inRoot, root), permissive, meshpolicy.ScopeDefault, "")
	wantEffective(t, meshpolicy.Compute(policies{own, mesh}, inRoot, root), strict, meshpolicy.ScopeMesh, "mesh")
	wantEffective(t, meshpolicy.Compute(policies{policy("shop", "ns", disable, nil, 9), mesh}, inRoot, root), strict, meshpolicy.ScopeMesh, "mesh")
}

func TestAnotherRootNamespace(t *testing.T) {
	former := policy(root, "mesh", strict, nil, 5)
	wantEffective(t, meshpolicy.Compute(policies{former}, server, "mesh-root"), permissive, meshpolicy.ScopeDefault, "")
	present := policy("mesh-root", "mesh", disable, nil, 0)
	wantEffective(t, meshpolicy.Compute(policies{former, present}, server, "mesh-root"), disable, meshpolicy.ScopeMesh, "mesh")
}

func TestString(t *testing.T) {
	for want, effective := range map[string]meshpolicy.Effective{
		"no PeerAuthentication sets a mode, so Istio's default holds: PERMISSIVE": meshpolicy.Compute(nil, server, root),
		"PeerAuthentication istio-system/mesh (mesh level) sets STRICT":           meshpolicy.Compute(policies{policy(root, "mesh", strict, nil, 0)}, server, root),
		"PeerAuthentication shop/ns (namespace level) sets DISABLE":               meshpolicy.Compute(policies{policy("shop", "ns", disable, nil, 0)}, server, root),
		"PeerAuthentication shop/legacy (workload level) sets PERMISSIVE":         meshpolicy.Compute(policies{policy("shop", "legacy", permissive, nginx, 0)}, server, root),
		"PeerAuthentication shop/own (port level) sets DISABLE": meshpolicy.Compute(
			policies{withPorts(policy("shop", "own", strict, nginx, 0), map[uint32]api.MTLSMode{8443: disable})}, server, root),
	} {
		if got := effective.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
