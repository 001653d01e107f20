package controllers

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// failingFor is how long a visit may fail, at every attempt, before the status says so. An API server that restarts, or a
// conflict, costs no verdict.
const failingFor = 10 * time.Second

// failures hold since when each probe's visits fail.
type failures struct {
	mu    sync.Mutex
	since map[types.NamespacedName]time.Time
}

func (f *failures) began(probe types.NamespacedName, now time.Time) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.since == nil {
		f.since = map[types.NamespacedName]time.Time{}
	}
	if _, ok := f.since[probe]; !ok {
		f.since[probe] = now
	}
	return f.since[probe]
}

func (f *failures) forget(probe types.NamespacedName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.since, probe)
}

// reportFailure says in the status that a visit cannot be brought to its end: a verdict from before would look like one of
// the present.
func (r *Reconciler) reportFailure(ctx context.Context, request ctrl.Request, failure error) error {
	if r.Now().Sub(r.failing.began(request.NamespacedName, r.Now())) < failingFor {
		return nil
	}
	probe := &api.HTTPSMeshProbe{}
	if err := r.Client.Get(ctx, request.NamespacedName, probe); err != nil {
		return client.IgnoreNotFound(err)
	}
	r.written.refresh(probe)
	v := &visit{Inventory: &inventory.Inventory{Probe: probe}}
	v.standing = verdict.Standing{Phase: verdict.Failing, Reason: api.ReasonReconcileFailed,
		Message: "the operator cannot look after this probe, and tries again: " + failure.Error()}
	return r.writeStatus(ctx, v)
}
