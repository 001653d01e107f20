package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
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
	restart(t, hmp, shop)
}

// restart has the user's pod replaced: its connections break for moments, and Ready stays True.
func restart(t *testing.T, hmp *api.HTTPSMeshProbe, shop *server) {
	t.Helper()
	old := shop.awaitPods(t, 1)[0].Name
	ready := recordReady(t, hmp)
	deployment := &appsv1.Deployment{}
	deployment.Namespace, deployment.Name = shop.namespace, shop.name
	patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"template":{"metadata":{"annotations":{"restarted":"once"}}}}}`))
	if err := lab.Patch(t.Context(), deployment, patch); err != nil {
		t.Fatal(err)
	}
	await(t, "another pod alone", func() error {
		if pods := podsWith(t, shop.namespace, "app="+shop.name); len(pods) != 1 || pods[0].Name == old {
			return fmt.Errorf("there are %d", len(pods))
		}
		return nil
	})
	seen := read(t, hmp).Status.LastProbeTime
	await(t, "a run after that", func() error {
		if now := read(t, hmp).Status.LastProbeTime; !now.After(seen.Time) {
			return fmt.Errorf("the last one was at %s", now)
		}
		return nil
	})
	if statuses := ready.end(t); !slices.Equal(statuses, []metav1.ConditionStatus{metav1.ConditionTrue}) {
		t.Errorf("Ready went through %v while the pod was replaced; want True throughout", statuses)
	}
}

// TestAnotherAuthority holds the same Service against two authorities. The one that did not issue its certificate cannot
// vouch for it. What stands before the server is another question: its sidecar refuses all the same.
func TestAnotherAuthority(t *testing.T) {
	ns := namespace(t)
	createPolicy(t, peerAuthentication(ns, "default", nil, strict))
	shop := newServer(t, ns, "shop")
	shop.create(t)
	right, wrong := shop.probe("right", strict), shop.probe("wrong", strict)
	trust(t, right, shop.authority)
	trust(t, wrong, newAuthority(t, "another authority"))
	createProbe(t, right)
	createProbe(t, wrong)

	awaitCondition(t, right, api.ConditionReady, metav1.ConditionTrue)
	refuted := awaitCondition(t, wrong, api.ConditionSleepVerified, metav1.ConditionFalse)
	wantCondition(t, refuted, api.ConditionSleepVerified, metav1.ConditionFalse, api.ReasonUnexpectedCertificate)
	for _, kind := range []string{api.ConditionIstioProxyVerified, api.ConditionOutsiderVerified} {
		wantCondition(t, refuted, kind, metav1.ConditionTrue, api.ReasonRefusedByMesh)
	}

	corrected := &corev1.ConfigMap{Data: map[string]string{"ca.crt": shop.authority.pem}}
	corrected.Namespace, corrected.Name = ns, wrong.Spec.Target.CA.ConfigMap.Name
	if err := lab.Update(t.Context(), corrected); err != nil {
		t.Fatal(err)
	}
	awaitCondition(t, wrong, api.ConditionReady, metav1.ConditionTrue)
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

// TestServicesThatBreakTheirPromise probes Services at which something is wrong that no policy shows.
func TestServicesThatBreakTheirPromise(t *testing.T) {
	ns := namespace(t)
	createPolicy(t, peerAuthentication(ns, "default", nil, permissive))
	excluded, plainHTTP, misnamed := newServer(t, ns, "excluded"), newServer(t, ns, "plain-http"), newServer(t, ns, "misnamed")
	excluded.annotations = map[string]string{"traffic.sidecar.istio.io/excludeInboundPorts": "8443"}
	plainHTTP.listen = withoutTLS
	misnamed.port = "http"
	for _, s := range []*server{excluded, plainHTTP, misnamed} {
		s.create(t)
	}
	for _, s := range []*server{excluded, plainHTTP, misnamed} {
		s.awaitPods(t, 1)
	}
	t.Run("port excluded from capture", func(t *testing.T) { checkExcludedPort(t, excluded) })
	t.Run("no TLS behind the port", func(t *testing.T) { checkPlainHTTP(t, plainHTTP) })
	t.Run("port named http", func(t *testing.T) { checkMisnamedPort(t, misnamed) })
}

// checkExcludedPort has a policy that Istio computes as declared, and that nothing enforces.
func checkExcludedPort(t *testing.T, s *server) {
	createPolicy(t, peerAuthentication(s.namespace, s.name, s.selector(), strict))
	hmp := s.probe("excluded", strict)
	createProbe(t, hmp)
	hmp = awaitCondition(t, hmp, api.ConditionIstioProxyVerified, metav1.ConditionFalse)
	wantCondition(t, hmp, api.ConditionIstioProxyVerified, metav1.ConditionFalse, api.ReasonMTLSNotEnforced)
	wantCondition(t, hmp, api.ConditionOutsiderVerified, metav1.ConditionFalse, api.ReasonMTLSNotEnforced)
	wantCondition(t, hmp, api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonNotCaptured)
	// The client's sidecar believes the pod's label and sends mutual TLS, which nginx does not take.
	wantCondition(t, hmp, api.ConditionSleepVerified, metav1.ConditionFalse, api.ReasonConnectionBroken)
	if c := condition(hmp, api.ConditionPolicyInEffect); !strings.Contains(c.Message, "init container istio-init") || !strings.Contains(c.Message, "leads its port past the sidecar") {
		t.Errorf("PolicyInEffect says %q", c.Message)
	}
}

func checkPlainHTTP(t *testing.T, s *server) {
	hmp := s.probe("plain-http", unset)
	createProbe(t, hmp)
	hmp = awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionFalse)
	for _, kind := range []string{api.ConditionSleepVerified, api.ConditionIstioProxyVerified, api.ConditionOutsiderVerified} {
		wantCondition(t, hmp, kind, metav1.ConditionFalse, api.ReasonNotTLS)
	}
}

// checkMisnamedPort expects the probe of a port that Istio takes for HTTP to be refused, shows with curl that TLS really
// breaks there, and that both are over when the port gets its right name.
func checkMisnamedPort(t *testing.T, s *server) {
	hmp := s.probe("misnamed", unset)
	hmp.Spec.Target.Service.Port = intstr.FromInt32(443)
	createProbe(t, hmp)
	hmp = awaitCondition(t, hmp, api.ConditionStalled, metav1.ConditionTrue)
	wantCondition(t, hmp, api.ConditionReady, metav1.ConditionFalse, api.ReasonPortProtocol)
	if c := condition(hmp, api.ConditionReady); !strings.Contains(c.Message, "port 443 of Service "+s.namespace+"/misnamed for http by its name") {
		t.Errorf("Ready says %q", c.Message)
	}
	for _, container := range []string{"sleep", "istio-proxy"} {
		if out, err := curl(t, s, container); err == nil {
			t.Errorf("curl from %s got %s: the port works, and refusing to probe it is wrong", container, out)
		}
	}

	service := &corev1.Service{}
	service.Namespace, service.Name = s.namespace, s.name
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"ports":[{"name":"https","port":443,"targetPort":%d}]}}`, serverPort))
	if err := lab.Patch(t.Context(), service, patch); err != nil {
		t.Fatal(err)
	}
	awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionTrue)
	for _, container := range []string{"sleep", "istio-proxy"} {
		if out, err := curl(t, s, container); err != nil {
			t.Errorf("curl from %s: %s, %v", container, out, err)
		}
	}
}

func curl(t *testing.T, s *server, container string) (string, error) {
	t.Helper()
	pod := clientPod(t, s.namespace, "meshprobe-sleep")
	return run(t, s.namespace, pod.Name, container, "curl", "-sk", "-m", "5", "-o", "/dev/null", "-w", "%{http_code} %{errormsg}", "https://"+s.host()+"/")
}

// TestMixedDeployment scales a Deployment up after its namespace has got injection: the first pod has no sidecar, the
// second has one, and both stand behind the Service.
func TestMixedDeployment(t *testing.T) {
	ns := namespace(t)
	createPolicy(t, peerAuthentication(ns, "default", nil, strict))
	shop := newServer(t, ns, "shop")
	shop.labels = nil
	shop.create(t)
	old := shop.awaitPods(t, 1)[0]
	label := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"istio-injection":"enabled"}}}`))
	if err := lab.Patch(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, label); err != nil {
		t.Fatal(err)
	}
	await(t, "injection into namespace "+ns, func() error {
		if injectedImage(t, ns, nil) == "" {
			return fmt.Errorf("a pod would get no sidecar")
		}
		return nil
	})
	scale(t, ns, shop.name, 2)
	shop.awaitPods(t, 2)

	hmp := shop.probe("mixed", strict)
	createProbe(t, hmp)
	hmp = awaitCondition(t, hmp, api.ConditionIstioProxyVerified, metav1.ConditionFalse)
	wantCondition(t, hmp, api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted)
	wantCondition(t, hmp, api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonSidecarMissing)
	for _, kind := range []string{api.ConditionIstioProxyVerified, api.ConditionOutsiderVerified, api.ConditionPolicyInEffect} {
		if c := condition(hmp, kind); !strings.Contains(c.Message, old.Name+" (1 of 2 endpoints)") {
			t.Errorf("%s does not name the pod without sidecar: %s, %s", kind, c.Reason, c.Message)
		}
	}
	for _, path := range hmp.Status.Paths[1:] {
		e := path.Endpoints
		if e == nil || e.Total != 2 || e.Asked != 2 || e.Mismatched != 1 || len(e.Examples) != 1 || e.Examples[0].Name != old.Name {
			t.Errorf("%s: endpoints %+v", path.Name, e)
		}
	}

	if err := lab.Delete(t.Context(), &old); err != nil {
		t.Fatal(err)
	}
	verified := awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionTrue)
	for _, path := range verified.Status.Paths[1:] {
		if e := path.Endpoints; e == nil || e.Asked != e.Total || e.Mismatched != 0 {
			t.Errorf("%s: endpoints %+v after the pod was replaced", path.Name, e)
		}
	}
}
