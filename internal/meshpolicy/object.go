package meshpolicy

import (
	"cmp"
	"fmt"
	"slices"
)

// Object refers to an object of the cluster. References can be compared.
type Object struct{ Kind, Namespace, Name string }

// Kinds of objects that decide.
const (
	kindPeerAuthentication = "PeerAuthentication"
	kindDestinationRule    = "DestinationRule"
)

// String names the object, for messages.
func (o Object) String() string { return fmt.Sprintf("%s %s/%s", o.Kind, o.Namespace, o.Name) }

// Compare orders references by kind, namespace and name.
func (o Object) Compare(other Object) int {
	return cmp.Or(cmp.Compare(o.Kind, other.Kind), cmp.Compare(o.Namespace, other.Namespace), cmp.Compare(o.Name, other.Name))
}

// Distinct returns references in their order, each once.
func Distinct(objects []Object) []Object {
	return slices.Compact(slices.SortedFunc(slices.Values(objects), Object.Compare))
}

// Object refers to the policy.
func (p PeerAuthentication) Object() Object {
	return Object{Kind: kindPeerAuthentication, Namespace: p.Namespace, Name: p.Name}
}

// Object refers to the rule.
func (r DestinationRule) Object() Object {
	return Object{Kind: kindDestinationRule, Namespace: r.Namespace, Name: r.Name}
}

// Deciders are the objects by which the policy is what it is: the one that sets the mode, and one that keeps it from being
// set. There are none where Istio's default holds.
func (s Server) Deciders() []Object {
	var found []Object
	for _, policy := range []*PeerAuthentication{s.Decider, s.Silent} {
		if policy != nil {
			found = append(found, policy.Object())
		}
	}
	return found
}

// Deciders are the objects by which the client's sidecar sends what it sends: the rule that sets TLS, one that keeps others
// from setting it, and the PeerAuthentication that auto mTLS follows. There are none where Istio's default holds.
func (p ClientPolicy) Deciders() []Object {
	var found []Object
	for _, rule := range []*DestinationRule{p.Rule, p.Silent} {
		if rule != nil {
			found = append(found, rule.Object())
		}
	}
	if p.Policy != nil {
		found = append(found, p.Policy.Object())
	}
	return found
}
