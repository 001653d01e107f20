package controllers

import (
	"context"
	"sync"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/schedule"
)

const (
	workers          = 4
	reconcileTimeout = time.Minute
)

// Wakeups carries the runner's calls to the controller.
type Wakeups chan event.GenericEvent

// Wake asks for a look at a probe. It gives up when ctx ends.
func (w Wakeups) Wake(ctx context.Context, key schedule.Key) {
	probe := &api.HTTPSMeshProbe{}
	probe.Namespace, probe.Name = key.Namespace, key.Name
	select {
	case w <- event.GenericEvent{Object: probe}:
	case <-ctx.Done():
	}
}

// SetupWithManager registers the controller and what it watches. Istio's kinds are watched from the moment on at which
// the API server first knows them.
func (r *Reconciler) SetupWithManager(manager ctrl.Manager, wakeups Wakeups) error {
	of := handler.EnqueueRequestsFromMapFunc
	under := ctrl.NewControllerManagedBy(manager)
	if r.Settings.WatchNamespace == "" {
		under = under.WatchesMetadata(&corev1.Namespace{}, of(r.probesOfNamespace), builder.WithPredicates(predicate.Or(predicate.LabelChangedPredicate{}, goes())))
	}
	built, err := under.
		For(&api.HTTPSMeshProbe{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, requested()))).
		Owns(&corev1.ServiceAccount{}).
		// The clients have many owners and no controller among them.
		Owns(&appsv1.Deployment{}, builder.MatchEveryOwner).
		Owns(&corev1.ConfigMap{}).
		Watches(&corev1.ConfigMap{}, of(r.probesOfMeshConfig)).
		Watches(&corev1.Service{}, of(r.probesOfService)).
		Watches(&discoveryv1.EndpointSlice{}, of(r.probesOfEndpoints)).
		Watches(&corev1.Pod{}, of(r.probesOfPod), builder.WithPredicates(podMatters())).
		WatchesRawSource(source.Channel(wakeups, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, ReconciliationTimeout: reconcileTimeout}).
		Build(r)
	if err != nil {
		return err
	}
	r.istio.watch = func() error {
		for _, kind := range []client.Object{&securityv1.PeerAuthentication{}, &networkingv1.DestinationRule{}} {
			if err := built.Watch(source.Kind(manager.GetCache(), kind, of(r.probesOfPolicy))); err != nil {
				return err
			}
		}
		return nil
	}
	return nil
}

// istioWatch starts the watch on Istio's kinds once.
type istioWatch struct {
	watch   func() error
	mu      sync.Mutex
	started bool
}

func (i *istioWatch) start() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.started {
		return nil
	}
	if err := i.watch(); err != nil {
		return err
	}
	i.started = true
	return nil
}
