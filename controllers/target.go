package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// referenceRetry is how often objects are read that are not watched: the Secrets and ConfigMaps that a spec names.
const referenceRetry = 15 * time.Second

// findTarget finds the Service of the user's that the probe is about, and says what keeps it from being probed truthfully.
func (r *Reconciler) findTarget(_ context.Context, v *visit) (verdict.Standing, error) {
	if v.Probe.Spec.Target.Service == nil {
		return proceed, nil
	}
	for _, check := range []func(*visit) (reason, message string){
		r.crossesNamespaces, targetIsGone, cannotBeProbed, lacksPort,
	} {
		if reason, message := check(v); reason != "" {
			return verdict.Standing{Phase: verdict.Stalled, Reason: reason, Message: message}, nil
		}
	}
	if len(v.Target.Endpoints) == 0 {
		r.Runner.Forget(keyOf(v))
		return verdict.Standing{Phase: verdict.Troubled, Reason: api.ReasonNoEndpoints,
			Message: fmt.Sprintf("no endpoint of %s is ready (%s): see why its pods do not come up; the probe goes on by itself then", v.Target, unready(v.Target.NotReady))}, nil
	}
	return proceed, nil
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

func (r *Reconciler) crossesNamespaces(v *visit) (reason, message string) {
	if v.Target.Namespace == v.Probe.Namespace || r.Settings.AllowCrossNamespace {
		return "", ""
	}
	if r.Settings.WatchNamespace != "" {
		return api.ReasonCrossNamespaceForbidden,
			fmt.Sprintf("%s is in another namespace than the probe, and this operator serves namespace %s alone: create the probe in namespace %s, with an operator for it", v.Target, r.Settings.WatchNamespace, v.Target.Namespace)
	}
	return api.ReasonCrossNamespaceForbidden,
		fmt.Sprintf("%s is in another namespace than the probe: create the probe in namespace %s, or start the operator with --allow-cross-namespace", v.Target, v.Target.Namespace)
}

func targetIsGone(v *visit) (reason, message string) {
	switch {
	case v.Target.NamespaceTerminating:
		return api.ReasonNamespaceTerminating, fmt.Sprintf("namespace %s is being deleted", v.Target.Namespace)
	case v.Target.Service == nil:
		return api.ReasonServiceNotFound, fmt.Sprintf("%s does not exist: create it, or correct spec.target.service; the probe goes on by itself then", v.Target)
	default:
		return "", ""
	}
}

func cannotBeProbed(v *visit) (reason, message string) {
	if v.Target.Service.Spec.Type == corev1.ServiceTypeExternalName {
		return api.ReasonServiceNotProbeable,
			fmt.Sprintf("%s is an ExternalName for %s: no pod of this cluster stands behind it, so there is no policy to hold; probe a Service that selects pods", v.Target, v.Target.Service.Spec.ExternalName)
	}
	return "", ""
}

func lacksPort(v *visit) (reason, message string) {
	if v.Target.Port == nil {
		return api.ReasonPortNotFound, fmt.Sprintf("%s has no port %s; it has %s", v.Target, v.Target.WantedPort.String(), portsOf(v.Target.Service))
	}
	if v.Target.Port.Protocol != "" && v.Target.Port.Protocol != corev1.ProtocolTCP {
		return api.ReasonPortProtocol, fmt.Sprintf("port %d of %s is a %s port: TLS goes over TCP", v.Target.Port.Port, v.Target, v.Target.Port.Protocol)
	}
	if taken, from := istioProtocol(*v.Target.Port); slices.Contains(plainProtocols, taken) {
		return api.ReasonPortProtocol,
			fmt.Sprintf("Istio takes port %d of %s for %s by its %s, and proxies that look for it break TLS: name the port https or https-…, or set appProtocol: https", v.Target.Port.Port, v.Target, taken, from)
	}
	return "", ""
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
