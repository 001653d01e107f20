package oracle

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
	selector "istio.io/api/type/v1beta1"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/schema/gvk"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// set is what a mesh's people have written.
type set struct {
	Mesh     meshpolicy.Mesh
	Policies []meshpolicy.PeerAuthentication
	Rules    []meshpolicy.DestinationRule
	// Pick chooses among the questions where only one of them is put.
	Pick int
}

// configs is the set as pilot reads it. They are made anew for every push, for pilot writes into them.
func (s set) configs() map[config.GroupVersionKind][]config.Config {
	made := map[config.GroupVersionKind][]config.Config{}
	for _, policy := range s.Policies {
		made[gvk.PeerAuthentication] = append(made[gvk.PeerAuthentication], peerAuthentication(policy))
	}
	for _, rule := range s.Rules {
		made[gvk.DestinationRule] = append(made[gvk.DestinationRule], destinationRule(rule))
	}
	return made
}

func peerAuthentication(policy meshpolicy.PeerAuthentication) config.Config {
	spec := &security.PeerAuthentication{Mtls: mutualTLS(policy.Mode)}
	if policy.Selector != nil {
		spec.Selector = &selector.WorkloadSelector{MatchLabels: maps.Clone(policy.Selector)}
	}
	for port, mode := range policy.PortModes {
		if spec.PortLevelMtls == nil {
			spec.PortLevelMtls = map[uint32]*security.PeerAuthentication_MutualTLS{}
		}
		spec.PortLevelMtls[port] = mutualTLS(mode)
	}
	return config.Config{Spec: spec, Meta: config.Meta{
		GroupVersionKind: gvk.PeerAuthentication, Namespace: policy.Namespace, Name: policy.Name,
		CreationTimestamp: policy.Created, Domain: "cluster.local",
	}}
}

func mutualTLS(mode api.MTLSMode) *security.PeerAuthentication_MutualTLS {
	if mode == "" {
		return nil
	}
	return &security.PeerAuthentication_MutualTLS{
		Mode: security.PeerAuthentication_MutualTLS_Mode(security.PeerAuthentication_MutualTLS_Mode_value[string(mode)]),
	}
}

func destinationRule(rule meshpolicy.DestinationRule) config.Config {
	spec := &networking.DestinationRule{Host: rule.Host, ExportTo: slices.Clone(rule.ExportTo)}
	if rule.WorkloadSelector != nil {
		spec.WorkloadSelector = &selector.WorkloadSelector{MatchLabels: maps.Clone(rule.WorkloadSelector)}
	}
	if rule.HasTrafficPolicy {
		spec.TrafficPolicy = &networking.TrafficPolicy{Tls: clientTLS(rule.TLS), LoadBalancer: loadBalancer(rule.Passthrough)}
		for port, tls := range rule.PortTLS {
			spec.TrafficPolicy.PortLevelSettings = append(spec.TrafficPolicy.PortLevelSettings, &networking.TrafficPolicy_PortTrafficPolicy{
				Port: &networking.PortSelector{Number: port}, Tls: clientTLS(tls), LoadBalancer: loadBalancer(rule.PortPassthrough[port]),
			})
		}
	}
	return config.Config{Spec: spec, Meta: config.Meta{
		GroupVersionKind: gvk.DestinationRule, Namespace: rule.Namespace, Name: rule.Name,
		CreationTimestamp: rule.Created, Domain: "cluster.local",
	}}
}

func clientTLS(tls *meshpolicy.ClientTLS) *networking.ClientTLSSettings {
	if tls == nil {
		return nil
	}
	return &networking.ClientTLSSettings{
		Mode:           networking.ClientTLSSettings_TLSmode(networking.ClientTLSSettings_TLSmode_value[string(tls.Mode)]),
		CredentialName: tls.CredentialName, ClientCertificate: tls.ClientCertificate, PrivateKey: tls.PrivateKey,
	}
}

func loadBalancer(passthrough bool) *networking.LoadBalancerSettings {
	if !passthrough {
		return nil
	}
	return &networking.LoadBalancerSettings{
		LbPolicy: &networking.LoadBalancerSettings_Simple{Simple: networking.LoadBalancerSettings_PASSTHROUGH},
	}
}

// String shows the set for people, the oldest objects first.
func (s set) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "mesh %+v\n", s.Mesh)
	for _, policy := range s.Policies {
		fmt.Fprintf(&text, "%s, %d s old: selector %v, mode %q, ports %v\n", policy, age(policy.Created), policy.Selector, policy.Mode, policy.PortModes)
	}
	for _, rule := range s.Rules {
		fmt.Fprintf(&text, "%s, %d s old: host %s, exportTo %v, %s\n", rule, age(rule.Created), rule.Host, rule.ExportTo, trafficPolicy(rule))
	}
	return text.String()
}

func trafficPolicy(rule meshpolicy.DestinationRule) string {
	text := "no workloadSelector"
	if rule.WorkloadSelector != nil {
		text = fmt.Sprintf("workloadSelector %v", rule.WorkloadSelector)
	}
	if !rule.HasTrafficPolicy {
		return text + ", no trafficPolicy"
	}
	text += fmt.Sprintf(", tls %s, passthrough %v", show(rule.TLS), rule.Passthrough)
	for _, port := range slices.Sorted(maps.Keys(rule.PortTLS)) {
		text += fmt.Sprintf(", port %d: tls %s, passthrough %v", port, show(rule.PortTLS[port]), rule.PortPassthrough[port])
	}
	return text
}

func show(tls *meshpolicy.ClientTLS) string {
	if tls == nil {
		return "none"
	}
	return fmt.Sprintf("%+v", *tls)
}
