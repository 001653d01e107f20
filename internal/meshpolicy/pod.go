package meshpolicy

import "fmt"

// Pod is a server's pod as far as policy is concerned.
type Pod struct {
	Namespace, Name     string
	Labels, Annotations map[string]string
	// Sidecar says whether the pod has the istio-proxy container, among its containers or as a native sidecar.
	Sidecar bool
	// Redirection is what leads connections to it; it matters only beside a sidecar.
	Redirection Redirection
	HostNetwork bool
}

// String names the pod, for messages. An address behind a Service may have none.
func (p Pod) String() string {
	if p.Name == "" {
		return "an endpoint without pod"
	}
	return fmt.Sprintf("pod %s/%s", p.Namespace, p.Name)
}

// Capture is how connections to a port of a pod meet the sidecar.
type Capture string

// The ways of meeting the sidecar, or not.
const (
	// Captured connections end at the sidecar, which enforces the mode.
	Captured Capture = "Captured"
	// NoSidecar stands before the pod.
	NoSidecar Capture = "NoSidecar"
	// PortExcluded connections go past the sidecar, because the port was left out when the pod was injected.
	PortExcluded Capture = "PortExcluded"
	// NoRedirection leads any connection to the proxy that the pod has: it is a gateway, whose proxy is the server itself, or
	// one with the interception mode NONE.
	NoRedirection Capture = "NoRedirection"
	// HostNetwork pods are never injected.
	HostNetwork Capture = "HostNetwork"
	// Ambient pods have ztunnel in the place of a sidecar; they are not judged.
	Ambient Capture = "Ambient"
)

const (
	annotationRedirection = "ambient.istio.io/redirection"

	// LabelTLSMode is put on a pod by the injector, with the value TLSModeIstio; istiod takes it for the endpoint's readiness
	// for mutual TLS.
	LabelTLSMode = "security.istio.io/tlsMode"
	// TLSModeIstio says that the pod is ready for it.
	TLSModeIstio    = "istio"
	tlsModeDisabled = "disabled"
)

func (p Pod) capture(port uint32) Capture {
	switch {
	case p.HostNetwork:
		return HostNetwork
	case !p.Sidecar && p.ambient():
		return Ambient
	case !p.Sidecar:
		return NoSidecar
	case p.Redirection.Absent:
		return NoRedirection
	case p.past(port) != "":
		return PortExcluded
	default:
		return Captured
	}
}

func (p Pod) ambient() bool { return p.Annotations[annotationRedirection] == "enabled" }

// tlsMode follows pilot/pkg/model/service.go (GetTLSModeFromEndpointLabels). It is the label that tells, not the
// sidecar.
func (p Pod) tlsMode() string {
	if mode, ok := p.Labels[LabelTLSMode]; ok {
		return mode
	}
	return tlsModeDisabled
}
