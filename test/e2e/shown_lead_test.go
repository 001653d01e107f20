package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// lead is a VirtualService that leads a host's TLS connections to another.
const lead = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {namespace: %s, name: lead}
spec:
  hosts: [%[2]s]
  tls:
  - match: [{port: 443, sniHosts: [%[2]s]}]
    route: [{destination: {host: %s, port: {number: 443}}}]
`

// TestShownLedElsewhere has a VirtualService lead a STRICT Service's clients to a server without sidecar.
func TestShownLedElsewhere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		elsewhere, die bool
	}{{"own namespace", false, false}, {"another namespace", true, false}, {"and the server is dead", false, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			of := ns
			if c.elsewhere {
				of = namespace(t)
			}
			createPolicy(t, peerAuthentication(ns, "default", nil, strict))
			other := newOdd(t, ns, "other").bare().create(t)
			web := newOdd(t, ns, "web").create(t)
			hmp := web.probe("web", strict)
			createProbe(t, hmp)
			v := verified(t, hmp)

			certificate := asks(t, ns, "outsider", other.url())
			undo := establish(t, lead, of, web.host(), other.host())
			if c.die {
				web.behave(t, serverPort, "closed", "")
			}
			v.fallsAndStays(t, fallsWithin, staysAway, says(api.ConditionSleepVerified, metav1.ConditionFalse, reasonLedElsewhere).naming("VirtualService "+of+"/lead"))
			if got := asks(t, ns, "sleep", web.url()); got != certificate {
				t.Errorf("curl from sleep meets %s, and not the other server: %s", got, certificate)
			}
			checkCounts(t, web, other)
			undo()
			web.behave(t, serverPort, "plain", "")
			v.comesBack(t)
		})
	}
}

// checkCounts expects a request to web to be counted by the client's Envoy in the cluster of another.
func checkCounts(t *testing.T, web, other *odd) {
	t.Helper()
	count := func(o *odd) int {
		return counted(t, o.namespace, "cluster.outbound|443||"+o.host(), "upstream_cx_total")
	}
	webBefore, otherBefore := count(web), count(other)
	asks(t, web.namespace, "sleep", web.url())
	if count(other) == otherBefore || count(web) != webBefore {
		t.Errorf("Envoy counts %d more for the other host, and %d more for the Service's own", count(other)-otherBefore, count(web)-webBefore)
	}
}

// TestShownPlaintext leads the client past the mesh, in a namespace of four probes whose runs fall in step, or beside a
// neighbour that never answers.
func TestShownPlaintext(t *testing.T) {
	t.Parallel()
	sidecar := func(t *testing.T, ns string) func() {
		return establish(t, `
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {namespace: %s, name: default}
spec: {egress: [{hosts: ["istio-system/*"]}]}
`, ns)
	}
	for _, c := range []struct {
		name string
		// neighbours are the manners of the servers beside the one that is judged.
		neighbours []string
		bypass     func(t *testing.T, ns string) func()
	}{
		{"sidecar resource and four in step", []string{"plain", "plain", "plain"}, sidecar},
		{"sidecar resource and a slow neighbour", []string{"hanging"}, sidecar},
		{"outbound port excluded", nil, excludeOutbound},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			web := newOdd(t, ns, "web")
			for i, manner := range c.neighbours {
				web.ports[9001+i] = manner
			}
			web.create(t)
			probes := []*api.HTTPSMeshProbe{web.probe("web", permissive)}
			for i := range c.neighbours {
				probes = append(probes, web.expose(t, fmt.Sprintf("neighbour-%d", i), 9001+i, permissive))
			}
			for _, hmp := range probes {
				createProbe(t, hmp)
			}
			v := verified(t, probes[0])
			occasions(t, func() time.Duration { return time.Second }, probes...)
			undo := c.bypass(t, ns)
			v.fallsAndStays(t, fallsWithin, staysAway, says(api.ConditionSleepVerified, metav1.ConditionFalse, api.ReasonPlaintextInMesh, reasonLedElsewhere))
			before := counted(t, ns, "cluster.outbound|443||"+web.host(), "ssl.handshake")
			if got := asks(t, ns, "sleep", web.url()); !strings.HasPrefix(got, "200") {
				t.Errorf("curl from sleep meets %s", got)
			}
			if after := counted(t, ns, "cluster.outbound|443||"+web.host(), "ssl.handshake"); after != before {
				t.Errorf("Envoy counts %d handshakes with the Service: it is not plaintext", after-before)
			}
			undo()
			v.comesBack(t)
		})
	}
}

// excludeOutbound leads the clients' port 443 past their sidecar, as somebody else than the operator.
func excludeOutbound(t *testing.T, ns string) func() {
	set := func(value string) {
		deployment := &appsv1.Deployment{}
		deployment.Namespace, deployment.Name = ns, "meshprobe-sleep"
		patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"traffic.sidecar.istio.io/excludeOutboundPorts":%s}}}}}`, value)
		if err := lab.Patch(t.Context(), deployment, client.RawPatch(types.MergePatchType, patch), client.FieldOwner("a-person")); err != nil {
			t.Fatal(err)
		}
		await(t, "the client to be replaced", func() error {
			pods := podsWith(t, ns, "meshprobe.dev/client=meshprobe-sleep")
			for _, pod := range pods {
				if pod.DeletionTimestamp != nil || !isReady(pod) || (pod.Annotations["traffic.sidecar.istio.io/excludeOutboundPorts"] == "") != (value == "null") {
					return fmt.Errorf("pod %s is not the new one", pod.Name)
				}
			}
			return nil
		})
	}
	set(`"443"`)
	return func() { set("null") }
}

// TestShownManyEndpoints gives a Service endpoints that only Istio knows, or that only some requests meet.
func TestShownManyEndpoints(t *testing.T) {
	t.Parallel()
	// An endpoint that only Istio knows is dialed like the others.
	dialed := says(api.ConditionIstioProxyVerified, metav1.ConditionFalse, api.ReasonMTLSNotEnforced)
	for _, c := range []struct {
		name, manifest string
		mode           api.MTLSMode
		want           saying
	}{
		{"WorkloadEntry", `
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {namespace: %[1]s, name: stranger}
spec: {address: %[3]s, labels: {app: web}}
`, strict, dialed},
		{"ServiceEntry", `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {namespace: %[1]s, name: stranger}
spec:
  hosts: [%[2]s]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 443, name: https, protocol: TLS, targetPort: 8443}]
  endpoints: [{address: %[3]s}]
`, strict, dialed},
		{"subsets", `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {namespace: %[1]s, name: web}
spec:
  host: %[2]s
  subsets:
  - {name: most, labels: {app: web}}
  - {name: some, labels: {app: web}, trafficPolicy: {tls: {mode: DISABLE}}}
# beside %[3]s
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {namespace: %[1]s, name: web}
spec:
  hosts: [%[2]s]
  tls:
  - match: [{port: 443, sniHosts: [%[2]s]}]
    route:
    - {destination: {host: %[2]s, subset: most, port: {number: 443}}, weight: 80}
    - {destination: {host: %[2]s, subset: some, port: {number: 443}}, weight: 20}
`, permissive, says(api.ConditionSleepVerified, metav1.ConditionFalse, api.ReasonPlaintextInMesh, reasonLedElsewhere)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			createPolicy(t, peerAuthentication(ns, "default", nil, c.mode))
			stranger := newOdd(t, ns, "stranger").bare().create(t)
			web := newOdd(t, ns, "web").create(t)
			hmp := web.probe("web", c.mode)
			createProbe(t, hmp)
			v := verified(t, hmp)
			undo := establish(t, c.manifest, ns, web.host(), stranger.awaitPods(t, 1)[0].Status.PodIP)
			v.fallsAndStays(t, fallsWithin, staysAway, c.want)
			checkShared(t, web)
			undo()
			v.comesBack(t)
		})
	}
}

// checkShared expects some of thirty requests from sleep to be wrapped in mutual TLS, and some not.
func checkShared(t *testing.T, web *odd) {
	t.Helper()
	count := func(name string) int { return counted(t, web.namespace, "cluster.outbound|443|", web.host(), name) }
	const requests = 30
	connections, handshakes := count("upstream_cx_total"), count("ssl.handshake")
	pod := clientPod(t, web.namespace, "meshprobe-sleep")
	script := fmt.Sprintf("for i in $(seq %d); do curl -sk -m 3 -o /dev/null %s; done; true", requests, web.url())
	if out, err := run(t, web.namespace, pod.Name, "sleep", "sh", "-c", script); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	connections, handshakes = count("upstream_cx_total")-connections, count("ssl.handshake")-handshakes
	t.Logf("of %d connections %d are mutual TLS", connections, handshakes)
	if handshakes == 0 || handshakes >= connections {
		t.Errorf("of %d connections %d are mutual TLS: all go the same way", connections, handshakes)
	}
}

// TestShownOnePodHangs stops one of two servers behind a Service.
func TestShownOnePodHangs(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	createPolicy(t, peerAuthentication(ns, "default", nil, strict))
	web := newOdd(t, ns, "web").create(t)
	scale(t, ns, web.name, 2)
	pods := web.awaitServing(t, 2)
	hmp := web.probe("web", strict)
	createProbe(t, hmp)
	v := verified(t, hmp)
	web.behaveOne(t, pods[0].Name, serverPort, "hanging", "")
	v.fallsAndStays(t, fallsWithin, staysAway, says(api.ConditionSleepVerified, metav1.ConditionFalse, reasonTimedOut))
	met := map[string]bool{}
	for range 20 {
		met[asks(t, ns, "sleep", web.url(), "-m", "1")[:3]] = true
	}
	if !met["200"] || !met["000"] {
		t.Errorf("curl meets %v; want an answer from one pod, and none from the other", met)
	}
	web.behaveOne(t, pods[0].Name, serverPort, "plain", "")
	v.comesBack(t)
}

// TestShownTwoPorts has two EndpointSlices lead to two ports of one pod, of which only one is captured.
func TestShownTwoPorts(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	createPolicy(t, peerAuthentication(ns, "default", nil, strict))
	web := newOdd(t, ns, "web")
	web.ports[9443] = "plain"
	web.annotations = map[string]string{"traffic.sidecar.istio.io/excludeInboundPorts": "9443"}
	web.create(t)
	pod := web.awaitPods(t, 1)[0]
	establish(t, slice, ns, "both", "captured", serverPort, pod.Status.PodIP, targetRef(pod))
	hmp := handMade(t, web, "both", strict)
	createProbe(t, hmp)
	v := verified(t, hmp)
	truth(t, ns, "https://"+hmp.Spec.Target.Service.Name+"."+ns+".svc.cluster.local/", "200", "000", "000")
	undo := establish(t, slice, ns, "both", "excluded", 9443, pod.Status.PodIP, targetRef(pod))
	v.fallsAndStays(t, fallsWithin, staysAway)
	if e := v.latest.Status.Paths[1].Endpoints; e == nil || e.Total != 2 {
		t.Errorf("endpoints %+v; want 2", e)
	}
	if got := asks(t, ns, "outsider", "https://"+pod.Status.PodIP+":9443/"); !strings.HasPrefix(got, "200") {
		t.Errorf("curl around the sidecar meets %s", got)
	}
	undo()
	v.comesBack(t)
}

// slice is an EndpointSlice as a person makes it.
const slice = `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: %s, name: %[3]s, labels: {kubernetes.io/service-name: %[2]s}}
addressType: IPv4
ports: [{name: https, port: %[4]d}]
endpoints: [{addresses: [%[5]s], conditions: {ready: true}%[6]s}]
`

func targetRef(pod corev1.Pod) string {
	return fmt.Sprintf(", targetRef: {kind: Pod, namespace: %s, name: %s, uid: %s}", pod.Namespace, pod.Name, pod.UID)
}

// handMade makes a Service without selector, and returns a probe of it.
func handMade(t *testing.T, o *odd, name string, mode api.MTLSMode) *api.HTTPSMeshProbe {
	t.Helper()
	service := o.service(metav1.ObjectMeta{Namespace: o.namespace, Name: name})
	service.Spec.Selector = nil
	if err := lab.Create(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	hmp := o.probe(name, mode)
	hmp.Spec.Target.Service.Name = name
	return hmp
}
