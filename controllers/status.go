package controllers

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/schedule"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// writeStatus writes what the visit came to, where it differs from what is there.
func (r *Reconciler) writeStatus(ctx context.Context, v *visit) error {
	if v.unchanged {
		r.Metrics.Record(v.Probe, v.Probe.Status)
		return nil
	}
	judgement := verdict.Judgement{
		Generation: v.Probe.Generation, Standing: v.standing, Paths: v.paths, Policy: v.policy,
		Settling: v.report.Settling, Change: changeStatus(v.report), Handled: v.report.Handled,
	}
	if record := v.schedule.record; record != nil && v.report.Runs > 0 {
		if run, ok := record.Latest(); ok {
			judgement.Certificate = v.schedule.criteria.OwnCertificate(run, r.Now())
			judgement.Delivered = verdict.Delivered(run)
		}
	}
	status := verdict.Status(v.Probe.Status, judgement, r.Now(), r.Settings.Heartbeat)
	if equality.Semantic.DeepEqual(v.Probe.Status, status) {
		r.Metrics.Record(v.Probe, status)
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
		r.Metrics.Record(v.Probe, status)
		r.reportTransition(ctx, v.Probe, status)
		r.reportPolicyChange(ctx, v.Probe, status)
	}
	return nil
}

// changeStatus is the latest change of the policy for the status, once the proxies have followed it or their time is over.
func changeStatus(report schedule.Report) *api.PolicyChange {
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
