package meshpolicy

import (
	"fmt"
	"slices"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// connection is a client's way to one endpoint under the rule that Istio goes by for it, the zero rule where there is
// none.
type connection struct {
	mesh     Mesh
	policies []PeerAuthentication
	rule     DestinationRule
	service  Service
	server   Pod
}

// auto follows Istio where no rule sets TLS: pilot/pkg/networking/core/cluster_tls.go (buildUpstreamTLSSettings) for the
// cluster and pilot/pkg/xds/endpoints/mtls_checker.go (checkMtlsEnabled) for the endpoint; both have to be for mutual TLS.
func (c connection) auto() ClientPolicy {
	if !c.mesh.AutoMTLS {
		return ClientPolicy{Sends: Plaintext, Why: "no DestinationRule in force sets TLS, and auto mTLS is off in the mesh config"}
	}
	if policy := c.cluster(); policy.Sends != MutualTLS || c.passesOn() {
		return policy
	}
	return c.endpoint()
}

// passesOn says whether the cluster sends to the address that the client asked for. It then knows no endpoints.
func (c connection) passesOn() bool {
	return c.service.Headless || c.rule.settingsFor(c.service.Port).passthrough
}

// cluster follows pilot/pkg/model/push_context.go (BestEffortInferServiceMTLSMode).
func (c connection) cluster() ClientPolicy {
	policy := ClientPolicy{Sends: Plaintext, Auto: true}
	if c.service.Headless || c.rule.Passthrough {
		for _, pod := range append(slices.Clone(c.service.Endpoints), c.server) {
			if pod.tlsMode() == tlsModeDisabled {
				policy.Why = fmt.Sprintf("auto mTLS treats all endpoints alike that are asked for by address, and %s is not labelled %s=%s",
					pod, LabelTLSMode, TLSModeIstio)
				return policy
			}
		}
	}
	mode, scope, decider := levelsFor(c.policies, c.service.Namespace, nil, c.mesh.rootNamespace()).decide(c.service.TargetPort)
	if mode == api.MTLSDisable {
		policy.Policy = decider
		policy.Why = fmt.Sprintf("auto mTLS looks only at the namespace's and the mesh's mode, and %s (%s level) sets %s", decider, scope, mode)
		return policy
	}
	policy.Sends = MutualTLS
	policy.Why = "auto mTLS looks at no single endpoint where they are asked for by address, and the namespace's and the mesh's mode allow it"
	return policy
}

func (c connection) endpoint() ClientPolicy {
	policy := ClientPolicy{Sends: Plaintext, Auto: true}
	if c.server.tlsMode() != TLSModeIstio {
		policy.Why = fmt.Sprintf("auto mTLS finds no label %s=%s on %s", LabelTLSMode, TLSModeIstio, c.server)
		return policy
	}
	if tls := c.rule.endpointTLS(c.service.Port); tls != nil {
		policy.Rule = &c.rule
		policy.Why = fmt.Sprintf("%s has portLevelSettings for port %d without tls, so auto mTLS decides, for which the %s of its other ports counts",
			c.rule, c.service.Port, tls.mode())
		if tls.mode() == ClientTLSIstioMutual {
			policy.Sends = MutualTLS
		}
		return policy
	}
	levels := levelsFor(c.policies, c.server.Namespace, c.server.Labels, c.mesh.rootNamespace())
	mode, scope, decider := levels.decide(c.service.TargetPort)
	if mode == api.MTLSDisable {
		policy.Policy = decider
		policy.Why = fmt.Sprintf("auto mTLS follows %s (%s level), which sets %s", decider, scope, mode)
		return policy
	}
	policy.Sends = MutualTLS
	policy.Why = fmt.Sprintf("auto mTLS finds %s ready for it, and no PeerAuthentication sets DISABLE", c.server)
	return policy
}
