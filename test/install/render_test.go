package install

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// difference is one that is meant, between what kustomize makes and what the chart makes. at is a pattern for
// "Kind/name path".
type difference struct{ at, because string }

var meant = map[string][]difference{
	"cluster": {
		{`^Namespace/httpsmeshprobe-system `, "a release's namespace is made by helm install --create-namespace"},
	},
	"namespace": {
		{`^(ClusterRole|ValidatingAdmissionPolicy|ValidatingAdmissionPolicyBinding)/[-a-z]+ metadata\.name$`, "each namespace may have a release of its own, so their objects of no namespace are named apart"},
		{`^(Role|RoleBinding)/httpsmeshprobe-mesh-reader (metadata\.name|roleRef\.name)$`, "the same, in Istio's namespace"},
		{`^ValidatingAdmissionPolicyBinding/[-a-z]+ spec\.policyName$`, "the same"},
	},
	"": {
		{`^[A-Za-z]+/[-a-z.]+ metadata\.labels\.(helm\.sh/chart|app\.kubernetes\.io/(name|instance|version|managed-by))$`, "Helm's usual labels are on every object"},
		{`^(Deployment|Service|ServiceMonitor)/[-a-z]+ spec\.(selector|selector\.matchLabels|template\.metadata\.labels)\.app\.kubernetes\.io/instance$`, "two releases in a namespace must not take each other's pods"},
		{`^Deployment/httpsmeshprobe-manager spec\.template\.spec\.containers\.0\.imagePullPolicy$`, "a value of the chart's; the API server's default otherwise"},
		{`^CustomResourceDefinition/httpsmeshprobes\.meshprobe\.dev metadata\.annotations\.helm\.sh/resource-policy$`, "kept when the release is uninstalled"},
		{`^ValidatingAdmissionPolicy/[-a-z]+ spec\.matchConditions\.0\.expression$`, "the chart knows the operator's namespace, and names its service account in full"},
	},
}

func TestChartAndKustomizeMakeTheSame(t *testing.T) {
	for scope, with := range map[string]struct{ overlay, namespace string }{
		"cluster": {"config/default", "httpsmeshprobe-system"}, "namespace": {"config/namespaced", "shop"},
	} {
		stream := kubectl(t, "kustomize", root+"/"+with.overlay)
		values := "image.repository=httpsmeshprobe,image.tag=dev,scope=" + scope
		if scope == "cluster" {
			stream += "\n---\n" + kubectl(t, "kustomize", root+"/config/prometheus")
			values += ",metrics.serviceMonitor.enabled=true,metrics.prometheusRule.enabled=true,metrics.dashboard.enabled=true"
		}
		byKustomize := objectsOf(t, stream, "")
		byHelm := objectsOf(t, helm(t, "template", "httpsmeshprobe", chart, "-n", with.namespace, "--set", values), "shop-")
		if len(byKustomize) < 10 || len(byHelm) < 10 {
			t.Fatalf("%s: kustomize made %d objects, the chart %d", scope, len(byKustomize), len(byHelm))
		}
		allowed := slices.Concat(meant[scope], meant[""])
		used := map[string]bool{}
		for _, object := range slices.Sorted(maps.Keys(merged(byKustomize, byHelm))) {
			for _, at := range differing(object, byKustomize[object], byHelm[object]) {
				i := slices.IndexFunc(allowed, func(d difference) bool { return regexp.MustCompile(d.at).MatchString(at) })
				if i < 0 {
					path := at[strings.Index(at, " ")+1:]
					t.Errorf("%s: %s: kustomize makes %q, the chart %q", scope, at, byKustomize[object][path], byHelm[object][path])
					continue
				}
				used[allowed[i].at] = true
			}
		}
		for _, d := range allowed {
			if !used[d.at] {
				t.Errorf("%s: nothing differs at %s any more (%s)", scope, d.at, d.because)
			}
		}
	}
}

func merged(a, b map[string]map[string]string) map[string]bool {
	keys := map[string]bool{}
	for key := range a {
		keys[key] = true
	}
	for key := range b {
		keys[key] = true
	}
	return keys
}

func differing(object string, a, b map[string]string) []string {
	var found []string
	for path, value := range a {
		if other, ok := b[path]; !ok || other != value {
			found = append(found, object+" "+path)
		}
	}
	for path := range b {
		if _, ok := a[path]; !ok {
			found = append(found, object+" "+path)
		}
	}
	slices.Sort(found)
	return found
}

// objectsOf takes a stream of documents apart: for every object, by kind and name, its values by their paths. prefix is
// taken off the names of the keys, not off those in the objects.
func objectsOf(t *testing.T, stream, prefix string) map[string]map[string]string {
	t.Helper()
	objects := map[string]map[string]string{}
	for _, document := range regexp.MustCompile(`(?m)^---\n`).Split(stream, -1) {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatalf("%v in %s", err, document)
		}
		if object == nil {
			continue
		}
		name, _ := object["metadata"].(map[string]any)["name"].(string)
		values := map[string]string{}
		flatten(values, "", object)
		key := fmt.Sprintf("%s/%s", object["kind"], strings.TrimPrefix(name, prefix))
		if objects[key] != nil {
			t.Fatalf("%s is there twice", key)
		}
		objects[key] = values
	}
	return objects
}

func flatten(into map[string]string, path string, value any) {
	at := func(part string) string { return strings.TrimPrefix(path+"."+part, ".") }
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			flatten(into, at(key), inner)
		}
	case []any:
		for i, inner := range value {
			flatten(into, at(fmt.Sprint(i)), inner)
		}
	default:
		into[path] = fmt.Sprint(value)
	}
}

func TestContradictingValuesFailWithASentence(t *testing.T) {
	for set, want := range map[string]string{
		"image.repository=": "no image is published yet",
		"image.tag=v1,image.digest=sha256:" + strings.Repeat("a", 64): "image.tag and image.digest are both set",
		"scope=namespace,allowCrossNamespace=true":                    "the operator may read no other namespace",
		"scope=namespace,metrics.enabled=true":                        "no right to ask who may have the metrics",
		"metrics.enabled=false,metrics.certificateSecret=cert":        "no metrics are served",
		"scope=namespace,metrics.dashboard.enabled=true":              "metrics.dashboard.enabled is true, but no metrics are served",
		"replicas=2,leaderElection.enabled=false":                     "replicas is 2 without leaderElection.enabled",
		"serviceAccount.create=false":                                 "name the service account that is there already",
		"extraArgs[0]=--heartbeat=5m":                                 "which belongs to the value heartbeat",
		"extraArgs[0]=-leader-elect":                                  "which belongs to the value leaderElection.enabled",
		"image.repo=x":                                                "additional properties 'repo' not allowed",
		"replica=2":                                                   "additional properties 'replica' not allowed",
		"scope=everything":                                            "must be one of 'cluster', 'namespace'",
		"replicas=many":                                               "got string, want integer",
		"image.digest=abc":                                            "does not match pattern",
		"heartbeat=fast":                                              "does not match pattern",
	} {
		out, err := helmTry(t.Context(), "template", "httpsmeshprobe", chart, "--set", "image.repository=httpsmeshprobe", "--set", set)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v %.200q, want a failure that says %q", set, err, out, want)
		}
	}
}

// A chart out of a release needs no values: it goes with that release's image.
func TestReleasedChartNamesItsImage(t *testing.T) {
	released := chartCopy(t)
	edit(t, filepath.Join(released, "Chart.yaml"), func(text string) string {
		return strings.Replace(text, "appVersion: dev", "appVersion: v1.2.3", 1)
	})
	objects := objectsOf(t, helm(t, "template", "httpsmeshprobe", released), "")
	got := objects["Deployment/httpsmeshprobe-manager"]["spec.template.spec.containers.0.image"]
	if want := "ghcr.io/meshprobe/httpsmeshprobe:v1.2.3"; got != want {
		t.Errorf("image: got %q, want %q", got, want)
	}
}

// What is not in a chart rendered with defaults is rendered here, each value on its own object's place.
func TestValuesArriveInTheObjects(t *testing.T) {
	values := filepath.Join(t.TempDir(), "values.yaml")
	err := os.WriteFile(values, []byte(`
image: {repository: registry.example/probe, digest: "sha256:`+strings.Repeat("0", 64)+`", pullPolicy: Always, pullSecrets: [pull]}
istioNamespace: mesh
clusterDomain: example.test
allowCrossNamespace: true
heartbeat: 30s
probes: {serverImage: nginx:x, sleepImage: curl:x}
replicas: 3
metrics: {port: 9443, certificateSecret: cert}
log: {development: true}
extraArgs: [--agent-image=agent:x]
serviceAccount: {name: probing, annotations: {a: b}}
priorityClassName: high
nodeSelector: {disk: ssd}
tolerations: [{key: dedicated, operator: Exists}]
topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]
affinity: {nodeAffinity: {}}
podAnnotations: {c: d}
podLabels: {e: f}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	objects := objectsOf(t, helm(t, "template", "httpsmeshprobe", chart, "-n", "ops", "-f", values), "")
	deployment := objects["Deployment/httpsmeshprobe-manager"]
	const pod = "spec.template.spec."
	for path, want := range map[string]string{
		"spec.replicas":                                 "3",
		pod + "containers.0.image":                      "registry.example/probe@sha256:" + strings.Repeat("0", 64),
		pod + "containers.0.imagePullPolicy":            "Always",
		pod + "imagePullSecrets.0.name":                 "pull",
		pod + "serviceAccountName":                      "probing",
		pod + "priorityClassName":                       "high",
		pod + "nodeSelector.disk":                       "ssd",
		pod + "tolerations.0.key":                       "dedicated",
		pod + "topologySpreadConstraints.0.topologyKey": "zone",
		pod + "containers.0.ports.1.containerPort":      "9443",
		pod + "volumes.0.secret.secretName":             "cert",
		"spec.template.metadata.annotations.c":          "d",
		"spec.template.metadata.labels.e":               "f",
	} {
		if got := deployment[path]; got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	var arguments []string
	for i := 0; deployment[fmt.Sprintf("%scontainers.0.args.%d", pod, i)] != ""; i++ {
		arguments = append(arguments, deployment[fmt.Sprintf("%scontainers.0.args.%d", pod, i)])
	}
	want := []string{
		"--leader-elect", "--metrics-bind-address=:9443", "--metrics-cert-path=/metrics-certificate", "--istio-namespace=mesh",
		"--cluster-domain=example.test", "--allow-cross-namespace", "--server-image=nginx:x", "--sleep-image=curl:x", "--heartbeat=30s",
		"--development", "--agent-image=agent:x",
	}
	if !slices.Equal(arguments, want) {
		t.Errorf("arguments: got %q, want %q", arguments, want)
	}
	if got := objects["PodDisruptionBudget/httpsmeshprobe-manager"]["spec.maxUnavailable"]; got != "1" {
		t.Errorf("maxUnavailable: got %q, want 1", got)
	}
	if got := objects["ValidatingAdmissionPolicy/httpsmeshprobe-exec"]["spec.matchConditions.0.expression"]; got != "request.userInfo.username == 'system:serviceaccount:ops:probing'" {
		t.Errorf("whom the policy binds: got %q", got)
	}
	for _, binding := range []string{"ClusterRoleBinding/httpsmeshprobe-manager", "RoleBinding/httpsmeshprobe-manager"} {
		if got := objects[binding]["subjects.0.name"] + " " + objects[binding]["subjects.0.namespace"]; got != "probing ops" {
			t.Errorf("%s is for %q", binding, got)
		}
	}
}
