package verdict

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
)

// Policy is the verdict on the declared modes against those that Istio computes.
type Policy struct {
	Status  metav1.ConditionStatus
	Reason  string
	Message string
}

// Against holds what Istio computes against what the paths saw. Where they differ although the declared policy is
// computed, something on the way from istiod to the proxies is wrong, and the policy is not in effect.
func (p Policy) Against(judged []Path, computed expectation.Expectations) Policy {
	if p.Status != metav1.ConditionTrue {
		return p
	}
	for _, path := range judged {
		if seen := contradicts(path, computed[path.Evidence.Name]); seen != "" {
			return Policy{metav1.ConditionFalse, api.ReasonNotEnforced,
				fmt.Sprintf("%s; but on the path %s %s: istiod has not pushed the policy, a proxy of the server has not taken it, or an EnvoyFilter changes what it does",
					p.Message, path.Evidence.Name, seen)}
		}
	}
	return p
}

// contradicts says what a path saw of the proxies before the server that is not as computed and that no application can have
// caused; "" where it saw nothing of the kind.
func contradicts(path Path, computed expectation.Expectation) string {
	if path.Status != metav1.ConditionFalse || path.Evidence.Name == meshPath || computed.Why == "" {
		return ""
	}
	refuses := computed.Kind == expectation.Refusal
	switch {
	case path.Reason == api.ReasonMTLSNotEnforced && refuses:
		return "a request without a certificate of the mesh got through"
	case path.Reason == api.ReasonUntrustedCertificateAccepted && refuses:
		return "a certificate was taken that the mesh did not issue"
	case path.Reason == api.ReasonRefused && computed.Kind == expectation.Answer:
		return "a request without a certificate of the mesh was refused"
	case path.Reason == api.ReasonMutualTLSAccepted && computed.Mode == api.MTLSDisable:
		return "a sidecar took mutual TLS"
	case path.Reason == api.ReasonMutualTLSNotAccepted && computed.Mode == api.MTLSPermissive:
		return "no sidecar took mutual TLS"
	default:
		return ""
	}
}
