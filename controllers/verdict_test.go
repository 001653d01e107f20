package controllers_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	securityv1beta1 "istio.io/api/security/v1beta1"
	typev1beta1 "istio.io/api/type/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// Somebody who got in needs no second witness; that nobody does any more takes runs that say so.
func TestHoleTurnsFalseAtOnceAndClearsAfterTwoIntervals(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict", func(p *api.HTTPSMeshProbe) { p.Spec.FailureThreshold = 10 })
	o.awaitVerified(t, "strict")
	fingerprints, _ := o.cluster.servers(t.Context(), "strict")
	o.mesh.script("strict", api.PathIstioProxy, answered(fingerprints[0]))
	wantMention(t, o.await(t, "strict", api.ConditionIstioProxyVerified, metav1.ConditionFalse, api.ReasonMTLSNotEnforced), "without a certificate of the mesh")
	wantMention(t, o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted), "istio-proxy: 200 instead of refused")
	wantMention(t, o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonNotEnforced), "strict-nginx (workload level) sets STRICT", "istio-proxy", "got through")
	o.await(t, "strict", api.ConditionSleepVerified, metav1.ConditionTrue, api.ReasonAnswered)
	o.await(t, "strict", api.ConditionOutsiderVerified, metav1.ConditionTrue, api.ReasonRefusedByMesh)
	if got := o.events(t, "strict", api.ReasonRefuted); len(got) != 1 {
		t.Errorf("events of the refutation: got %v, want one", got)
	}
	o.mesh.unscript("strict", api.PathIstioProxy)
	o.awaitHeld(t, "strict", api.ConditionIstioProxyVerified)
	o.awaitVerified(t, "strict")
}

// awaitHeld waits until a condition is False by what is not seen any more.
func (o *operator) awaitHeld(t *testing.T, name, kind string) {
	t.Helper()
	eventually(t, "what was proved and is not seen any more", func() error {
		held := meta.FindStatusCondition(o.probe(t, name).Status.Conditions, kind)
		if held == nil || held.Status != metav1.ConditionFalse || !strings.Contains(held.Message, "not seen in the latest run") {
			return fmt.Errorf("%s is %+v", kind, held)
		}
		return nil
	})
}

// Failures that prove nothing of the policy count from failureThreshold runs in a row on.
func TestFailureTurnsFalseAfterTheThreshold(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict", func(p *api.HTTPSMeshProbe) { p.Spec.FailureThreshold = 3 })
	o.awaitVerified(t, "strict")
	seen := o.follow(t, "strict")
	fingerprints, _ := o.cluster.servers(t.Context(), "strict")
	broken := answered(fingerprints[0])
	broken.HTTPCode = 503
	o.mesh.script("strict", api.PathSleep, broken)
	wantMention(t, o.await(t, "strict", api.ConditionSleepVerified, metav1.ConditionFalse, api.ReasonUnexpectedStatusCode), "503 instead of 200")
	o.await(t, "strict", api.ConditionIstioProxyVerified, metav1.ConditionTrue, api.ReasonRefusedByMesh)
	o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionTrue, api.ReasonInEffect)
	for _, status := range seen.all() {
		failures := status.Paths[0].ConsecutiveFailures
		isFalse := meta.IsStatusConditionFalse(status.Conditions, api.ConditionSleepVerified)
		if isFalse && failures < 3 {
			t.Errorf("SleepVerified is False after %d failures, the threshold being 3", failures)
		}
	}
	o.mesh.unscript("strict", api.PathSleep)
	o.awaitVerified(t, "strict")
}

// A sidecar that refuses is alive, whatever has become of the application behind it.
func TestRefusalsStandWhileTheApplicationIsDown(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict")
	o.awaitVerified(t, "strict")
	o.mesh.script("strict", api.PathSleep, observation.Observation{Class: observation.HandshakeReset, Error: "connection reset by peer"})
	o.await(t, "strict", api.ConditionSleepVerified, metav1.ConditionFalse, api.ReasonConnectionBroken)
	o.await(t, "strict", api.ConditionIstioProxyVerified, metav1.ConditionTrue, api.ReasonRefusedByMesh)
	o.await(t, "strict", api.ConditionOutsiderVerified, metav1.ConditionTrue, api.ReasonRefusedByMesh)
	o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted)
	o.mesh.unscript("strict", api.PathSleep)
	o.awaitVerified(t, "strict")
}

func TestSleepPodThatIsGoneIsFollowedByItsSuccessor(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict")
	o.awaitVerified(t, "strict")
	o.cluster.set("meshprobe-sleep", fault{slow: true})
	must(t, o.admin.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(o.namespace), client.MatchingLabels(fixture.ClientLabels("meshprobe-sleep"))))
	o.await(t, "strict", api.ConditionReady, metav1.ConditionUnknown, api.ReasonUndetermined)
	o.await(t, "strict", api.ConditionSleepVerified, metav1.ConditionUnknown, api.ReasonNotProbed)
	o.await(t, "strict", api.ConditionOutsiderVerified, metav1.ConditionTrue, api.ReasonRefusedByMesh)
	o.cluster.set("meshprobe-sleep", fault{})
	o.awaitVerified(t, "strict")
}

// TestRefusalWithoutTheMeshsRootIsUnknown publishes a root that did not sign the sidecar's certificate.
func TestRefusalWithoutTheMeshsRootIsUnknown(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	stranger, _, err := fixture.IssueCertificate([]string{"stranger"}, o.clock.now())
	must(t, err)
	root := &corev1.ConfigMap{Data: map[string]string{"root-cert.pem": stranger.PEM}}
	root.Namespace, root.Name = o.namespace, "istio-ca-root-cert"
	must(t, o.admin.Create(t.Context(), root))
	o.create(t, "strict")
	wantMention(t, o.await(t, "strict", api.ConditionIstioProxyVerified, metav1.ConditionUnknown, api.ReasonInconclusive), "does not chain to the mesh's root")
	o.await(t, "strict", api.ConditionSleepVerified, metav1.ConditionTrue, api.ReasonAnswered)
	must(t, o.admin.Delete(t.Context(), root))
	o.awaitVerified(t, "strict")
}

func TestForbiddenExecIsSaid(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.mesh.refuse(fmt.Errorf("%w: grant create on pods/exec", agents.ErrForbidden))
	o.create(t, "strict")
	wantMention(t, o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonExecForbidden), "grant create on pods/exec")
	o.mesh.refuse(nil)
	o.awaitVerified(t, "strict")
}

func TestBrokenStreamsAreNoVerdict(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.mesh.refuse(errors.New("the kubelet does not answer"))
	o.create(t, "strict")
	wantMention(t, o.await(t, "strict", api.ConditionReady, metav1.ConditionUnknown, api.ReasonUndetermined), "the kubelet does not answer")
	o.await(t, "strict", api.ConditionIstioProxyVerified, metav1.ConditionUnknown, api.ReasonNotProbed)
	o.mesh.refuse(nil)
	o.awaitVerified(t, "strict")
}

func TestSuspendAndResume(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict")
	o.awaitVerified(t, "strict")
	before := o.probe(t, "strict").Status
	o.change(t, "strict", func(p *api.HTTPSMeshProbe) { p.Spec.Suspend = true })
	o.await(t, "strict", api.ConditionReady, metav1.ConditionUnknown, api.ReasonSuspended)
	requests := o.mesh.requests("strict")
	throughout(t, 6*time.Second, "suspended", func() error {
		if got := o.mesh.requests("strict"); got != requests {
			return fmt.Errorf("%d requests were sent", got-requests)
		}
		return o.condition(t, "strict", api.ConditionReady, metav1.ConditionUnknown, api.ReasonSuspended)
	})
	if got := o.mesh.openStreams(); got != 0 {
		t.Errorf("exec streams of a suspended probe: got %d, want 0", got)
	}
	if after := o.probe(t, "strict").Status; len(after.Paths) != len(before.Paths) {
		t.Errorf("what was seen before is gone: %+v", after.Paths)
	}
	if got := len(o.made(t, "apps/v1 Deployment")); got != 3 {
		t.Errorf("Deployments of a suspended probe: got %d, want 3", got)
	}
	o.change(t, "strict", func(p *api.HTTPSMeshProbe) { p.Spec.Suspend = false })
	o.awaitVerified(t, "strict")
}

func TestEditedModeIsAppliedAndJudgedAnew(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict")
	o.awaitVerified(t, "strict")
	seen := o.follow(t, "strict")
	o.change(t, "strict", func(p *api.HTTPSMeshProbe) { p.Spec.MTLS.Mode = api.MTLSDisable })
	o.awaitVerified(t, "strict")
	if got := o.policy(t, "strict-nginx").Spec.GetMtls().GetMode(); got != securityv1beta1.PeerAuthentication_MutualTLS_DISABLE {
		t.Errorf("mode of the policy: got %s, want DISABLE", got)
	}
	for _, path := range o.probe(t, "strict").Status.Paths {
		if path.Observed != "200" {
			t.Errorf("path %s: observed %s, want 200", path.Name, path.Observed)
		}
	}
	for _, status := range seen.all() {
		if meta.IsStatusConditionFalse(status.Conditions, api.ConditionReady) {
			t.Errorf("Ready was False on the way: %+v", meta.FindStatusCondition(status.Conditions, api.ConditionReady))
		}
	}
	if got := o.events(t, "strict", "Repaired"); len(got) != 0 {
		t.Errorf("events: got %v, want no repair for the probe's own edit", got)
	}
}

func TestSidecarIsTakenAway(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict")
	o.awaitVerified(t, "strict")
	o.change(t, "strict", func(p *api.HTTPSMeshProbe) {
		p.Spec.Target.Sidecar, p.Spec.MTLS.Mode = api.SidecarDisabled, api.MTLSUnset
	})
	o.awaitVerified(t, "strict")
	if got := o.made(t, "security.istio.io/v1 PeerAuthentication"); len(got) != 0 {
		t.Errorf("policies of a server without sidecar: got %d, want 0", len(got))
	}
	if _, sidecar := o.cluster.servers(t.Context(), "strict"); sidecar {
		t.Error("the server still has its sidecar")
	}
	o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionTrue, api.ReasonNoSidecar)
	o.change(t, "strict", func(p *api.HTTPSMeshProbe) { strict(p) })
	o.awaitVerified(t, "strict")
	o.policy(t, "strict-nginx")
}

func (o *operator) policy(t *testing.T, name string) *securityv1.PeerAuthentication {
	t.Helper()
	policy := &securityv1.PeerAuthentication{}
	must(t, o.get(t, name, policy))
	return policy
}

// declare creates a PeerAuthentication of somebody else.
func (o *operator) declare(t *testing.T, namespace, name string, mode securityv1beta1.PeerAuthentication_MutualTLS_Mode, selector map[string]string) *securityv1.PeerAuthentication {
	t.Helper()
	policy := &securityv1.PeerAuthentication{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	policy.Spec.Mtls = &securityv1beta1.PeerAuthentication_MutualTLS{Mode: mode}
	if selector != nil {
		policy.Spec.Selector = &typev1beta1.WorkloadSelector{MatchLabels: selector}
	}
	must(t, o.admin.Create(t.Context(), policy))
	return policy
}

func TestOlderPolicyThatSelectsThePodsIsNamed(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	// Of two policies of the same second, Istio takes the first by name.
	legacy := o.declare(t, o.namespace, "legacy", securityv1beta1.PeerAuthentication_MutualTLS_PERMISSIVE, map[string]string{"app": "strict-nginx"})
	o.mesh.enforce("strict", "PERMISSIVE")
	o.create(t, "strict")
	o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted)
	message := o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonOverridden)
	wantMention(t, message, o.namespace+"/legacy", "PERMISSIVE", "STRICT")
	o.await(t, "strict", api.ConditionIstioProxyVerified, metav1.ConditionFalse, api.ReasonMTLSNotEnforced)
	o.mesh.enforce("strict", "STRICT")
	must(t, o.admin.Delete(t.Context(), legacy))
	o.awaitVerified(t, "strict")
	o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionTrue, api.ReasonInEffect)
}

func TestUnsetInheritsFromTheNamespaceAndTheMesh(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "unset", func(p *api.HTTPSMeshProbe) { p.Spec.MTLS.Mode = api.MTLSUnset })
	inherits := func(expected, origin string) {
		t.Helper()
		eventually(t, "the mode of "+origin, func() error {
			if got := o.message(t, "unset", api.ConditionPolicyInEffect); !containsAll(got, origin) {
				return fmt.Errorf("PolicyInEffect says %q, want it to name %q", got, origin)
			}
			return o.observes(t, "unset", expected)
		})
		o.awaitVerified(t, "unset")
	}
	o.mesh.enforce("unset", "PERMISSIVE")
	inherits("200 200 200", "default")
	o.mesh.enforce("unset", "STRICT")
	wide := o.declare(t, o.root, "default", securityv1beta1.PeerAuthentication_MutualTLS_STRICT, nil)
	inherits("200 refused refused", o.root+"/default")
	o.mesh.enforce("unset", "DISABLE")
	o.declare(t, o.namespace, "default", securityv1beta1.PeerAuthentication_MutualTLS_DISABLE, nil)
	inherits("200 200 200", o.namespace+"/default")
	must(t, o.admin.Delete(t.Context(), wide))
	o.awaitRuns(t, "unset", 2)
	inherits("200 200 200", o.namespace+"/default")
}

// observes checks what the paths of a probe saw, in the order in which the status shows them.
func (o *operator) observes(t *testing.T, name, want string) error {
	t.Helper()
	var got []string
	for _, path := range o.probe(t, name).Status.Paths {
		got = append(got, path.Observed)
	}
	if fmt.Sprint(got) != "["+want+"]" {
		return fmt.Errorf("%s observed %v, want %s", name, got, want)
	}
	return nil
}
