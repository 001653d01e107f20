package verdict

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// Judgement is all that goes into a status.
type Judgement struct {
	Generation int64
	Standing   Standing
	Paths      []Path
	Policy     Policy
	// Settling says that a new policy is on its way to the proxies.
	Settling bool
	// Delivered is where the client's Envoy is configured to lead requests; nil where no run asked.
	Delivered *api.DeliveredStatus
	// Certificate is the server's own certificate as it was seen; nil where it was not.
	Certificate *api.CertificateStatus
	// Change is the latest change of the policy; nil where there was none since the operator started.
	Change *api.PolicyChange
	// Handled is the annotation's value that the latest run answered; "" where there was no such run.
	Handled string
}

// Status returns the status that follows old. Where nothing but times, latencies and counters would change, it returns
// old itself until heartbeat has passed since the last probe written there, so that a steady probe costs few writes.
func Status(old api.HTTPSMeshProbeStatus, judgement Judgement, now time.Time, heartbeat time.Duration) api.HTTPSMeshProbeStatus {
	status := *old.DeepCopy()
	status.ObservedGeneration = judgement.Generation
	setConditions(&status, judgement, now)
	switch judgement.Standing.Phase {
	case Judged:
		setPaths(&status, judgement.Paths, now)
		if judgement.Delivered != nil {
			status.Delivered = judgement.Delivered
		}
		if judgement.Certificate != nil {
			status.Certificate = judgement.Certificate
		}
		if judgement.Change != nil {
			status.LastPolicyChange = clipChange(*judgement.Change)
		}
		// Before the first run after a restart nothing has been handled yet, and what was before still is.
		if judgement.Handled != "" {
			status.LastHandledRequest = clip(judgement.Handled, maxHandled)
		}
	case Suspended:
	default:
		status.Paths, status.LastProbeTime, status.Certificate, status.Delivered = nil, nil, nil, nil
	}
	if equality.Semantic.DeepEqual(steady(old), steady(status)) && !due(old, status, heartbeat) {
		return old
	}
	return status
}

func setConditions(status *api.HTTPSMeshProbeStatus, judgement Judgement, now time.Time) {
	conditions := Conditions(judgement.Standing, judgement.Paths, judgement.Policy)
	if judgement.Settling && judgement.Standing.Phase == Judged {
		conditions[0] = unimproved(conditions[0], status.Conditions)
		conditions = append(conditions, condition(api.ConditionReconciling, metav1.ConditionTrue, api.ReasonProgressing, "waiting for the sidecars to follow the policy"))
	}
	for _, kind := range []string{api.ConditionReconciling, api.ConditionStalled} {
		if !slices.ContainsFunc(conditions, func(c metav1.Condition) bool { return c.Type == kind }) {
			meta.RemoveStatusCondition(&status.Conditions, kind)
		}
	}
	for _, condition := range conditions {
		condition.ObservedGeneration = judgement.Generation
		if present := meta.FindStatusCondition(status.Conditions, condition.Type); present == nil || present.Status != condition.Status {
			condition.LastTransitionTime = metav1.NewTime(now)
		}
		meta.SetStatusCondition(&status.Conditions, condition)
	}
}

// unimproved keeps Ready from turning True before a run has shown the policy by which it would be.
func unimproved(ready metav1.Condition, before []metav1.Condition) metav1.Condition {
	if ready.Status != metav1.ConditionTrue || meta.IsStatusConditionTrue(before, api.ConditionReady) {
		return ready
	}
	return condition(api.ConditionReady, metav1.ConditionUnknown, api.ReasonUndetermined, "the policy is as declared, and no run has shown it yet")
}

func setPaths(status *api.HTTPSMeshProbeStatus, paths []Path, now time.Time) {
	before := status.Paths
	status.Paths = make([]api.PathStatus, 0, len(paths))
	for _, path := range paths {
		next := path.Evidence
		transition := metav1.NewTime(now)
		next.LastTransitionTime = &transition
		i := slices.IndexFunc(before, func(p api.PathStatus) bool { return p.Name == next.Name })
		if i >= 0 && before[i].Observed == next.Observed && before[i].Outcome == next.Outcome {
			next.LastTransitionTime = before[i].LastTransitionTime
		}
		status.Paths = append(status.Paths, next)
		status.LastProbeTime = next.LastProbeTime
	}
}

func clipChange(change api.PolicyChange) *api.PolicyChange {
	change.Object = clip(change.Object, maxObject)
	change.From, change.To = clip(change.From, maxModes), clip(change.To, maxModes)
	return &change
}

// steady is the status without what changes from run to run while nothing happens.
func steady(status api.HTTPSMeshProbeStatus) api.HTTPSMeshProbeStatus {
	status = *status.DeepCopy()
	status.LastProbeTime = nil
	for i := range status.Paths {
		status.Paths[i].LastProbeTime = nil
		status.Paths[i].Latency = nil
		status.Paths[i].ConsecutiveFailures = 0
		status.Paths[i].SentTo = ""
	}
	return status
}

func due(old, next api.HTTPSMeshProbeStatus, heartbeat time.Duration) bool {
	if next.LastProbeTime == nil {
		return false
	}
	return old.LastProbeTime == nil || next.LastProbeTime.Sub(old.LastProbeTime.Time) >= heartbeat
}
