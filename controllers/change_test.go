package controllers_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	networkingapi "istio.io/api/networking/v1alpha3"
	securityv1beta1 "istio.io/api/security/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

func keyOf(object client.Object) client.ObjectKey { return client.ObjectKeyFromObject(object) }

func (o *operator) policyOf(t *testing.T, namespace, name string) *securityv1.PeerAuthentication {
	t.Helper()
	policy := &securityv1.PeerAuthentication{}
	must(t, o.admin.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, policy))
	return policy
}

// declarePort creates a policy for one port of the pods of the Service shop.
func (o *operator) declarePort(t *testing.T, name string, mode securityv1beta1.PeerAuthentication_MutualTLS_Mode, port uint32) *securityv1.PeerAuthentication {
	t.Helper()
	policy := o.declare(t, o.namespace, name, securityv1beta1.PeerAuthentication_MutualTLS_UNSET, map[string]string{"app": "shop"})
	policy.Spec.PortLevelMtls = map[uint32]*securityv1beta1.PeerAuthentication_MutualTLS{port: {Mode: mode}}
	must(t, o.admin.Update(t.Context(), policy))
	return policy
}

// setMode changes the mode of a policy as a person would.
func (o *operator) setMode(t *testing.T, name string, mode securityv1beta1.PeerAuthentication_MutualTLS_Mode) {
	t.Helper()
	policy := &securityv1.PeerAuthentication{}
	o.edit(t, name, policy, func() { policy.Spec.Mtls.Mode = mode })
}

func (o *operator) changed(t *testing.T, probe, object, from, to string) error {
	t.Helper()
	got := o.probe(t, probe).Status.LastPolicyChange
	if got == nil || got.Object != object || got.From != from || got.To != to {
		return fmt.Errorf("the last change of %s is %+v; want %s, from %q to %q", probe, got, object, from, to)
	}
	return nil
}

func (o *operator) awaitChange(t *testing.T, probe, object, from, to string) *api.PolicyChange {
	t.Helper()
	eventually(t, "the change of the policy", func() error { return o.changed(t, probe, object, from, to) })
	return o.probe(t, probe).Status.LastPolicyChange
}

func (o *operator) wantChange(t *testing.T, probe, object, from, to string) {
	t.Helper()
	if err := o.changed(t, probe, object, from, to); err != nil {
		t.Error(err)
	}
}

const (
	strictMutual     = "STRICT, MutualTLS from the client"
	permissiveMutual = "PERMISSIVE, MutualTLS from the client"
)

// What is inherited changes, and ends as it should: Ready stays True all the way, and what it cost is told.
func TestPolicyChangeIsFollowedAndTold(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.declare(t, o.namespace, "default", permissiveMode, nil)
	o.addShop(t, 2)
	o.create(t, "unset", ofService("shop"), seldom, withMode(api.MTLSUnset))
	o.awaitVerified(t, "unset")
	o.awaitQuiet(t, "shop")
	if got := o.probe(t, "unset").Status.LastPolicyChange; got != nil {
		t.Errorf("the change of a policy that did not change: %+v", got)
	}
	seen := o.follow(t, "unset")

	// The proxies follow some requests later, and lose some meanwhile.
	o.mesh.enforce("shop", "PERMISSIVE")
	o.mesh.script("shop", api.PathSleep, observation.Observation{Class: observation.HandshakeClosed})
	before, began := o.mesh.runs("shop", api.PathSleep), time.Now()
	o.setMode(t, "default", strictMode)
	o.awaitRuns(t, "shop", 4)
	o.mesh.enforce("shop", "")
	o.mesh.unscript("shop", api.PathSleep)
	change := o.awaitChange(t, "unset", "PeerAuthentication "+o.namespace+"/default", permissiveMutual, strictMutual)
	sent := o.mesh.runs("shop", api.PathSleep) - before
	if change.SettledAfter == nil || change.SettledAfter.Duration <= 0 || change.SettledAfter.Duration > time.Since(began) {
		t.Errorf("settled after %v, want what it took of the %v", change.SettledAfter, time.Since(began))
	}
	if change.ProbesLost < 3 || change.ProbesSent <= change.ProbesLost || int(change.ProbesSent) > sent {
		t.Errorf("probes: got %d lost of %d, want at least 3 lost, and some of the %d requests not", change.ProbesLost, change.ProbesSent, sent)
	}
	if change.SeenTime == nil || change.SeenTime.Time.Before(began.Truncate(time.Second)) {
		t.Errorf("seen at %v, want it after %v", change.SeenTime, began)
	}
	o.awaitVerified(t, "unset")
	must(t, o.observes(t, "unset", "200 refused refused"))
	eventually(t, "the event", func() error {
		got := o.events(t, "unset", "PolicyChanged")
		if len(got) != 1 || !containsAll(got[0], "PeerAuthentication "+o.namespace+"/default", permissiveMutual, strictMutual,
			change.SettledAfter.Duration.String(), fmt.Sprintf("of %d requests on the path sleep meanwhile %d got no answer", change.ProbesSent, change.ProbesLost)) {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})

	// And back, without a loss.
	o.setMode(t, "default", permissiveMode)
	change = o.awaitChange(t, "unset", "PeerAuthentication "+o.namespace+"/default", strictMutual, permissiveMutual)
	if change.ProbesLost != 0 || change.ProbesSent == 0 || change.SettledAfter == nil {
		t.Errorf("probes: got %d lost of %d, settled after %v; want none lost", change.ProbesLost, change.ProbesSent, change.SettledAfter)
	}
	o.awaitVerified(t, "unset")
	o.awaitQuiet(t, "shop")
	seen.wantReady(t)
	if got := o.events(t, "unset", "PolicyChanged"); len(got) != 2 {
		t.Errorf("events: got %v, want one for each change", got)
	}
	if settled := slices.IndexFunc(seen.all(), func(s api.HTTPSMeshProbeStatus) bool { return s.LastPolicyChange != nil }); settled < 0 {
		t.Error("no status told of the change")
	}
}

// A declared STRICT that is taken back shows as soon as the operator sees it; a day's interval is no matter.
func TestPolicyChangeThatBreaksThePromiseIsFound(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.declare(t, o.namespace, "default", strictMode, nil)
	o.addShop(t, 2)
	o.create(t, "strict", ofService("shop"), seldom)
	o.awaitVerified(t, "strict")
	o.awaitQuiet(t, "shop")
	o.setMode(t, "default", permissiveMode)
	wantMention(t, o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonOverridden), o.namespace+"/default", "PERMISSIVE")
	o.await(t, "strict", api.ConditionIstioProxyVerified, metav1.ConditionFalse, api.ReasonMTLSNotEnforced)
	o.await(t, "strict", api.ConditionOutsiderVerified, metav1.ConditionFalse, api.ReasonMTLSNotEnforced)
	o.awaitChange(t, "strict", "PeerAuthentication "+o.namespace+"/default", strictMutual, permissiveMutual)
	must(t, o.admin.Delete(t.Context(), o.policy(t, "default")))
	o.declare(t, o.namespace, "another", strictMode, nil)
	o.awaitChange(t, "strict", "PeerAuthentication "+o.namespace+"/another", permissiveMutual, strictMutual)
	o.awaitVerified(t, "strict")
}

// A change whose end no path can tell, the proxies that never follow, and one by the pods themselves.
func TestOtherEndsOfAPolicyChange(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.declare(t, o.namespace, "default", strictMode, nil)
	o.addShop(t, 1)
	o.create(t, "unset", ofService("shop"), seldom, withMode(api.MTLSUnset))
	o.awaitVerified(t, "unset")
	o.awaitQuiet(t, "shop")

	o.mesh.enforce("shop", "STRICT")
	o.setMode(t, "default", permissiveMode)
	change := o.awaitChange(t, "unset", "PeerAuthentication "+o.namespace+"/default", strictMutual, permissiveMutual)
	if change.SettledAfter != nil {
		t.Errorf("settled after %v, want never", change.SettledAfter)
	}
	o.await(t, "unset", api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted)
	o.await(t, "unset", api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonNotEnforced)
	eventually(t, "the event", func() error {
		if got := o.events(t, "unset", "PolicyChanged"); len(got) != 1 || !strings.Contains(got[0], "had not followed after 10s") {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})

	o.mesh.enforce("shop", "")
	o.request(t, "unset", "now")
	o.awaitVerified(t, "unset")
	o.direct(t, "mutual", "shop", networkingapi.ClientTLSSettings_DISABLE)
	o.awaitChange(t, "unset", "DestinationRule "+o.namespace+"/mutual", permissiveMutual, "PERMISSIVE, Plaintext from the client")
	must(t, o.admin.Delete(t.Context(), o.rule(t, "mutual")))
	o.awaitChange(t, "unset", "DestinationRule "+o.namespace+"/mutual", "PERMISSIVE, Plaintext from the client", permissiveMutual)
	o.addPod(t, "shop", "shop-bare")
	o.awaitChange(t, "unset", "the pods behind Service "+o.namespace+"/shop", permissiveMutual, "NoSidecar+PERMISSIVE, MutualTLS+Plaintext from the client")

	service := &corev1.Service{}
	o.deletePod(t, "shop-bare")
	o.awaitVerified(t, "unset")
	o.edit(t, "shop", service, func() { service.Annotations = map[string]string{"networking.istio.io/exportTo": "~"} })
	o.awaitChange(t, "unset", "Service "+o.namespace+"/shop", permissiveMutual, "PERMISSIVE, Plaintext from the client")
}

// What does not concern a probe costs it no request, however near it is.
func TestChangeThatConcernsNoProbeCostsNothing(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.declare(t, o.namespace, "default", strictMode, nil)
	o.addShop(t, 2)
	o.addService(t, "other")
	o.addPod(t, "other", "other-0", inject)
	o.create(t, "strict", ofService("shop"), seldom)
	o.create(t, "own", seldom)
	o.awaitVerified(t, "strict")
	o.awaitVerified(t, "own")
	o.awaitQuiet(t, "shop")
	o.awaitQuiet(t, "own")
	requests, written := len(o.mesh.arrived(func(asked) bool { return true })), len(o.calls.written())

	policy, pod, service, namespace := &securityv1.PeerAuthentication{}, &corev1.Pod{}, &corev1.Service{}, &corev1.Namespace{}
	touched := map[string]string{"touched": "yes"}
	o.declare(t, o.namespace, "other", disableMode, map[string]string{"app": "other"})
	o.declare(t, o.root, "ignored", disableMode, map[string]string{"app": "shop"})
	o.direct(t, "other", "other", networkingapi.ClientTLSSettings_DISABLE)
	o.edit(t, "default", policy, func() { policy.Annotations = touched })
	o.edit(t, "shop-0", pod, func() { pod.Annotations = touched })
	o.edit(t, "shop", service, func() { service.Labels = touched })
	o.edit(t, o.namespace, namespace, func() { namespace.Labels = touched })
	o.setMode(t, "other", strictMode)
	o.deletePod(t, "other-0")
	o.meshConfig(t, "accessLogFile: /dev/stdout")
	throughout(t, 2*time.Second, "what changed concerns nobody", func() error {
		if got := len(o.mesh.arrived(func(asked) bool { return true })); got != requests {
			return fmt.Errorf("%d requests were sent", got-requests)
		}
		return nil
	})
	if got := o.calls.written()[written:]; len(got) != 0 {
		t.Errorf("written: %v, want nothing", got)
	}

	// The same sort of change costs requests as soon as it concerns one, and that one alone.
	own := o.mesh.requests("own")
	o.declare(t, o.namespace, "shop", strictMode, map[string]string{"app": "shop"})
	o.awaitRuns(t, "shop", 2)
	o.awaitQuiet(t, "shop")
	if got := o.mesh.requests("own"); got != own {
		t.Errorf("requests of the probe that it does not concern: got %d more, want none", got-own)
	}
	o.awaitVerified(t, "strict")
}

// A person asks for a run, and sees when it is over.
func TestRequestedRun(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict", seldom)
	o.awaitVerified(t, "strict")
	o.awaitQuiet(t, "strict")
	seen, runs := o.follow(t, "strict"), o.mesh.runs("strict", api.PathSleep)
	for _, value := range []string{"2026-11-25T00:00:00Z", "again"} {
		asked := time.Now().Truncate(time.Second)
		o.request(t, "strict", value)
		eventually(t, "the answer to the request", func() error {
			if got := o.probe(t, "strict").Status.LastHandledRequest; got != value {
				return fmt.Errorf("the last request handled is %q", got)
			}
			return nil
		})
		if got := o.probe(t, "strict").Status.LastProbeTime; got == nil || got.Time.Before(asked) {
			t.Errorf("last run: got %v, want one after %v", got, asked)
		}
		if got := o.mesh.runs("strict", api.PathSleep); got <= runs {
			t.Errorf("runs for request %q: got none", value)
		}
		o.awaitQuiet(t, "strict")
		runs = o.mesh.runs("strict", api.PathSleep)
	}
	// The same value again asks for nothing, and neither does its end.
	o.change(t, "strict", func(p *api.HTTPSMeshProbe) { p.Labels = map[string]string{"touched": "yes"} })
	throughout(t, time.Second, "nothing is asked for", func() error {
		if got := o.mesh.runs("strict", api.PathSleep); got != runs {
			return fmt.Errorf("%d runs were made", got-runs)
		}
		return nil
	})
	seen.wantReady(t)

	// The answer stays when other runs follow, under another expectation and by another operator.
	o.stop()
	o.start(t)
	o.awaitRuns(t, "strict", 2)
	o.awaitQuiet(t, "strict")
	o.clock.forward(untilRenewal)
	o.awaitRetired(t)
	o.awaitQuiet(t, "strict")
	o.awaitVerified(t, "strict")
	handled := false
	for _, status := range seen.all() {
		handled = handled || status.LastHandledRequest == "again"
		if handled && status.LastHandledRequest != "again" {
			t.Errorf("the last request handled became %q", status.LastHandledRequest)
		}
	}
}
