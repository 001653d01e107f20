package gitops

import (
	"strings"
	"testing"

	"github.com/argoproj/gitops-engine/pkg/health"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// What no lab shows on demand: a state as it was handed out, and one thing that is different.
func TestCorners(t *testing.T) {
	overrides, expressions := argoOverrides(t), pagesExpressions(t)
	for name, corner := range map[string]struct {
		file   string
		change func(*testing.T, *unstructured.Unstructured)
		argo   health.HealthStatusCode
		says   string
	}{
		"stalled counts, whatever Ready says": {
			"name-taken", setReady("Unknown", "Undetermined"), health.HealthStatusDegraded, "was not made for this probe",
		},
		"an unknown reason is not waited for": {
			"refuted", setReady("False", "SomethingNew"), health.HealthStatusDegraded, "legacy",
		},
		"a run is not awaited where none can be": {
			"no-endpoints", ask("now"), health.HealthStatusProgressing, "no endpoint",
		},
		"a run is awaited where nothing was proved": {
			"undetermined", ask("now"), health.HealthStatusProgressing, "requestedAt: now has not ended yet",
		},
		"an annotation without value asks for nothing": {
			"verified", ask(""), health.HealthStatusHealthy, "as expected",
		},
		"nor does one whose value was taken away after a run": {
			"refuted", ask(""), health.HealthStatusDegraded, "legacy",
		},
	} {
		t.Run(name, func(t *testing.T) {
			probe := readProbe(t, corner.file)
			corner.change(t, probe)
			assessed, err := health.GetResourceHealth(probe, overrides)
			if err != nil {
				t.Fatal(err)
			}
			if assessed.Status != corner.argo || !strings.Contains(assessed.Message, corner.says) {
				t.Errorf("Argo CD: %s %q, want %s with %q", assessed.Status, assessed.Message, corner.argo, corner.says)
			}
			evaluated, err := expressions.Evaluate(t.Context(), probe)
			if err != nil {
				t.Fatal(err)
			}
			if want := asArgo[corner.argo]; evaluated.Status != want {
				t.Errorf("Flux: %s, want %s", evaluated.Status, want)
			}
		})
	}
}

// The status repeats no more than 256 bytes of the annotation, so that a longer one is never seen answered.
func TestARequestTooLongToBeRepeatedIsNotAwaited(t *testing.T) {
	overrides := argoOverrides(t)
	for length, want := range map[int]health.HealthStatusCode{
		256: health.HealthStatusProgressing,
		257: health.HealthStatusHealthy,
	} {
		probe := readProbe(t, "verified")
		ask(strings.Repeat("x", length))(t, probe)
		assessed, err := health.GetResourceHealth(probe, overrides)
		if err != nil {
			t.Fatal(err)
		}
		if assessed.Status != want {
			t.Errorf("%d bytes: %s %q, want %s", length, assessed.Status, assessed.Message, want)
		}
	}
}

func ask(value string) func(*testing.T, *unstructured.Unstructured) {
	return func(_ *testing.T, probe *unstructured.Unstructured) {
		probe.SetAnnotations(map[string]string{requestedAt: value})
	}
}

func setReady(value, reason string) func(*testing.T, *unstructured.Unstructured) {
	return func(t *testing.T, probe *unstructured.Unstructured) {
		t.Helper()
		conditions, _, err := unstructured.NestedSlice(probe.Object, "status", "conditions")
		if err != nil {
			t.Fatal(err)
		}
		for _, condition := range conditions {
			if condition := condition.(map[string]any); condition["type"] == "Ready" {
				condition["status"], condition["reason"] = value, reason
			}
		}
		if err := unstructured.SetNestedSlice(probe.Object, conditions, "status", "conditions"); err != nil {
			t.Fatal(err)
		}
	}
}
