package controllers

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// judge asks the record of the runs what it has come to.
func (r *Reconciler) judge(_ context.Context, v *visit) (verdict.Standing, error) {
	v.report = r.Runner.Report(keyOf(v), v.schedule.epoch)
	latest, ran := v.schedule.record.Latest()
	if v.report.Runs == 0 || !ran || v.report.Settling {
		return v.awaitRuns(), nil
	}
	if forbidden := execForbidden(latest); forbidden != "" {
		return verdict.Standing{Phase: verdict.Troubled, Reason: api.ReasonExecForbidden, Message: forbidden}, nil
	}
	v.lookAgain(v.schedule.criteria.StaleAfter())
	v.paths = v.schedule.record.Paths(v.report.At, v.report.Quick)
	v.policy = v.policy.Against(v.paths, v.policies.Computed)
	return verdict.Standing{Phase: verdict.Judged}, nil
}

// awaitRuns keeps the verdict on the present spec, if there is one that is not too old, until there are runs that show the
// present policy. What is computed needs no runs and is told at once.
func (v *visit) awaitRuns() verdict.Standing {
	last := timeOf(v.Probe.Status.LastProbeTime)
	switch {
	case judgedBefore(v.Probe) && v.report.At.Sub(last) <= v.schedule.criteria.StaleAfter():
		v.lookAgain(v.schedule.criteria.StaleAfter())
		v.paths = verdict.Kept(v.Probe.Status)
		v.unchanged = v.paths == nil
		return verdict.Standing{Phase: verdict.Judged}
	case v.report.Settling:
		return verdict.Standing{Phase: verdict.Progressing, Reason: api.ReasonProgressing, Message: "waiting for the sidecars to follow the policy"}
	default:
		return verdict.Standing{Phase: verdict.Progressing, Reason: api.ReasonProgressing, Message: "the first run is under way"}
	}
}

func execForbidden(run observation.Run) string {
	for _, path := range paths.All() {
		if failed := run.Results[string(path.Name)].Failed; failed != nil && failed.Kind == observation.ExecForbidden {
			return failed.Message
		}
	}
	return ""
}

// judgedBefore says whether the status holds a verdict on the present spec, which is then kept until there is a new one.
func judgedBefore(probe *api.HTTPSMeshProbe) bool {
	if probe.Status.ObservedGeneration != probe.Generation {
		return false
	}
	ready := meta.FindStatusCondition(probe.Status.Conditions, api.ConditionReady)
	return ready != nil && slices.Contains([]string{api.ReasonVerified, api.ReasonRefuted, api.ReasonUndetermined}, ready.Reason)
}
