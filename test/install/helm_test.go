package install

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const (
	release   = "httpsmeshprobe"
	releaseIn = "httpsmeshprobe-system"
	crd       = "httpsmeshprobes.meshprobe.dev"
)

// labValues are what the lab's images are called.
var labValues = []string{
	"--set", "image.repository=lab.local/httpsmeshprobe,image.tag=dev",
	"--set", "probes.serverImage=lab.local/nginx:1.22.1,probes.sleepImage=lab.local/curl:7.88.1,heartbeat=10s",
}

// TestHelmInstallsUpgradesAndUninstalls goes through a release's life: from an older chart, whose CustomResourceDefinition
// lacks a field, by way of this one, to what is left.
func TestHelmInstallsUpgradesAndUninstalls(t *testing.T) {
	before := everything(t)
	kubectl(t, "create", "namespace", "shop")
	afterwards(t, "delete", "namespace", "shop", releaseIn, "--ignore-not-found", "--wait=false")
	afterwards(t, "delete", "crd", crd, "--ignore-not-found")
	afterwards(t, "-n", "shop", "delete", "hmp", "--all", "--ignore-not-found")

	t.Cleanup(func() {
		_, _ = helmTry(context.Background(), "uninstall", release, "-n", releaseIn, "--ignore-not-found")
	})

	begin := []string{"-n", releaseIn, "--wait", "--timeout", "2m"}
	notes := helm(t, slices.Concat([]string{"install", release, olderChart(t), "--create-namespace"}, begin, labValues)...)
	t.Log(notes)
	if !strings.Contains(notes, "kubectl get hmp -A") {
		t.Errorf("notes: %s", notes)
	}
	if fields := specFields(t); strings.Contains(fields, "failureThreshold") || !strings.Contains(fields, "interval") {
		t.Fatal("the older chart's CustomResourceDefinition has the new field")
	}
	apply(t, strictProbe("shop", "strict"))
	awaitReady(t, "shop", "strict", "True Verified")
	checkHeld(t, "system:serviceaccount:"+releaseIn+":httpsmeshprobe-manager", "shop")
	uid := kubectl(t, "-n", "shop", "get", "hmp", "strict", "-o", "jsonpath={.metadata.uid}")

	helm(t, slices.Concat([]string{"upgrade", release, chart}, begin, labValues)...)
	if fields := specFields(t); !strings.Contains(fields, "failureThreshold") {
		t.Error("after the upgrade the CustomResourceDefinition lacks the new field")
	}
	if got := kubectl(t, "-n", "shop", "get", "hmp", "strict", "-o", "jsonpath={.metadata.uid}"); got != uid {
		t.Errorf("the probe is another one after the upgrade: %s, before %s", got, uid)
	}
	kubectl(t, "-n", "shop", "patch", "hmp", "strict", "--type=merge", "-p", `{"spec":{"failureThreshold":3}}`)
	await(t, "a verdict on the changed spec", func() error {
		said := kubectl(t, "-n", "shop", "get", "hmp", "strict", "-o", `jsonpath={.metadata.generation} {.status.observedGeneration} {.status.conditions[?(@.type=="Ready")].status} {.spec.failureThreshold}`)
		if fields := strings.Fields(said); len(fields) != 4 || fields[0] != fields[1] || fields[2] != "True" || fields[3] != "3" {
			return fmt.Errorf("it is at %s", said)
		}
		return nil
	})

	helm(t, "uninstall", release, "-n", releaseIn, "--wait")
	checkLeft(t, before)
	// Whoever installs again finds the probes as they were.
	helm(t, slices.Concat([]string{"install", release, chart}, begin, labValues)...)
	awaitReady(t, "shop", "strict", "True Verified")
	helm(t, "uninstall", release, "-n", releaseIn, "--wait")
}

// TestHelmInOneNamespace installs a release that serves its namespace alone, and finds that another one has room beside it.
func TestHelmInOneNamespace(t *testing.T) {
	for _, namespace := range []string{"team-c", "team-d"} {
		kubectl(t, "create", "namespace", namespace)
		afterwards(t, "delete", "namespace", namespace, "--wait=false")
	}
	afterwards(t, "delete", "crd", crd, "--ignore-not-found")
	t.Cleanup(func() {
		_, _ = helmTry(context.Background(), "uninstall", release, "-n", "team-c", "--ignore-not-found")
	})
	with := slices.Concat(labValues, []string{"--set", "scope=namespace"})
	helm(t, slices.Concat([]string{"install", release, chart, "-n", "team-c", "--wait", "--timeout", "2m"}, with)...)
	apply(t, strictProbe("team-c", "strict")+"---"+strictProbe("team-d", "strict"))
	awaitReady(t, "team-c", "strict", "True Verified")
	checkHeld(t, "system:serviceaccount:team-c:httpsmeshprobe-manager", "team-c")
	checkLeftAlone(t, "team-d")
	helm(t, slices.Concat([]string{"install", release, chart, "-n", "team-d", "--dry-run=server", "--set", "crds.install=false"}, with)...)
	if out, err := helmTry(t.Context(), slices.Concat([]string{"install", release, chart, "-n", "team-d", "--dry-run=server"}, with)...); err == nil || !strings.Contains(out, crd) {
		t.Errorf("a second release took the CustomResourceDefinition of the first: %v %s", err, out)
	}
}

// specFields are what the CustomResourceDefinition in the cluster knows of a spec.
func specFields(t *testing.T) string {
	t.Helper()
	return kubectl(t, "get", "crd", crd, "-o", "jsonpath={.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties}")
}

// olderChart is this chart as it might have been: of a lower version, and with a field less.
func olderChart(t *testing.T) string {
	t.Helper()
	older := chartCopy(t)
	edit(t, filepath.Join(older, "Chart.yaml"), func(text string) string {
		return regexp.MustCompile(`(?m)^version: .*$`).ReplaceAllString(text, "version: 0.0.1")
	})
	edit(t, filepath.Join(older, "files", "crd.yaml"), func(text string) string {
		var definition map[string]any
		if err := yaml.Unmarshal([]byte(text), &definition); err != nil {
			t.Fatal(err)
		}
		at := definition["spec"].(map[string]any)["versions"].([]any)[0].(map[string]any)["schema"].(map[string]any)["openAPIV3Schema"].(map[string]any)
		for _, field := range []string{"spec"} {
			at = at["properties"].(map[string]any)[field].(map[string]any)
		}
		delete(at["properties"].(map[string]any), "failureThreshold")
		encoded, err := yaml.Marshal(definition)
		if err != nil {
			t.Fatal(err)
		}
		return string(encoded)
	})
	return older
}

func chartCopy(t *testing.T) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "httpsmeshprobe")
	if err := os.CopyFS(folder, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	return folder
}

func edit(t *testing.T, path string, change func(string) string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := change(string(text))
	if changed == string(text) {
		t.Fatalf("%s is as it was", path)
	}
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
}

// everything is what is in the cluster by kind, namespace and name, without what its own controllers make and remove as
// they please.
func everything(t *testing.T) map[string]bool {
	t.Helper()
	fleeting := []string{"events", "pods", "endpoints", "endpointslices", "replicasets", "controllerrevisions", "componentstatuses", "leases", "nodes", "apiservices", "ipaddresses", "podmetrics"}
	found := map[string]bool{}
	for _, namespaced := range []string{"true", "false"} {
		var kinds []string
		for _, kind := range strings.Fields(kubectl(t, "api-resources", "--verbs=list", "--namespaced="+namespaced, "-o", "name")) {
			if plural, _, _ := strings.Cut(kind, "."); !slices.Contains(fleeting, plural) || kind == "leases.coordination.k8s.io" {
				kinds = append(kinds, kind)
			}
		}
		out := kubectl(t, "get", strings.Join(kinds, ","), "-A", "--no-headers", "-o", "custom-columns=:.kind,:.metadata.namespace,:.metadata.name")
		for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
			found[strings.Join(strings.Fields(line), " ")] = true
		}
	}
	return found
}

// checkLeft expects exactly what docs/install.md and the chart's notes say to be left.
func checkLeft(t *testing.T, before map[string]bool) {
	t.Helper()
	want := []string{
		"CustomResourceDefinition <none> " + crd,
		"Lease " + releaseIn + " httpsmeshprobe.meshprobe.dev",
		"HTTPSMeshProbe shop strict",
		"Deployment shop strict-nginx", "Service shop strict-nginx", "ConfigMap shop strict-nginx", "ServiceAccount shop strict-nginx",
		"PeerAuthentication shop strict-nginx", "Deployment shop meshprobe-sleep", "Deployment shop meshprobe-outsider",
	}
	var left []string
	for object := range everything(t) {
		ofNamespace := regexp.MustCompile(`^(Namespace <none> (shop|` + releaseIn + `)|(ServiceAccount|ConfigMap) (shop|` + releaseIn + `) (default|kube-root-ca.crt|istio-ca-root-cert|istio-ca-crl))$`)
		if !before[object] && !ofNamespace.MatchString(object) && !strings.HasPrefix(object, "Secret shop strict-nginx-") {
			left = append(left, object)
		}
	}
	slices.Sort(left)
	slices.Sort(want)
	t.Logf("left after helm uninstall:\n%s", strings.Join(left, "\n"))
	if !slices.Equal(left, want) {
		t.Errorf("left after helm uninstall: got %q, want %q", left, want)
	}
}
