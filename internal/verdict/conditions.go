package verdict

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

// Phase is how far a probe has come.
type Phase string

const (
	// Judged means that the runs decide.
	Judged Phase = "Judged"
	// Progressing means that the probe is on its way and will come to a verdict by itself.
	Progressing Phase = "Progressing"
	// Troubled means that something is wrong around the probe that may pass without a change to it.
	Troubled Phase = "Troubled"
	// Stalled means that nothing will come of it before somebody acts.
	Stalled Phase = "Stalled"
	// Failing means that a step of the operator's fails at every attempt, so that nothing is known.
	Failing Phase = "Failing"
	// Suspended means that spec.suspend is set.
	Suspended Phase = "Suspended"
)

// Standing is a probe's phase and its cause. Reason and Message are unused while Judged.
type Standing struct {
	Phase   Phase
	Reason  string
	Message string
}

// Conditions words the verdict. The conditions carry no times and no generation yet.
func Conditions(standing Standing, judged []Path, policy Policy) []metav1.Condition {
	if standing.Phase == Judged && len(judged) == 0 {
		// Nothing asked is nothing verified.
		standing = Standing{Phase: Progressing, Reason: api.ReasonProgressing, Message: "no run has ended yet"}
	}
	if standing.Phase != Judged {
		return unjudged(standing)
	}
	conditions := []metav1.Condition{ready(judged, policy)}
	for _, path := range judged {
		conditions = append(conditions, condition(paths.Condition(path.Evidence.Name), path.Status, path.Reason, path.Message))
	}
	return append(conditions, condition(api.ConditionPolicyInEffect, policy.Status, policy.Reason, policy.Message))
}

func unjudged(standing Standing) []metav1.Condition {
	readyStatus := metav1.ConditionUnknown
	if standing.Phase == Troubled || standing.Phase == Stalled {
		readyStatus = metav1.ConditionFalse
	}
	conditions := []metav1.Condition{condition(api.ConditionReady, readyStatus, standing.Reason, standing.Message)}
	switch standing.Phase {
	case Progressing, Failing:
		conditions = append(conditions, condition(api.ConditionReconciling, metav1.ConditionTrue, standing.Reason, standing.Message))
	case Stalled:
		conditions = append(conditions, condition(api.ConditionStalled, metav1.ConditionTrue, standing.Reason, standing.Message))
	}
	for _, path := range paths.All() {
		conditions = append(conditions, condition(path.Condition, metav1.ConditionUnknown, standing.Reason, standing.Message))
	}
	return append(conditions, condition(api.ConditionPolicyInEffect, metav1.ConditionUnknown, standing.Reason, standing.Message))
}

// ready sums up: one refuted statement makes the whole False, else one open statement makes it Unknown. A path that is
// still True after a mismatch did not see what is expected, and Ready does not say that it did.
func ready(judged []Path, policy Policy) metav1.Condition {
	var verified, kept, refuted, open []string
	for _, path := range judged {
		said := fmt.Sprintf("%s: %s", path.Evidence.Name, path.Message)
		if policy.Status == metav1.ConditionFalse && !asExpected(path.Evidence) {
			// The policy's own message explains it; the path's condition has all of it.
			said = fmt.Sprintf("%s: %s instead of %s", path.Evidence.Name, path.Evidence.Observed, path.Evidence.Expected)
		}
		switch {
		case path.Status == metav1.ConditionFalse:
			refuted = append(refuted, said)
		case path.Status != metav1.ConditionTrue:
			open = append(open, said)
		case path.Evidence.Outcome == api.OutcomeMatch:
			verified = append(verified, fmt.Sprintf("%s %s", path.Evidence.Name, path.Evidence.Observed))
		default:
			kept = append(kept, said)
		}
	}
	switch policy.Status {
	case metav1.ConditionTrue:
	case metav1.ConditionFalse:
		refuted = append(refuted, "policy: "+policy.Message)
	default:
		open = append(open, "policy: "+policy.Message)
	}
	switch {
	case len(refuted) > 0:
		return condition(api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted, strings.Join(refuted, "; "))
	case len(open) > 0:
		return condition(api.ConditionReady, metav1.ConditionUnknown, api.ReasonUndetermined, strings.Join(open, "; "))
	case len(verified) > 0:
		kept = append([]string{strings.Join(verified, ", ") + ": as expected"}, kept...)
	}
	return condition(api.ConditionReady, metav1.ConditionTrue, api.ReasonVerified, strings.Join(kept, "; "))
}

// asExpected says whether a path saw what it should, in a word; then something else refutes it.
func asExpected(seen api.PathStatus) bool {
	return seen.Expected == "" || seen.Observed == seen.Expected || seen.Expected == expectation.Answered && seen.HTTPCode > 0
}

func condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: clip(message, maxMessage)}
}
