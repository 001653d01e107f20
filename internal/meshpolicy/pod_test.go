package meshpolicy_test

import (
	"testing"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

const (
	interceptionMode = "sidecar.istio.io/interceptionMode"
	includeInbound   = "traffic.sidecar.istio.io/includeInboundPorts"
	excludeInbound   = "traffic.sidecar.istio.io/excludeInboundPorts"
	redirection      = "ambient.istio.io/redirection"
)

func TestCapture(t *testing.T) {
	for name, c := range map[string]struct {
		pod      meshpolicy.Pod
		capture  meshpolicy.Capture
		enforced api.MTLSMode
		sentence string
	}{
		"sidecar": {meshpolicy.Pod{Sidecar: true}, meshpolicy.Captured, strict, ""},
		"no sidecar": {meshpolicy.Pod{}, meshpolicy.NoSidecar, disable,
			", but the pod has no sidecar to enforce it"},
		"host network": {meshpolicy.Pod{HostNetwork: true}, meshpolicy.HostNetwork, disable,
			", but the pod is on the host's network, where no sidecar enforces it"},
		"host network, whatever else": {meshpolicy.Pod{HostNetwork: true, Sidecar: true, Annotations: map[string]string{redirection: "enabled"}}, meshpolicy.HostNetwork, disable,
			", but the pod is on the host's network, where no sidecar enforces it"},
		"ambient": {meshpolicy.Pod{Annotations: map[string]string{redirection: "enabled"}}, meshpolicy.Ambient, "",
			", but the pod is in the ambient mesh, which is not judged"},
		"ambient turned off": {meshpolicy.Pod{Annotations: map[string]string{redirection: "disabled"}}, meshpolicy.NoSidecar, disable,
			", but the pod has no sidecar to enforce it"},
		"a sidecar goes before ambient": {meshpolicy.Pod{Sidecar: true, Annotations: map[string]string{redirection: "enabled"}}, meshpolicy.Captured, strict, ""},
		"port excluded": {meshpolicy.Pod{Sidecar: true, Annotations: map[string]string{excludeInbound: "15020, 8443"}}, meshpolicy.PortExcluded, disable,
			", but the pod's annotations lead its port past the sidecar"},
	} {
		t.Run(name, func(t *testing.T) {
			c.pod.Namespace = "shop"
			got := meshpolicy.ForServer(meshpolicy.Mesh{}, policies{policy("shop", "ns", strict, nil, 0)}, c.pod, port)
			if got.Mode != strict || got.Capture != c.capture || got.Enforced() != c.enforced {
				t.Errorf("%s, %s, enforced %q, want STRICT, %s, enforced %q", got.Mode, got.Capture, got.Enforced(), c.capture, c.enforced)
			}
			if want := "PeerAuthentication shop/ns (namespace level) sets STRICT" + c.sentence; got.String() != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func TestAnnotationsThatLeaveAPortOut(t *testing.T) {
	for name, c := range map[string]struct {
		annotations map[string]string
		captured    bool
	}{
		"none":                                     {nil, true},
		"another port excluded":                    {map[string]string{excludeInbound: "80,443"}, true},
		"the port excluded":                        {map[string]string{excludeInbound: "80,8443"}, false},
		"a port that contains it":                  {map[string]string{excludeInbound: "18443,84430"}, true},
		"all included":                             {map[string]string{includeInbound: "*"}, true},
		"all included, the port excluded":          {map[string]string{includeInbound: "*", excludeInbound: "8443"}, false},
		"the port included":                        {map[string]string{includeInbound: "80, 8443"}, true},
		"another included":                         {map[string]string{includeInbound: "80"}, false},
		"none included":                            {map[string]string{includeInbound: ""}, false},
		"a list included makes the excluded void":  {map[string]string{includeInbound: "8443", excludeInbound: "8443"}, true},
		"interception by redirection":              {map[string]string{interceptionMode: "REDIRECT"}, true},
		"interception by TPROXY":                   {map[string]string{interceptionMode: "TPROXY"}, true},
		"no interception":                          {map[string]string{interceptionMode: "NONE"}, false},
		"no interception, though port is included": {map[string]string{interceptionMode: "NONE", includeInbound: "8443"}, false},
	} {
		got := meshpolicy.ForServer(meshpolicy.Mesh{}, nil, meshpolicy.Pod{Sidecar: true, Annotations: c.annotations}, port).Capture
		if (got == meshpolicy.Captured) != c.captured || !c.captured && got != meshpolicy.PortExcluded {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestPodString(t *testing.T) {
	if got := server.String(); got != "pod shop/nginx-1" {
		t.Errorf("%q", got)
	}
	if got := (meshpolicy.Pod{}).String(); got != "an endpoint without pod" {
		t.Errorf("%q", got)
	}
}
