// Package controllers turns HTTPSMeshProbe resources into servers, clients, runs and verdicts.
package controllers

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
	"github.com/meshprobe/httpsmeshprobe/internal/metrics"
	"github.com/meshprobe/httpsmeshprobe/internal/schedule"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// Settings are the operator's flags as far as reconciling needs them.
type Settings struct {
	Images fixture.Images
	// ClusterDomain is the cluster's DNS domain, such as cluster.local.
	ClusterDomain string
	// IstioNamespace is where istiod and its mesh config are.
	IstioNamespace string
	// AllowCrossNamespace lets probes name Services of other namespaces than their own.
	AllowCrossNamespace bool
	// WatchNamespace is the only namespace whose probes are served; "" serves all.
	WatchNamespace string
	// IstioUnreadable says which right an operator for one namespace lacks in Istio's; "" where it lacks none.
	IstioUnreadable string
	// Heartbeat is how often a status is written while nothing changes.
	Heartbeat time.Duration
}

// Place is where the operator looks for what.
func (s Settings) Place() inventory.Place {
	return inventory.Place{
		IstioNamespace: s.IstioNamespace, ClusterDomain: s.ClusterDomain, Namespace: s.WatchNamespace, IstioUnreadable: s.IstioUnreadable,
	}
}

// Reconciler brings one HTTPSMeshProbe after the other to a verdict. It never waits: runs are the runner's, which wakes
// it when one of them has something new to tell.
type Reconciler struct {
	// Client reads from the cache and writes to the API server; Live reads from the API server.
	Client   client.Client
	Live     client.Reader
	Runner   *schedule.Runner
	Recorder events.EventRecorder
	Metrics  *metrics.Metrics
	Settings Settings
	// Now is the clock.
	Now func() time.Time

	applied appliedObjects
	written writtenStatuses
	memory  policyMemory
	records records
	denied  denialMemory
	failing failures
	istio   istioWatch
}

// visit is one reconcile of one probe: what it found, and what the steps have made of it so far.
type visit struct {
	*inventory.Inventory
	server   server
	policies policies
	schedule planned

	standing verdict.Standing
	paths    []verdict.Path
	policy   verdict.Policy
	// report is what the runner knows, as of this visit.
	report schedule.Report
	// unchanged says that there is nothing new to write.
	unchanged bool
	// again is when to look again though nothing happens; 0 is never.
	again time.Duration
}

// step does one thing for a probe. It ends the visit by returning a standing with a phase.
type step func(context.Context, *visit) (verdict.Standing, error)

// Reconcile looks at one probe, from the cluster's objects to its status.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	found, err := inventory.Gather(ctx, r.Client, r.Live, request.NamespacedName, r.Settings.Place())
	if apierrors.IsNotFound(err) || err == nil && found.Probe.DeletionTimestamp != nil {
		r.forget(request)
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, errors.Join(err, r.reportFailure(ctx, request, err))
	}
	r.written.refresh(found.Probe)
	r.Metrics.Keep(runnerKey(request))
	v := &visit{Inventory: found}
	if err := r.walk(ctx, v); err != nil {
		return ctrl.Result{}, errors.Join(err, r.reportFailure(ctx, request, err))
	}
	r.failing.forget(request.NamespacedName)
	if v.standing.Phase == verdict.Stalled || v.standing.Phase == verdict.Suspended {
		r.Runner.Forget(runnerKey(request))
		r.records.forget(request.NamespacedName)
	}
	return ctrl.Result{RequeueAfter: v.again}, r.writeStatus(ctx, v)
}

func (r *Reconciler) forget(request ctrl.Request) {
	r.Runner.Forget(runnerKey(request))
	r.applied.forget(request.NamespacedName)
	r.written.forget(request.NamespacedName)
	r.memory.forget(request.NamespacedName)
	r.records.forget(request.NamespacedName)
	r.denied.forget(request.NamespacedName)
	r.failing.forget(request.NamespacedName)
	r.Metrics.Forget(runnerKey(request))
}

func (r *Reconciler) walk(ctx context.Context, v *visit) error {
	steps := []step{
		r.stopWhileSuspended,
		r.requireIstio,
		r.requireMeshConfig,
		r.findTarget,
		r.readCA,
		r.keepCertificate,
		r.keepServer,
		r.keepClients,
		r.awaitPods,
		r.computePolicies,
		r.scheduleRuns,
		r.judge,
	}
	for _, step := range steps {
		standing, err := step(ctx, v)
		var obstacle *obstacle
		if errors.As(err, &obstacle) {
			standing, err = obstacle.standing, nil
			v.lookAgain(obstacle.retry)
		}
		if err != nil {
			return err
		}
		if standing.Phase != "" {
			v.standing = standing
			return nil
		}
	}
	return nil
}

// lookAgain asks for another visit after a while at the latest.
func (v *visit) lookAgain(after time.Duration) {
	if v.again == 0 || after < v.again {
		v.again = after
	}
}

func runnerKey(request ctrl.Request) schedule.Key {
	return schedule.Key{Namespace: request.Namespace, Name: request.Name}
}
