package e2e

import (
	"testing"

	securityapi "istio.io/api/security/v1beta1"
	typeapi "istio.io/api/type/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// peerAuthentication is one of a user's; without selector it is the namespace's.
func peerAuthentication(namespace, name string, selector map[string]string, mode api.MTLSMode) *securityv1.PeerAuthentication {
	policy := &securityv1.PeerAuthentication{}
	policy.Namespace, policy.Name = namespace, name
	if selector != nil {
		policy.Spec.Selector = &typeapi.WorkloadSelector{MatchLabels: selector}
	}
	number := securityapi.PeerAuthentication_MutualTLS_Mode_value[string(mode)]
	policy.Spec.Mtls = &securityapi.PeerAuthentication_MutualTLS{Mode: securityapi.PeerAuthentication_MutualTLS_Mode(number)}
	return policy
}

func createPolicy(t *testing.T, policy *securityv1.PeerAuthentication) {
	t.Helper()
	if err := lab.Create(t.Context(), policy); err != nil {
		t.Fatalf("create PeerAuthentication %s: %v", policy.Name, err)
	}
}

func deletePolicy(t *testing.T, policy *securityv1.PeerAuthentication) {
	t.Helper()
	if err := lab.Delete(t.Context(), policy); err != nil {
		t.Fatalf("delete PeerAuthentication %s: %v", policy.Name, err)
	}
}

// changePolicy makes the policy what changed says, whatever it was.
func changePolicy(t *testing.T, changed *securityv1.PeerAuthentication) {
	t.Helper()
	present := &securityv1.PeerAuthentication{}
	if err := lab.Get(t.Context(), client.ObjectKeyFromObject(changed), present); err != nil {
		t.Fatal(err)
	}
	changed.Spec.DeepCopyInto(&present.Spec)
	if err := lab.Update(t.Context(), present); err != nil {
		t.Fatalf("change PeerAuthentication %s: %v", changed.Name, err)
	}
}
