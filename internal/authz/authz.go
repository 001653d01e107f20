// Package authz says which AuthorizationPolicies keep a client from a server's TCP port: somebody whose request breaks off
// behind a finished mutual TLS handshake is told by which object. It follows istio.io/istio as of 1.31, pilot/pkg/security/authz,
// where DENY comes before ALLOW and what speaks of HTTP counts differently on a TCP port.
//
// It knows a connection's identity and port and nothing else of it. What hangs on anything else, such as addresses, the server
// name or an external authorizer, it does not claim: such a policy is uncertain.
package authz

import (
	"fmt"
	"slices"

	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// Action is what a policy does with connections that match one of its rules.
type Action string

// The actions of security.istio.io AuthorizationPolicy.
const (
	Allow  Action = "ALLOW"
	Deny   Action = "DENY"
	Audit  Action = "AUDIT"
	Custom Action = "CUSTOM"
)

// Policy is what matters of an AuthorizationPolicy.
type Policy struct {
	Namespace, Name string
	// Selector holds the labels that select workloads; empty for all of the namespace, or of the mesh in its root namespace.
	Selector map[string]string
	// TargetRefs says that the policy is attached to gateways or waypoints by reference. Sidecars ignore it.
	TargetRefs bool
	// DryRun policies are counted and not enforced (annotation istio.io/dry-run).
	DryRun bool
	Action Action
	// Unread says why the object could not be read whole; "" where it could. It may then be for any workload.
	Unread string
	// Rules match a connection where one of them does. A policy without rules never matches.
	Rules []Rule
}

// Rule matches where one of From, one of To, and all of When match. An empty From or To matches everything, and so does an
// empty list of conditions.
type Rule struct {
	From, To [][]Condition
	When     []Condition
}

// Condition matches where one of Values does, if there are any, and none of NotValues.
type Condition struct {
	// Key is the attribute, as in the rules' when: source.principal, destination.port and so on. Fields of from and to stand
	// under the attributes that they are short for. One that is not known makes the policy uncertain.
	Key               string
	Values, NotValues []string
}

// Attributes that only exist in HTTP, as operations name them.
const (
	KeyHost   = "request.host"
	KeyMethod = "request.method"
	KeyPath   = "request.path"
)

// Server is a server's pod and the port of it that is asked for, which must be one that its sidecar captures.
type Server struct {
	Namespace string
	Labels    map[string]string
	// Port is the pod's port, not the Service's.
	Port uint32
}

// Verdict is what policies make of a client's connections to a port.
type Verdict struct {
	// Denials are the policies for which they are certainly refused; without any and without Uncertain they are admitted.
	Denials []Denial
	// Uncertain are the policies that may refuse them.
	Uncertain []Denial
}

// Denial is a policy that does not admit a client, or may not.
type Denial struct {
	Object meshpolicy.Object
	// Why says it in half a sentence.
	Why string
}

// labelGateway marks the pods of a gateway or waypoint, to which policies are attached in other ways
// (pilot/pkg/model/policyattachment.go).
const labelGateway = "gateway.networking.k8s.io/gateway-name"

// Judge says which of the policies, those of the server's namespace and of the mesh's root namespace, do not admit a client at
// a TCP port. The identity is the client's SPIFFE ID in this mesh, "" for a client without a certificate of it.
func Judge(policies []Policy, rootNamespace string, server Server, identity string) Verdict {
	client := connection{identity: identity, port: server.Port}
	var verdict Verdict
	var allowing []Policy
	for _, policy := range policies {
		if !policy.selects(rootNamespace, server) || policy.DryRun && policy.Action != Custom {
			continue
		}
		if _, gateway := server.Labels[labelGateway]; gateway {
			verdict.doubt(policy, "the pod is a gateway's, to which policies are attached in ways that are not judged")
			continue
		}
		switch {
		case policy.Unread != "":
			verdict.doubt(policy, "it cannot be read: "+policy.Unread)
		case policy.Action == Allow:
			allowing = append(allowing, policy)
		case policy.Action == Deny:
			verdict.deny(policy, client)
		case policy.Action == Audit:
		case policy.Action == Custom:
			if policy.matches(client) != no {
				verdict.doubt(policy, "it asks an external authorizer, which is not judged")
			}
		default:
			verdict.doubt(policy, fmt.Sprintf("its action %q is not known here", policy.Action))
		}
	}
	verdict.allow(allowing, client)
	return verdict
}

// selects follows pilot/pkg/model/authorization.go (ListAuthorizationPolicies) and policyattachment.go (ShouldAttachPolicy).
func (p Policy) selects(rootNamespace string, server Server) bool {
	if p.Namespace != server.Namespace && p.Namespace != rootNamespace {
		return false
	}
	if _, gateway := server.Labels[labelGateway]; p.TargetRefs && !gateway {
		return false
	}
	for key, value := range p.Selector {
		if have, ok := server.Labels[key]; !ok || have != value {
			return false
		}
	}
	return true
}

func (v *Verdict) doubt(policy Policy, why string) {
	v.Uncertain = append(v.Uncertain, Denial{policy.object(), why})
}

func (v *Verdict) deny(policy Policy, client connection) {
	switch policy.matches(client) {
	case yes:
		v.Denials = append(v.Denials, Denial{policy.object(), fmt.Sprintf("it denies %s", client)})
	case unknown:
		v.doubt(policy, fmt.Sprintf("whether it denies %s hangs on what is not judged", client))
	}
}

// allow holds all policies that allow against a connection: one is enough to admit it, and where there are any, one must.
func (v *Verdict) allow(policies []Policy, client connection) {
	answers := make([]answer, 0, len(policies))
	for _, policy := range policies {
		answers = append(answers, policy.matches(client))
	}
	switch {
	case slices.Contains(answers, yes):
	case slices.Contains(answers, unknown):
		for i, policy := range policies {
			if answers[i] == unknown {
				v.doubt(policy, fmt.Sprintf("whether it admits %s hangs on what is not judged", client))
			}
		}
	default:
		for _, policy := range policies {
			v.Denials = append(v.Denials, Denial{policy.object(), policy.admitsNot(client)})
		}
	}
}

func (p Policy) admitsNot(client connection) string {
	if len(p.Rules) == 0 {
		return "it has no rules, so it admits nobody"
	}
	if slices.ContainsFunc(p.Rules, func(r Rule) bool { return slices.ContainsFunc(r.conditions(), Condition.httpOnly) }) {
		return fmt.Sprintf("it does not admit %s; rules that speak of HTTP admit nobody at a TCP port", client)
	}
	return fmt.Sprintf("it does not admit %s", client)
}

func (p Policy) object() meshpolicy.Object {
	return meshpolicy.Object{Kind: "AuthorizationPolicy", Namespace: p.Namespace, Name: p.Name}
}
