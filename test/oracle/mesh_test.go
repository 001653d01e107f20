package oracle

import (
	"fmt"
	"strings"
	"testing"

	"istio.io/istio/pilot/test/xds"
)

// workload is one pod of the mesh in which delivered routes are read.
type workload struct {
	address, labels string
	starting        bool
}

// served is a Service with its pods. One without a clusterIP is headless.
type served struct {
	namespace, name, clusterIP, port string
	number                           int
	pods                             []workload
}

const sidecarLabel = tlsMode + ": istio"

// theMesh is the Services of every case; each pod listens at 8443.
var theMesh = []served{
	{"shop", "web", "10.2.0.1", "https", 443, []workload{{"10.1.0.1", sidecarLabel + ", version: a", false}, {"10.1.0.2", sidecarLabel + ", version: b", false}}},
	{"shop", "mixed", "10.2.0.2", "https", 443, []workload{{"10.1.0.3", sidecarLabel, false}, {"10.1.0.4", "version: bare", false}}},
	{"shop", "other", "10.2.0.3", "tls", 443, []workload{{"10.1.0.5", "version: bare", false}}},
	{"far", "web", "10.2.0.4", "https", 443, []workload{{"10.1.0.6", sidecarLabel, false}}},
	{"shop", "ready", "None", "https", 8443, []workload{{"10.1.0.7", sidecarLabel, false}, {"10.1.0.8", sidecarLabel, false}}},
	{"shop", "peers", "None", "https", 8443, []workload{{"10.1.0.9", sidecarLabel, false}, {"10.1.0.10", "version: bare", false}}},
	{"shop", "sniffed", "10.2.0.5", "", 443, []workload{{"10.1.0.11", sidecarLabel, false}}},
	{"shop", "starting", "10.2.0.6", "tcp", 443, []workload{{"10.1.0.12", sidecarLabel, false}, {"10.1.0.13", sidecarLabel, true}}},
	{"shop", "plain", "10.2.0.7", "http", 80, []workload{{"10.1.0.14", sidecarLabel, false}}},
}

func (s served) host() string { return s.name + "." + s.namespace + ".svc.cluster.local" }

// objects is the Service as Kubernetes has it, in documents for pilot's Kubernetes registry.
func (s served) objects() []string {
	objects := []string{fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {namespace: %s, name: %s}
spec: {clusterIP: %s, selector: {app: %s}, ports: [{name: %q, port: %d, targetPort: 8443, protocol: TCP}]}`,
		s.namespace, s.name, s.clusterIP, s.name, s.port, s.number)}
	var endpoints []string
	for i, pod := range s.pods {
		objects = append(objects, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {namespace: %s, name: %s-%d, labels: {app: %s, %s}}
status: {phase: Running, podIP: %s, podIPs: [{ip: %s}], conditions: [{type: Ready, status: "True"}]}`,
			s.namespace, s.name, i, s.name, pod.labels, pod.address, pod.address))
		endpoints = append(endpoints, fmt.Sprintf("{addresses: [%s], conditions: {ready: %t, serving: %t, terminating: false}, targetRef: {kind: Pod, namespace: %s, name: %s-%d}}",
			pod.address, !pod.starting, !pod.starting, s.namespace, s.name, i))
	}
	return append(objects, fmt.Sprintf(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: %s, name: %s-1, labels: {kubernetes.io/service-name: %s}}
addressType: IPv4
ports: [{name: %q, port: 8443, protocol: TCP}]
endpoints: [%s]`, s.namespace, s.name, s.name, s.port, strings.Join(endpoints, ", ")))
}

// newMesh is pilot with theMesh in its Kubernetes registry, and configuration beside it.
func newMesh(t *testing.T, configuration string) *proxied {
	t.Helper()
	var objects []string
	for _, service := range theMesh {
		objects = append(objects, service.objects()...)
	}
	return newProxied(t, xds.NewFakeDiscoveryServer(t, xds.FakeOptions{
		KubernetesObjectString: strings.Join(objects, "\n---\n"), ConfigString: configuration,
	}))
}
