package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// spoil changes an object of the operator's by hand.
func spoil(t *testing.T, object client.Object, patch string) {
	t.Helper()
	if err := lab.Patch(t.Context(), object, client.RawPatch(types.MergePatchType, []byte(patch)), client.FieldOwner("a-person")); err != nil {
		t.Fatal(err)
	}
}

// TestShownMutualTLSAgainstDeclared has a client send mutual TLS where the opposite is declared.
func TestShownMutualTLSAgainstDeclared(t *testing.T) {
	t.Parallel()
	t.Run("sidecar Disabled declared of a meshed pod without targetRef", func(t *testing.T) {
		t.Parallel()
		ns := namespace(t)
		web := newOdd(t, ns, "web").create(t)
		establish(t, slice, ns, "by-hand", "by-hand", serverPort, web.awaitPods(t, 1)[0].Status.PodIP, "")
		hmp := handMade(t, web, "by-hand", unset)
		hmp.Spec.Target.Sidecar = bare
		createProbe(t, hmp)
		awaitPaths(t, hmp)
		checkHandshake(t, ns, "https://by-hand."+ns+".svc.cluster.local/", "by-hand."+ns)
		keep(t, hmp).fallsAndStays(t, fallsWithin, staysAway, says(api.ConditionSleepVerified, metav1.ConditionFalse, reasonUnexpectedMutual))
	})
	t.Run("clientMode DISABLE declared under an EnvoyFilter", func(t *testing.T) {
		t.Parallel()
		ns := namespace(t)
		web := newOdd(t, ns, "web").create(t)
		hmp := web.probe("web", permissive)
		hmp.Spec.MTLS.ClientMode = plain
		establish(t, `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {namespace: %s, name: web}
spec: {host: %s, trafficPolicy: {tls: {mode: DISABLE}}}
`, ns, web.host())
		createProbe(t, hmp)
		v := verified(t, hmp)
		undo := establish(t, encrypting, ns, web.host())
		v.fallsAndStays(t, fallsWithin, staysAway, says(api.ConditionSleepVerified, metav1.ConditionFalse, reasonUnexpectedMutual))
		checkHandshake(t, ns, web.url(), web.host())
		undo()
		v.comesBack(t)
	})
}

// awaitPaths waits for a first run.
func awaitPaths(t *testing.T, hmp *api.HTTPSMeshProbe) {
	t.Helper()
	await(t, "a run of probe "+hmp.Name, func() error {
		if fresh := read(t, hmp); len(fresh.Status.Paths) == 0 || fresh.Status.Paths[0].Observed == "" {
			return fmt.Errorf("there is none")
		}
		return nil
	})
}

// checkHandshake expects the client's Envoy to wrap a request in TLS.
func checkHandshake(t *testing.T, ns, url, cluster string) {
	t.Helper()
	before := counted(t, ns, "cluster.outbound|443||"+cluster, "ssl.handshake")
	if got := asks(t, ns, "sleep", url); !strings.HasPrefix(got, "200") {
		t.Errorf("curl from sleep meets %s", got)
	}
	if counted(t, ns, "cluster.outbound|443||"+cluster, "ssl.handshake") == before {
		t.Error("Envoy counts no handshake")
	}
}

// encrypting has the clients of a Service send mutual TLS whatever its DestinationRule says.
const encrypting = `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {namespace: %s, name: encrypting}
spec:
  configPatches:
  - applyTo: CLUSTER
    match: {context: SIDECAR_OUTBOUND, cluster: {service: %s}}
    patch:
      operation: MERGE
      value:
        transport_socket:
          name: envoy.transport_sockets.tls
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
            common_tls_context:
              alpn_protocols: [istio]
              tls_certificate_sds_secret_configs:
              - name: default
                sds_config:
                  resource_api_version: V3
                  initial_fetch_timeout: 0s
                  api_config_source: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}
`

// TestShownUntrustedAccepted has a STRICT server's sidecar take anybody's certificate.
func TestShownUntrustedAccepted(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	createPolicy(t, peerAuthentication(ns, "default", nil, strict))
	web := newOdd(t, ns, "web").create(t)
	stranger := newOdd(t, ns, "stranger").bare().create(t)
	hmp := web.probe("web", strict)
	createProbe(t, hmp)
	v := verified(t, hmp)
	// enters tells what the stranger meets. Behind the sidecar's TLS the application waits for TLS of its own, so its
	// complaint about plain HTTP, 400, shows that the stranger has got as far as to it.
	enters := func() string {
		script := "cd /tmp && { [ -e c.pem ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=stranger -addext subjectAltName=URI:spiffe://cluster.local/ns/" + ns + "/sa/stranger -keyout k.pem -out c.pem 2>/dev/null; }" +
			"; curl -sk --http1.1 -m 3 -o /dev/null -w %{http_code} --cert c.pem --key k.pem " + web.url() + "; true"
		out, err := run(t, ns, stranger.awaitPods(t, 1)[0].Name, "odd", "sh", "-c", script)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := enters(); got != "000" {
		t.Fatalf("a stranger's certificate meets %s before anything is wrong", got)
	}
	undo := establish(t, `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {namespace: %s, name: credulous}
spec:
  workloadSelector: {labels: {app: web}}
  configPatches:
  - applyTo: FILTER_CHAIN
    match: {context: SIDECAR_INBOUND, listener: {portNumber: 8443, filterChain: {transportProtocol: tls}}}
    patch:
      operation: MERGE
      value:
        transport_socket:
          name: envoy.transport_sockets.tls
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
            common_tls_context: {combined_validation_context: {default_validation_context: {trust_chain_verification: ACCEPT_UNTRUSTED}}}
`, ns)
	await(t, "a stranger's certificate to get in", func() error {
		if got := enters(); got != "400" {
			return fmt.Errorf("it meets %s", got)
		}
		return nil
	})
	// Further handshakes are made after changes and every few runs; nothing that is watched has changed.
	v.fallsAndStays(t, fallsWithin, staysAway,
		says(api.ConditionIstioProxyVerified, metav1.ConditionFalse, reasonUntrustedAccepted),
		says(api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonNotEnforced))
	undo()
	v.comesBack(t)
}

// TestShownStillPermissive declares DISABLE, which has not reached the server's proxy.
func TestShownStillPermissive(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	web := newOdd(t, ns, "web").cuttable().create(t)
	mend := web.cut(t)
	createPolicy(t, peerAuthentication(ns, "default", nil, disable))
	hmp := web.probe("web", disable)
	createProbe(t, hmp)
	awaitPaths(t, hmp)
	v := keep(t, hmp)
	v.fallsAndStays(t, fallsWithin, staysAway, says(api.ConditionIstioProxyVerified, metav1.ConditionFalse, reasonMutualAccepted))
	if !meetsMesh(t, ns, web) {
		t.Error("openssl does not meet the sidecar's certificate: the proxy is not PERMISSIVE")
	}
	mend()
	await(t, "DISABLE to reach the proxy", func() error {
		if meetsMesh(t, ns, web) {
			return fmt.Errorf("it still takes mutual TLS")
		}
		return nil
	})
	v.comesBack(t)
}

// meetsMesh says whether a hello with Istio's application protocol meets a sidecar's certificate.
func meetsMesh(t *testing.T, ns string, web *odd) bool {
	t.Helper()
	pod := web.awaitPods(t, 1)[0]
	script := "timeout 10 openssl s_client -alpn istio -showcerts -connect " + pod.Status.PodIP + ":8443 </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName; true"
	from := newClient(t, ns)
	out, err := run(t, ns, from.Name, "odd", "sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(out, "spiffe://cluster.local/")
}

// newClient is a pod without sidecar that has openssl.
func newClient(t *testing.T, ns string) corev1.Pod {
	t.Helper()
	if pods := podsWith(t, ns, "app=asker"); len(pods) > 0 {
		return pods[0]
	}
	return newOdd(t, ns, "asker").bare().create(t).awaitPods(t, 1)[0]
}

// TestShownCapture declares policies of ports before which no sidecar stands, or one does, against what annotations say.
func TestShownCapture(t *testing.T) {
	t.Parallel()
	const exclude = "traffic.sidecar.istio.io/excludeInboundPorts"
	annotate := func(t *testing.T, web *odd, value string) {
		pod := web.awaitPods(t, 1)[0]
		spoil(t, &pod, fmt.Sprintf(`{"metadata":{"annotations":{%q:%s}}}`, exclude, value))
	}
	t.Run("gateway pod", func(t *testing.T) {
		t.Parallel()
		ns := namespace(t)
		createPolicy(t, peerAuthentication(ns, "default", nil, disable))
		web := newOdd(t, ns, "web")
		web.annotations = map[string]string{"inject.istio.io/templates": "gateway"}
		web.edit = func(pod *corev1.PodTemplateSpec) {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "istio-proxy", Image: "auto", ImagePullPolicy: corev1.PullIfNotPresent})
		}
		web.create(t)
		hmp := web.probe("web", disable)
		createProbe(t, hmp)
		awaitPaths(t, hmp)
		keep(t, hmp).fallsAndStays(t, fallsWithin, staysAway, says(api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonNotCaptured, api.ReasonSidecarMissing))
		if meetsMesh(t, ns, web) {
			t.Error("openssl meets a sidecar's certificate: the port is captured")
		}
	})
	t.Run("annotation taken off", func(t *testing.T) {
		t.Parallel()
		ns := namespace(t)
		createPolicy(t, peerAuthentication(ns, "default", nil, strict))
		web := newOdd(t, ns, "web")
		web.annotations = map[string]string{exclude: "8443"}
		web.create(t)
		annotate(t, web, "null")
		hmp := web.probe("web", strict)
		createProbe(t, hmp)
		awaitPaths(t, hmp)
		truth(t, ns, web.url(), "000", "200", "200")
		keep(t, hmp).fallsAndStays(t, fallsWithin, staysAway, says(api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonNotCaptured))
	})
	t.Run("annotation put on", func(t *testing.T) {
		t.Parallel()
		ns := namespace(t)
		createPolicy(t, peerAuthentication(ns, "default", nil, strict))
		web := newOdd(t, ns, "web").create(t)
		hmp := web.probe("web", strict)
		createProbe(t, hmp)
		v := verified(t, hmp)
		annotate(t, web, `"8443"`)
		v.neverFalse(t, 3*shownInterval)
		truth(t, ns, web.url(), "200", "000", "000")
		v.comesBack(t)
	})
}

// TestShownUnset declares to inherit, and the pods have a policy of their own.
func TestShownUnset(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	createPolicy(t, peerAuthentication(ns, "default", nil, strict))
	web := newOdd(t, ns, "web").create(t)
	hmp := web.probe("web", unset)
	createProbe(t, hmp)
	v := verified(t, hmp)
	own := peerAuthentication(ns, "own", web.selector(), disable)
	createPolicy(t, own)
	v.fallsAndStays(t, fallsWithin, staysAway, says(api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonOverridden).naming("PeerAuthentication "+ns+"/own"))
	truth(t, ns, web.url(), "200", "200", "200")
	deletePolicy(t, own)
	v.comesBack(t)
}
