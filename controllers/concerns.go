package controllers

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
)

// A change is looked at by the probes that it can concern. Whether it does, the visit finds out, and only then are
// requests sent: a plan that comes out the same costs none.

// probesOfPolicy are the probes whose target or clients are in the policy's namespace, and those for whose revision of
// Istio it is the root namespace, which may be another than istiod's.
func (r *Reconciler) probesOfPolicy(ctx context.Context, policy client.Object) []reconcile.Request {
	namespace := policy.GetNamespace()
	return r.probesThat(ctx, func(probe *api.HTTPSMeshProbe) bool {
		if namespace == probe.Namespace || namespace == inventory.TargetOf(probe).Namespace {
			return true
		}
		mesh, err := inventory.ReadMesh(ctx, r.Client, r.Settings.Place(), probe.Spec.Revision)
		return err == nil && namespace == mesh.RootNamespace // else the visit that the mesh config caused has told
	})
}

func (r *Reconciler) probesOfService(ctx context.Context, service client.Object) []reconcile.Request {
	key := client.ObjectKeyFromObject(service)
	return r.probesThat(ctx, func(probe *api.HTTPSMeshProbe) bool { return inventory.TargetOf(probe) == key })
}

func (r *Reconciler) probesOfEndpoints(ctx context.Context, slice client.Object) []reconcile.Request {
	key := types.NamespacedName{Namespace: slice.GetNamespace(), Name: slice.GetLabels()[discoveryv1.LabelServiceName]}
	return r.probesThat(ctx, func(probe *api.HTTPSMeshProbe) bool { return inventory.TargetOf(probe) == key })
}

// probesOfPod are, for a server's pod, its probe; for a client's, all that share it; for anybody else's, the probes of
// Services in its namespace.
func (r *Reconciler) probesOfPod(ctx context.Context, pod client.Object) []reconcile.Request {
	labels := pod.GetLabels()
	switch {
	case labels[fixture.LabelManagedBy] != fixture.ManagedBy:
		return r.probesThat(ctx, func(probe *api.HTTPSMeshProbe) bool {
			return probe.Spec.Target.Service != nil && inventory.TargetOf(probe).Namespace == pod.GetNamespace()
		})
	case labels[fixture.LabelProbe] != "":
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: pod.GetNamespace(), Name: labels[fixture.LabelProbe]}}}
	default:
		return r.probesThat(ctx, func(probe *api.HTTPSMeshProbe) bool { return probe.Namespace == pod.GetNamespace() })
	}
}

func (r *Reconciler) probesOfNamespace(ctx context.Context, namespace client.Object) []reconcile.Request {
	return r.probesThat(ctx, func(probe *api.HTTPSMeshProbe) bool {
		return inventory.TargetOf(probe).Namespace == namespace.GetName()
	})
}

func (r *Reconciler) probesOfMeshConfig(ctx context.Context, configMap client.Object) []reconcile.Request {
	if configMap.GetNamespace() != r.Settings.IstioNamespace || configMap.GetLabels()[fixture.LabelManagedBy] == fixture.ManagedBy {
		return nil
	}
	return r.probesThat(ctx, func(*api.HTTPSMeshProbe) bool { return true })
}

func (r *Reconciler) probesThat(ctx context.Context, concerned func(*api.HTTPSMeshProbe) bool) []reconcile.Request {
	var list api.HTTPSMeshProbeList
	if err := r.Client.List(ctx, &list); err != nil {
		return nil // the cache is stopping
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if concerned(&list.Items[i]) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return requests
}

// requested passes the probes of which a person has asked for a run.
func requested() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			return e.ObjectOld.GetAnnotations()[api.AnnotationRequestedAt] != e.ObjectNew.GetAnnotations()[api.AnnotationRequestedAt]
		},
	}
}

// goes passes an object that has begun to go.
func goes() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			return e.ObjectOld.GetDeletionTimestamp() == nil && e.ObjectNew.GetDeletionTimestamp() != nil
		},
	}
}

// podMatters leaves out the many updates of other people's pods in which nothing changes that policies look at. When such
// a pod becomes ready, its endpoint does too.
func podMatters() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, after := e.ObjectOld.(*corev1.Pod), e.ObjectNew.(*corev1.Pod)
			return after.Labels[fixture.LabelManagedBy] == fixture.ManagedBy ||
				!maps.Equal(before.Labels, after.Labels) || !maps.Equal(before.Annotations, after.Annotations) ||
				before.Status.PodIP != after.Status.PodIP || (before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil)
		},
	}
}
