package oracle

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

const (
	root        = "istio-system"
	anotherRoot = "mesh-root"
	tlsMode     = "security.istio.io/tlsMode"
)

// Values of the label security.istio.io/tlsMode.
const (
	injected = "istio"
	bare     = ""
	off      = "disabled"
	custom   = "custom"
)

// starting is a Service whose second pod is not ready.
const starting = "starting"

// world is the clients, Services and pods about which the questions are.
type world struct {
	clients  []meshpolicy.Client
	services []meshpolicy.Service
}

var theWorld = world{
	clients: []meshpolicy.Client{
		{Namespace: "shop", Labels: map[string]string{"app": "sleep"}, Sidecar: true},
		{Namespace: "other", Labels: map[string]string{"app": "sleep"}, Sidecar: true},
		{Namespace: "other", Labels: map[string]string{"app": "curl", "tier": "web"}, Sidecar: true},
		{Namespace: root, Labels: map[string]string{"app": "sleep"}, Sidecar: true},
		{Namespace: anotherRoot, Sidecar: true},
	},
	services: []meshpolicy.Service{
		{Namespace: "shop", Name: "web", Endpoints: pods("shop", "web", injected, injected, bare, off, custom)},
		{Namespace: "shop", Name: "private", ExportTo: []string{"."}, Endpoints: pods("shop", "private", injected)},
		{Namespace: "shop", Name: "shared", ExportTo: []string{"other", root}, Endpoints: pods("shop", "shared", injected, bare)},
		{Namespace: "shop", Name: "hidden", ExportTo: []string{"~", "other"}, Endpoints: pods("shop", "hidden", injected)},
		{Namespace: "shop", Name: "ready", Headless: true, Endpoints: pods("shop", "ready", injected, injected)},
		{Namespace: "shop", Name: "mixed", Headless: true, Endpoints: pods("shop", "mixed", injected, bare)},
		{Namespace: "shop", Name: "custom", Headless: true, Endpoints: pods("shop", "custom", injected, custom)},
		{Namespace: "shop", Name: starting, Headless: true, Endpoints: pods("shop", starting, injected, bare)},
		{Namespace: "other", Name: "web", Endpoints: pods("other", "web", injected, injected)},
		{Namespace: root, Name: "web", Endpoints: pods(root, "web", injected, injected)},
		{Namespace: anotherRoot, Name: "web", Endpoints: pods(anotherRoot, "web", injected, bare)},
	},
}

// pods makes one for each value of the label security.istio.io/tlsMode; every second has one more label to select by.
func pods(namespace, app string, modes ...string) []meshpolicy.Pod {
	made := make([]meshpolicy.Pod, 0, len(modes))
	for i, mode := range modes {
		labels := map[string]string{"app": app}
		if mode != bare {
			labels[tlsMode] = mode
		}
		if i%2 == 1 {
			labels["tier"] = "web"
		}
		made = append(made, meshpolicy.Pod{Namespace: namespace, Name: app + "-" + strconv.Itoa(i), Labels: labels, Sidecar: mode != bare})
	}
	return made
}

// ports are the ports of every Service, and of the pods that belong to them.
var ports = []struct {
	name         string
	port, target uint32
}{{"https", 443, 8443}, {"tcp-other", 8080, 9090}}

// questions are all that can be asked about one client.
func (w world) questions(client meshpolicy.Client) []question {
	var all []question
	for _, service := range w.services {
		for _, port := range ports {
			service.Port, service.TargetPort = port.port, port.target
			for _, pod := range service.Endpoints {
				all = append(all, question{client, service, pod})
			}
		}
	}
	return all
}

// pick returns one of all questions.
func (w world) pick(number int) question {
	client := w.clients[number%len(w.clients)]
	questions := w.questions(client)
	return questions[number/len(w.clients)%len(questions)]
}

func (w world) pods() []meshpolicy.Pod {
	var all []meshpolicy.Pod
	for _, service := range w.services {
		all = append(all, service.Endpoints...)
	}
	return all
}

// addresses are the pods' IPs, by namespace and name.
var addresses = func() map[string]string {
	made := map[string]string{}
	for i, pod := range theWorld.pods() {
		made[pod.String()] = fmt.Sprintf("10.1.0.%d", i+1)
	}
	return made
}()

// objects is the world as pilot's Kubernetes registry reads it.
func (w world) objects() []runtime.Object {
	var objects []runtime.Object
	for i, service := range w.services {
		address := fmt.Sprintf("10.2.0.%d", i+1)
		if service.Headless {
			address = corev1.ClusterIPNone
		}
		objects = append(objects, kubernetesService(service, address), endpointSlice(service))
		for _, pod := range service.Endpoints {
			objects = append(objects, kubernetesPod(pod))
		}
	}
	return objects
}

func kubernetesService(service meshpolicy.Service, address string) *corev1.Service {
	made := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: service.Namespace, Name: service.Name, Annotations: map[string]string{}},
		Spec:       corev1.ServiceSpec{ClusterIP: address, Selector: map[string]string{"app": service.Name}},
	}
	if len(service.ExportTo) > 0 {
		made.Annotations["networking.istio.io/exportTo"] = strings.Join(service.ExportTo, ",")
	}
	for _, port := range ports {
		made.Spec.Ports = append(made.Spec.Ports, corev1.ServicePort{
			Name: port.name, Port: int32(port.port), TargetPort: intstr.FromInt32(int32(port.target)), Protocol: corev1.ProtocolTCP,
		})
	}
	return made
}

func endpointSlice(service meshpolicy.Service) *discoveryv1.EndpointSlice {
	made := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: service.Namespace, Name: service.Name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service.Name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, port := range ports {
		number, protocol := int32(port.target), corev1.ProtocolTCP
		made.Ports = append(made.Ports, discoveryv1.EndpointPort{Name: &port.name, Port: &number, Protocol: &protocol})
	}
	for i, pod := range service.Endpoints {
		ready := service.Name != starting || i == 0
		made.Endpoints = append(made.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{addresses[pod.String()]}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name},
		})
	}
	return made
}

func kubernetesPod(pod meshpolicy.Pod) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, Labels: pod.Labels},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: addresses[pod.String()], PodIPs: []corev1.PodIP{{IP: addresses[pod.String()]}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
}
