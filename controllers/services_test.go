package controllers_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

const serverPort = 8443

// addService makes a Service of a user's, on port 443.
func (o *operator) addService(t *testing.T, name string, edit ...func(*corev1.Service)) *corev1.Service {
	t.Helper()
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: name}}
	service.Spec.Selector = map[string]string{"app": name}
	service.Spec.Ports = []corev1.ServicePort{{Name: "https", Port: 443, TargetPort: intstr.FromInt32(serverPort)}}
	for _, one := range edit {
		one(service)
	}
	must(t, o.admin.Create(t.Context(), service, client.FieldOwner("user")))
	return service
}

// addPod makes a pod of a user's behind the Service of that name, without sidecar.
func (o *operator) addPod(t *testing.T, service, name string, edit ...func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: name, Labels: map[string]string{"app": service}}}
	pod.Spec.ServiceAccountName = service
	pod.Spec.Containers = []corev1.Container{{Name: "server", Image: "server:1"}}
	for _, one := range edit {
		one(pod)
	}
	must(t, o.admin.Create(t.Context(), pod, client.FieldOwner("user")))
	return pod
}

// addShop makes the Service shop with so many pods, shop-0 and so on, each with a sidecar.
func (o *operator) addShop(t *testing.T, pods int) *corev1.Service {
	t.Helper()
	service := o.addService(t, "shop")
	for i := range pods {
		o.addPod(t, "shop", fmt.Sprint("shop-", i), inject)
	}
	o.awaitEndpoints(t, "shop", pods)
	return service
}

// awaitEndpoints waits until a Service has so many ready endpoints.
func (o *operator) awaitEndpoints(t *testing.T, service string, want int) {
	t.Helper()
	eventually(t, "the endpoints of "+service, func() error {
		var list discoveryv1.EndpointSliceList
		must(t, o.admin.List(t.Context(), &list, client.InNamespace(o.namespace), client.MatchingLabels{discoveryv1.LabelServiceName: service}))
		ready := 0
		for _, slice := range list.Items {
			for _, endpoint := range slice.Endpoints {
				if *endpoint.Conditions.Ready {
					ready++
				}
			}
		}
		if ready != want {
			return fmt.Errorf("%d are ready, want %d", ready, want)
		}
		return nil
	})
}

// addSlice lists addresses behind a Service that selects no pods.
func (o *operator) addSlice(t *testing.T, service string, edit func(*discoveryv1.EndpointSlice), addresses ...string) {
	t.Helper()
	name, port := "https", int32(serverPort)
	slice := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}
	slice.Namespace, slice.Name = o.namespace, service+"-by-hand"
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	slice.Ports = []discoveryv1.EndpointPort{{Name: &name, Port: &port}}
	for _, address := range addresses {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{address}})
	}
	edit(slice)
	must(t, o.admin.Create(t.Context(), slice))
}

// ofService makes a probe one of a Service that is there, on port 443.
func ofService(name string) func(*api.HTTPSMeshProbe) {
	return func(p *api.HTTPSMeshProbe) { p.Spec.Target.Service = &api.TargetService{Name: name} }
}

func onPort(port intstr.IntOrString) func(*api.HTTPSMeshProbe) {
	return func(p *api.HTTPSMeshProbe) { p.Spec.Target.Service.Port = port }
}

func withMode(mode api.MTLSMode) func(*api.HTTPSMeshProbe) {
	return func(p *api.HTTPSMeshProbe) { p.Spec.MTLS.Mode = mode }
}

// seldom lets no run happen for the sake of the interval alone.
func seldom(p *api.HTTPSMeshProbe) { p.Spec.Interval.Duration = 24 * time.Hour }

// direct creates a DestinationRule of somebody's for a Service of the namespace.
func (o *operator) direct(t *testing.T, name, service string, mode networkingapi.ClientTLSSettings_TLSmode) *networkingv1.DestinationRule {
	t.Helper()
	rule := &networkingv1.DestinationRule{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: name}}
	rule.Spec.Host = strings.Join([]string{service, o.namespace, "svc.cluster.local"}, ".")
	rule.Spec.TrafficPolicy = &networkingapi.TrafficPolicy{Tls: &networkingapi.ClientTLSSettings{Mode: mode}}
	must(t, o.admin.Create(t.Context(), rule))
	return rule
}

// path is what a probe's status shows of one path.
func (o *operator) path(t *testing.T, probe string, name api.PathName) api.PathStatus {
	t.Helper()
	for _, path := range o.probe(t, probe).Status.Paths {
		if path.Name == name {
			return path
		}
	}
	return api.PathStatus{}
}

// awaitQuiet waits until a target is asked nothing more for a while: until its quick series are over.
func (o *operator) awaitQuiet(t *testing.T, target string) {
	t.Helper()
	last, since := o.mesh.requests(target), time.Now()
	eventually(t, "the end of the quick series of "+target, func() error {
		if now := o.mesh.requests(target); now != last {
			last, since = now, time.Now()
		}
		if quiet := time.Since(since); quiet < 600*time.Millisecond {
			return fmt.Errorf("the last of %d requests was %v ago", last, quiet)
		}
		return nil
	})
}

// request asks for a run as a person would, and thereby for a look at the probe.
func (o *operator) request(t *testing.T, name, value string) {
	t.Helper()
	o.change(t, name, func(p *api.HTTPSMeshProbe) {
		if p.Annotations == nil {
			p.Annotations = map[string]string{}
		}
		p.Annotations[api.AnnotationRequestedAt] = value
	})
}
