package gitops

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/argoproj/argo-cd/v3/util/lua"
	"github.com/argoproj/argo-cd/v3/util/settings"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const (
	componentFolder = "../../config/argocd"
	argoNamespace   = "argocd"
)

// installed is a ConfigMap argocd-cm before this project came to it, with a customization of somebody else's.
const installed = `
apiVersion: v1
kind: ConfigMap
metadata:
  name: argocd-cm
  namespace: argocd
  labels: {app.kubernetes.io/part-of: argocd}
data:
  url: https://argocd.example.com
  resource.customizations.health.example.com_Widget: 'return {status = "Healthy"}'
`

// bare is argocd-cm as Argo CD's own manifests have it: nothing in it, and the namespace is for the kustomization to say.
const bare = `
apiVersion: v1
kind: ConfigMap
metadata:
  name: argocd-cm
  labels: {app.kubernetes.io/part-of: argocd}
`

// rendered is what a person gets who has named the component over his argocd-cm.
func rendered(t *testing.T, installed string) *corev1.ConfigMap {
	t.Helper()
	overlay := t.TempDir()
	component, err := filepath.Abs(componentFolder)
	if err != nil {
		t.Fatal(err)
	}
	// kustomize takes no absolute path.
	component, err = filepath.Rel(overlay, component)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(overlay, "argocd-cm.yaml"), installed)
	write(t, filepath.Join(overlay, "kustomization.yaml"), "namespace: argocd\nresources: [argocd-cm.yaml]\ncomponents: ["+component+"]\n")
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), overlay)
	if err != nil {
		t.Fatal(err)
	}
	text, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	configMap := &corev1.ConfigMap{}
	if err := yaml.UnmarshalStrict(text, configMap); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return configMap
}

// argoOverrides is what Argo CD itself reads out of the rendered ConfigMap.
func argoOverrides(t *testing.T) lua.ResourceHealthOverrides {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Name: "argocd-secret", Namespace: argoNamespace, Labels: map[string]string{"app.kubernetes.io/part-of": "argocd"},
	}}
	manager := settings.NewSettingsManager(t.Context(), fake.NewClientset(rendered(t, installed), secret), argoNamespace)
	overrides, err := manager.GetResourceOverrides()
	if err != nil {
		t.Fatal(err)
	}
	return overrides
}

func TestTheComponentLeavesTheRestOfArgocdCmAlone(t *testing.T) {
	configMap := rendered(t, installed)
	if configMap.Name != "argocd-cm" || configMap.Namespace != argoNamespace {
		t.Errorf("rendered %s/%s", configMap.Namespace, configMap.Name)
	}
	for key, want := range map[string]string{
		"url": "https://argocd.example.com",
		"resource.customizations.health.example.com_Widget": `return {status = "Healthy"}`,
	} {
		if got := configMap.Data[key]; got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if got, want := len(configMap.Data), 4; got != want {
		t.Errorf("%d keys, want %d: the two that were there, health and actions", got, want)
	}
}

func TestTheComponentFillsAnEmptyArgocdCm(t *testing.T) {
	configMap := rendered(t, bare)
	if configMap.Namespace != argoNamespace || len(configMap.Data) != 2 {
		t.Errorf("namespace %s with %d keys, want %s with 2: health and actions", configMap.Namespace, len(configMap.Data), argoNamespace)
	}
}

// The scripts that Argo CD reads are the files that people read.
func TestArgoCDReadsTheScriptsAsTheyAreWritten(t *testing.T) {
	override := argoOverrides(t)["meshprobe.dev/HTTPSMeshProbe"]
	sameAsFile(t, "health.lua", override.HealthLua)
	actions, err := override.GetActions()
	if err != nil {
		t.Fatal(err)
	}
	sameAsFile(t, "actions/discovery.lua", actions.ActionDiscoveryLua)
	for _, definition := range actions.Definitions {
		sameAsFile(t, "actions/"+definition.Name+".lua", definition.ActionLua)
	}
	if override.UseOpenLibs {
		t.Error("the scripts ask for Lua's libraries, which they are to do without")
	}
}

func sameAsFile(t *testing.T, file, script string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(componentFolder, file))
	if err != nil {
		t.Fatal(err)
	}
	if script != string(text) {
		t.Errorf("what Argo CD reads is not config/argocd/%s: go run ./config/argocd/generate", file)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
