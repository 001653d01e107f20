// Package meshpolicy computes the mutual TLS mode that Istio enforces before a workload, and names the object that
// decides it. The rules are those of istio.io/istio, pilot/pkg/security/authn/policy_applier.go
// (ComposePeerAuthentication) and pilot/pkg/model/authentication.go.
package meshpolicy

import (
	"cmp"
	"fmt"
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
	// PortModes are the modes of single workload ports.
	PortModes map[uint32]api.MTLSMode
}

// Workload is one server pod and the port of its container.
type Workload struct {
	Namespace string
	Labels    map[string]string
	Port      uint32
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

// Effective is the mode that Istio enforces and why.
type Effective struct {
	// Mode is DISABLE, PERMISSIVE or STRICT.
	Mode  api.MTLSMode
	Scope Scope
	// Decider is the object that sets the mode; nil where none does and Istio's default holds.
	Decider *PeerAuthentication
}

// String names the deciding object and what it sets, for messages.
func (e Effective) String() string {
	if e.Decider == nil {
		return fmt.Sprintf("no PeerAuthentication sets a mode, so Istio's default holds: %s", e.Mode)
	}
	return fmt.Sprintf("PeerAuthentication %s/%s (%s level) sets %s", e.Decider.Namespace, e.Decider.Name, e.Scope, e.Mode)
}

// Compute returns the effective mode for a workload. Where several objects of one level apply, the oldest counts, and
// among those of the same second the first by name; a selector in the root namespace is ignored for sidecars.
func Compute(policies []PeerAuthentication, workload Workload, rootNamespace string) Effective {
	effective := Effective{Mode: api.MTLSPermissive, Scope: ScopeDefault}
	levels := byLevel(policies, workload, rootNamespace)
	for _, scope := range []Scope{ScopeMesh, ScopeNamespace, ScopeWorkload} {
		if policy := levels[scope]; policy != nil && isSet(policy.Mode) {
			effective = Effective{Mode: policy.Mode, Scope: scope, Decider: policy}
		}
	}
	if policy := levels[ScopeWorkload]; policy != nil && isSet(policy.PortModes[workload.Port]) {
		effective = Effective{Mode: policy.PortModes[workload.Port], Scope: ScopePort, Decider: policy}
	}
	return effective
}

func byLevel(policies []PeerAuthentication, workload Workload, rootNamespace string) map[Scope]*PeerAuthentication {
	levels := map[Scope]*PeerAuthentication{}
	for _, policy := range oldestFirst(policies) {
		scope, applies := scopeFor(policy, workload, rootNamespace)
		if applies && levels[scope] == nil {
			levels[scope] = &policy
		}
	}
	return levels
}

func scopeFor(policy PeerAuthentication, workload Workload, rootNamespace string) (Scope, bool) {
	inRoot := policy.Namespace == rootNamespace
	switch {
	case len(policy.Selector) == 0 && inRoot:
		return ScopeMesh, true
	case policy.Namespace != workload.Namespace:
		return "", false
	case len(policy.Selector) == 0:
		return ScopeNamespace, true
	default:
		return ScopeWorkload, !inRoot && selects(policy.Selector, workload.Labels)
	}
}

func selects(selector, labels map[string]string) bool {
	for key, want := range selector {
		if have, ok := labels[key]; !ok || have != want {
			return false
		}
	}
	return true
}

func oldestFirst(policies []PeerAuthentication) []PeerAuthentication {
	sorted := slices.Clone(policies)
	slices.SortFunc(sorted, func(a, b PeerAuthentication) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Namespace, b.Namespace))
	})
	return sorted
}

func isSet(mode api.MTLSMode) bool { return mode != "" && mode != api.MTLSUnset }
