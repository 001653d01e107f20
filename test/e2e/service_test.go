package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// TestServiceOfAUser probes a Service that is there already. Then an older PeerAuthentication comes to select its pods
// too, and takes the user's own out of force; the conditions follow, name it, and come back when it goes.
func TestServiceOfAUser(t *testing.T) {
	ns := namespace(t)
	legacy := peerAuthentication(ns, "legacy", map[string]string{"app": "nobody"}, permissive)
	createPolicy(t, legacy)
	shop := newServer(t, ns, "shop")
	shop.create(t)
	shop.awaitPods(t, 1)
	own := peerAuthentication(ns, "shop", shop.selector(), strict)
	createPolicy(t, own)
	hmp := shop.probe("shop-strict", strict)
	trust(t, hmp, shop.authority)
	before := awaitRest(t, ns)

	createProbe(t, hmp)
	verified := awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionTrue)
	if got := observed(verified); got != "200/refused/refused" {
		t.Errorf("paths: %s", got)
	}
	if c := condition(verified, api.ConditionPolicyInEffect); c.Reason != api.ReasonInEffect || !strings.Contains(c.Message, "PeerAuthentication "+ns+"/shop (workload level) sets STRICT") {
		t.Errorf("PolicyInEffect: %s, %s", c.Reason, c.Message)
	}
	checkUnchanged(t, before, ns)

	probe := follow(t, hmp)
	conflict(t, probe, legacy, shop)
	restore(t, probe, legacy)
	awaitEvent(t, ns, "PolicyChanged", "PeerAuthentication "+ns+"/legacy changed what is computed")

	delete(before, "peerauthentications/legacy")
	checkUnchanged(t, before, ns)
}

// conflict has the older policy select the server's pods.
func conflict(t *testing.T, probe *follower, legacy *securityv1.PeerAuthentication, shop *server) {
	t.Helper()
	legacy.Spec.Selector.MatchLabels = shop.selector()
	changePolicy(t, legacy)
	begun := time.Now()
	name := "PeerAuthentication " + legacy.Namespace + "/legacy (older, selects the same pods) sets PERMISSIVE"
	for _, kind := range []string{api.ConditionPolicyInEffect, api.ConditionIstioProxyVerified} {
		refuted := probe.until(t, kind+"=False", func(hmp *api.HTTPSMeshProbe) error {
			if c := condition(hmp, kind); c.Status != metav1.ConditionFalse {
				return fmt.Errorf("it is %s (%s: %s)", c.Status, c.Reason, c.Message)
			}
			return nil
		})
		t.Logf("%s is False %s after the change", kind, refuted.at.Sub(begun).Round(time.Millisecond))
		if c := condition(refuted.probe, kind); !strings.Contains(c.Message, name) {
			t.Errorf("%s does not name the older policy: %s, %s", kind, c.Reason, c.Message)
		}
		if ready := condition(refuted.probe, api.ConditionReady); ready.Status != metav1.ConditionFalse {
			t.Errorf("Ready is %s: %s", ready.Status, ready.Message)
		}
	}
}

// restore takes the older policy away.
func restore(t *testing.T, probe *follower, legacy *securityv1.PeerAuthentication) {
	t.Helper()
	deletePolicy(t, legacy)
	begun := time.Now()
	verified := probe.until(t, "Ready=True", func(hmp *api.HTTPSMeshProbe) error {
		if c := condition(hmp, api.ConditionReady); c.Status != metav1.ConditionTrue {
			return fmt.Errorf("it is %s (%s: %s)", c.Status, c.Reason, c.Message)
		}
		return nil
	})
	t.Logf("Ready is True %s after it is gone", verified.at.Sub(begun).Round(time.Millisecond))
	if got := observed(verified.probe); got != "200/refused/refused" {
		t.Errorf("paths: %s", got)
	}
	change := verified.probe.Status.LastPolicyChange
	if change == nil || change.Object != "PeerAuthentication "+legacy.Namespace+"/legacy" || change.SettledAfter == nil {
		t.Errorf("lastPolicyChange: %+v", change)
	}
}

func awaitEvent(t *testing.T, ns, reason, note string) {
	t.Helper()
	await(t, fmt.Sprintf("an event %s: %s", reason, note), func() error {
		var events eventsv1.EventList
		if err := lab.List(t.Context(), &events, client.InNamespace(ns)); err != nil {
			return err
		}
		var others []string
		for _, event := range events.Items {
			if event.Reason == reason && strings.Contains(event.Note, note) {
				return nil
			}
			if event.Regarding.Kind == api.Kind {
				others = append(others, event.Reason+": "+event.Note)
			}
		}
		return fmt.Errorf("there are only %q", others)
	})
}
