package inventory

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// cluster holds the objects of one namespace, and counts how often its pods are listed.
type cluster struct {
	service corev1.Service
	slices  []discoveryv1.EndpointSlice
	pods    []corev1.Pod
	listed  int
}

func (c *cluster) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	switch into := into.(type) {
	case *corev1.Service:
		c.service.DeepCopyInto(into)
		return nil
	case *corev1.Pod:
		for _, pod := range c.pods {
			if client.ObjectKeyFromObject(&pod) == key {
				pod.DeepCopyInto(into)
				return nil
			}
		}
	}
	return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
}

func (c *cluster) List(_ context.Context, into client.ObjectList, options ...client.ListOption) error {
	var wanted client.ListOptions
	wanted.ApplyOptions(options)
	switch into := into.(type) {
	case *discoveryv1.EndpointSliceList:
		into.Items = c.slices
	case *corev1.PodList:
		c.listed++
		for _, pod := range c.pods {
			if pod.Namespace == wanted.Namespace {
				into.Items = append(into.Items, pod)
			}
		}
	}
	return nil
}

// slice lists addresses at a port; one as 10.0.0.1=web-0 names a pod.
func slice(port int32, addresses ...string) discoveryv1.EndpointSlice {
	name := "https"
	made := discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}}}
	for _, address := range addresses {
		ip, pod, named := strings.Cut(address, "=")
		endpoint := discoveryv1.Endpoint{Addresses: []string{ip}}
		if named {
			endpoint.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: pod, UID: types.UID("uid-" + pod)}
		}
		made.Endpoints = append(made.Endpoints, endpoint)
	}
	return made
}

func pod(name, ip string, changes ...func(*corev1.Pod)) corev1.Pod {
	made := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			ServiceAccountName: "sa-" + name,
			InitContainers:     []corev1.Container{{Name: "istio-init", Args: []string{"-b", "*", "-d", "9443"}}, {Name: "istio-proxy"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip},
	}
	for _, change := range changes {
		change(&made)
	}
	return made
}

// read reads the endpoints of Service shop/web.
func read(t *testing.T, c *cluster) Target {
	t.Helper()
	c.service = corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "https", Port: 443}}}}
	i := &Inventory{Probe: &api.HTTPSMeshProbe{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}}
	i.Target = Target{Namespace: "shop", Name: "web", Service: &c.service, Port: &c.service.Spec.Ports[0]}
	if err := i.readEndpoints(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return i.Target
}

func TestEndpointsAreReadOnce(t *testing.T) {
	notReady := slice(8443, "10.0.0.1=web-0")
	no := false
	notReady.Endpoints[0].Conditions.Ready = &no
	named := slice(8443, "web.example.com")
	named.AddressType = discoveryv1.AddressTypeFQDN
	leaving := pod("web-0", "10.0.0.1", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: created} })
	for name, c := range map[string]struct {
		slices   []discoveryv1.EndpointSlice
		pods     []corev1.Pod
		want     string
		notReady int
	}{
		"one":                                {[]discoveryv1.EndpointSlice{slice(8443, "10.0.0.1=web-0")}, []corev1.Pod{pod("web-0", "10.0.0.1")}, "web-0 10.0.0.1:8443", 0},
		"listed twice":                       {[]discoveryv1.EndpointSlice{slice(8443, "10.0.0.1=web-0"), slice(8443, "10.0.0.1=web-0")}, []corev1.Pod{pod("web-0", "10.0.0.1")}, "web-0 10.0.0.1:8443", 0},
		"two ports behind one address":       {[]discoveryv1.EndpointSlice{slice(9443, "10.0.0.1=web-0"), slice(8443, "10.0.0.1=web-0")}, []corev1.Pod{pod("web-0", "10.0.0.1")}, "web-0 10.0.0.1:8443, web-0 10.0.0.1:9443", 0},
		"two ports, by hand":                 {[]discoveryv1.EndpointSlice{slice(9443, "10.0.0.1"), slice(8443, "10.0.0.1")}, []corev1.Pod{pod("web-0", "10.0.0.1")}, "web-0 10.0.0.1:8443, web-0 10.0.0.1:9443", 0},
		"still listed for a pod before":      {[]discoveryv1.EndpointSlice{slice(8443, "10.0.0.1=old"), slice(8443, "10.0.0.1=web-0")}, []corev1.Pod{pod("web-0", "10.0.0.1")}, "web-0 10.0.0.1:8443", 1},
		"still listed for a pod on its way":  {[]discoveryv1.EndpointSlice{slice(8443, "10.0.0.1=web-0"), slice(8443, "10.0.0.1=web-1")}, []corev1.Pod{leaving, pod("web-1", "10.0.0.1")}, "web-1 10.0.0.1:8443", 1},
		"listed for a pod before afterwards": {[]discoveryv1.EndpointSlice{slice(8443, "10.0.0.1=web-0"), slice(8443, "10.0.0.1=old")}, []corev1.Pod{pod("web-0", "10.0.0.1")}, "web-0 10.0.0.1:8443", 0},
		"not ready in one, ready in another": {[]discoveryv1.EndpointSlice{notReady, slice(8443, "10.0.0.1=web-0")}, []corev1.Pod{pod("web-0", "10.0.0.1")}, "web-0 10.0.0.1:8443", 1},
		"names are none":                     {[]discoveryv1.EndpointSlice{named}, nil, "", 0},
	} {
		got := read(t, &cluster{slices: c.slices, pods: c.pods})
		var words []string
		for _, endpoint := range got.Endpoints {
			words = append(words, endpoint.Name()+" "+endpoint.Address())
		}
		if found := strings.Join(words, ", "); found != c.want || got.NotReady != c.notReady {
			t.Errorf("%s: %s and %d not ready, want %s and %d", name, found, got.NotReady, c.want, c.notReady)
		}
	}
}

// Of two ports behind one address one may be captured and the other not.
func TestEveryPortHasItsOwnWayToTheSidecar(t *testing.T) {
	target := read(t, &cluster{slices: []discoveryv1.EndpointSlice{slice(8443, "10.0.0.1=web-0"), slice(9443, "10.0.0.1=web-0")}, pods: []corev1.Pod{pod("web-0", "10.0.0.1")}})
	var captures []meshpolicy.Capture
	for _, endpoint := range target.Endpoints {
		captures = append(captures, meshpolicy.ForServer(meshpolicy.Mesh{}, nil, endpoint.Pod, endpoint.Port).Capture)
	}
	if want := []meshpolicy.Capture{meshpolicy.Captured, meshpolicy.PortExcluded}; !slices.Equal(captures, want) {
		t.Errorf("%v, want %v", captures, want)
	}
}

// istiod finds the pod of an endpoint that names none by its address.
func TestEndpointsThatNameNoPod(t *testing.T) {
	onHost := func(p *corev1.Pod) { p.Spec.HostNetwork = true }
	elsewhere := func(p *corev1.Pod) { p.Namespace = "attic" }
	over := func(phase corev1.PodPhase) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Status.Phase = phase }
	}
	for name, c := range map[string]struct {
		pods []corev1.Pod
		want string
	}{
		"a pod":                       {[]corev1.Pod{pod("web-0", "10.0.0.1"), pod("web-1", "10.0.0.2")}, "web-0"},
		"no pod":                      {[]corev1.Pod{pod("web-1", "10.0.0.2")}, ""},
		"a pod of another namespace":  {[]corev1.Pod{pod("web-0", "10.0.0.1", elsewhere)}, ""},
		"pods on the node's network":  {[]corev1.Pod{pod("a", "10.0.0.1", onHost), pod("b", "10.0.0.1", onHost)}, ""},
		"a pod that ended before":     {[]corev1.Pod{pod("web-0", "10.0.0.1"), pod("job", "10.0.0.1", over(corev1.PodSucceeded))}, "web-0"},
		"a pod that failed before":    {[]corev1.Pod{pod("web-0", "10.0.0.1"), pod("job", "10.0.0.1", over(corev1.PodFailed))}, "web-0"},
		"a pod that is on its way":    {[]corev1.Pod{pod("web-0", "10.0.0.1"), pod("x", "10.0.0.1", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: created} })}, "web-0"},
		"a pod that has no addresses": {[]corev1.Pod{pod("new", "")}, ""},
	} {
		held := &cluster{slices: []discoveryv1.EndpointSlice{slice(8443, "10.0.0.1", "10.0.0.3"), slice(9443, "10.0.0.1")}, pods: c.pods}
		got := read(t, held)
		if len(got.Endpoints) != 3 || held.listed != 1 {
			t.Fatalf("%s: %d endpoints, pods listed %d times", name, len(got.Endpoints), held.listed)
		}
		first := got.Endpoints[0]
		if first.Pod.Name != c.want {
			t.Errorf("%s: got %q, want %q", name, first.Pod.Name, c.want)
			continue
		}
		if c.want == "" {
			continue
		}
		want := meshpolicy.Pod{Namespace: "shop", Name: c.want, Labels: map[string]string{"app": c.want}, Sidecar: true,
			Redirection: meshpolicy.Redirection{Container: "istio-init", Arguments: []string{"-b", "*", "-d", "9443"}}}
		if !reflect.DeepEqual(first.Pod, want) || first.ServiceAccount != "sa-"+c.want || first.UID != "uid-"+c.want {
			t.Errorf("%s: got %+v", name, first)
		}
	}
	held := &cluster{slices: []discoveryv1.EndpointSlice{slice(8443, "10.0.0.1=web-0")}, pods: []corev1.Pod{pod("web-0", "10.0.0.1")}}
	if read(t, held); held.listed != 0 {
		t.Errorf("pods are listed although every endpoint names its own")
	}
}

func TestRedirection(t *testing.T) {
	for name, c := range map[string]struct {
		containers []corev1.Container
		want       meshpolicy.Redirection
	}{
		"injected": {[]corev1.Container{{Name: "setup"}, {Name: "istio-init", Args: []string{"istio-iptables"}}, {Name: "istio-proxy"}},
			meshpolicy.Redirection{Container: "istio-init", Arguments: []string{"istio-iptables"}}},
		"by the CNI plugin":                    {[]corev1.Container{{Name: "istio-validation"}}, meshpolicy.Redirection{Container: "istio-validation"}},
		"a gateway, or interception mode NONE": {[]corev1.Container{{Name: "istio-proxy"}}, meshpolicy.Redirection{Absent: true}},
	} {
		if got := redirection(corev1.Pod{Spec: corev1.PodSpec{InitContainers: c.containers}}); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}
