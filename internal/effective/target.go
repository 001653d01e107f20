package effective

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
)

// TargetObstacle says what keeps the user's Service of an inventory's probe from being probed truthfully; the reason is ""
// where nothing does. ReasonNoEndpoints passes by itself when a pod comes up; the others take somebody who changes something.
func TargetObstacle(i *inventory.Inventory) (reason, message string) {
	if i.Probe.Spec.Target.Service == nil {
		return "", ""
	}
	for _, check := range []func(inventory.Target) (reason, message string){targetIsGone, cannotBeProbed, lacksPort, lacksEndpoints} {
		if reason, message := check(i.Target); reason != "" {
			return reason, message
		}
	}
	return "", ""
}

func targetIsGone(t inventory.Target) (reason, message string) {
	switch {
	case t.NamespaceTerminating:
		return api.ReasonNamespaceTerminating, fmt.Sprintf("namespace %s is being deleted", t.Namespace)
	case t.Service == nil:
		return api.ReasonServiceNotFound, fmt.Sprintf("%s does not exist: create it, or correct spec.target.service; the probe goes on by itself then", t)
	default:
		return "", ""
	}
}

func cannotBeProbed(t inventory.Target) (reason, message string) {
	if t.Service.Spec.Type == corev1.ServiceTypeExternalName {
		return api.ReasonServiceNotProbeable,
			fmt.Sprintf("%s is an ExternalName for %s: no pod of this cluster stands behind it, so there is no policy to hold; probe a Service that selects pods", t, t.Service.Spec.ExternalName)
	}
	return "", ""
}

func lacksPort(t inventory.Target) (reason, message string) {
	if t.Port == nil {
		return api.ReasonPortNotFound, fmt.Sprintf("%s has no port %s; it has %s", t, t.WantedPort.String(), portsOf(t.Service))
	}
	if t.Port.Protocol != "" && t.Port.Protocol != corev1.ProtocolTCP {
		return api.ReasonPortProtocol, fmt.Sprintf("port %d of %s is a %s port: TLS goes over TCP", t.Port.Port, t, t.Port.Protocol)
	}
	if taken, from := istioProtocol(*t.Port); slices.Contains(plainProtocols, taken) {
		return api.ReasonPortProtocol,
			fmt.Sprintf("Istio takes port %d of %s for %s by its %s, and proxies that look for it break TLS: name the port https or https-…, or set appProtocol: https", t.Port.Port, t, taken, from)
	}
	return "", ""
}

func lacksEndpoints(t inventory.Target) (reason, message string) {
	if len(t.Endpoints) == 0 {
		return api.ReasonNoEndpoints,
			fmt.Sprintf("no endpoint of %s is ready (%s): see why its pods do not come up; the probe goes on by itself then", t, unready(t.NotReady))
	}
	return "", ""
}

func unready(endpoints int) string {
	switch endpoints {
	case 0:
		return "there is none at all"
	case 1:
		return "there is one that is not"
	default:
		return fmt.Sprintf("there are %d that are not", endpoints)
	}
}

func portsOf(service *corev1.Service) string {
	var named []string
	for _, port := range service.Spec.Ports {
		if port.Name == "" {
			named = append(named, fmt.Sprint(port.Port))
		} else {
			named = append(named, fmt.Sprintf("%d (%s)", port.Port, port.Name))
		}
	}
	return strings.Join(named, ", ")
}

// plainProtocols are those that Istio's proxies look for in what a client sends, and that TLS is not
// (istio.io/istio pkg/config/protocol and pkg/config/kube/conversion.go).
var plainProtocols = []string{"http", "http2", "grpc", "grpc-web", "mongo", "redis", "kubernetes.io/h2c", "kubernetes.io/ws"}

// istioProtocol is the protocol that Istio takes a port for: appProtocol goes before the prefix of the name.
func istioProtocol(port corev1.ServicePort) (protocol, from string) {
	if port.AppProtocol != nil {
		return strings.ToLower(*port.AppProtocol), "appProtocol"
	}
	name := strings.ToLower(port.Name)
	// grpc-web is the one protocol with a dash in it.
	if name == "grpc-web" || strings.HasPrefix(name, "grpc-web-") {
		return "grpc-web", "name"
	}
	prefix, _, _ := strings.Cut(name, "-")
	return prefix, "name"
}

// SpeaksTLS says whether Istio takes a port for TLS by its appProtocol or name, or whether it is 443 and Istio takes it for
// nothing else.
func SpeaksTLS(port corev1.ServicePort) bool {
	taken, _ := istioProtocol(port)
	return taken == "https" || taken == "tls" || port.Port == 443 && !slices.Contains(plainProtocols, taken)
}
