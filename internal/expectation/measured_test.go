package expectation_test

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

const (
	bare   = api.SidecarDisabled
	meshed = api.SidecarEnabled

	disable    = api.MTLSDisable
	permissive = api.MTLSPermissive
	strict     = api.MTLSStrict

	auto     = api.ClientTLSUnset
	plain    = api.ClientTLSDisable
	istio    = api.ClientTLSIstioMutual
	simple   = api.ClientTLSSimple
	byMutual = api.EncryptionMutualTLS
	asIs     = api.EncryptionPlaintext
)

// row is a line of what curl met on a real mesh: a server with or without sidecar, the modes of the PeerAuthentications
// of its pods and of its namespace, and the DestinationRule for its host.
type row struct {
	sidecar             api.Sidecar
	workload, namespace api.MTLSMode
	client              api.ClientTLSMode
	// meets is what sleep, istio-proxy and outsider met. curl's exit code 35 with no certificate seen is "none", 16 or 56
	// behind a certificate of the mesh is "refused".
	meets string
	// wrapped is how the client's sidecar sends a request that is answered.
	wrapped api.Encryption
	// trap says that auto mTLS does not do what the modes promise: it looks at the namespace's mode alone.
	trap bool
}

// measured are all 26 lines, in the order in which they were measured.
var measured = []row{
	{bare, "", "", auto, "200 200 200", asIs, false},
	{meshed, disable, "", auto, "200 200 200", asIs, false},
	{meshed, strict, "", auto, "200 refused refused", byMutual, false},
	{bare, "", "", plain, "200 200 200", asIs, false},
	{bare, "", "", istio, "none 200 200", "", false},
	{bare, "", "", simple, "none 200 200", "", false},
	{meshed, "", "", auto, "200 200 200", byMutual, false},
	{meshed, "", "", plain, "200 200 200", asIs, false},
	{meshed, "", "", istio, "200 200 200", byMutual, false},
	{meshed, "", "", simple, "none 200 200", "", false},
	{meshed, disable, "", auto, "200 200 200", asIs, false},
	{meshed, disable, "", plain, "200 200 200", asIs, false},
	{meshed, disable, "", istio, "none 200 200", "", false},
	{meshed, disable, "", simple, "none 200 200", "", false},
	{meshed, permissive, "", auto, "200 200 200", byMutual, false},
	{meshed, permissive, "", plain, "200 200 200", asIs, false},
	{meshed, permissive, "", istio, "200 200 200", byMutual, false},
	{meshed, permissive, "", simple, "none 200 200", "", false},
	{meshed, strict, "", auto, "200 refused refused", byMutual, false},
	{meshed, strict, "", plain, "refused refused refused", "", false},
	{meshed, strict, "", istio, "200 refused refused", byMutual, false},
	{meshed, strict, "", simple, "none refused refused", "", false},
	{meshed, "", strict, auto, "200 refused refused", byMutual, false},
	{meshed, "", disable, auto, "200 200 200", asIs, false},
	{meshed, strict, disable, auto, "refused refused refused", "", true},
	{meshed, disable, strict, auto, "200 200 200", asIs, false},
}

func (r row) String() string {
	return fmt.Sprintf("%s, pods %q, namespace %q, client %s", r.sidecar, r.workload, r.namespace, r.client)
}

// mode is what the PeerAuthentications come to: the narrowest that sets a mode, else Istio's default.
func (r row) mode() api.MTLSMode { return cmp.Or(r.workload, r.namespace, permissive) }

// Every probe that declares what is in effect expects what was measured; but for the trap, of which a probe that declares
// STRICT alone expects that it works.
func TestDeclaredModesPromiseWhatWasMeasured(t *testing.T) {
	for _, r := range measured {
		expectations := expectation.Declared(r.sidecar, r.mode(), r.client).Expectations()
		if r.trap {
			wantMeets(t, r.String(), expectations, "200 refused refused", byMutual)
			continue
		}
		wantMeets(t, r.String(), expectations, r.meets, r.wrapped)
	}
}

// What is computed from the objects promises what was measured, the trap included.
func TestComputedPoliciesPromiseWhatWasMeasured(t *testing.T) {
	for _, r := range measured {
		server, client := r.compute()
		promise := expectation.Promise{Sidecar: r.sidecar, Mode: server.Mode, Sends: client.Sends}
		wantMeets(t, r.String(), promise.Expectations(), r.meets, r.wrapped)
		// Callers know a server without sidecar by its enforced mode alone.
		promise = expectation.Promise{Sidecar: meshed, Mode: server.Enforced(), Sends: client.Sends}
		wantMeets(t, r.String()+", as enforced", promise.Expectations(), r.meets, r.wrapped)
	}
}

// compute asks for the policies of a row's objects.
func (r row) compute() (meshpolicy.Server, meshpolicy.ClientPolicy) {
	const namespace, host, port, targetPort = "shop", "server.shop.svc.cluster.local", 443, 8443
	mesh := meshpolicy.Mesh{AutoMTLS: true}
	pod := meshpolicy.Pod{Namespace: namespace, Name: "server-0", Sidecar: r.sidecar == meshed, Labels: map[string]string{"app": "server"}}
	if pod.Sidecar {
		pod.Labels["security.istio.io/tlsMode"] = "istio"
	}
	var policies []meshpolicy.PeerAuthentication
	if r.workload != "" {
		policies = append(policies, meshpolicy.PeerAuthentication{Namespace: namespace, Name: "server", Selector: map[string]string{"app": "server"}, Mode: r.workload})
	}
	if r.namespace != "" {
		policies = append(policies, meshpolicy.PeerAuthentication{Namespace: namespace, Name: "default", Mode: r.namespace})
	}
	var rules []meshpolicy.DestinationRule
	if r.client != auto {
		rules = append(rules, meshpolicy.DestinationRule{
			Namespace: namespace, Name: "server", Host: host, TLS: &meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSMode(r.client)},
		})
	}
	service := meshpolicy.Service{Namespace: namespace, Name: "server", Port: port, TargetPort: targetPort, Endpoints: []meshpolicy.Pod{pod}}
	client := meshpolicy.Client{Namespace: namespace, Sidecar: true}
	return meshpolicy.ForServer(mesh, policies, pod, targetPort), meshpolicy.ForClient(mesh, rules, policies, client, service, pod)
}

// wantMeets holds expectations against the words of a row. Only an answered request on the path sleep has an encryption.
func wantMeets(t *testing.T, name string, expectations expectation.Expectations, meets string, wrapped api.Encryption) {
	t.Helper()
	var got []string
	for _, path := range paths.Names() {
		expected, ok := expectations[path]
		if !ok {
			t.Errorf("%s: nothing is expected of %s", name, path)
		}
		if expected.Why == "" || expected.Reason != "" {
			t.Errorf("%s: %s is explained with %q and the user's reason %q", name, path, expected.Why, expected.Reason)
		}
		got = append(got, map[expectation.Kind]string{
			expectation.Answer: expected.String(), expectation.Refusal: expected.String(), expectation.Failure: "none",
		}[expected.Kind])
		want := api.Encryption("")
		if path == api.PathSleep {
			want = wrapped
		}
		if expected.Encryption != want {
			t.Errorf("%s: %s is to be sent as %q, want %q", name, path, expected.Encryption, want)
		}
	}
	if got := strings.Join(got, " "); got != meets {
		t.Errorf("%s: %s, want %s", name, got, meets)
	}
	if len(expectations) != len(paths.Names()) {
		t.Errorf("%s: %d expectations for %d paths", name, len(expectations), len(paths.Names()))
	}
}

func TestAllRowsAreThere(t *testing.T) {
	if len(measured) != 26 {
		t.Errorf("%d rows, want 26", len(measured))
	}
}
