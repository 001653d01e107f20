package inventory

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
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

// String names the Service for messages.
func (t Target) String() string { return fmt.Sprintf("Service %s/%s", t.Namespace, t.Name) }
