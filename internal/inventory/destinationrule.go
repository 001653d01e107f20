package inventory

import (
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

func destinationRule(rule *networkingv1.DestinationRule) meshpolicy.DestinationRule {
	policy := rule.Spec.GetTrafficPolicy()
	taken := meshpolicy.DestinationRule{
		Namespace: rule.Namespace, Name: rule.Name, Created: rule.CreationTimestamp.Time,
		Host: rule.Spec.GetHost(), ExportTo: rule.Spec.GetExportTo(),
		HasTrafficPolicy: policy != nil,
		TLS:              clientTLS(policy.GetTls()),
		Passthrough:      passesThrough(policy.GetLoadBalancer()),
		PortTLS:          map[uint32]*meshpolicy.ClientTLS{},
		PortPassthrough:  map[uint32]bool{},
	}
	if selector := rule.Spec.GetWorkloadSelector(); selector != nil {
		taken.WorkloadSelector = map[string]string{}
		for key, value := range selector.GetMatchLabels() {
			taken.WorkloadSelector[key] = value
		}
	}
	for _, port := range policy.GetPortLevelSettings() {
		number := port.GetPort().GetNumber()
		if _, known := taken.PortTLS[number]; !known {
			taken.PortTLS[number] = clientTLS(port.GetTls())
			taken.PortPassthrough[number] = passesThrough(port.GetLoadBalancer())
		}
	}
	return taken
}

func clientTLS(tls *networkingapi.ClientTLSSettings) *meshpolicy.ClientTLS {
	if tls == nil {
		return nil
	}
	return &meshpolicy.ClientTLS{
		Mode:           meshpolicy.ClientTLSMode(tls.GetMode().String()),
		CredentialName: tls.GetCredentialName(), ClientCertificate: tls.GetClientCertificate(), PrivateKey: tls.GetPrivateKey(),
	}
}

func passesThrough(balancer *networkingapi.LoadBalancerSettings) bool {
	return balancer.GetSimple() == networkingapi.LoadBalancerSettings_PASSTHROUGH
}
