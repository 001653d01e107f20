package controllers

import (
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
	"github.com/meshprobe/httpsmeshprobe/internal/podhealth"
)

// CacheOptions keep the operator's memory small: of what it has made itself everything, of Istio's namespace the
// ConfigMaps, among which the mesh config is, and of what belongs to others only what policies look at.
func CacheOptions(place inventory.Place) cache.Options {
	ours, all := cache.Config{LabelSelector: fixture.Selector()}, cache.Config{LabelSelector: labels.Everything()}
	options := cache.Options{
		DefaultTransform: lean,
		ByObject: map[client.Object]cache.ByObject{
			&appsv1.Deployment{}:     {Label: fixture.Selector()},
			&corev1.ServiceAccount{}: {Label: fixture.Selector()},
		},
	}
	if place.Namespace == "" {
		options.ByObject[&corev1.ConfigMap{}] = cache.ByObject{Namespaces: map[string]cache.Config{place.IstioNamespace: all, cache.AllNamespaces: ours}}
		return options
	}
	options.DefaultNamespaces = map[string]cache.Config{place.Namespace: {}}
	options.ByObject[&corev1.ConfigMap{}] = inReach(place, ours, all)
	options.ByObject[&securityv1.PeerAuthentication{}] = inReach(place, all, all)
	options.ByObject[&networkingv1.DestinationRule{}] = inReach(place, all, all)
	return options
}

// inReach watches the operator's only namespace, and Istio's if the operator may.
func inReach(place inventory.Place, own, istio cache.Config) cache.ByObject {
	watched := map[string]cache.Config{place.Namespace: own}
	if place.Reaches(place.IstioNamespace) {
		watched[place.IstioNamespace] = istio
	}
	return cache.ByObject{Namespaces: watched}
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

// leanPod keeps of a pod who it is, which containers it has, what leads connections to its sidecar,
// and whether it is ready.
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
		lean := corev1.Container{Name: container.Name}
		if podhealth.Redirects(container.Name) {
			lean.Args = container.Args
		}
		kept = append(kept, lean)
	}
	return kept
}
