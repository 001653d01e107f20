package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	securityv1beta1 "istio.io/api/security/v1beta1"
	typev1beta1 "istio.io/api/type/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// TestSamples applies config/samples and expects of them what Istio's task "Mutual TLS over HTTPS" promises.
func TestSamples(t *testing.T) {
	ns := namespace(t)
	want := map[string]string{
		"no-sidecar":      "200/200/200",
		"mtls-disabled":   "200/200/200",
		"mtls-permissive": "200/200/200",
		"mtls-strict":     "200/refused/refused",
	}
	for name := range want {
		create(t, ns, filepath.Join("..", "..", "config", "samples", name+".yaml"))
	}
	for name, paths := range want {
		t.Run(name, func(t *testing.T) {
			hmp := &api.HTTPSMeshProbe{}
			hmp.Namespace, hmp.Name = ns, name
			hmp = awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionTrue)
			if got := observed(hmp); got != paths {
				t.Errorf("paths: got %s, want %s", got, paths)
			}
			checkEvidence(t, hmp)
		})
	}
}

func create(t *testing.T, namespace, file string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	hmp := &api.HTTPSMeshProbe{}
	if err := yaml.UnmarshalStrict(content, hmp); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	hmp.Namespace = namespace
	if err := lab.Create(t.Context(), hmp); err != nil {
		t.Fatalf("create %s: %v", file, err)
	}
}

// checkEvidence holds what the status says against what must be true on the wire, and expects every condition to be True.
func checkEvidence(t *testing.T, hmp *api.HTTPSMeshProbe) {
	t.Helper()
	for _, path := range hmp.Status.Paths {
		checkPath(t, hmp, path)
	}
	for _, kind := range []string{api.ConditionSleepVerified, api.ConditionIstioProxyVerified, api.ConditionOutsiderVerified, api.ConditionPolicyInEffect} {
		if c := condition(hmp, kind); c.Status != metav1.ConditionTrue {
			t.Errorf("%s is %s: %s", kind, c.Status, c.Message)
		}
	}
}

// checkPath holds the evidence of one path against what it is said to have met: the server's own sidecar in a refusal,
// nginx in an answer, and nobody where the connection broke in the handshake.
func checkPath(t *testing.T, hmp *api.HTTPSMeshProbe, path api.PathStatus) {
	t.Helper()
	handshaken := path.TLSVersion == "TLS 1.3" && path.CipherSuite != ""
	spiffe := "spiffe://cluster.local/ns/" + hmp.Namespace + "/sa/" + hmp.Name + "-nginx"
	switch path.Observed {
	case "refused":
		if path.Peer != spiffe || path.Alert != "certificate_required" || !path.ClientCertificateRequested || !handshaken {
			t.Errorf("%s: a refusal must show the sidecar's identity and its alert: %+v", path.Name, path)
		}
	case "200":
		if !strings.HasPrefix(path.Peer, "sha256:") || path.ClientCertificateRequested || path.HTTPCode != 200 || !handshaken {
			t.Errorf("%s: an answer must show nginx's certificate: %+v", path.Name, path)
		}
	default:
		if path.Peer != "" || path.HTTPCode != 0 || handshaken {
			t.Errorf("%s: a broken handshake must show no peer: %+v", path.Name, path)
		}
	}
	if path.Latency == nil || path.LastProbeTime == nil {
		t.Errorf("%s: evidence is missing: %+v", path.Name, path)
	}
}

// TestServerDownIsNoPass scales the STRICT server to zero: whoever goes around the mesh still meets a refusal or
// nothing, and neither proves anything now.
func TestServerDownIsNoPass(t *testing.T) {
	ns := namespace(t)
	hmp := probe(t, ns, "strict", api.SidecarEnabled, api.MTLSStrict)
	awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionTrue)

	scale(t, ns, "strict-nginx", 0)
	await(t, "Ready to leave True", func() error {
		if c := condition(read(t, hmp), api.ConditionReady); c.Status == metav1.ConditionTrue {
			return fmt.Errorf("it is still True")
		}
		return nil
	})
	ready := recordReady(t, hmp)
	down := awaitCondition(t, hmp, api.ConditionSleepVerified, metav1.ConditionFalse)
	runs := down.Status.LastProbeTime
	await(t, "another run while the server is down", func() error {
		down = read(t, hmp)
		if !down.Status.LastProbeTime.After(runs.Time) {
			return fmt.Errorf("last run at %s", down.Status.LastProbeTime)
		}
		return nil
	})
	for _, kind := range []string{api.ConditionIstioProxyVerified, api.ConditionOutsiderVerified} {
		if c := condition(down, kind); c.Status != metav1.ConditionUnknown {
			t.Errorf("%s is %s (%s: %s) while nginx is down; want Unknown", kind, c.Status, c.Reason, c.Message)
		}
	}
	for _, status := range ready.end(t) {
		if status == metav1.ConditionTrue {
			t.Error("Ready was True while nginx was down")
		}
	}
	scale(t, ns, "strict-nginx", 1)
	awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionTrue)
}

// TestHangingServerIsNoPass stops nginx behind a sidecar that refuses everybody, the path sleep too. Nobody but kubelet can
// tell that there is a server, and when kubelet does so no more, nothing passes.
func TestHangingServerIsNoPass(t *testing.T) {
	ns := namespace(t)
	hmp := newProbe(ns, "strict", meshed, strict)
	hmp.Spec.MTLS.ClientMode = plain
	createProbe(t, hmp)
	verified := awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionTrue)
	if got := observed(verified); got != "refused/refused/refused" {
		t.Errorf("paths: %s", got)
	}
	pod := podsWith(t, ns, "meshprobe.dev/probe=strict")[0].Name
	signalWorkers(t, ns, pod, "STOP")
	begun := time.Now()
	await(t, "no path to pass", func() error {
		hmp = read(t, hmp)
		for _, kind := range []string{api.ConditionSleepVerified, api.ConditionIstioProxyVerified, api.ConditionOutsiderVerified} {
			if c := condition(hmp, kind); c.Status == metav1.ConditionTrue {
				return fmt.Errorf("%s is True: %s", kind, c.Message)
			}
		}
		return nil
	})
	t.Logf("no path passes any more %s after nginx has stopped", time.Since(begun).Round(100*time.Millisecond))
	if c := condition(hmp, api.ConditionReady); c.Status != metav1.ConditionUnknown {
		t.Errorf("Ready is %s: %s", c.Status, c.Message)
	}
	signalWorkers(t, ns, pod, "CONT")
	awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionTrue)
}

// signalWorkers sends a signal to nginx's workers. The brackets keep the shell from finding itself.
func signalWorkers(t *testing.T, ns, pod, signal string) {
	t.Helper()
	script := `for p in /proc/[0-9]*; do grep -q "[n]ginx: worker" $p/cmdline 2>/dev/null && kill -` + signal + ` ${p#/proc/} && echo ${p#/proc/}; done; true`
	if out, err := run(t, ns, pod, "nginx", "sh", "-c", script); err != nil || strings.TrimSpace(out) == "" {
		t.Fatalf("signal %s to nginx's workers: %q, %v", signal, out, err)
	}
}

func scale(t *testing.T, namespace, name string, replicas int) {
	t.Helper()
	deployment := &appsv1.Deployment{}
	deployment.Namespace, deployment.Name = namespace, name
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas))
	if err := lab.Patch(t.Context(), deployment, patch, client.FieldOwner("a-person")); err != nil {
		t.Fatalf("scale %s to %d: %v", name, replicas, err)
	}
}

// TestPolicyChangedBehindTheOperator switches the fixture's policy off by hand.
func TestPolicyChangedBehindTheOperator(t *testing.T) {
	ns := namespace(t)
	hmp := probe(t, ns, "strict", api.SidecarEnabled, api.MTLSStrict)
	awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionTrue)

	policy := &securityv1.PeerAuthentication{}
	policy.Namespace, policy.Name = ns, "strict-nginx"
	patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"mtls":{"mode":"DISABLE"}}}`))
	if err := lab.Patch(t.Context(), policy, patch, client.FieldOwner("a-person")); err != nil {
		t.Fatal(err)
	}
	await(t, "the policy to be set back", func() error {
		if err := lab.Get(t.Context(), client.ObjectKeyFromObject(policy), policy); err != nil {
			return err
		}
		if mode := policy.Spec.GetMtls().GetMode(); mode != securityv1beta1.PeerAuthentication_MutualTLS_STRICT {
			return fmt.Errorf("its mode is %s", mode)
		}
		return nil
	})
	await(t, "an event that names who changed it", func() error {
		var events eventsv1.EventList
		if err := lab.List(t.Context(), &events, client.InNamespace(ns)); err != nil {
			return err
		}
		for _, event := range events.Items {
			if event.Reason == "Repaired" && strings.Contains(event.Note, "PeerAuthentication strict-nginx was changed by a-person") {
				return nil
			}
		}
		return fmt.Errorf("%d events, not that one", len(events.Items))
	})
	awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionTrue)
}

// TestOlderPolicyIsNamed puts an older policy before the same pods: it wins, and the verdict says which one it is.
func TestOlderPolicyIsNamed(t *testing.T) {
	ns := namespace(t)
	legacy := &securityv1.PeerAuthentication{}
	legacy.Namespace, legacy.Name = ns, "a-legacy"
	legacy.Spec.Selector = &typev1beta1.WorkloadSelector{MatchLabels: map[string]string{"meshprobe.dev/probe": "strict"}}
	legacy.Spec.Mtls = &securityv1beta1.PeerAuthentication_MutualTLS{Mode: securityv1beta1.PeerAuthentication_MutualTLS_PERMISSIVE}
	if err := lab.Create(t.Context(), legacy); err != nil {
		t.Fatal(err)
	}
	hmp := probe(t, ns, "strict", api.SidecarEnabled, api.MTLSStrict)
	refuted := awaitCondition(t, hmp, api.ConditionIstioProxyVerified, metav1.ConditionFalse)
	if c := condition(refuted, api.ConditionIstioProxyVerified); c.Reason != api.ReasonMTLSNotEnforced {
		t.Errorf("reason %s, want %s", c.Reason, api.ReasonMTLSNotEnforced)
	}
	if c := condition(refuted, api.ConditionPolicyInEffect); c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, ns+"/a-legacy") {
		t.Errorf("PolicyInEffect is %s and says %q; want False and the name of the older policy", c.Status, c.Message)
	}
	if err := lab.Delete(t.Context(), legacy); err != nil {
		t.Fatal(err)
	}
	verified := awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionTrue)
	if got := observed(verified); got != "200/refused/refused" {
		t.Errorf("paths: %s", got)
	}
}

// TestInheritedPolicy leaves the mode to the namespace.
func TestInheritedPolicy(t *testing.T) {
	ns := namespace(t)
	policy := &securityv1.PeerAuthentication{}
	policy.Namespace, policy.Name = ns, "default"
	policy.Spec.Mtls = &securityv1beta1.PeerAuthentication_MutualTLS{Mode: securityv1beta1.PeerAuthentication_MutualTLS_STRICT}
	if err := lab.Create(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	hmp := awaitCondition(t, probe(t, ns, "inherit", api.SidecarEnabled, api.MTLSUnset), api.ConditionReady, metav1.ConditionTrue)
	if got := observed(hmp); got != "200/refused/refused" {
		t.Errorf("paths under a STRICT namespace: %s", got)
	}
	if err := lab.Delete(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	await(t, "the paths to follow Istio's default, PERMISSIVE", func() error {
		if hmp = read(t, hmp); observed(hmp) != "200/200/200" || condition(hmp, api.ConditionReady).Status != metav1.ConditionTrue {
			return fmt.Errorf("paths %q, Ready %s", observed(hmp), condition(hmp, api.ConditionReady).Status)
		}
		return nil
	})
}

// TestEditedSpec follows a probe from one policy to the next, and back to no sidecar at all.
func TestEditedSpec(t *testing.T) {
	ns := namespace(t)
	hmp := probe(t, ns, "edited", api.SidecarEnabled, api.MTLSStrict)
	for _, step := range []struct {
		sidecar api.Sidecar
		mode    api.MTLSMode
		want    string
	}{
		{api.SidecarEnabled, api.MTLSStrict, "200/refused/refused"},
		{api.SidecarEnabled, api.MTLSDisable, "200/200/200"},
		{api.SidecarEnabled, api.MTLSPermissive, "200/200/200"},
		{api.SidecarEnabled, api.MTLSStrict, "200/refused/refused"},
		{api.SidecarDisabled, api.MTLSDisable, "200/200/200"},
	} {
		begun := time.Now()
		before := read(t, hmp)
		hmp = before.DeepCopy()
		hmp.Spec.Target.Sidecar, hmp.Spec.MTLS.Mode = step.sidecar, step.mode
		// A patch, because the operator writes the status meanwhile.
		if err := lab.Patch(t.Context(), hmp, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
		await(t, fmt.Sprintf("the verdict on %s %s", step.sidecar, step.mode), func() error {
			fresh := read(t, hmp)
			ready := condition(fresh, api.ConditionReady)
			if ready.Status != metav1.ConditionTrue || ready.ObservedGeneration != hmp.Generation || observed(fresh) != step.want {
				return fmt.Errorf("Ready %s at generation %d of %d, paths %s: %s", ready.Status, ready.ObservedGeneration, hmp.Generation, observed(fresh), ready.Message)
			}
			return nil
		})
		t.Logf("%s %s: %s after %s", step.sidecar, step.mode, step.want, time.Since(begun).Round(10*time.Millisecond))
	}
}
