package meshpolicy

import (
	"fmt"
	"slices"
)

// Client is the pod that connects, as far as policy is concerned.
type Client struct {
	Namespace string
	Labels    map[string]string
	// Sidecar says whether the connection leaves through a sidecar.
	Sidecar bool
}

// Sends is what the client's side puts on the wire; "" where that is not judged.
type Sends string

// What a client's sidecar can do with the bytes that it is given.
const (
	// Plaintext passes the bytes on as they are.
	Plaintext Sends = "Plaintext"
	// MutualTLS wraps them, with the mesh's certificate.
	MutualTLS Sends = "MutualTLS"
	// SimpleTLS wraps them, without a client certificate.
	SimpleTLS Sends = "SimpleTLS"
	// OtherTLS wraps them, with a client certificate that is not the mesh's.
	OtherTLS Sends = "OtherTLS"
)

// ClientPolicy is what a client's sidecar sends to one endpoint of a service, and why.
type ClientPolicy struct {
	Sends Sends
	// Rule is the rule that decides the TLS settings; nil where none does.
	Rule *DestinationRule
	// Overridden are the other rules for the host that the client sees and that set TLS for the port, in the order of
	// precedence.
	Overridden []DestinationRule
	// Silent is the rule in force, or the one that hides the others, where no rule sets TLS for the port and one of
	// Overridden would; nil where there is none.
	Silent *DestinationRule
	// Auto says that auto mTLS decided.
	Auto bool
	// Policy is the object that made auto mTLS send plaintext; nil where none did.
	Policy *PeerAuthentication
	// Why explains Sends, in half a sentence that names the objects.
	Why string
}

// ForClient returns what the client's sidecar sends to one endpoint of a service. It reckons with the Service, with
// DestinationRules and with PeerAuthentications. Not foreseen are a Sidecar resource that leaves the service out, a
// VirtualService that leads elsewhere or to a subset, a ServiceEntry for the same host, and EnvoyFilters.
func ForClient(mesh Mesh, rules []DestinationRule, policies []PeerAuthentication, client Client, service Service, server Pod) ClientPolicy {
	switch {
	case !client.Sidecar:
		return ClientPolicy{Sends: Plaintext, Why: "the client has no sidecar"}
	case server.capture(service.TargetPort) == Ambient:
		return ClientPolicy{Why: fmt.Sprintf("%s is in the ambient mesh, which is not judged", server)}
	case !service.visible(mesh, client.Namespace):
		return ClientPolicy{Sends: Plaintext, Why: fmt.Sprintf("%s is not exported to namespace %s, so the client's sidecar does not know it",
			service, client.Namespace)}
	}
	pools := poolsFor(mesh, rules, client, service)
	chosen := choose(mesh, pools, client)
	path := connection{mesh: mesh, policies: policies, service: service, server: server}
	if chosen != nil && chosen.policy != nil {
		path.rule = *chosen.policy
	}
	var policy ClientPolicy
	if tls := path.rule.settingsFor(service.Port).tls; tls != nil {
		policy = explicit(path.rule, *tls, chosen.selector != nil)
	} else {
		policy = path.auto()
	}
	policy.Overridden = overridden(pools, client, service.Port, policy.Rule)
	if policy.Rule == nil && len(policy.Overridden) > 0 {
		silent, how := hiding(chosen, pools)
		policy.Silent = &silent
		policy.Why = silent.String() + fmt.Sprintf(how, policy.Overridden[0]) + "; " + policy.Why
	}
	return policy
}

// explicit follows pilot/pkg/networking/core/cluster_tls.go (buildUpstreamTLSSettings, buildUpstreamClusterTLSContext)
// for a rule that sets TLS. It holds for every endpoint, whatever that is ready for.
func explicit(rule DestinationRule, tls ClientTLS, selecting bool) ClientPolicy {
	mode := tls.mode()
	policy := ClientPolicy{Rule: &rule, Why: fmt.Sprintf("%s sets %s", rule, mode)}
	own := mode == ClientTLSSimple || mode == ClientTLSMutual
	switch {
	case mode == ClientTLSDisable:
		policy.Sends = Plaintext
	case mode == ClientTLSIstioMutual:
		policy.Sends = MutualTLS
	case own && tls.privileged() && !selecting:
		policy.Sends = Plaintext
		policy.Why += " with a credentialName, which sidecars ignore together with the mode unless the rule has a workloadSelector"
	case mode == ClientTLSSimple:
		policy.Sends = SimpleTLS
	case mode == ClientTLSMutual && tls.CredentialName == "" && (tls.ClientCertificate == "" || tls.PrivateKey == ""):
		policy.Sends = Plaintext
		policy.Why += " without a client certificate and its key, so that Istio applies no TLS at all"
	case mode == ClientTLSMutual:
		policy.Sends = OtherTLS
	default:
		policy.Why += ", a mode that is not known here"
	}
	return policy
}

// overridden returns the rules other than the deciding one that set TLS for a port and that the client sees.
func overridden(pools []pool, client Client, port uint32, decider *DestinationRule) []DestinationRule {
	var lost []DestinationRule
	for _, pool := range pools {
		for _, rule := range pool.rules {
			inForce := decider != nil && rule.is(*decider)
			if rule.settingsFor(port).tls != nil && pool.sees(client, rule) && !inForce && !slices.ContainsFunc(lost, rule.is) {
				lost = append(lost, rule)
			}
		}
	}
	return lost
}

// hiding returns the rule that keeps another out, where the deciding one sets no TLS, and says how, in words that leave
// room for the other.
func hiding(chosen *consolidated, pools []pool) (silent DestinationRule, how string) {
	switch {
	case chosen != nil && chosen.policy != nil:
		return *chosen.policy, " is in force instead of %s and sets no TLS for the port"
	case chosen != nil:
		return chosen.first, " is in force instead of %s and sets no TLS"
	default:
		first := slices.IndexFunc(pools, func(p pool) bool { return len(p.rules) > 0 })
		return pools[first].rules[0], ", which is not for this client, hides %s"
	}
}
