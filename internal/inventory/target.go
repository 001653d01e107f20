package inventory

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
	"github.com/meshprobe/httpsmeshprobe/internal/podhealth"
)

// Target is the Service that is probed and what stands behind it.
type Target struct {
	Namespace, Name string
	// WantedPort is the port that the probe asks for.
	WantedPort intstr.IntOrString
	// Service is nil where there is none.
	Service *corev1.Service
	// Port is the Service's port; nil where the Service has no such port.
	Port *corev1.ServicePort
	// Endpoints are the ready ones, in the order of their addresses; NotReady is how many others there are.
	Endpoints []Endpoint
	NotReady  int
	// Pods are those behind all endpoints, ready or not; one without name for an address behind which no pod is known.
	Pods []meshpolicy.Pod
	// NamespaceTerminating says that the target's namespace is on its way out, and NamespaceLabels are its labels; nil
	// where they are not known.
	NamespaceTerminating bool
	NamespaceLabels      map[string]string
}

// Endpoint is one address behind the Service.
type Endpoint struct {
	// IP and Port are what a client dials.
	IP   string
	Port uint32
	// Pod is the pod behind the address; without namespace and name where none is known.
	Pod meshpolicy.Pod
	// UID tells a pod from a later one of the same name.
	UID            string
	ServiceAccount string
	// CheckedSince is since when kubelet's readiness probes have found the pod ready; zero where the pod has none.
	CheckedSince time.Time
}

// Address is the endpoint as host:port.
func (e Endpoint) Address() string {
	return net.JoinHostPort(e.IP, strconv.FormatUint(uint64(e.Port), 10))
}

// ID tells the endpoint from one that has its address or its pod's name later.
func (e Endpoint) ID() string { return e.UID + "/" + e.Address() }

// Name names the endpoint for people: the pod, or the address where no pod is known.
func (e Endpoint) Name() string {
	if e.Pod.Name == "" {
		return e.Address()
	}
	return e.Pod.Name
}

// TargetOf names the Service that a probe is about: the user's, or that of the operator's own server.
func TargetOf(probe *api.HTTPSMeshProbe) types.NamespacedName {
	if service := probe.Spec.Target.Service; service != nil {
		return types.NamespacedName{Namespace: cmp.Or(service.Namespace, probe.Namespace), Name: service.Name}
	}
	return types.NamespacedName{Namespace: probe.Namespace, Name: fixture.ServerName(probe.Name)}
}

// readTarget reads the Service that is probed, its endpoints, and the pods behind them.
func (i *Inventory) readTarget(ctx context.Context, reader client.Reader) error {
	key := TargetOf(i.Probe)
	i.Target = Target{Namespace: key.Namespace, Name: key.Name, WantedPort: intstr.FromInt32(fixture.ServerPort)}
	if service := i.Probe.Spec.Target.Service; service != nil {
		i.Target.WantedPort = service.Port
	}
	if !i.place.Reaches(i.Target.Namespace) {
		return nil // a target in another namespace is refused
	}
	if err := i.readNamespace(ctx, reader); err != nil {
		return err
	}
	var service corev1.Service
	err := reader.Get(ctx, key, &service)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("get Service %s/%s: %w", i.Target.Namespace, i.Target.Name, err)
	}
	if err != nil {
		return nil //nolint:nilerr // it is not there
	}
	i.Target.Service, i.Target.Port = &service, findPort(service, i.Target.WantedPort)
	if i.Target.Port == nil {
		return nil
	}
	return i.readEndpoints(ctx, reader)
}

// readNamespace leaves the namespace unknown to an operator for one namespace: it has no right to read any.
func (i *Inventory) readNamespace(ctx context.Context, reader client.Reader) error {
	if i.place.Namespace != "" {
		return nil
	}
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	err := reader.Get(ctx, types.NamespacedName{Name: i.Target.Namespace}, namespace)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("get namespace %s: %w", i.Target.Namespace, err)
	}
	i.Target.NamespaceTerminating, i.Target.NamespaceLabels = namespace.DeletionTimestamp != nil, namespace.Labels
	return nil
}

// findPort prefers TCP: a Service that offers HTTP/3 has its number twice.
func findPort(service corev1.Service, wanted intstr.IntOrString) *corev1.ServicePort {
	var found *corev1.ServicePort
	for _, port := range service.Spec.Ports {
		if wanted.Type == intstr.Int && port.Port != wanted.IntVal || wanted.Type == intstr.String && port.Name != wanted.StrVal {
			continue
		}
		if port.Protocol == "" || port.Protocol == corev1.ProtocolTCP {
			return &port
		}
		found = &port
	}
	return found
}

func (i *Inventory) readEndpoints(ctx context.Context, reader client.Reader) error {
	var slicesOf discoveryv1.EndpointSliceList
	err := reader.List(ctx, &slicesOf, client.InNamespace(i.Target.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: i.Target.Name})
	if err != nil {
		return fmt.Errorf("list endpointslices of Service %s/%s: %w", i.Target.Namespace, i.Target.Name, err)
	}
	seen := map[string]bool{}
	for _, slice := range slicesOf.Items {
		port, ok := endpointPort(slice, i.Target.Port.Name)
		if !ok {
			continue
		}
		for _, listed := range slice.Endpoints {
			if len(listed.Addresses) == 0 || seen[listed.Addresses[0]] {
				continue
			}
			endpoint, lasting, err := i.readEndpoint(ctx, reader, listed, port)
			if err != nil {
				return err
			}
			if lasting || endpoint.Pod.Name != "" {
				i.Target.Pods = append(i.Target.Pods, endpoint.Pod)
			}
			if !lasting || listed.Conditions.Ready != nil && !*listed.Conditions.Ready {
				i.Target.NotReady++
				continue
			}
			// An address may still be listed for the pod that had it before, and must not hide the one that has it now.
			seen[endpoint.IP] = true
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

// readEndpoint reads the pod behind an endpoint, and says whether the endpoint can be counted on: its pod is there and is
// not on its way out, or it is none of a pod.
func (i *Inventory) readEndpoint(ctx context.Context, reader client.Reader, listed discoveryv1.Endpoint, port uint32) (Endpoint, bool, error) {
	endpoint := Endpoint{IP: listed.Addresses[0], Port: port}
	if listed.TargetRef == nil || listed.TargetRef.Kind != "Pod" {
		return endpoint, true, nil
	}
	var pod corev1.Pod
	err := reader.Get(ctx, types.NamespacedName{Namespace: i.Target.Namespace, Name: listed.TargetRef.Name}, &pod)
	if client.IgnoreNotFound(err) != nil {
		return endpoint, false, fmt.Errorf("get pod %s/%s: %w", i.Target.Namespace, listed.TargetRef.Name, err)
	}
	if err != nil || pod.UID != listed.TargetRef.UID {
		// The slice is behind the pods, or ahead of them: the next event will tell.
		return endpoint, false, nil //nolint:nilerr // it is not there
	}
	endpoint.UID, endpoint.ServiceAccount = string(pod.UID), pod.Spec.ServiceAccountName
	endpoint.Pod = meshpolicy.Pod{
		Namespace: pod.Namespace, Name: pod.Name, Labels: pod.Labels, Annotations: pod.Annotations,
		Sidecar: podhealth.HasSidecar(pod), HostNetwork: pod.Spec.HostNetwork,
	}
	endpoint.CheckedSince = podhealth.CheckedSince(pod)
	return endpoint, pod.DeletionTimestamp == nil, nil
}

// String names the Service for messages.
func (t Target) String() string { return fmt.Sprintf("Service %s/%s", t.Namespace, t.Name) }
