package controllers_test

import (
	"testing"
	"time"

	securityv1beta1 "istio.io/api/security/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// TestIstioComesLater has an API server of its own, which does not know Istio's kinds at first.
func TestIstioComesLater(t *testing.T) {
	t.Parallel()
	requireAssets(t)
	server, err := startAPIServer(probeCRD)
	must(t, err)
	o := startOperatorAt(t, server)
	o.create(t, "strict")
	o.create(t, "no-sidecar", func(p *api.HTTPSMeshProbe) {
		p.Spec.Target.Sidecar, p.Spec.MTLS.Mode = api.SidecarDisabled, api.MTLSUnset
	})
	wantMention(t, o.await(t, "strict", api.ConditionStalled, metav1.ConditionTrue, api.ReasonIstioNotInstalled), "install Istio")
	o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonIstioNotInstalled)
	if got := o.made(t, "apps/v1 Deployment"); len(got) != 0 {
		t.Errorf("Deployments without Istio: got %d, want 0", len(got))
	}
	for i, file := range []string{istioCRD, rulesCRD} {
		if i > 0 {
			throughout(t, 2*time.Second, "one kind of Istio's is still missing", func() error {
				return o.condition(t, "strict", api.ConditionStalled, metav1.ConditionTrue, api.ReasonIstioNotInstalled)
			})
		}
		definitions, err := objectsIn(file)
		must(t, err)
		must(t, o.admin.Create(t.Context(), definitions[0]))
	}
	o.awaitVerified(t, "strict")
	o.awaitVerified(t, "no-sidecar")

	// The watch on policies has begun too: a change is seen without a run's help.
	o.change(t, "strict", func(p *api.HTTPSMeshProbe) { p.Spec.Interval.Duration = 24 * time.Hour })
	o.awaitVerified(t, "strict")
	o.mesh.enforce("strict", "PERMISSIVE")
	o.declare(t, o.namespace, "a-legacy", securityv1beta1.PeerAuthentication_MutualTLS_PERMISSIVE, map[string]string{"meshprobe.dev/probe": "strict"})
	must(t, o.admin.Delete(t.Context(), o.policy(t, "strict-nginx")))
	o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonOverridden)
}
