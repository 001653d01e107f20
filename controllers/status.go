package controllers

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/runner"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// writeStatus writes what the visit came to, where it differs from what is there.
func (r *Reconciler) writeStatus(ctx context.Context, v *visit) error {
	if v.unchanged {
		return nil
	}
	judgement := verdict.Judgement{
		Generation: v.Probe.Generation, Standing: v.standing, Paths: v.paths, Policy: v.policy,
		Settling: v.report.Settling, Change: changeStatus(v.report), Handled: v.report.Handled,
	}
	if runs := v.report.Runs; len(runs) > 0 {
		judgement.Certificate = verdict.OwnCertificate(v.schedule.server, runs[len(runs)-1], r.Now())
	}
	status := verdict.Status(v.Probe.Status, judgement, r.Now(), r.Settings.Heartbeat)
	if equality.Semantic.DeepEqual(v.Probe.Status, status) {
		return nil
	}
	desired, err := statusApplyConfiguration(v.Probe, status)
	if err != nil {
		return err
	}
	err = r.Client.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(desired),
		client.FieldOwner(fixture.ManagedBy), client.ForceOwnership)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write status: %w", err)
	}
	if err == nil {
		r.written.put(v.Probe, desired.GetResourceVersion(), status)
		r.reportTransition(ctx, v.Probe, status)
		r.reportPolicyChange(ctx, v.Probe, status)
	}
	return nil
}

// changeStatus is the latest change of the policy for the status, once the proxies have followed it or their time is over.
func changeStatus(report runner.Report) *api.PolicyChange {
	change := report.Change
	if change == nil || report.Settling {
		return nil
	}
	seen := metav1.NewTime(change.Seen.Truncate(time.Second))
	status := &api.PolicyChange{
		Object: change.Cause, From: change.From, To: change.To, SeenTime: &seen,
		ProbesSent: int32(change.Sent), ProbesLost: int32(change.Lost),
	}
	if change.Settled {
		status.SettledAfter = &metav1.Duration{Duration: change.After.Round(time.Millisecond)}
	}
	return status
}

// reportPolicyChange tells a change of the policy, and what it cost, in an event.
func (r *Reconciler) reportPolicyChange(ctx context.Context, probe *api.HTTPSMeshProbe, status api.HTTPSMeshProbeStatus) {
	change := status.LastPolicyChange
	if change == nil || equality.Semantic.DeepEqual(change, probe.Status.LastPolicyChange) {
		return
	}
	kind, followed := corev1.EventTypeNormal, "the proxies had not followed after "+runner.SettleTime.String()
	if change.SettledAfter != nil {
		followed = "the paths showed it after " + change.SettledAfter.Duration.String()
	}
	if change.ProbesLost > 0 || change.SettledAfter == nil {
		kind = corev1.EventTypeWarning
	}
	r.Recorder.Eventf(probe, nil, kind, "PolicyChanged", "Follow", "%s changed what is computed from %q to %q; %s; of %d requests on the path sleep meanwhile %d got no answer",
		change.Object, change.From, change.To, followed, change.ProbesSent, change.ProbesLost)
	logf.FromContext(ctx).Info("policy changed", "object", change.Object, "from", change.From, "to", change.To,
		"settled", change.SettledAfter != nil, "probesSent", change.ProbesSent, "probesLost", change.ProbesLost)
}

func statusApplyConfiguration(probe *api.HTTPSMeshProbe, status api.HTTPSMeshProbeStatus) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&status)
	if err != nil {
		return nil, fmt.Errorf("convert status: %w", err)
	}
	desired := &unstructured.Unstructured{Object: map[string]any{"status": content}}
	desired.SetGroupVersionKind(api.GroupVersion.WithKind(api.Kind))
	desired.SetNamespace(probe.Namespace)
	desired.SetName(probe.Name)
	desired.SetUID(probe.UID)
	return desired, nil
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
	r.Recorder.Eventf(probe, nil, kind, after.Reason, "Judge", "%s", after.Message)
	logf.FromContext(ctx).Info("ready changed", "status", after.Status, "reason", after.Reason, "detail", after.Message)
}
