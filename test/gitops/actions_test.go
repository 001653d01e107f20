package gitops

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	appv1 "github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	"github.com/argoproj/argo-cd/v3/util/lua"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const requestedAt = "meshprobe.dev/requestedAt"

func TestActionsAreOfferedWhereTheyApply(t *testing.T) {
	vm := lua.VM{ResourceOverrides: argoOverrides(t)}
	for file, want := range map[string][]string{
		"created":          {"run-now", "suspend"},
		"verified":         {"run-now", "suspend"},
		"refuted":          {"run-now", "suspend"},
		"name-taken":       {"run-now", "suspend"},
		"suspended":        {"resume"},
		"suspension-asked": {"resume"},
		"resumption-asked": {"run-now", "suspend"},
	} {
		var enabled []string
		for name, action := range offered(t, vm, readProbe(t, file)) {
			if !action.Disabled {
				enabled = append(enabled, name)
			}
		}
		if slices.Sort(enabled); !slices.Equal(enabled, want) {
			t.Errorf("%s: enabled are %v, want %v", file, enabled, want)
		}
	}
}

func TestEveryOfferedActionHasAScriptAndANameForPeople(t *testing.T) {
	vm := lua.VM{ResourceOverrides: argoOverrides(t)}
	probe := readProbe(t, "verified")
	names := map[string]string{"run-now": "Run now", "suspend": "Suspend", "resume": "Resume"}
	actions := offered(t, vm, probe)
	if got, want := slices.Sorted(maps.Keys(actions)), slices.Sorted(maps.Keys(names)); !slices.Equal(got, want) {
		t.Fatalf("offered are %v, want %v", got, want)
	}
	for name, action := range actions {
		if action.DisplayName != names[name] {
			t.Errorf("%s is shown as %q, want %q", name, action.DisplayName, names[name])
		}
		if definition, err := vm.GetResourceAction(probe, name); err != nil || definition.ActionLua == "" {
			t.Errorf("%s has no script: %v", name, err)
		}
	}
}

func TestSuspendAndResume(t *testing.T) {
	suspended := act(t, "suspend", readProbe(t, "verified"))
	if suspend, _, _ := unstructured.NestedBool(suspended.Object, "spec", "suspend"); !suspend {
		t.Error("spec.suspend is not true after suspend")
	}
	resumed := act(t, "resume", readProbe(t, "suspended"))
	if suspend, _, _ := unstructured.NestedBool(resumed.Object, "spec", "suspend"); suspend {
		t.Error("spec.suspend is still true after resume")
	}
}

func TestRunNowAsksForARun(t *testing.T) {
	// One has no annotations, the other has one that has been answered.
	for _, file := range []string{"verified", "refuted"} {
		begun := time.Now().UTC().Truncate(time.Second)
		probe := readProbe(t, file)
		asked := act(t, "run-now", probe).GetAnnotations()[requestedAt]
		when, err := time.Parse(time.RFC3339, asked)
		if err != nil || when.Before(begun) || when.After(time.Now()) {
			t.Errorf("%s: run-now set %q, want the time: %v", file, asked, err)
		}
		if asked == probe.GetAnnotations()[requestedAt] {
			t.Errorf("%s: the annotation is as it was", file)
		}
	}
}

// Argo CD sends the difference between what it gave the script and what it got back.
func TestAnActionChangesNothingElse(t *testing.T) {
	for _, name := range []string{"run-now", "suspend", "resume"} {
		before := readProbe(t, "refuted")
		after := act(t, name, before)
		for _, object := range []*unstructured.Unstructured{before, after} {
			unstructured.RemoveNestedField(object.Object, "spec", "suspend")
			unstructured.RemoveNestedField(object.Object, "metadata", "annotations")
		}
		if !equality.Semantic.DeepEqual(numbersAsFloats(t, before), numbersAsFloats(t, after)) {
			t.Errorf("%s changed more than it is for:\n%v\n%v", name, before.Object, after.Object)
		}
	}
}

func offered(t *testing.T, vm lua.VM, probe *unstructured.Unstructured) map[string]appv1.ResourceAction {
	t.Helper()
	scripts, err := vm.GetResourceActionDiscovery(probe)
	if err != nil {
		t.Fatal(err)
	}
	actions, err := vm.ExecuteResourceActionDiscovery(probe, scripts)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]appv1.ResourceAction{}
	for _, action := range actions {
		byName[action.Name] = action
	}
	return byName
}

// act runs an action as Argo CD does, and returns the probe as it is to be.
func act(t *testing.T, name string, probe *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	vm := lua.VM{ResourceOverrides: argoOverrides(t)}
	definition, err := vm.GetResourceAction(probe, name)
	if err != nil {
		t.Fatal(err)
	}
	impacted, err := vm.ExecuteResourceAction(probe, definition.ActionLua, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(impacted) != 1 || impacted[0].K8SOperation != lua.PatchOperation {
		t.Fatalf("%s: %v, want one patch", name, impacted)
	}
	return impacted[0].UnstructuredObj
}

// numbersAsFloats is the object with every number as JSON alone would have it: Lua knows but one kind.
func numbersAsFloats(t *testing.T, object *unstructured.Unstructured) map[string]any {
	t.Helper()
	text, err := object.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}
