package report

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

const (
	// reasonUnasked is given where the status says nothing of the present spec.
	reasonUnasked = "NotLookedAt"
	notLookedAt   = "the operator has not looked at the probe yet"
)

// Settlement is how far a probe has come.
type Settlement struct {
	// Final says that waiting changes nothing: the verdict stands, or none will come before somebody acts.
	Final   bool
	Verdict Verdict
	// Reason and Message are those of Ready, or of what stands in its place.
	Reason  string
	Message string
}

// Settle says whether a probe's status is a verdict on its present spec, and which. Ready False alone does not say that
// something is refuted: most of its reasons mean that nothing could be asked (docs/verdicts.md).
func Settle(probe *api.HTTPSMeshProbe) Settlement {
	if !current(probe) {
		return Settlement{Verdict: Unknown, Reason: reasonUnasked, Message: notLookedAt}
	}
	ready := meta.FindStatusCondition(probe.Status.Conditions, api.ConditionReady)
	settlement := Settlement{Verdict: Unknown, Reason: ready.Reason, Message: ready.Message}
	if meta.IsStatusConditionTrue(probe.Status.Conditions, api.ConditionStalled) || ready.Reason == api.ReasonSuspended {
		settlement.Final = true
		return settlement
	}
	if why := provisional(probe); why != "" {
		settlement.Message = why
		return settlement
	}
	switch {
	case ready.Status == metav1.ConditionTrue && ready.Reason == api.ReasonVerified:
		settlement.Verdict, settlement.Final = Verified, true
	case ready.Status == metav1.ConditionFalse && ready.Reason == api.ReasonRefuted:
		settlement.Verdict, settlement.Final = Refuted, true
	}
	return settlement
}

// current says whether the status speaks of the present spec.
func current(probe *api.HTTPSMeshProbe) bool {
	return probe.Status.ObservedGeneration == probe.Generation &&
		meta.FindStatusCondition(probe.Status.Conditions, api.ConditionReady) != nil
}

// provisional says why a verdict may be another in a moment; "" where it is not so. Below the threshold the latest
// request contradicts what the condition still says.
func provisional(probe *api.HTTPSMeshProbe) string {
	if condition := meta.FindStatusCondition(probe.Status.Conditions, api.ConditionReconciling); condition != nil && condition.Status == metav1.ConditionTrue {
		return condition.Message
	}
	for _, name := range paths.Names() {
		condition := meta.FindStatusCondition(probe.Status.Conditions, paths.Condition(name))
		if condition != nil && condition.Reason == api.ReasonBelowThreshold {
			return string(name) + ": " + condition.Message
		}
	}
	return ""
}
