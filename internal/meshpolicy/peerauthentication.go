package meshpolicy

import (
	"cmp"
	"slices"
	"time"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// PeerAuthentication is what matters of an Istio PeerAuthentication.
type PeerAuthentication struct {
	Namespace, Name string
	Created         time.Time
	// Selector holds the labels that select workloads; empty for a policy of the whole namespace or mesh.
	Selector map[string]string
	// Mode is UNSET where the object sets none.
	Mode api.MTLSMode
	// PortModes are the modes of single workload ports; they count only beside a selector.
	PortModes map[uint32]api.MTLSMode
}

// Scope is the level at which a mode is decided.
type Scope string

// Scopes, from the narrowest to the widest.
const (
	ScopePort      Scope = "port"
	ScopeWorkload  Scope = "workload"
	ScopeNamespace Scope = "namespace"
	ScopeMesh      Scope = "mesh"
	ScopeDefault   Scope = "default"
)

// String names the object, for messages.
func (p PeerAuthentication) String() string { return p.Object().String() }

// level holds the policies of one level that apply to a pod, the oldest first. Istio looks at no other than the first,
// even if that one leaves the mode UNSET.
type level struct {
	scope    Scope
	policies []PeerAuthentication
}

// levels go from the narrowest to the widest.
type levels [3]level

// levelsFor sorts the policies that apply to a pod by level and age, as pilot/pkg/model/authentication.go
// (addPeerAuthentication, getConfigsForWorkload) and pilot/pkg/security/authn/policy_applier.go
// (ComposePeerAuthentication) do together.
func levelsFor(policies []PeerAuthentication, namespace string, labels map[string]string, rootNamespace string) levels {
	found := levels{{scope: ScopeWorkload}, {scope: ScopeNamespace}, {scope: ScopeMesh}}
	for _, policy := range oldestFirst(policies) {
		scope := scopeFor(policy, namespace, labels, rootNamespace)
		for i := range found {
			if found[i].scope == scope {
				found[i].policies = append(found[i].policies, policy)
			}
		}
	}
	return found
}

// scopeFor returns the level at which a policy applies to a pod; "" where it does not.
func scopeFor(policy PeerAuthentication, namespace string, labels map[string]string, rootNamespace string) Scope {
	inRoot := policy.Namespace == rootNamespace
	switch {
	case len(policy.Selector) == 0 && inRoot:
		return ScopeMesh
	case policy.Namespace != namespace:
		return ""
	case len(policy.Selector) == 0:
		return ScopeNamespace
	case inRoot || !selects(policy.Selector, labels):
		// ComposePeerAuthentication ignores a selector in the root namespace.
		return ""
	default:
		return ScopeWorkload
	}
}

// decide returns the mode for a port, the level that sets it, and the object; nil where Istio's default holds.
func (l levels) decide(port uint32) (api.MTLSMode, Scope, *PeerAuthentication) {
	for _, level := range l {
		if len(level.policies) == 0 {
			continue
		}
		if mode, scope := level.policies[0].sets(level.scope, port); mode.IsSet() {
			return mode, scope, &level.policies[0]
		}
	}
	return api.MTLSPermissive, ScopeDefault, nil
}

// sets returns the mode that the policy, applying at a level, sets for a port, and how narrowly.
func (p PeerAuthentication) sets(at Scope, port uint32) (api.MTLSMode, Scope) {
	if mode := p.PortModes[port]; at == ScopeWorkload && mode.IsSet() {
		return mode, ScopePort
	}
	return p.Mode, at
}

// overridden returns the policies other than the decider that set a mode for the port, the narrowest and oldest first.
func (l levels) overridden(port uint32, decider *PeerAuthentication) []PeerAuthentication {
	var lost []PeerAuthentication
	for _, level := range l {
		for i := range level.policies {
			mode, _ := level.policies[i].sets(level.scope, port)
			if mode.IsSet() && !is(decider, level.policies[i]) {
				lost = append(lost, level.policies[i])
			}
		}
	}
	return lost
}

// silent returns the narrowest policy that sets no mode for the port and yet keeps a younger one of its level, which
// does, out of force; nil where there is none.
func (l levels) silent(port uint32) *PeerAuthentication {
	for _, level := range l {
		for i := range level.policies {
			mode, _ := level.policies[i].sets(level.scope, port)
			switch {
			case mode.IsSet() && i == 0:
				return nil
			case mode.IsSet():
				return &level.policies[0]
			}
		}
	}
	return nil
}

func is(decider *PeerAuthentication, policy PeerAuthentication) bool {
	return decider != nil && decider.Object() == policy.Object()
}

func selects(selector, labels map[string]string) bool {
	for key, want := range selector {
		if have, ok := labels[key]; !ok || have != want {
			return false
		}
	}
	return true
}

// oldestFirst sorts as pilot/pkg/model/config.go (configCompareByCreationTime) does: creation times are full seconds,
// so that the name, then the namespace, often has to tell.
func oldestFirst(policies []PeerAuthentication) []PeerAuthentication {
	return slices.SortedFunc(slices.Values(policies), func(a, b PeerAuthentication) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Namespace, b.Namespace))
	})
}
