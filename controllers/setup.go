package controllers

import (
	"context"
	"sync"
	"time"

	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/runner"
)

const (
	workers          = 4
	reconcileTimeout = time.Minute
)

// Wakeups carries the runner's calls to the controller.
type Wakeups chan event.GenericEvent

// Wake asks for a look at a probe. It gives up when ctx ends.
func (w Wakeups) Wake(ctx context.Context, key runner.Key) {
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
	built, err := ctrl.NewControllerManagedBy(manager).
		For(&api.HTTPSMeshProbe{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&corev1.Service{}).
		Owns(&corev1.ConfigMap{}).
		Owns(&corev1.ServiceAccount{}).
		// The clients have many owners and no controller among them.
		Owns(&appsv1.Deployment{}, builder.MatchEveryOwner).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(r.probesOfPod)).
		WatchesRawSource(source.Channel(wakeups, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, ReconciliationTimeout: reconcileTimeout}).
		Build(r)
	if err != nil {
		return err
	}
	r.istio.watch = func() error {
		return built.Watch(source.Kind(manager.GetCache(), &securityv1.PeerAuthentication{},
			handler.TypedEnqueueRequestsFromMapFunc(r.probesOfPolicy)))
	}
	return nil
}

// CacheOptions keep the operator's memory to what it has made itself, whatever else the cluster holds.
func CacheOptions() cache.Options {
	ours := cache.ByObject{Label: fixture.Selector()}
	return cache.Options{ByObject: map[client.Object]cache.ByObject{
		&corev1.Pod{}: ours, &appsv1.Deployment{}: ours, &corev1.Service{}: ours, &corev1.ConfigMap{}: ours, &corev1.ServiceAccount{}: ours,
	}}
}

func (r *Reconciler) probesOfPod(ctx context.Context, pod client.Object) []reconcile.Request {
	if probe := pod.GetLabels()[fixture.LabelProbe]; probe != "" {
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: pod.GetNamespace(), Name: probe}}}
	}
	return r.probesIn(ctx, pod.GetNamespace())
}

func (r *Reconciler) probesOfPolicy(ctx context.Context, policy *securityv1.PeerAuthentication) []reconcile.Request {
	if policy.Namespace == r.Settings.RootNamespace {
		return r.probesIn(ctx, "")
	}
	return r.probesIn(ctx, policy.Namespace)
}

// probesIn lists the probes of a namespace, or of all of them for "".
func (r *Reconciler) probesIn(ctx context.Context, namespace string) []reconcile.Request {
	var list api.HTTPSMeshProbeList
	if err := r.Client.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil // the cache is stopping
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
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
