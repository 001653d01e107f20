package gitops

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	appv1 "github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	fluxv1 "github.com/fluxcd/kustomize-controller/api/v1"
	"google.golang.org/protobuf/encoding/protojson"
	securityv1 "istio.io/api/security/v1beta1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kustomize "sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"
)

const (
	page = "../../docs/gitops.md"
	crd  = "../../config/crd/meshprobe.dev_httpsmeshprobes.yaml"
)

// fenced is a block of code in Markdown: its language and its text.
var fenced = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")

func TestEveryObjectOnThePageIsValid(t *testing.T) {
	kinds := map[string]int{}
	for _, block := range blocks(t, "yaml") {
		for _, document := range strings.Split(block, "\n---\n") {
			kind, err := checkObject(t, []byte(document))
			if err != nil {
				t.Errorf("%v in\n%s", err, document)
			}
			kinds[kind]++
		}
	}
	for _, kind := range []string{"Application", "HTTPSMeshProbe", "PeerAuthentication", "Kustomization"} {
		if kinds[kind] == 0 {
			t.Errorf("the page shows no %s", kind)
		}
	}
}

func TestEveryCommandOnThePageIsShell(t *testing.T) {
	commands := blocks(t, "sh")
	if len(commands) == 0 {
		t.Fatal("the page shows no command")
	}
	for _, block := range commands {
		shell := exec.Command("bash", "-n")
		shell.Stdin = strings.NewReader(block)
		if out, err := shell.CombinedOutput(); err != nil {
			t.Errorf("%s in\n%s", out, block)
		}
	}
}

// The files of testdata are objects that an API server with this project's CRD hands out.
func TestTheStatesKeepToTheSchema(t *testing.T) {
	for _, state := range states {
		if err := checkProbe(t, readProbe(t, state.file)); err != nil {
			t.Errorf("%s: %v", state.file, err)
		}
	}
}

func TestAWrongProbeIsNoticed(t *testing.T) {
	for _, wrong := range []string{
		"spec: {target: {sidecar: Perhaps}}",
		"spec: {target: {sidecar: Enabled, sidecars: 1}}",
		"spec: {mtls: {mode: STRICT}}",
	} {
		if _, err := checkObject(t, []byte("apiVersion: meshprobe.dev/v1alpha1\nkind: HTTPSMeshProbe\nmetadata: {name: x}\n"+wrong)); err == nil {
			t.Errorf("%s is taken for valid", wrong)
		}
	}
}

// checkObject holds an object against the types of those who will read it, and returns its kind.
func checkObject(t *testing.T, text []byte) (string, error) {
	t.Helper()
	object, err := parseObject(text)
	if err != nil {
		return "", err
	}
	kind := object.GetKind()
	switch object.GroupVersionKind().GroupKind().String() {
	case "HTTPSMeshProbe.meshprobe.dev":
		return kind, checkProbe(t, object)
	case "Application.argoproj.io":
		return kind, yaml.UnmarshalStrict(text, &appv1.Application{})
	case "Kustomization.kustomize.toolkit.fluxcd.io":
		return kind, yaml.UnmarshalStrict(text, &fluxv1.Kustomization{})
	case "Kustomization.kustomize.config.k8s.io":
		return kind, yaml.UnmarshalStrict(text, &kustomize.Kustomization{})
	case "ConfigMap":
		return kind, yaml.UnmarshalStrict(text, &corev1.ConfigMap{})
	case "PeerAuthentication.security.istio.io":
		spec, err := yaml.Marshal(object.Object["spec"])
		if err != nil {
			return kind, err
		}
		if spec, err = yaml.YAMLToJSON(spec); err != nil {
			return kind, err
		}
		return kind, protojson.Unmarshal(spec, &securityv1.PeerAuthentication{})
	}
	return kind, fmt.Errorf("nobody knows %s", object.GroupVersionKind())
}

// checkProbe does what an API server does with the CRD's schema, and takes an unknown field for an error.
func checkProbe(t *testing.T, probe *unstructured.Unstructured) error {
	t.Helper()
	internal := probeSchema(t)
	structural, err := schema.NewStructural(internal)
	if err != nil {
		t.Fatal(err)
	}
	options := schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	if unknown := pruning.PruneWithOptions(probe.DeepCopy().Object, structural, true, options); len(unknown) > 0 {
		return fmt.Errorf("unknown fields: %s", strings.Join(unknown, ", "))
	}
	validator, _, err := validation.NewSchemaValidator(internal)
	if err != nil {
		t.Fatal(err)
	}
	return validation.ValidateCustomResource(nil, probe.Object, validator).ToAggregate()
}

func probeSchema(t *testing.T) *apiextensions.JSONSchemaProps {
	t.Helper()
	text, err := os.ReadFile(crd)
	if err != nil {
		t.Fatal(err)
	}
	definition := apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(text, &definition); err != nil {
		t.Fatal(err)
	}
	internal := &apiextensions.CustomResourceValidation{}
	if err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(
		definition.Spec.Versions[0].Schema, internal, nil); err != nil {
		t.Fatal(err)
	}
	return internal.OpenAPIV3Schema
}

func blocks(t *testing.T, language string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Count(text, []byte("```"))%2 != 0 {
		t.Fatal("the page has a block of code that does not end")
	}
	var found []string
	for _, match := range fenced.FindAllSubmatch(text, -1) {
		if string(match[1]) == language {
			found = append(found, string(match[2]))
		}
	}
	return found
}
