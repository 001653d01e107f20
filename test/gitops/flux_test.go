package gitops

import (
	"strings"
	"testing"

	"github.com/argoproj/gitops-engine/pkg/health"
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	fluxv1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/runtime/cel"
	"sigs.k8s.io/yaml"
)

// asArgo is the kstatus that stands for a health in Argo CD.
var asArgo = map[health.HealthStatusCode]status.Status{
	health.HealthStatusHealthy:     status.CurrentStatus,
	health.HealthStatusProgressing: status.InProgressStatus,
	health.HealthStatusSuspended:   status.InProgressStatus,
	health.HealthStatusDegraded:    status.FailedStatus,
}

// kstatus alone fails only at Stalled. With the page's expressions Flux says of every probe what Argo CD says.
func TestThePagesExpressionsMakeFluxAgreeWithArgo(t *testing.T) {
	evaluator := pagesExpressions(t)
	for _, state := range states {
		if state.flux == status.TerminatingStatus {
			continue // Flux asks the expressions of no object that is being deleted.
		}
		result, err := evaluator.Evaluate(t.Context(), readProbe(t, state.file))
		if err != nil {
			t.Errorf("%s: %v", state.file, err)
			continue
		}
		if want := asArgo[state.argo]; result.Status != want {
			t.Errorf("%s: %s, want %s, as Argo CD has it", state.file, result.Status, want)
		}
	}
}

// pagesExpressions are the healthCheckExprs that docs/gitops.md shows, as Flux compiles them.
func pagesExpressions(t *testing.T) *cel.StatusEvaluator {
	t.Helper()
	for _, block := range blocks(t, "yaml") {
		for _, document := range strings.Split(block, "\n---\n") {
			shown := fluxv1.Kustomization{}
			if !strings.Contains(document, "kustomize.toolkit.fluxcd.io") {
				continue
			}
			if err := yaml.UnmarshalStrict([]byte(document), &shown); err != nil {
				t.Fatal(err)
			}
			for _, check := range shown.Spec.HealthCheckExprs {
				evaluator, err := cel.NewStatusEvaluator(&check.HealthCheckExpressions)
				if err != nil {
					t.Fatal(err)
				}
				return evaluator
			}
		}
	}
	t.Fatal("the page shows no healthCheckExprs")
	return nil
}
