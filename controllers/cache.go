package controllers

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
)

// CacheOptions keep the operator's memory small: of what it has made itself everything, of Istio's namespace the
// ConfigMaps, among which the mesh config is, and of what belongs to others only what policies look at.
func CacheOptions(istioNamespace string) cache.Options {
	ours := cache.ByObject{Label: fixture.Selector()}
	return cache.Options{
		DefaultTransform: lean,
		ByObject: map[client.Object]cache.ByObject{
			&appsv1.Deployment{}:     ours,
			&corev1.ServiceAccount{}: ours,
			&corev1.ConfigMap{}: {Namespaces: map[string]cache.Config{
				istioNamespace:      {LabelSelector: labels.Everything()},
				cache.AllNamespaces: {LabelSelector: fixture.Selector()},
			}},
		},
	}
}

// lean takes out of objects that are not the operator's what it never looks at.
func lean(object any) (any, error) {
	about, err := meta.Accessor(object)
	if err != nil || about.GetLabels()[fixture.LabelManagedBy] == fixture.ManagedBy {
		return object, nil //nolint:nilerr // a tombstone is kept as it is
	}
	about.SetManagedFields(nil)
	if pod, ok := object.(*corev1.Pod); ok {
		leanPod(pod)
	}
	return object, nil
}

// leanPod keeps of a pod who it is, which containers it has and whether they are probed, and whether it is ready.
func leanPod(pod *corev1.Pod) {
	pod.Spec = corev1.PodSpec{
		ServiceAccountName: pod.Spec.ServiceAccountName,
		HostNetwork:        pod.Spec.HostNetwork,
		Containers:         leanContainers(pod.Spec.Containers),
		InitContainers:     leanContainers(pod.Spec.InitContainers),
	}
	pod.Status = corev1.PodStatus{Phase: pod.Status.Phase, PodIP: pod.Status.PodIP, Conditions: pod.Status.Conditions}
}

func leanContainers(containers []corev1.Container) []corev1.Container {
	kept := make([]corev1.Container, 0, len(containers))
	for _, container := range containers {
		kept = append(kept, corev1.Container{Name: container.Name, ReadinessProbe: container.ReadinessProbe})
	}
	return kept
}
