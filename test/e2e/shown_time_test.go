package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
)

// cuttable gives the server's pod a container that can cut its proxy off from istiod.
func (o *odd) cuttable() *odd {
	root, no := int64(0), false
	o.edit = func(pod *corev1.PodTemplateSpec) {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
			Name: "cutter", Image: "lab.local/istio/proxyv2:1.31.0", Command: []string{"sleep", "infinity"},
			SecurityContext: &corev1.SecurityContext{RunAsUser: &root, RunAsGroup: &root, RunAsNonRoot: &no,
				Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN", "NET_RAW"}}},
		})
	}
	return o
}

// cut drops what passes between the proxy and istiod, in the pod's own network; mend lets it pass again.
func (o *odd) cut(t *testing.T) (mend func()) {
	t.Helper()
	pod := o.awaitPods(t, 1)[0].Name
	filter := func(action string) {
		script := fmt.Sprintf("iptables -%[1]s OUTPUT -p tcp --dport 15012 -j DROP && iptables -%[1]s INPUT -p tcp --sport 15012 -j DROP", action)
		if out, err := run(t, o.namespace, pod, "cutter", "sh", "-c", script); err != nil {
			t.Fatalf("%s: %s, %v", script, out, err)
		}
	}
	filter("I")
	return func() { filter("D") }
}

// TestShownCutOff has a policy change that never reaches the server's proxy, while occasions come all the time.
func TestShownCutOff(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	web := newOdd(t, ns, "web").cuttable().create(t)
	hmp := web.probe("web", unset)
	createProbe(t, hmp)
	v := verified(t, hmp)
	mend := web.cut(t)
	occasions(t, func() time.Duration { return 4 * time.Second }, hmp)
	createPolicy(t, peerAuthentication(ns, "default", nil, strict))
	const settling = 10 * time.Second
	v.fallsAndStays(t, settling+2*shownInterval, staysAway, says(api.ConditionOutsiderVerified, metav1.ConditionFalse, api.ReasonMTLSNotEnforced))
	truth(t, ns, web.url(), "200", "200", "200")
	mend()
	// The agent beside Envoy calls istiod again when it misses its answers.
	await(t, "the policy to reach the proxy", func() error {
		if got := asks(t, ns, "outsider", web.url()); !strings.HasPrefix(got, "000") {
			return fmt.Errorf("curl meets %s", got)
		}
		return nil
	})
	v.comesBack(t)
}

// TestShownDownAmidOccasions has the server stop listening while occasions follow each other. It wants the lab to itself.
func TestShownDownAmidOccasions(t *testing.T) {
	ns := namespace(t)
	createPolicy(t, peerAuthentication(ns, "default", nil, strict))
	web := newOdd(t, ns, "web").create(t)
	hmp := web.probe("web", strict)
	createProbe(t, hmp)
	v := verified(t, hmp)
	random := rand.New(rand.NewPCG(flipSeed, 0))
	occasions(t, func() time.Duration { return 600*time.Millisecond + time.Duration(random.Int64N(int64(time.Second))) }, hmp)
	web.behave(t, serverPort, "closed", "")
	const bound = 8 * time.Second
	v.fallsAndStays(t, bound, staysAway, says(api.ConditionSleepVerified, metav1.ConditionFalse, reasonConnectionBroken, reasonNoConnection))
	if got := asks(t, ns, "sleep", web.url()); !strings.HasPrefix(got, "000") {
		t.Errorf("curl from sleep meets %s", got)
	}
	web.behave(t, serverPort, "plain", "")
	v.comesBack(t)
}

// TestShownBriefly has the server answer 503 for a second, beside an occasion: the threshold of three is not of moments.
func TestShownBriefly(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	createPolicy(t, peerAuthentication(ns, "default", nil, strict))
	web := newOdd(t, ns, "web").create(t)
	hmp := web.probe("web", strict)
	hmp.Spec.Interval.Duration, hmp.Spec.FailureThreshold = 30*time.Second, 3
	see := api.PathExpectation{Path: api.PathSleep, Reason: "nothing but 200 will do"}
	see.See.IntVal = 200
	hmp.Spec.Expect = []api.PathExpectation{see}
	createProbe(t, hmp)
	v := verified(t, hmp)
	web.behave(t, serverPort, "unavailable", "")
	spoil(t, hmp.DeepCopy(), fmt.Sprintf(`{"metadata":{"annotations":{%q:"now"}}}`, api.AnnotationRequestedAt))
	v.neverFalse(t, time.Second)
	if got := asks(t, ns, "sleep", web.url()); !strings.HasPrefix(got, "503") {
		t.Errorf("curl from sleep meets %s", got)
	}
	web.behave(t, serverPort, "plain", "")
	v.neverFalse(t, staysAway)
	v.comesBack(t)
}

// TestShownStepFails refuses whatever the operator writes of Services, and gives it something to repair.
func TestShownStepFails(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	hmp := probe(t, ns, "own", meshed, strict)
	v := verified(t, hmp)
	account := "system:serviceaccount:" + operatorNamespace + ":" + operatorAccount
	undo := establish(t, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: %[1]s}
webhooks:
- name: nobody.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  timeoutSeconds: 1
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[1]s}}
  matchConditions: [{name: operator, expression: "request.userInfo.username == '%[2]s'"}]
  clientConfig: {service: {namespace: %[1]s, name: nobody}}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [services]}]
`, ns, account)
	// The API server hears of the webhook a little later.
	service := &corev1.Service{}
	service.Namespace, service.Name = ns, fixture.ServerName(hmp.Name)
	await(t, "the operator's writes to be refused", func() error { return refusesWrites(t, account, service) })
	spoil(t, service, `{"metadata":{"labels":{"app.kubernetes.io/name":"spoiled"}}}`)
	v.fallsAndStays(t, staysAway, staysAway, says(api.ConditionReady, "", reasonReconcileFailed, api.ReasonApplyFailed))
	undo()
	v.comesBack(t)
}

// refusesWrites returns nil if the API server refuses an account's writes of a Service because of a webhook.
func refusesWrites(t *testing.T, account string, service *corev1.Service) error {
	t.Helper()
	config := *lab.config
	config.Impersonate.UserName = account
	as, err := client.New(&config, client.Options{Scheme: lab.Scheme()})
	if err != nil {
		return err
	}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"refused":"yes"}}}`))
	if err = as.Patch(t.Context(), service.DeepCopy(), patch, client.DryRunAll); err == nil || !strings.Contains(err.Error(), "webhook") {
		return fmt.Errorf("a write is answered with: %w", err)
	}
	return nil
}
