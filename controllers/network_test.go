package controllers_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// state is what the played proxies go by: what the API server held a moment ago.
type state struct {
	// services are the ready endpoints of every Service.
	services map[types.NamespacedName][]endpoint
	// ports are the numbers of every Service's ports.
	ports map[types.NamespacedName][]int32
	// leaving are those that are behind no Service any more, and still answer as a pod does that is given time to end.
	leaving  []leaving
	policies []*securityv1.PeerAuthentication
	rules    []*networkingv1.DestinationRule
}

type leaving struct {
	endpoint
	service types.NamespacedName
	until   time.Time
}

// grace is how long an endpoint that has left answers.
const grace = 3 * time.Second

// leave notes which endpoints have left since an earlier state.
func (s *state) leave(before state, now time.Time) {
	gone := slices.Clone(before.leaving)
	for service, endpoints := range before.services {
		for _, one := range endpoints {
			gone = append(gone, leaving{one, service, now.Add(grace)})
		}
	}
	for _, one := range gone {
		if _, still := s.byAddress(one.address); !still && now.Before(one.until) {
			s.leaving = append(s.leaving, one)
		}
	}
}

// byAddress finds the endpoint behind an address.
func (s *state) byAddress(address string) (leaving, bool) {
	for service, endpoints := range s.services {
		for _, one := range endpoints {
			if one.address == address {
				return leaving{endpoint: one, service: service}, true
			}
		}
	}
	for _, one := range s.leaving {
		if one.address == address {
			return one, true
		}
	}
	return leaving{}, false
}

// endpoint is one address behind a Service; pod is nil where the address is all that is known of it.
type endpoint struct {
	address string
	port    int32
	// ports are those of the Service's ports, in their order.
	ports       []int32
	pod         *corev1.Pod
	certificate observation.Certificate
}

// dialed is what a client of a Service's port dials, as host:port.
func (s state) dialed(service types.NamespacedName, port uint32, one endpoint) string {
	if at := slices.Index(s.ports[service], int32(port)); at >= 0 && at < len(one.ports) {
		return fmt.Sprintf("%s:%d", one.address, one.ports[at])
	}
	return fmt.Sprintf("%s:%d", one.address, one.port)
}

func (c *cluster) state() state {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.present
}

// readServices plays the EndpointSlice controller: it notes what stands behind each Service, slices of tests among it, and
// returns what it has to change.
func (c *cluster) readServices(ctx context.Context, namespace string, next *state) ([]sliceChange, error) {
	var services corev1.ServiceList
	if err := c.admin.List(ctx, &services, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	var pods corev1.PodList
	if err := c.admin.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	var present discoveryv1.EndpointSliceList
	if err := c.admin.List(ctx, &present, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	wanted := map[string]*discoveryv1.EndpointSlice{}
	for _, service := range services.Items {
		for _, port := range service.Spec.Ports {
			key := client.ObjectKeyFromObject(&service)
			next.ports[key] = append(next.ports[key], port.Port)
		}
		for _, slice := range slicesFor(service, pods.Items) {
			wanted[slice.Name] = slice
		}
	}
	byName := map[string]*corev1.Pod{}
	for i := range pods.Items {
		byName[pods.Items[i].Name] = &pods.Items[i]
	}
	for _, slice := range slices.Concat(slices.Collect(maps.Values(wanted)), c.byHand(present.Items)) {
		key := types.NamespacedName{Namespace: namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
		next.services[key] = append(next.services[key], c.endpointsOf(slice, byName)...)
	}
	for _, endpoints := range next.services {
		slices.SortFunc(endpoints, func(a, b endpoint) int { return cmp.Compare(a.address, b.address) })
	}
	return c.sliceChanges(wanted, present.Items), c.readPolicies(ctx, namespace, next)
}

// sliceChange is a call that changes one slice.
type sliceChange func(context.Context) error

const sliceController = "endpointslice-controller.k8s.io"

// byHand are the slices that a test made.
func (c *cluster) byHand(present []discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	var made []*discoveryv1.EndpointSlice
	for i := range present {
		if present[i].Labels[discoveryv1.LabelManagedBy] != sliceController {
			made = append(made, &present[i])
		}
	}
	return made
}

// endpointsPerSlice is the real controller's bound.
const endpointsPerSlice = 100

func slicesFor(service corev1.Service, pods []corev1.Pod) []*discoveryv1.EndpointSlice {
	if len(service.Spec.Selector) == 0 {
		return nil
	}
	selector := labels.SelectorFromSet(service.Spec.Selector)
	var selected []corev1.Pod
	for _, pod := range pods {
		if selector.Matches(labels.Set(pod.Labels)) && pod.Status.PodIP != "" && pod.DeletionTimestamp == nil {
			selected = append(selected, pod)
		}
	}
	slices.SortFunc(selected, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	var made []*discoveryv1.EndpointSlice
	for part := range slices.Chunk(selected, endpointsPerSlice) {
		slice := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}
		slice.Namespace, slice.Name = service.Namespace, fmt.Sprintf("%s-%d", service.Name, len(made))
		slice.Labels = map[string]string{discoveryv1.LabelServiceName: service.Name, discoveryv1.LabelManagedBy: sliceController}
		for _, port := range service.Spec.Ports {
			slice.Ports = append(slice.Ports, endpointPort(port, part[0]))
		}
		for _, pod := range part {
			ready := isReady(pod)
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses:  []string{pod.Status.PodIP},
				Conditions: discoveryv1.EndpointConditions{Ready: &ready},
				TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
			})
		}
		made = append(made, slice)
	}
	return made
}

func endpointPort(port corev1.ServicePort, pod corev1.Pod) discoveryv1.EndpointPort {
	number, protocol := cmp.Or(port.TargetPort.IntVal, port.Port), cmp.Or(port.Protocol, corev1.ProtocolTCP)
	for _, container := range pod.Spec.Containers {
		for _, named := range container.Ports {
			if port.TargetPort.Type == intstr.String && named.Name == port.TargetPort.StrVal {
				number = named.ContainerPort
			}
		}
	}
	return discoveryv1.EndpointPort{Name: &port.Name, Port: &number, Protocol: &protocol, AppProtocol: port.AppProtocol}
}

// sliceChanges bring the slices that the controller made to what they should be.
func (c *cluster) sliceChanges(wanted map[string]*discoveryv1.EndpointSlice, present []discoveryv1.EndpointSlice) []sliceChange {
	var changes []sliceChange
	there := map[string]bool{}
	for i := range present {
		slice := &present[i]
		there[slice.Name] = true
		want, ok := wanted[slice.Name]
		switch {
		case slice.Labels[discoveryv1.LabelManagedBy] != sliceController:
		case !ok:
			changes = append(changes, func(ctx context.Context) error { return client.IgnoreNotFound(c.admin.Delete(ctx, slice)) })
		case !reflect.DeepEqual(slice.Endpoints, want.Endpoints) || !reflect.DeepEqual(slice.Ports, want.Ports):
			slice.Endpoints, slice.Ports = want.Endpoints, want.Ports
			changes = append(changes, func(ctx context.Context) error { return c.admin.Update(ctx, slice) })
		}
	}
	for name, slice := range wanted {
		if !there[name] {
			changes = append(changes, func(ctx context.Context) error { return c.admin.Create(ctx, slice.DeepCopy()) })
		}
	}
	return changes
}

func (c *cluster) endpointsOf(slice *discoveryv1.EndpointSlice, pods map[string]*corev1.Pod) []endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []endpoint
	for _, listed := range slice.Endpoints {
		if listed.Conditions.Ready != nil && !*listed.Conditions.Ready {
			continue
		}
		one := endpoint{address: listed.Addresses[0], port: *slice.Ports[0].Port}
		for _, port := range slice.Ports {
			one.ports = append(one.ports, *port.Port)
		}
		if listed.TargetRef != nil {
			one.pod = pods[listed.TargetRef.Name]
			one.certificate = c.serving[listed.TargetRef.UID]
		}
		found = append(found, one)
	}
	return found
}

func (c *cluster) readPolicies(ctx context.Context, namespace string, next *state) error {
	var policies securityv1.PeerAuthenticationList
	if err := c.admin.List(ctx, &policies, client.InNamespace(namespace)); err != nil && !meta.IsNoMatchError(err) {
		return err
	}
	next.policies = append(next.policies, policies.Items...)
	var rules networkingv1.DestinationRuleList
	if err := c.admin.List(ctx, &rules, client.InNamespace(namespace)); err != nil && !meta.IsNoMatchError(err) {
		return err
	}
	next.rules = append(next.rules, rules.Items...)
	return nil
}

// enforced is the mode that the sidecar before an endpoint follows; without one, or past it, nothing is enforced.
func (s state) enforced(one endpoint, root string) string {
	if one.pod == nil || !captured(*one.pod, one.port) {
		return "DISABLE"
	}
	return s.podMode(one, root)
}

// podMode is what the policies say of a pod: of those that select it, else those of its namespace, else the mesh's, the
// oldest. It is Istio's rule in short, without what no test needs.
func (s state) podMode(one endpoint, root string) string {
	if mode := s.mode(one, func(p *securityv1.PeerAuthentication) bool {
		return p.Namespace == one.pod.Namespace && p.Namespace != root && selects(p, one.pod)
	}); mode != "" {
		return mode
	}
	return s.namespaceWide(one, root)
}

func (s state) namespaceWide(one endpoint, root string) string {
	for _, namespace := range []string{one.pod.Namespace, root} {
		if mode := s.mode(one, func(p *securityv1.PeerAuthentication) bool {
			return p.Namespace == namespace && len(p.Spec.GetSelector().GetMatchLabels()) == 0
		}); mode != "" {
			return mode
		}
	}
	return "PERMISSIVE"
}

func (s state) mode(one endpoint, applies func(*securityv1.PeerAuthentication) bool) string {
	found := slices.DeleteFunc(slices.Clone(s.policies), func(p *securityv1.PeerAuthentication) bool { return !applies(p) })
	if len(found) == 0 {
		return ""
	}
	oldest := slices.MinFunc(found, func(a, b *securityv1.PeerAuthentication) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, mode := range []string{
		oldest.Spec.GetPortLevelMtls()[uint32(one.port)].GetMode().String(), oldest.Spec.GetMtls().GetMode().String(),
	} {
		if mode != "UNSET" {
			return mode
		}
	}
	return ""
}

func selects(policy *securityv1.PeerAuthentication, pod *corev1.Pod) bool {
	wanted := policy.Spec.GetSelector().GetMatchLabels()
	return len(wanted) > 0 && labels.SelectorFromSet(wanted).Matches(labels.Set(pod.Labels))
}

func captured(pod corev1.Pod, port int32) bool {
	excluded := strings.Split(pod.Annotations["traffic.sidecar.istio.io/excludeInboundPorts"], ",")
	return hasSidecar(pod) && !slices.Contains(excluded, fmt.Sprint(port))
}

// sends is what the client's sidecar makes of a connection: what the oldest rule for the host says, else what auto mTLS
// does where it is on.
func (s state) sends(from string, service types.NamespacedName, one endpoint, root string, auto bool) string {
	host := service.Name + "." + service.Namespace + ".svc.cluster.local"
	rules := slices.DeleteFunc(slices.Clone(s.rules), func(r *networkingv1.DestinationRule) bool {
		return r.Spec.GetHost() != host || r.Namespace != from
	})
	slices.SortFunc(rules, func(a, b *networkingv1.DestinationRule) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, rule := range rules {
		if tls := rule.Spec.GetTrafficPolicy().GetTls(); tls != nil {
			return tls.GetMode().String()
		}
	}
	ready := one.pod != nil && one.pod.Labels[labelTLSMode] == "istio"
	if !auto || !ready || s.namespaceWide(one, root) == "DISABLE" || s.podMode(one, root) == "DISABLE" {
		return "DISABLE"
	}
	return "ISTIO_MUTUAL"
}
