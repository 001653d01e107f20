package inventory

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
	"github.com/meshprobe/httpsmeshprobe/internal/podhealth"
)

func (i *Inventory) readEndpoints(ctx context.Context, reader client.Reader) error {
	var slicesOf discoveryv1.EndpointSliceList
	err := reader.List(ctx, &slicesOf, client.InNamespace(i.Target.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: i.Target.Name})
	if err != nil {
		return fmt.Errorf("list endpointslices of Service %s/%s: %w", i.Target.Namespace, i.Target.Name, err)
	}
	pods := podsBehind{reader: reader, namespace: i.Target.Namespace}
	// Two ports behind one IP are two endpoints, each with its own way to the sidecar or past it.
	seen := map[string]bool{}
	for _, slice := range slicesOf.Items {
		port, ok := endpointPort(slice, i.Target.Port.Name)
		if !ok || slice.AddressType == discoveryv1.AddressTypeFQDN {
			continue // istiod leaves names out too (endpointslice.go, updateEndpointCacheForSlice)
		}
		for _, listed := range slice.Endpoints {
			if len(listed.Addresses) == 0 {
				continue
			}
			endpoint := Endpoint{IP: listed.Addresses[0], Port: port}
			if seen[endpoint.Address()] {
				continue
			}
			pod, lasting, err := pods.find(ctx, listed)
			if err != nil {
				return err
			}
			endpoint.standsBefore(pod)
			if lasting || endpoint.Pod.Name != "" {
				i.Target.Pods = append(i.Target.Pods, endpoint.Pod)
			}
			if !lasting || listed.Conditions.Ready != nil && !*listed.Conditions.Ready {
				i.Target.NotReady++
				continue
			}
			// An address may still be listed for the pod that had it before, and must not hide the one that has it now.
			seen[endpoint.Address()] = true
			i.Target.Endpoints = append(i.Target.Endpoints, endpoint)
		}
	}
	slices.SortFunc(i.Target.Endpoints, func(a, b Endpoint) int { return cmp.Compare(a.Address(), b.Address()) })
	slices.SortFunc(i.Target.Pods, func(a, b meshpolicy.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

func endpointPort(slice discoveryv1.EndpointSlice, name string) (uint32, bool) {
	for _, port := range slice.Ports {
		if port.Port != nil && (port.Name == nil && name == "" || port.Name != nil && *port.Name == name) {
			return uint32(*port.Port), true
		}
	}
	return 0, false
}

// standsBefore takes over of a pod what is known of an endpoint by it; there may be none.
func (e *Endpoint) standsBefore(pod *corev1.Pod) {
	if pod == nil {
		return
	}
	e.UID, e.ServiceAccount = string(pod.UID), pod.Spec.ServiceAccountName
	e.Pod = meshpolicy.Pod{
		Namespace: pod.Namespace, Name: pod.Name, Labels: pod.Labels, Annotations: pod.Annotations,
		Sidecar: podhealth.HasSidecar(*pod), Redirection: redirection(*pod), HostNetwork: pod.Spec.HostNetwork,
	}
}

// redirection is what leads connections to the pod's sidecar.
func redirection(pod corev1.Pod) meshpolicy.Redirection {
	for _, container := range pod.Spec.InitContainers {
		if podhealth.Redirects(container.Name) {
			return meshpolicy.Redirection{Container: container.Name, Arguments: container.Args}
		}
	}
	return meshpolicy.Redirection{Absent: true}
}

// podsBehind finds the pods behind the endpoints of one Service.
type podsBehind struct {
	reader    client.Reader
	namespace string
	// byIP are the namespace's pods by their addresses; nil until they are asked for.
	byIP map[string]*corev1.Pod
}

// find returns the pod behind an endpoint, nil where none is known, and says whether the endpoint can be counted on: its
// pod is there and is not on its way out, or it names none.
func (p *podsBehind) find(ctx context.Context, listed discoveryv1.Endpoint) (*corev1.Pod, bool, error) {
	if listed.TargetRef == nil || listed.TargetRef.Kind != "Pod" {
		pod, err := p.at(ctx, listed.Addresses[0])
		return pod, true, err
	}
	var pod corev1.Pod
	err := p.reader.Get(ctx, types.NamespacedName{Namespace: p.namespace, Name: listed.TargetRef.Name}, &pod)
	if client.IgnoreNotFound(err) != nil {
		return nil, false, fmt.Errorf("get pod %s/%s: %w", p.namespace, listed.TargetRef.Name, err)
	}
	if err != nil || pod.UID != listed.TargetRef.UID {
		// The slice is behind the pods, or ahead of them: the next event will tell.
		return nil, false, nil //nolint:nilerr // it is not there
	}
	return &pod, pod.DeletionTimestamp == nil, nil
}

// at returns the pod that has an address, as istiod finds it for endpoints that name none
// (pilot/pkg/serviceregistry/kube/controller/endpointslice.go, getPod): among those of the slice's namespace. The pods are
// listed for such endpoints alone, and once. Pods on a node's own network share an address; istiod takes any of them, and as
// none has a sidecar, here none is taken. Unlike istiod, a pod that is not ready is taken too: its sidecar stands there.
func (p *podsBehind) at(ctx context.Context, address string) (*corev1.Pod, error) {
	if p.byIP == nil {
		var list corev1.PodList
		if err := p.reader.List(ctx, &list, client.InNamespace(p.namespace), client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("list pods of namespace %s: %w", p.namespace, err)
		}
		p.byIP = map[string]*corev1.Pod{}
		for i := range list.Items {
			pod := &list.Items[i]
			ended := pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
			if pod.Status.PodIP == "" || ended || pod.DeletionTimestamp != nil || pod.Spec.HostNetwork {
				continue
			}
			p.byIP[pod.Status.PodIP] = pod
		}
	}
	return p.byIP[address], nil
}
