package explain

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// delivered is where the client's Envoy leads requests, such as "web 30 %, other 70 % (VirtualService shop/lead)", and how.
func delivered(status api.DeliveredStatus, namespace string, port *corev1.ServicePort) (what, why string) {
	if len(status.Legs) == 0 {
		return "not known", strings.TrimPrefix(status.Message, "not known: ")
	}
	var legs, how []string
	for _, leg := range status.Legs {
		name := legName(leg.Cluster, namespace, port)
		led := name
		if len(status.Legs) > 1 {
			led = fmt.Sprintf("%s %d %%", name, leg.Percent)
		}
		legs = append(legs, led)
		told := fmt.Sprintf("mutual TLS to %d of %d endpoints of %s", leg.MutualTLS, leg.Endpoints, name)
		if leg.Endpoints == 0 {
			told = "no endpoints of its own in " + name
		}
		if leg.Object != "" {
			told += ", by " + leg.Object
		}
		how = append(how, told)
	}
	what = strings.Join(legs, ", ")
	if status.Object != "" {
		what += " (" + status.Object + ")"
	}
	if status.Message != "" {
		how = append(how, status.Message)
	}
	return what, strings.Join(how, "; ")
}

// legName names a cluster as somebody in a namespace would: web, web.other, with the subset and with a port that is not the
// one that was asked for.
func legName(cluster, namespace string, port *corev1.ServicePort) string {
	parsed, ok := observation.ParseCluster(cluster)
	if !ok {
		return cluster
	}
	name := parsed.Host
	if labels := strings.Split(parsed.Host, "."); len(labels) > 2 && labels[2] == "svc" {
		name = strings.TrimSuffix(labels[0]+"."+labels[1], "."+namespace)
	}
	if port != nil && parsed.Port != uint32(port.Port) {
		name += fmt.Sprintf(":%d", parsed.Port)
	}
	if parsed.Subset != "" {
		name += " subset " + parsed.Subset
	}
	return name
}
