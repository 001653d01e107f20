package inventory

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestFindPort(t *testing.T) {
	ports := []corev1.ServicePort{
		{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP},
		{Name: "http3", Port: 443, Protocol: corev1.ProtocolUDP},
		{Name: "https", Port: 443, Protocol: corev1.ProtocolTCP},
		{Name: "quic", Port: 8443, Protocol: corev1.ProtocolUDP},
		{Name: "443", Port: 9443},
	}
	for name, test := range map[string]struct {
		wanted intstr.IntOrString
		want   string
	}{
		"by number":                         {intstr.FromInt32(80), "http"},
		"by number, TCP before UDP":         {intstr.FromInt32(443), "https"},
		"by number, UDP where there is but": {intstr.FromInt32(8443), "quic"},
		"by name":                           {intstr.FromString("http3"), "http3"},
		"by a name that is a number":        {intstr.FromString("443"), "443"},
		"no such number":                    {intstr.FromInt32(444), ""},
		"no such name":                      {intstr.FromString("tls"), ""},
	} {
		service := corev1.Service{Spec: corev1.ServiceSpec{Ports: ports}}
		got := ""
		if port := findPort(service, test.wanted); port != nil {
			got = port.Name
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// A slice names its ports as the Service does, and a Service with a single port need not name it.
func TestEndpointPort(t *testing.T) {
	number, other := int32(8443), int32(9090)
	https, metrics, none := "https", "metrics", ""
	for name, test := range map[string]struct {
		ports []discoveryv1.EndpointPort
		port  string
		want  uint32
	}{
		"named":              {[]discoveryv1.EndpointPort{{Name: &metrics, Port: &other}, {Name: &https, Port: &number}}, "https", 8443},
		"not there":          {[]discoveryv1.EndpointPort{{Name: &metrics, Port: &other}}, "https", 0},
		"without a name":     {[]discoveryv1.EndpointPort{{Port: &number}}, "", 8443},
		"with an empty name": {[]discoveryv1.EndpointPort{{Name: &none, Port: &number}}, "", 8443},
		"any port":           {[]discoveryv1.EndpointPort{{Name: &https}}, "https", 0},
		"of another name":    {[]discoveryv1.EndpointPort{{Name: &https, Port: &number}}, "", 0},
		"none at all":        {nil, "https", 0},
	} {
		got, ok := endpointPort(discoveryv1.EndpointSlice{Ports: test.ports}, test.port)
		if got != test.want || ok != (test.want != 0) {
			t.Errorf("%s: got %d, %v; want %d", name, got, ok, test.want)
		}
	}
}

func TestEndpointsAreNamed(t *testing.T) {
	endpoint := Endpoint{IP: "2001:db8::1", Port: 8443}
	if got := endpoint.Name(); got != "[2001:db8::1]:8443" {
		t.Errorf("an endpoint without pod: got %q, want its address", got)
	}
	if endpoint.Pod.Name = "shop-0"; endpoint.Name() != "shop-0" {
		t.Errorf("an endpoint with a pod: got %q, want shop-0", endpoint.Name())
	}
	if got := (Target{Namespace: "shop", Name: "web"}).String(); got != "Service shop/web" {
		t.Errorf("target: got %q", got)
	}
}
