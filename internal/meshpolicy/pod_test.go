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
			`, but the pod's annotation traffic.sidecar.istio.io/excludeInboundPorts ("15020, 8443") leads its port past the sidecar`},
		"port excluded at injection": {meshpolicy.Pod{Sidecar: true, Redirection: injected("-b", "*", "-d", "15090,8443")}, meshpolicy.PortExcluded, disable,
			`, but argument -d ("15090,8443") of the pod's init container istio-init, made when the pod was injected from annotation traffic.sidecar.istio.io/excludeInboundPorts or the mesh's default, leads its port past the sidecar`},
		"port not included at injection": {meshpolicy.Pod{Sidecar: true, Redirection: injected("-b", "80")}, meshpolicy.PortExcluded, disable,
			`, but argument -b ("80") of the pod's init container istio-init, made when the pod was injected from annotation traffic.sidecar.istio.io/includeInboundPorts or the mesh's default, leads its port past the sidecar`},
		"no interception": {meshpolicy.Pod{Sidecar: true, Annotations: map[string]string{interceptionMode: "NONE"}}, meshpolicy.PortExcluded, disable,
			`, but the pod's annotation sidecar.istio.io/interceptionMode ("NONE") leads its port past the sidecar`},
		"a gateway": {meshpolicy.Pod{Sidecar: true, Redirection: meshpolicy.Redirection{Absent: true}}, meshpolicy.NoRedirection, disable,
			", but no traffic is redirected to the pod's proxy, as in a gateway"},
		"no container for it, whatever the annotations say": {meshpolicy.Pod{Sidecar: true, Redirection: meshpolicy.Redirection{Absent: true}, Annotations: map[string]string{includeInbound: "*"}},
			meshpolicy.NoRedirection, disable, ", but no traffic is redirected to the pod's proxy, as in a gateway"},
		"no sidecar, no container for it": {meshpolicy.Pod{Redirection: meshpolicy.Redirection{Absent: true}}, meshpolicy.NoSidecar, disable,
			", but the pod has no sidecar to enforce it"},
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

// injected is a pod's redirection as the injector of Istio 1.31 makes it, with these arguments.
func injected(arguments ...string) meshpolicy.Redirection {
	return meshpolicy.Redirection{Container: "istio-init", Arguments: append([]string{
		"istio-iptables", "-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-x", "",
	}, append(arguments, "--log_output_level=default:info")...)}
}

func TestArgumentsThatLeaveAPortOut(t *testing.T) {
	for name, c := range map[string]struct {
		arguments []string
		captured  bool
	}{
		"all":                                     {[]string{"-b", "*", "-d", "15090,15021,15020"}, true},
		"the port excluded":                       {[]string{"-b", "*", "-d", "15090,15021,8443,15020"}, false},
		"with spaces":                             {[]string{"-b", "*", "-d", "15090, 8443"}, false},
		"a port that contains it":                 {[]string{"-b", "*", "-d", "18443,84430"}, true},
		"long forms":                              {[]string{"--istio-inbound-ports", "*", "--istio-local-exclude-ports", "8443"}, false},
		"long forms with equals":                  {[]string{"--istio-inbound-ports=*", "--istio-local-exclude-ports=8443"}, false},
		"short forms attached":                    {[]string{"-b*", "-d8443"}, false},
		"short forms with equals":                 {[]string{"-b=*", "-d=8443"}, false},
		"the last one counts":                     {[]string{"-b", "*", "-d", "8443", "-d", "80"}, true},
		"the port included":                       {[]string{"-b", "80,8443", "-d", "15090"}, true},
		"another included":                        {[]string{"-b", "80", "-d", "15090"}, false},
		"none included":                           {[]string{"-b", "", "-d", "15090"}, false},
		"included is not given":                   {[]string{"-d", "15090"}, false},
		"a list included makes the excluded void": {[]string{"-b", "8443", "-d", "8443"}, true},
	} {
		// The annotations say the opposite today.
		today := map[string]string{excludeInbound: "8443"}
		if !c.captured {
			today = map[string]string{includeInbound: "*"}
		}
		pod := meshpolicy.Pod{Sidecar: true, Annotations: today, Redirection: injected(c.arguments...)}
		got := meshpolicy.ForServer(meshpolicy.Mesh{}, nil, pod, port)
		if (got.Capture == meshpolicy.Captured) != c.captured || !c.captured && got.Capture != meshpolicy.PortExcluded || c.captured != (got.Past == "") {
			t.Errorf("%s: %s by %q", name, got.Capture, got.Past)
		}
	}
	// A mode of interception in the annotations of today says nothing of the pod as it was injected.
	pod := meshpolicy.Pod{Sidecar: true, Annotations: map[string]string{interceptionMode: "NONE"}, Redirection: injected("-b", "*")}
	if got := meshpolicy.ForServer(meshpolicy.Mesh{}, nil, pod, port).Capture; got != meshpolicy.Captured {
		t.Errorf("annotated afterwards: %s", got)
	}
	// An argument may lack its value.
	pod = meshpolicy.Pod{Sidecar: true, Redirection: meshpolicy.Redirection{Container: "istio-init", Arguments: []string{"-b", "*", "-d"}}}
	if got := meshpolicy.ForServer(meshpolicy.Mesh{}, nil, pod, port).Capture; got != meshpolicy.Captured {
		t.Errorf("without a value: %s", got)
	}
	// istio-validation may come without arguments; the CNI plugin read the annotations.
	pod = meshpolicy.Pod{Sidecar: true, Annotations: map[string]string{excludeInbound: "8443"}, Redirection: meshpolicy.Redirection{Container: "istio-validation"}}
	if got := meshpolicy.ForServer(meshpolicy.Mesh{}, nil, pod, port).Capture; got != meshpolicy.PortExcluded {
		t.Errorf("without arguments: %s", got)
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
