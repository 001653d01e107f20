package controllers

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/schedule"
)

// maxNote is how many bytes the API server takes for an event's note (k8s.io/kubernetes pkg/apis/core/validation).
const maxNote = 1024

// tell records an event about a probe. Events are counted as one series while they are alike in kind, reason, action and
// what they are related to, within minutes of each other, and the series keeps the note of its first. So whoever calls
// this says by related what tells one note from another.
func (r *Reconciler) tell(probe *api.HTTPSMeshProbe, related *corev1.ObjectReference, kind, reason, action, note string) {
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote-len("…")], "") + "…"
	}
	if related == nil {
		r.Recorder.Eventf(reference(probe), nil, kind, reason, action, "%s", note)
		return
	}
	r.Recorder.Eventf(reference(probe), related, kind, reason, action, "%s", note)
}

// reference leaves the resource version out: with it, no two events would be alike.
func reference(probe *api.HTTPSMeshProbe) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: api.GroupVersion.String(), Kind: api.Kind, Namespace: probe.Namespace, Name: probe.Name, UID: probe.UID,
	}
}

// reportTransition says in an event and a log line what has become of Ready.
func (r *Reconciler) reportTransition(ctx context.Context, probe *api.HTTPSMeshProbe, status api.HTTPSMeshProbeStatus) {
	before := meta.FindStatusCondition(probe.Status.Conditions, api.ConditionReady)
	after := meta.FindStatusCondition(status.Conditions, api.ConditionReady)
	if after == nil || before != nil && before.Status == after.Status && before.Reason == after.Reason {
		return
	}
	kind := corev1.EventTypeNormal
	if after.Status == metav1.ConditionFalse || after.Reason == api.ReasonUndetermined {
		kind = corev1.EventTypeWarning
	}
	r.tell(probe, unverified(probe, status.Conditions), kind, after.Reason, "Judge", after.Message)
	logf.FromContext(ctx).Info("ready changed", "status", after.Status, "reason", after.Reason, "detail", after.Message)
}

// unverified refers to the conditions that keep Ready from True, each with its reason; nil where there are none.
func unverified(probe *api.HTTPSMeshProbe, conditions []metav1.Condition) *corev1.ObjectReference {
	var words []string
	for _, condition := range conditions {
		abnormal := condition.Type == api.ConditionReconciling || condition.Type == api.ConditionStalled
		if condition.Type != api.ConditionReady && !abnormal && condition.Status != metav1.ConditionTrue {
			words = append(words, condition.Type+"="+condition.Reason)
		}
	}
	if len(words) == 0 {
		return nil
	}
	related := reference(probe)
	related.FieldPath = "status.conditions{" + strings.Join(words, ",") + "}"
	return related
}

// reportPolicyChange tells a change of the policy, and what it cost, in an event.
func (r *Reconciler) reportPolicyChange(ctx context.Context, probe *api.HTTPSMeshProbe, status api.HTTPSMeshProbeStatus) {
	change := status.LastPolicyChange
	if change == nil || equality.Semantic.DeepEqual(change, probe.Status.LastPolicyChange) {
		return
	}
	kind, followed := corev1.EventTypeNormal, "the proxies had not followed after "+schedule.SettleTime.String()
	if change.SettledAfter != nil {
		followed = "the paths showed it after " + change.SettledAfter.Duration.String()
	}
	if change.ProbesLost > 0 || change.SettledAfter == nil {
		kind = corev1.EventTypeWarning
	}
	// Every change is an event of its own: what it cost is told of no other.
	related := reference(probe)
	related.FieldPath, related.ResourceVersion = "status.lastPolicyChange", probe.ResourceVersion
	r.tell(probe, related, kind, "PolicyChanged", "Follow", fmt.Sprintf("%s changed what is computed from %q to %q; %s; of %d requests on the path sleep meanwhile %d got no answer",
		change.Object, change.From, change.To, followed, change.ProbesSent, change.ProbesLost))
	logf.FromContext(ctx).Info("policy changed", "object", change.Object, "from", change.From, "to", change.To,
		"settled", change.SettledAfter != nil, "probesSent", change.ProbesSent, "probesLost", change.ProbesLost)
}

// reportRepair tells who had changed an object. Where nobody had, two probes only differed for a moment about the owners
// of a client.
func (r *Reconciler) reportRepair(probe *api.HTTPSMeshProbe, changed client.Object, kind string) {
	if manager := lastForeignManager(changed); manager != "" {
		related := &corev1.ObjectReference{Kind: kind, Namespace: changed.GetNamespace(), Name: changed.GetName(), UID: changed.GetUID(), FieldPath: "metadata.managedFields{" + manager + "}"}
		r.tell(probe, related, corev1.EventTypeWarning, "Repaired", "Repair",
			fmt.Sprintf("%s %s was changed by %s; it is set back to what the probe declares", kind, changed.GetName(), manager))
	}
}
