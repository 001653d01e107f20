package whatif

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

const (
	labelInjection = "istio-injection"
	labelRevision  = "istio.io/rev"
	labelInject    = "sidecar.istio.io/inject"
	// annotationTemplates names the templates that the injector uses (istio.io/api annotation).
	annotationTemplates = "inject.istio.io/templates"
	containerIstioInit  = "istio-init"
	// plannedSuffix stands for what the pods' names will end in, plannedUID for the beginning of their UIDs.
	plannedSuffix = "-*"
	plannedUID    = "planned/"
)

// workload is a Deployment, StatefulSet or DaemonSet, or a pod by itself.
type workload struct {
	namespace, name string
	selector        *metav1.LabelSelector
	template        corev1.PodTemplateSpec
	// empty says that no pods of it will be there.
	empty bool
}

// workloadOf returns what an object makes pods of; ok is false where it makes none.
func workloadOf(object client.Object) (made workload, ok bool) {
	made = workload{namespace: object.GetNamespace(), name: object.GetName()}
	switch object := object.(type) {
	case *appsv1.Deployment:
		made.selector, made.template, made.empty = object.Spec.Selector, object.Spec.Template, isZero(object.Spec.Replicas)
	case *appsv1.StatefulSet:
		made.selector, made.template, made.empty = object.Spec.Selector, object.Spec.Template, isZero(object.Spec.Replicas)
	case *appsv1.DaemonSet:
		made.selector, made.template = object.Spec.Selector, object.Spec.Template
	case *corev1.Pod:
		made.template = corev1.PodTemplateSpec{ObjectMeta: object.ObjectMeta, Spec: object.Spec}
	default:
		return workload{}, false
	}
	return made, true
}

func isZero(replicas *int32) bool { return replicas != nil && *replicas == 0 }

// workloads are those of the files, and those of the cluster that would be gone.
func (w *world) workloads(namespace string) []workload {
	found := slices.DeleteFunc(slices.Clone(w.gone), func(l workload) bool { return l.namespace != namespace })
	for _, reference := range w.sorted() {
		if reference.Namespace != namespace || w.removed[reference] {
			continue
		}
		if made, ok := workloadOf(w.objects[reference]); ok {
			found = append(found, made)
		}
	}
	return found
}

// podName is the name of the pods that a workload will make, as far as it is known.
func (l workload) podName() string {
	if l.selector == nil {
		return l.name
	}
	return l.name + plannedSuffix
}

// replaces says whether a pod is of an earlier template of the workload.
func (l workload) replaces(pod *corev1.Pod) bool {
	if l.selector == nil {
		return pod.Name == l.name
	}
	selector, err := metav1.LabelSelectorAsSelector(l.selector)
	return err == nil && !selector.Empty() && selector.Matches(labels.Set(pod.Labels))
}

// pod is what the API server and the injector will make of the workload's template.
func (l workload) pod(sidecar bool) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: *l.template.ObjectMeta.DeepCopy(), Spec: *l.template.Spec.DeepCopy()}
	pod.Namespace, pod.Name = l.namespace, l.podName()
	pod.UID = types.UID(plannedUID + l.name)
	if !sidecar {
		return pod
	}
	pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: fixture.ContainerIstioProxy})
	if gateway(pod.Annotations) {
		return pod
	}
	// Without arguments: the annotations are what the injector will make them of.
	pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: containerIstioInit})
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	if pod.Labels[meshpolicy.LabelTLSMode] == "" {
		pod.Labels[meshpolicy.LabelTLSMode] = meshpolicy.TLSModeIstio
	}
	return pod
}

// gateway says whether the injector is told to use its template for gateways, and not that for sidecars as well. It puts no
// label on the pod that makes auto mTLS use it, and leads no connection to the proxy.
func gateway(annotations map[string]string) bool {
	var templates []string
	for _, template := range strings.Split(annotations[annotationTemplates], ",") {
		templates = append(templates, strings.TrimSpace(template))
	}
	return slices.Contains(templates, "gateway") && !slices.Contains(templates, "sidecar")
}

// Injected follows the selectors of Istio's injection webhooks (manifests/charts/istio-control/istio-discovery,
// mutatingwebhook.yaml): the namespace's label goes before the pod's, but a pod can decline.
func Injected(namespace, pod map[string]string, hostNetwork bool) bool {
	declines := pod[labelInject] == "false"
	switch {
	case hostNetwork || declines || namespace[labelInjection] == "disabled":
		return false
	case namespace[labelInjection] == "enabled" || namespace[labelRevision] != "":
		return true
	default:
		return pod[labelInject] == "true" || pod[labelRevision] != ""
	}
}

// injects says whether the workload's pods will have a sidecar. Of a namespace that is in neither the files nor the
// cluster nothing is known: there the probe's claim counts.
func (w *world) injects(ctx context.Context, l workload) (bool, error) {
	var namespace corev1.Namespace
	err := w.Get(ctx, types.NamespacedName{Name: l.namespace}, &namespace)
	switch {
	case apierrors.IsNotFound(err):
		return w.claimed && l.template.Labels[labelInject] != "false" && !l.template.Spec.HostNetwork, nil
	case err != nil:
		return false, fmt.Errorf("get namespace %s: %w", l.namespace, err)
	default:
		return Injected(namespace.Labels, l.template.Labels, l.template.Spec.HostNetwork), nil
	}
}

// plannedPod returns the pod of a workload of the files under its name; nil where there is none.
func (w *world) plannedPod(ctx context.Context, key types.NamespacedName) *corev1.Pod {
	for _, l := range w.workloads(key.Namespace) {
		if l.empty || l.podName() != key.Name {
			continue
		}
		if sidecar, err := w.injects(ctx, l); err == nil {
			return l.pod(sidecar)
		}
	}
	return nil
}

// planned puts the pods of the files' workloads in the place of those that they replace.
func (w *world) planned(ctx context.Context, existing []runtime.Object, wanted client.ListOptions) ([]runtime.Object, error) {
	if wanted.LabelSelector == nil {
		return existing, nil
	}
	name, _ := wanted.LabelSelector.RequiresExactMatch(discoveryv1.LabelServiceName)
	var service corev1.Service
	if err := w.Get(ctx, types.NamespacedName{Namespace: wanted.Namespace, Name: name}, &service); err != nil {
		return existing, client.IgnoreNotFound(err)
	}
	workloads := w.workloads(wanted.Namespace)
	if len(workloads) == 0 {
		return existing, nil
	}
	var kept []runtime.Object
	for _, object := range existing {
		slice := object.(*discoveryv1.EndpointSlice).DeepCopy()
		var err error
		if slice.Endpoints, err = w.withoutReplaced(ctx, wanted.Namespace, slice.Endpoints, workloads); err != nil {
			return nil, err
		}
		kept = append(kept, slice)
	}
	for _, l := range workloads {
		if l.empty || len(service.Spec.Selector) == 0 || !labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(l.template.Labels)) {
			continue
		}
		if _, err := w.injects(ctx, l); err != nil {
			return nil, err
		}
		kept = append(kept, l.slice(service))
	}
	return kept, nil
}

func (w *world) withoutReplaced(ctx context.Context, namespace string, endpoints []discoveryv1.Endpoint, workloads []workload) ([]discoveryv1.Endpoint, error) {
	var kept []discoveryv1.Endpoint
	for _, endpoint := range endpoints {
		replaced := false
		if endpoint.TargetRef != nil && endpoint.TargetRef.Kind == "Pod" && w.below != nil {
			var pod corev1.Pod
			err := w.below.Get(ctx, types.NamespacedName{Namespace: namespace, Name: endpoint.TargetRef.Name}, &pod)
			if client.IgnoreNotFound(err) != nil {
				return nil, fmt.Errorf("get pod %s/%s: %w", namespace, endpoint.TargetRef.Name, err)
			}
			replaced = err == nil && slices.ContainsFunc(workloads, func(l workload) bool { return l.replaces(&pod) })
		}
		if !replaced {
			kept = append(kept, endpoint)
		}
	}
	return kept, nil
}

// slice lists the workload's pods as one endpoint, under an address that no pod has.
func (l workload) slice(service corev1.Service) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{Endpoints: []discoveryv1.Endpoint{{
		Addresses: []string{l.podName()},
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: l.namespace, Name: l.podName(), UID: types.UID(plannedUID + l.name)},
	}}}
	for _, port := range service.Spec.Ports {
		number := l.port(port)
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &port.Name, Port: &number})
	}
	return slice
}

// port resolves a Service's port to that of the workload's pods.
func (l workload) port(port corev1.ServicePort) int32 {
	switch target := port.TargetPort; {
	case target.Type == intstr.Int && target.IntVal != 0:
		return target.IntVal
	case target.Type == intstr.String:
		for _, container := range l.template.Spec.Containers {
			for _, named := range container.Ports {
				if named.Name == target.StrVal {
					return named.ContainerPort
				}
			}
		}
	}
	return port.Port
}

// isPlanned says whether an endpoint is of a pod that is not there yet.
func isPlanned(endpoint inventory.Endpoint) bool { return strings.HasPrefix(endpoint.UID, plannedUID) }
