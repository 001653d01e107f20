package e2e

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// enforcedAround is what the two paths around the client's sidecar say under STRICT, whatever the application does.
func enforcedAround() []saying {
	return []saying{
		says(api.ConditionIstioProxyVerified, metav1.ConditionTrue, api.ReasonRefusedByMesh),
		says(api.ConditionOutsiderVerified, metav1.ConditionTrue, api.ReasonRefusedByMesh),
	}
}

// TestShownEnforcedApart holds that mutual TLS is enforced apart from what the application answers.
func TestShownEnforcedApart(t *testing.T) {
	t.Parallel()
	t.Run("404", func(t *testing.T) {
		t.Parallel()
		ns := namespace(t)
		createPolicy(t, peerAuthentication(ns, "default", nil, strict))
		web := newOdd(t, ns, "web")
		web.ports[serverPort] = "not-found"
		web.create(t)
		hmp := web.probe("web", strict)
		createProbe(t, hmp)
		awaitPaths(t, hmp)
		truth(t, ns, web.url(), "404", "000", "000")
		v := keep(t, hmp)
		v.comesBack(t)
		v.says(t, enforcedAround()...)
	})
	t.Run("authorization", func(t *testing.T) {
		t.Parallel()
		ns := namespace(t)
		createPolicy(t, peerAuthentication(ns, "default", nil, strict))
		web := newOdd(t, ns, "web").create(t)
		hmp := web.probe("web", strict)
		createProbe(t, hmp)
		v := verified(t, hmp)
		undo := establish(t, `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {namespace: %s, name: somebody-else}
spec:
  selector: {matchLabels: {app: web}}
  action: ALLOW
  rules: [{from: [{source: {principals: [cluster.local/ns/elsewhere/sa/somebody]}}]}]
`, ns)
		v.fallsAndStays(t, fallsWithin, staysAway, append(enforcedAround(),
			says(api.ConditionSleepVerified, metav1.ConditionFalse, reasonAuthorization).naming("AuthorizationPolicy "+ns+"/somebody-else"))...)
		truth(t, ns, web.url(), "000", "000", "000")
		denied := web.probe("denied", strict)
		denied.Spec.Expect = []api.PathExpectation{{Path: api.PathSleep, See: intstr.FromString("denied"), Reason: "only somebody may in"}}
		if err := lab.Create(t.Context(), denied); err != nil {
			t.Errorf("a probe that expects to be denied: %v", err)
		} else {
			awaitCondition(t, denied, api.ConditionReady, metav1.ConditionTrue)
		}
		undo()
		v.comesBack(t)
	})
}

// TestShownApplicationDemandsCertificate has the application itself break the handshake, under PERMISSIVE.
func TestShownApplicationDemandsCertificate(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	web := newOdd(t, ns, "web")
	web.ports[serverPort] = "client-certificate"
	web.create(t)
	hmp := web.probe("web", permissive)
	createProbe(t, hmp)
	awaitPaths(t, hmp)
	truth(t, ns, web.url(), "000", "000", "000")
	keep(t, hmp).fallsAndStays(t, fallsWithin, 3*shownInterval,
		says(api.ConditionSleepVerified, metav1.ConditionFalse, reasonApplicationRefused), says(api.ConditionPolicyInEffect, metav1.ConditionTrue))
}

// TestShownTolerance probes servers that curl -k gets an answer from, all of them behind one sidecar, and one by an
// EndpointSlice that names no pod.
func TestShownTolerance(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	web := newOdd(t, ns, "web")
	manners := []string{"early-hints", "http2-only", "rsa-key-exchange", "huge-rsa", "negative-serial", "spiffe-name"}
	for i, manner := range manners {
		web.ports[9001+i] = manner
	}
	web.create(t)
	createPolicy(t, peerAuthentication(ns, "web", web.selector(), permissive))
	probes := map[string]*api.HTTPSMeshProbe{}
	for i, manner := range manners {
		probes[manner] = web.expose(t, manner, 9001+i, permissive)
		// A signature of that size takes the server long.
		probes[manner].Spec.Interval.Duration, probes[manner].Spec.Timeout.Duration = 20*time.Second, 10*time.Second
		createProbe(t, probes[manner])
	}
	strictly := newOdd(t, ns, "strictly").create(t)
	createPolicy(t, peerAuthentication(ns, "strictly", strictly.selector(), strict))
	establish(t, slice, ns, "by-hand", "by-hand", serverPort, strictly.awaitPods(t, 1)[0].Status.PodIP, "")
	probes["by-hand"] = handMade(t, strictly, "by-hand", strict)
	createProbe(t, probes["by-hand"])
	for name, hmp := range probes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			awaitPaths(t, hmp)
			if got := asks(t, ns, "sleep", "https://"+name+"."+ns+".svc.cluster.local/"); !strings.HasPrefix(got, "200") {
				t.Fatalf("curl from sleep meets %s", got)
			}
			v := keep(t, hmp)
			v.comesBack(t)
			t.Log("it says " + v.words())
		})
	}
}
