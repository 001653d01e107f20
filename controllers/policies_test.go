package controllers_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// secondLater waits until objects made from now on are younger than those made before: their ages are in full seconds.
func secondLater(t *testing.T) {
	t.Helper()
	before := time.Now().Truncate(time.Second)
	eventually(t, "the next second", func() error {
		if !time.Now().Truncate(time.Second).After(before) {
			return fmt.Errorf("it is still %v", before)
		}
		return nil
	})
}

// Of two policies for the same pods the older one counts, whatever their names; it is named, and when it goes all is well.
func TestOlderPolicyForAServicesPodsIsNamed(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.addShop(t, 2)
	legacy := o.declare(t, o.namespace, "z-legacy", permissiveMode, map[string]string{"app": "shop"})
	secondLater(t)
	o.declare(t, o.namespace, "a-strict", strictMode, map[string]string{"app": "shop"})
	o.create(t, "strict", ofService("shop"), seldom)
	message := o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonOverridden)
	wantMention(t, message, "mtls.mode is STRICT", "PeerAuthentication "+o.namespace+"/z-legacy (older, selects the same pods) sets PERMISSIVE")
	o.await(t, "strict", api.ConditionIstioProxyVerified, metav1.ConditionFalse, api.ReasonMTLSNotEnforced)
	o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted)
	must(t, o.admin.Delete(t.Context(), legacy))
	o.awaitVerified(t, "strict")
	o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionTrue, api.ReasonInEffect)
	wantMention(t, o.message(t, "strict", api.ConditionPolicyInEffect), "a-strict")

	// It comes again, younger now, and of no effect.
	secondLater(t)
	seen := o.follow(t, "strict")
	o.declare(t, o.namespace, "z-legacy", permissiveMode, map[string]string{"app": "shop"})
	eventually(t, "its mention", func() error {
		if got := o.message(t, "strict", api.ConditionPolicyInEffect); !strings.Contains(got, "a-strict (older") {
			return fmt.Errorf("PolicyInEffect says %q", got)
		}
		return nil
	})
	o.awaitQuiet(t, "shop")
	seen.wantReady(t)
}

// A workload's policy goes before its namespace's, and a port's before the workload's.
func TestNarrowerPolicyIsNamed(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.addShop(t, 2)
	o.declare(t, o.namespace, "default", strictMode, nil)
	o.create(t, "strict", ofService("shop"), seldom)
	o.awaitVerified(t, "strict")
	narrower := o.declare(t, o.namespace, "shop", permissiveMode, map[string]string{"app": "shop"})
	wantMention(t, o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonOverridden), o.namespace+"/shop (workload level) sets PERMISSIVE")
	o.await(t, "strict", api.ConditionOutsiderVerified, metav1.ConditionFalse, api.ReasonMTLSNotEnforced)
	must(t, o.admin.Delete(t.Context(), narrower))
	o.awaitVerified(t, "strict")
	// 443 is the Service's port, and means nothing to the pods.
	port := o.declarePort(t, "port", disableMode, 443)
	o.awaitQuiet(t, "shop")
	must(t, o.condition(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionTrue, api.ReasonInEffect))
	must(t, o.admin.Delete(t.Context(), port))
	o.declarePort(t, "port", disableMode, serverPort)
	wantMention(t, o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonOverridden), o.namespace+"/port (port level) sets DISABLE")
	o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted)
}

func TestUsersDestinationRuleIsNamed(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.declare(t, o.namespace, "default", strictMode, nil)
	o.addShop(t, 2)
	o.create(t, "strict", ofService("shop"), seldom)
	o.awaitVerified(t, "strict")
	rule := o.direct(t, "legacy", "shop", networkingapi.ClientTLSSettings_DISABLE)
	message := o.await(t, "strict", api.ConditionSleepVerified, metav1.ConditionFalse, api.ReasonRefused)
	wantMention(t, message, "DestinationRule "+o.namespace+"/legacy sets DISABLE", "Plaintext")
	// A refusal by the server's sidecar stands, though nobody gets through.
	o.await(t, "strict", api.ConditionIstioProxyVerified, metav1.ConditionTrue, api.ReasonRefusedByMesh)
	o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted)
	must(t, o.admin.Delete(t.Context(), rule))
	o.awaitVerified(t, "strict")

	// Under PERMISSIVE such a rule lets everything get through, unencrypted.
	o.change(t, "strict", withMode(api.MTLSPermissive))
	policy := o.policy(t, "default")
	o.edit(t, "default", policy, func() { policy.Spec.Mtls.Mode = permissiveMode })
	o.awaitVerified(t, "strict")
	if got := o.path(t, "strict", api.PathSleep).Encryption; got != api.EncryptionMutualTLS {
		t.Errorf("encryption: got %s, want MutualTLS", got)
	}
	o.direct(t, "legacy", "shop", networkingapi.ClientTLSSettings_DISABLE)
	message = o.await(t, "strict", api.ConditionSleepVerified, metav1.ConditionFalse, api.ReasonPlaintextInMesh)
	wantMention(t, message, "without mutual TLS", "DestinationRule "+o.namespace+"/legacy")
	if got := o.path(t, "strict", api.PathSleep).Encryption; got != api.EncryptionPlaintext {
		t.Errorf("encryption under the rule: got %s, want Plaintext", got)
	}
	o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted)
}

// Policies that contradict each other: two pods of one Service, each under another one.
func TestPodsUnderDifferentPolicies(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.addShop(t, 2)
	o.addPod(t, "shop", "shop-odd", inject, func(p *corev1.Pod) { p.Labels["version"] = "odd" })
	o.declare(t, o.namespace, "default", strictMode, nil)
	o.create(t, "strict", ofService("shop"), seldom)
	o.create(t, "unset", ofService("shop"), seldom, withMode(api.MTLSUnset))
	o.awaitVerified(t, "strict")
	o.awaitVerified(t, "unset")
	odd := o.declare(t, o.namespace, "odd", disableMode, map[string]string{"version": "odd"})
	wantMention(t, o.await(t, "unset", api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonMixed),
		"shop-odd", o.namespace+"/odd", "shop-", o.namespace+"/default")
	wantMention(t, o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonOverridden),
		"shop-odd (1 of 3 endpoints)", o.namespace+"/odd", "DISABLE")
	message := o.await(t, "strict", api.ConditionOutsiderVerified, metav1.ConditionFalse, api.ReasonMTLSNotEnforced)
	wantMention(t, message, "shop-odd", o.namespace+"/odd")
	o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted)
	o.await(t, "unset", api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted)
	must(t, o.admin.Delete(t.Context(), odd))
	o.awaitVerified(t, "strict")
	o.awaitVerified(t, "unset")

	// It is enough that a pod gets another label.
	o.declare(t, o.namespace, "stray", disableMode, map[string]string{"version": "stray"})
	pod := &corev1.Pod{}
	o.edit(t, "shop-0", pod, func() { pod.Labels["version"] = "stray" })
	wantMention(t, o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonOverridden), "shop-0 (1 of 3 endpoints)", o.namespace+"/stray")
	o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted)
}

func TestNamespaceLosesItsInjectionLabel(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	namespace := &corev1.Namespace{}
	label := func(value string) {
		namespace.Name = o.namespace
		o.edit(t, o.namespace, namespace, func() {
			if namespace.Labels = map[string]string{"istio-injection": value}; value == "" {
				namespace.Labels = nil
			}
		})
	}
	label("enabled")
	o.declare(t, o.namespace, "default", strictMode, nil)
	o.addShop(t, 2)
	o.create(t, "strict", ofService("shop"), seldom)
	o.awaitVerified(t, "strict")
	seen := o.follow(t, "strict")
	warned := func() bool {
		return containsAll(o.message(t, "strict", api.ConditionPolicyInEffect), "namespace "+o.namespace, "no injection label", "shop-0")
	}
	if warned() {
		t.Errorf("PolicyInEffect warns of a namespace that has its label: %q", o.message(t, "strict", api.ConditionPolicyInEffect))
	}
	for _, value := range []string{"", "enabled", "disabled", "enabled"} {
		label(value)
		eventually(t, "the warning or its end", func() error {
			if got := warned(); got != (value != "enabled") {
				return fmt.Errorf("warned: %v, the label being %q", got, value)
			}
			return o.condition(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionTrue, api.ReasonInEffect)
		})
	}
	seen.wantReady(t)
	// What was only a warning comes true with the next pod.
	o.addPod(t, "shop", "shop-next")
	wantMention(t, o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonSidecarMissing), "shop-next (1 of 3 endpoints)")
	o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted)
}

func (o *operator) rule(t *testing.T, name string) *networkingv1.DestinationRule {
	t.Helper()
	rule := &networkingv1.DestinationRule{}
	must(t, o.get(t, name, rule))
	return rule
}

func withClientMode(mode api.ClientTLSMode) func(*api.HTTPSMeshProbe) {
	return func(p *api.HTTPSMeshProbe) { p.Spec.MTLS.ClientMode = mode }
}

// The operator's own server with a DestinationRule: made, repaired, changed and taken away.
func TestClientModeOfTheOwnServer(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	probe := o.create(t, "strict", withClientMode(api.ClientTLSIstioMutual))
	o.awaitVerified(t, "strict")
	rules := o.made(t, "networking.istio.io/v1 DestinationRule")
	if len(rules) != 1 {
		t.Fatalf("DestinationRules: got %d, want 1", len(rules))
	}
	wantOwner(t, "DestinationRule", rules[0], probe, true)
	wantManager(t, "DestinationRule", rules[0], metav1.ManagedFieldsOperationApply)
	rule := o.rule(t, "strict-nginx")
	if got := rule.Spec.GetHost(); got != "strict-nginx."+o.namespace+".svc.cluster.local" || len(rule.Spec.GetExportTo()) != 1 || rule.Spec.GetExportTo()[0] != "." {
		t.Errorf("rule: got host %s, exportTo %v", got, rule.Spec.GetExportTo())
	}

	o.edit(t, "strict-nginx", rule, func() { rule.Spec.TrafficPolicy.Tls.Mode = networkingapi.ClientTLSSettings_SIMPLE })
	eventually(t, "the repair of the rule", func() error {
		if got := o.rule(t, "strict-nginx").Spec.GetTrafficPolicy().GetTls().GetMode(); got != networkingapi.ClientTLSSettings_ISTIO_MUTUAL {
			return fmt.Errorf("its mode is %s", got)
		}
		if got := o.events(t, "strict", "Repaired"); len(got) != 1 || !strings.Contains(got[0], "DestinationRule strict-nginx was changed by kubectl-edit") {
			return fmt.Errorf("events: %v", got)
		}
		return nil
	})
	o.awaitVerified(t, "strict")

	for _, step := range []struct {
		mode        api.ClientTLSMode
		observes    string
		sleepReason string
	}{
		{api.ClientTLSDisable, "refused refused refused", api.ReasonRefusedByMesh},
		{api.ClientTLSSimple, "closed refused refused", api.ReasonFailedAsDeclared},
		{api.ClientTLSUnset, "200 refused refused", api.ReasonAnswered},
	} {
		o.change(t, "strict", withClientMode(step.mode))
		o.await(t, "strict", api.ConditionSleepVerified, metav1.ConditionTrue, step.sleepReason)
		o.awaitVerified(t, "strict")
		must(t, o.observes(t, "strict", step.observes))
		if step.mode != api.ClientTLSDisable {
			continue
		}
		// DISABLE is the zero value of Istio's types, which a careless comparison takes for a rule without mode.
		o.awaitQuiet(t, "strict")
		before := len(o.calls.written())
		o.awaitRuns(t, "strict", 2)
		for _, call := range o.calls.written()[before:] {
			if !strings.HasSuffix(call, "/status") {
				t.Errorf("clientMode %s: written though nothing had changed: %s", step.mode, call)
			}
		}
	}
	if got := o.made(t, "networking.istio.io/v1 DestinationRule"); len(got) != 0 {
		t.Errorf("DestinationRules with clientMode UNSET: got %d, want 0", len(got))
	}
	if got := o.events(t, "strict", "Repaired"); len(got) != 1 {
		t.Errorf("events: got %v, want none but the one repair", got)
	}
}

// A mode that the client's sidecar is to use is a claim where the Service is a user's.
func TestClientModeIsAClaimAboutAUsersService(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.declare(t, o.namespace, "default", permissiveMode, nil)
	o.addShop(t, 1)
	o.create(t, "plain", ofService("shop"), seldom, withMode(api.MTLSPermissive), withClientMode(api.ClientTLSDisable))
	wantMention(t, o.await(t, "plain", api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonOverridden), "mtls.clientMode is DISABLE", "sends MutualTLS")
	if got := o.made(t, "networking.istio.io/v1 DestinationRule"); len(got) != 0 {
		t.Errorf("DestinationRules for a user's Service: got %d, want 0", len(got))
	}
	o.direct(t, "users", "shop", networkingapi.ClientTLSSettings_DISABLE)
	eventually(t, "the unencrypted request", func() error {
		if got := o.path(t, "plain", api.PathSleep).Encryption; got != api.EncryptionPlaintext {
			return fmt.Errorf("encryption is %s", got)
		}
		return nil
	})
	o.awaitVerified(t, "plain")
}

// meshConfig writes istiod's mesh config.
func (o *operator) meshConfig(t *testing.T, lines ...string) {
	t.Helper()
	o.meshConfigNamed(t, "istio", lines...)
}

func (o *operator) meshConfigNamed(t *testing.T, name string, lines ...string) {
	t.Helper()
	configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: o.root, Name: name}}
	content := map[string]string{"mesh": strings.Join(lines, "\n"), "meshNetworks": "networks: {}"}
	err := o.admin.Get(t.Context(), keyOf(configMap), configMap)
	if err != nil {
		configMap.Data = content
		must(t, o.admin.Create(t.Context(), configMap))
		return
	}
	configMap.Data = content
	must(t, o.admin.Update(t.Context(), configMap))
}

func TestMeshConfigIsFollowed(t *testing.T) {
	t.Parallel()
	var elsewhere string
	o := startOperator(t, another(&elsewhere))
	o.makeNamespace(t, elsewhere)
	o.declare(t, elsewhere, "default", strictMode, nil)
	o.addShop(t, 1)
	o.create(t, "unset", ofService("shop"), seldom, withMode(api.MTLSUnset))
	o.awaitVerified(t, "unset")
	wantMention(t, o.message(t, "unset", api.ConditionPolicyInEffect), "default holds", "PERMISSIVE")
	must(t, o.observes(t, "unset", "200 200 200"))

	o.mesh.set(func(m *mesh) { m.root = elsewhere })
	o.meshConfig(t, "rootNamespace: "+elsewhere, "defaultConfig:", "  concurrency: 2")
	eventually(t, "the policy of the other root namespace", func() error {
		if got := o.message(t, "unset", api.ConditionPolicyInEffect); !containsAll(got, elsewhere+"/default (mesh level) sets STRICT") {
			return fmt.Errorf("PolicyInEffect says %q", got)
		}
		return o.observes(t, "unset", "200 refused refused")
	})
	o.awaitVerified(t, "unset")
	o.wantChange(t, "unset", "the mesh config", "PERMISSIVE, MutualTLS from the client", "STRICT, MutualTLS from the client")

	o.mesh.set(func(m *mesh) { m.noAutoMTLS = true })
	o.meshConfig(t, "rootNamespace: "+elsewhere, "enableAutoMtls: false")
	wantMention(t, o.await(t, "unset", api.ConditionSleepVerified, metav1.ConditionFalse, api.ReasonRefused), "auto mTLS is off in the mesh config")
	o.wantChange(t, "unset", "the mesh config", "STRICT, MutualTLS from the client", "STRICT, Plaintext from the client")

	// A policy in the root namespace is followed there, and one where the root namespace was is not.
	o.mesh.set(func(m *mesh) { m.noAutoMTLS = false })
	o.meshConfig(t, "rootNamespace: "+elsewhere)
	o.awaitVerified(t, "unset")
	o.declare(t, o.root, "default", disableMode, nil)
	policy := o.policyOf(t, elsewhere, "default")
	policy.Spec.Mtls.Mode = permissiveMode
	must(t, o.admin.Update(t.Context(), policy))
	o.awaitChange(t, "unset", "PeerAuthentication "+elsewhere+"/default", "STRICT, MutualTLS from the client", "PERMISSIVE, MutualTLS from the client")
	o.awaitVerified(t, "unset")
}

// Every revision has a mesh config of its own, and with it perhaps another root namespace.
func TestMeshConfigOfARevision(t *testing.T) {
	t.Parallel()
	var elsewhere string
	o := startOperator(t, another(&elsewhere))
	o.makeNamespace(t, elsewhere)
	o.meshConfigNamed(t, "istio-canary", "rootNamespace: "+elsewhere)
	o.addShop(t, 1)
	canary := func(p *api.HTTPSMeshProbe) { p.Spec.Revision = "canary" }
	o.create(t, "canary", ofService("shop"), seldom, withMode(api.MTLSUnset), canary)
	o.create(t, "default", ofService("shop"), seldom, withMode(api.MTLSUnset))
	o.awaitVerified(t, "canary")
	o.awaitVerified(t, "default")
	o.awaitQuiet(t, "shop")
	o.mesh.set(func(m *mesh) { m.root = elsewhere })
	o.declare(t, elsewhere, "default", strictMode, nil)
	o.awaitChange(t, "canary", "PeerAuthentication "+elsewhere+"/default", permissiveMutual, strictMutual)
	o.awaitVerified(t, "canary")
	wantMention(t, o.message(t, "default", api.ConditionPolicyInEffect), "default holds", "PERMISSIVE")
}

// A mesh config that nobody can read is no reason to go on saying what was true before.
func TestUnreadableMeshConfigIsSaid(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict")
	o.awaitVerified(t, "strict")
	o.meshConfig(t, "rootNamespace: [")
	o.await(t, "strict", api.ConditionReady, metav1.ConditionUnknown, api.ReasonProgressing)
	eventually(t, "a word about the mesh config", func() error {
		if got := o.message(t, "strict", api.ConditionReady); !containsAll(got, "mesh config", o.root+"/istio") {
			return fmt.Errorf("Ready says %q", got)
		}
		return o.notReady(t, "strict")
	})
	o.meshConfig(t, "rootNamespace: "+o.root)
	o.awaitVerified(t, "strict")
	if got := meta.FindStatusCondition(o.probe(t, "strict").Status.Conditions, api.ConditionStalled); got != nil {
		t.Errorf("Stalled beside a verdict: %+v", got)
	}
}
