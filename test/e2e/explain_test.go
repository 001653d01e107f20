package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
	"github.com/meshprobe/httpsmeshprobe/internal/plugin"
	"github.com/meshprobe/httpsmeshprobe/internal/whatif"
)

// meshprobe calls the plugin as a person would, and returns what it prints and its exit code.
func meshprobe(t *testing.T, arguments ...string) (out, complaint string, code int) {
	t.Helper()
	var printed, complained bytes.Buffer
	streams := genericiooptions.IOStreams{In: strings.NewReader(""), Out: &printed, ErrOut: &complained}
	code = plugin.Run(t.Context(), plugin.Program{IOStreams: streams, Version: "test", Arguments: arguments})
	return printed.String(), complained.String(), code
}

func wantMention(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is not in:\n%s", word, text)
		}
	}
}

// objectsIn reads the objects that policies are computed from as the plugin does.
func objectsIn(t *testing.T, text string) (objects []client.Object) {
	t.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		content := &unstructured.Unstructured{}
		if err := decoder.Decode(content); errors.Is(err, io.EOF) {
			return objects
		} else if err != nil {
			t.Fatal(err)
		}
		object, err := whatif.Decode(content)
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, object)
	}
}

// TestForecastsComeTrue forecasts what policies would do to a user's Service, applies them, and compares what the paths
// then see. The policies are applied one after the other, so that each is held against what the one before left.
func TestForecastsComeTrue(t *testing.T) {
	ns := namespace(t)
	shop := newServer(t, ns, "shop")
	shop.create(t)
	shop.awaitPods(t, 1)
	hmp := shop.probe("shop", strict)
	createProbe(t, hmp)
	for _, c := range []struct{ name, policy string }{
		{"the namespace STRICT", `{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default, namespace: NS}, spec: {mtls: {mode: STRICT}}}`},
		{"the workload PERMISSIVE", `{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: shop, namespace: NS}, spec: {selector: {matchLabels: {app: shop}}, mtls: {mode: PERMISSIVE}}}`},
		{"a younger one STRICT, which is out of force", `{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: a-younger, namespace: NS}, spec: {selector: {matchLabels: {app: shop}}, mtls: {mode: STRICT}}}`},
		{"the client told to send plaintext", `{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: shop, namespace: NS}, spec: {host: shop, trafficPolicy: {tls: {mode: DISABLE}}}}`},
		{"the workload STRICT, by the same object", `{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: shop, namespace: NS}, spec: {selector: {matchLabels: {app: shop}}, mtls: {mode: STRICT}}}`},
	} {
		text := strings.ReplaceAll(c.policy, "NS", ns)
		forecasts, err := whatif.Answer(t.Context(), whatif.Question{
			Files: objectsIn(t, text), Below: lab, Now: time.Now(),
			Place: inventory.Place{IstioNamespace: "istio-system", ClusterDomain: "cluster.local"},
		})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if len(forecasts) != 1 || forecasts[0].Then == nil {
			t.Fatalf("%s: got %d forecasts, want one of the probe", c.name, len(forecasts))
		}
		apply(t, text)
		await(t, "the forecast of "+c.name+" to come true", func() error { return cameTrue(read(t, hmp), forecasts[0]) })
	}
}

func apply(t *testing.T, text string) {
	t.Helper()
	content := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &content.Object); err != nil {
		t.Fatal(err)
	}
	if err := lab.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(content), client.FieldOwner("somebody"), client.ForceOwnership); err != nil {
		t.Fatal(err)
	}
}

// cameTrue holds what the paths saw, once the proxies have followed, against what was forecast.
func cameTrue(hmp *api.HTTPSMeshProbe, forecast whatif.Forecast) error {
	if meta.IsStatusConditionTrue(hmp.Status.Conditions, api.ConditionReconciling) {
		return fmt.Errorf("the proxies are following")
	}
	if got, want := condition(hmp, api.ConditionPolicyInEffect), forecast.Then.Policy; got.Status != want.Status || got.Reason != want.Reason {
		return fmt.Errorf("PolicyInEffect is %s (%s), and forecast was %s", got.Status, got.Reason, want)
	}
	for _, path := range forecast.Then.Paths {
		for _, seen := range hmp.Status.Paths {
			got := seen.Observed
			if strings.HasPrefix(path.Computed, "answer") && got == "200" {
				got = "answer" // which code a stranger's server gives is not forecast
			}
			if seen.Encryption != "" && (got == "200" || got == "answer") {
				got += " by " + string(seen.Encryption)
			}
			if seen.Name == path.Name && got != path.Computed {
				return fmt.Errorf("%s saw %s, and forecast was %s", path.Name, got, path.Computed)
			}
		}
	}
	return nil
}

// TestExplainNamesWhatToChange reads what the plugin says of a probe that an older policy refutes, does as it says, and
// reads it again.
func TestExplainNamesWhatToChange(t *testing.T) {
	ns := namespace(t)
	legacy := peerAuthentication(ns, "legacy", map[string]string{"app": "shop"}, permissive)
	createPolicy(t, legacy)
	createPolicy(t, peerAuthentication(ns, "default", nil, strict))
	shop := newServer(t, ns, "shop")
	shop.create(t)
	hmp := shop.probe("shop", strict)
	createProbe(t, hmp)
	awaitCondition(t, hmp, api.ConditionIstioProxyVerified, metav1.ConditionFalse)

	out, _, code := meshprobe(t, "explain", "shop", "-n", ns)
	if code != plugin.ExitRefuted {
		t.Errorf("exit code: got %d, want %d", code, plugin.ExitRefuted)
	}
	wantMention(t, out, "To change\n  PeerAuthentication "+ns+"/legacy\n", "then PeerAuthentication "+ns+"/default decides", "Ready is False, Refuted")

	out, _, code = meshprobe(t, "explain", "-f", writeFile(t, `{apiVersion: v1, kind: Namespace, metadata: {name: `+ns+`}}`), "--without", "peerauthentication/"+ns+"/legacy")
	if code != plugin.ExitVerified {
		t.Errorf("exit code of the forecast without the policy: got %d, want %d:\n%s", code, plugin.ExitVerified, out)
	}
	wantMention(t, out, "as declared, changes")

	// The pods go with their Deployment, and without pods nobody can tell.
	anything := writeFile(t, `{apiVersion: v1, kind: Namespace, metadata: {name: `+ns+`}}`)
	out, _, code = meshprobe(t, "explain", "-f", anything, "--without", "deployment/"+ns+"/shop")
	if code != plugin.ExitUnknown {
		t.Errorf("exit code of the forecast without the pods: got %d, want %d:\n%s", code, plugin.ExitUnknown, out)
	}
	wantMention(t, out, "NoEndpoints", "cannot tell")
	_, complaint, code := meshprobe(t, "explain", "-f", anything, "--without", "peerauthentication/"+ns+"/legcay")
	if code != plugin.ExitUnknown || !strings.Contains(complaint, "neither in the cluster nor among the files") {
		t.Errorf("a misspelt --without: got exit code %d and %q", code, complaint)
	}

	deletePolicy(t, legacy)
	awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionTrue)
	out, _, code = meshprobe(t, "explain", "shop", "-n", ns)
	if code != plugin.ExitVerified || strings.Contains(out, "To change") {
		t.Errorf("exit code: got %d, want %d and nothing to change:\n%s", code, plugin.ExitVerified, out)
	}
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestInjectionIsForecast holds what is forecast of injection against Istio's own webhook, by pods created as a dry run.
func TestInjectionIsForecast(t *testing.T) {
	for _, namespaceLabels := range []map[string]string{
		nil, {"istio-injection": "enabled"}, {"istio-injection": "disabled"}, {"istio.io/rev": "default"},
		{"istio-injection": "disabled", "istio.io/rev": "default"}, {"istio-injection": "enabled", "istio.io/rev": "default"},
	} {
		ns := labelledNamespace(t, namespaceLabels)
		for _, podLabels := range []map[string]string{
			nil, {"sidecar.istio.io/inject": "true"}, {"sidecar.istio.io/inject": "false"}, {"istio.io/rev": "default"},
			{"istio.io/rev": "default", "sidecar.istio.io/inject": "false"},
		} {
			for _, hostNetwork := range []bool{false, true} {
				pod := &corev1.Pod{Spec: corev1.PodSpec{HostNetwork: hostNetwork, Containers: []corev1.Container{{Name: "app", Image: "app"}}}}
				pod.Namespace, pod.Name, pod.Labels = ns, "app", podLabels
				if err := lab.Create(t.Context(), pod, client.DryRunAll); err != nil {
					t.Fatal(err)
				}
				injected := false
				for _, container := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
					injected = injected || container.Name == "istio-proxy"
				}
				if got := whatif.Injected(namespaceLabels, podLabels, hostNetwork); got != injected {
					t.Errorf("namespace %v, pod %v, hostNetwork %v: forecast %v, and the webhook says %v", namespaceLabels, podLabels, hostNetwork, got, injected)
				}
			}
		}
	}
}
