package controllers

import (
	"context"
	"fmt"
	"time"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/effective"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// referenceRetry is how often objects are read that are not watched: the Secrets and ConfigMaps that a spec names.
const referenceRetry = 15 * time.Second

// findTarget finds the Service of the user's that the probe is about, and says what keeps it from being probed truthfully.
func (r *Reconciler) findTarget(_ context.Context, v *visit) (verdict.Standing, error) {
	if v.Probe.Spec.Target.Service == nil {
		return proceed, nil
	}
	reason, message := r.crossesNamespaces(v)
	if reason == "" {
		reason, message = effective.TargetObstacle(v.Inventory)
	}
	switch reason {
	case "":
		return proceed, nil
	case api.ReasonNoEndpoints:
		r.Runner.Forget(keyOf(v))
		return verdict.Standing{Phase: verdict.Troubled, Reason: reason, Message: message}, nil
	default:
		return verdict.Standing{Phase: verdict.Stalled, Reason: reason, Message: message}, nil
	}
}

func (r *Reconciler) crossesNamespaces(v *visit) (reason, message string) {
	if v.Target.Namespace == v.Probe.Namespace || r.Settings.AllowCrossNamespace {
		return "", ""
	}
	if r.Settings.WatchNamespace != "" {
		return api.ReasonCrossNamespaceForbidden,
			fmt.Sprintf("%s is in another namespace than the probe, and this operator serves namespace %s alone: create the probe in namespace %s, with an operator for it", v.Target, r.Settings.WatchNamespace, v.Target.Namespace)
	}
	return api.ReasonCrossNamespaceForbidden,
		fmt.Sprintf("%s is in another namespace than the probe: create the probe in namespace %s, or start the operator with --allow-cross-namespace", v.Target, v.Target.Namespace)
}
