package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// row is one line of what was measured with curl on Istio, before there was an operator: a server with or without
// sidecar, the PeerAuthentications of its pods and of its namespace, the DestinationRule for its host, and what a request
// met from the client's container, from its istio-proxy, and from a pod without sidecar.
type row struct {
	sidecar             api.Sidecar
	workload, namespace api.MTLSMode
	client              api.ClientTLSMode
	// sleep is what curl met through the client's sidecar, and around what it met from the two other places.
	sleep, around string
	// verdict is the reason of SleepVerified, and encryption how the client's sidecar sent the request.
	verdict    string
	encryption api.Encryption
}

const (
	bare   = api.SidecarDisabled
	meshed = api.SidecarEnabled

	unset      = api.MTLSUnset
	disable    = api.MTLSDisable
	permissive = api.MTLSPermissive
	strict     = api.MTLSStrict

	auto        = api.ClientTLSUnset
	plain       = api.ClientTLSDisable
	istioMutual = api.ClientTLSIstioMutual
	simple      = api.ClientTLSSimple

	mutualTLS = api.EncryptionMutualTLS
	plaintext = api.EncryptionPlaintext
	unknown   = api.EncryptionUnknown

	ok      = "200"
	refused = "refused"
	// broken is curl's exit code 35: the connection ends in the handshake, closed or reset.
	broken = "broken"
)

// rows are all 26 lines. The first three are the steps of Istio's task "Mutual TLS over HTTPS", and two of them come
// again further down.
var rows = []row{
	{bare, unset, unset, auto, ok, ok, api.ReasonAnswered, plaintext},
	{meshed, disable, unset, auto, ok, ok, api.ReasonAnswered, plaintext},
	{meshed, strict, unset, auto, ok, refused, api.ReasonAnswered, mutualTLS},

	{bare, unset, unset, plain, ok, ok, api.ReasonAnswered, plaintext},
	{bare, unset, unset, istioMutual, broken, ok, api.ReasonFailedAsDeclared, unknown},
	{bare, unset, unset, simple, broken, ok, api.ReasonFailedAsDeclared, unknown},

	{meshed, unset, unset, auto, ok, ok, api.ReasonAnswered, mutualTLS},
	{meshed, unset, unset, plain, ok, ok, api.ReasonAnswered, plaintext},
	{meshed, unset, unset, istioMutual, ok, ok, api.ReasonAnswered, mutualTLS},
	{meshed, unset, unset, simple, broken, ok, api.ReasonFailedAsDeclared, unknown},

	{meshed, disable, unset, auto, ok, ok, api.ReasonAnswered, plaintext},
	{meshed, disable, unset, plain, ok, ok, api.ReasonAnswered, plaintext},
	{meshed, disable, unset, istioMutual, broken, ok, api.ReasonFailedAsDeclared, unknown},
	{meshed, disable, unset, simple, broken, ok, api.ReasonFailedAsDeclared, unknown},

	{meshed, permissive, unset, auto, ok, ok, api.ReasonAnswered, mutualTLS},
	{meshed, permissive, unset, plain, ok, ok, api.ReasonAnswered, plaintext},
	{meshed, permissive, unset, istioMutual, ok, ok, api.ReasonAnswered, mutualTLS},
	{meshed, permissive, unset, simple, broken, ok, api.ReasonFailedAsDeclared, unknown},

	{meshed, strict, unset, auto, ok, refused, api.ReasonAnswered, mutualTLS},
	{meshed, strict, unset, plain, refused, refused, api.ReasonRefusedByMesh, plaintext},
	{meshed, strict, unset, istioMutual, ok, refused, api.ReasonAnswered, mutualTLS},
	{meshed, strict, unset, simple, broken, refused, api.ReasonFailedAsDeclared, unknown},

	{meshed, unset, strict, auto, ok, refused, api.ReasonAnswered, mutualTLS},
	{meshed, unset, disable, auto, ok, ok, api.ReasonAnswered, plaintext},
	// The trap: auto mTLS looks at the namespace alone and sends plaintext, which the pods' own policy refuses.
	{meshed, strict, disable, auto, refused, refused, api.ReasonRefused, plaintext},
	{meshed, disable, strict, auto, ok, ok, api.ReasonAnswered, plaintext},
}

func (r row) trap() bool { return r.verdict == api.ReasonRefused }

func (r row) name(i int) string {
	words := []string{fmt.Sprintf("row-%02d", i+1), "bare", string(r.workload), "under", string(r.namespace), string(r.client)}
	if r.sidecar == meshed {
		words[1] = "meshed"
	}
	return strings.ReplaceAll(strings.ToLower(strings.Join(words, "-")), "_", "-")
}

// TestMatrix makes every row a probe. The verdicts and their evidence must be what was measured and Istio's rules say.
func TestMatrix(t *testing.T) {
	begun := time.Now()
	namespaces := map[api.MTLSMode]string{}
	for _, mode := range []api.MTLSMode{unset, strict, disable} {
		namespaces[mode] = namespace(t)
		if mode != unset {
			createPolicy(t, peerAuthentication(namespaces[mode], "default", nil, mode))
		}
	}
	probes := make([]*api.HTTPSMeshProbe, len(rows))
	for i, r := range rows {
		probes[i] = newProbe(namespaces[r.namespace], r.name(i), r.sidecar, r.workload)
		probes[i].Spec.MTLS.ClientMode = r.client
		createProbe(t, probes[i])
	}
	for i, r := range rows {
		t.Run(probes[i].Name, func(t *testing.T) { r.check(t, probes[i]) })
	}
	t.Logf("%d verdicts after %s", len(rows), time.Since(begun).Round(time.Second))
}

func (r row) check(t *testing.T, hmp *api.HTTPSMeshProbe) {
	want := metav1.ConditionTrue
	if r.trap() {
		want = metav1.ConditionFalse
	}
	awaitCondition(t, hmp, api.ConditionReady, want)
	// What is computed refutes the trap before a run does.
	hmp = awaitCondition(t, hmp, api.ConditionSleepVerified, want)
	if r.encryption != unknown {
		hmp = awaitEncryption(t, hmp)
	}
	for i, seen := range []string{r.sleep, r.around, r.around} {
		path := hmp.Status.Paths[i]
		if !met(path, seen) {
			t.Errorf("%s met %s (%s), want %s", path.Name, path.Observed, path.Message, seen)
		}
		checkPath(t, hmp, path)
	}
	if sleep := hmp.Status.Paths[0]; sleep.Encryption != r.encryption {
		t.Errorf("encryption is %s, want %s", sleep.Encryption, r.encryption)
	}
	wantCondition(t, hmp, api.ConditionSleepVerified, want, r.verdict)
	r.checkAround(t, hmp)
	r.checkPolicy(t, hmp)
}

// awaitEncryption waits until a run has read the counters of the client's Envoy: on a busy machine it may be slow to
// tell them.
func awaitEncryption(t *testing.T, hmp *api.HTTPSMeshProbe) *api.HTTPSMeshProbe {
	t.Helper()
	var fresh *api.HTTPSMeshProbe
	await(t, "a count of probe "+hmp.Name, func() error {
		fresh = read(t, hmp)
		if len(fresh.Status.Paths) != 3 || fresh.Status.Paths[0].Encryption == unknown {
			return fmt.Errorf("paths %+v", fresh.Status.Paths)
		}
		return nil
	})
	return fresh
}

func met(path api.PathStatus, seen string) bool {
	if seen == broken {
		return path.Observed == "closed" || path.Observed == "reset"
	}
	return path.Observed == seen
}

func (r row) checkAround(t *testing.T, hmp *api.HTTPSMeshProbe) {
	for _, kind := range []string{api.ConditionIstioProxyVerified, api.ConditionOutsiderVerified} {
		reason := api.ReasonAnswered
		if r.around == refused {
			reason = api.ReasonRefusedByMesh
		}
		wantCondition(t, hmp, kind, metav1.ConditionTrue, reason)
	}
}

// checkPolicy expects the deciding object to be named, and in the trap both that play a part in it.
func (r row) checkPolicy(t *testing.T, hmp *api.HTTPSMeshProbe) {
	own := fmt.Sprintf("PeerAuthentication %s/%s-nginx (workload level) sets %s", hmp.Namespace, hmp.Name, r.workload)
	ofNamespace := fmt.Sprintf("PeerAuthentication %s/default (namespace level) sets %s", hmp.Namespace, r.namespace)
	policy := condition(hmp, api.ConditionPolicyInEffect)
	status, reason, message := metav1.ConditionTrue, api.ReasonInEffect, own
	switch {
	case r.trap():
		status, reason, message = metav1.ConditionFalse, api.ReasonOverridden, ofNamespace
	case r.sidecar == bare:
		reason, message = api.ReasonNoSidecar, "no sidecar"
	case r.workload == unset && r.namespace == unset:
		reason, message = api.ReasonInherited, "Istio's default holds: PERMISSIVE"
	case r.workload == unset:
		reason, message = api.ReasonInherited, ofNamespace
	}
	wantCondition(t, hmp, api.ConditionPolicyInEffect, status, reason)
	if !strings.Contains(policy.Message, message) {
		t.Errorf("PolicyInEffect says %q, want %q in it", policy.Message, message)
	}
	if sleep := condition(hmp, api.ConditionSleepVerified); r.trap() && !strings.Contains(sleep.Message, ofNamespace) {
		t.Errorf("SleepVerified says %q, want %q in it", sleep.Message, ofNamespace)
	}
}

func wantCondition(t *testing.T, hmp *api.HTTPSMeshProbe, kind string, status metav1.ConditionStatus, reasons ...string) {
	t.Helper()
	if c := condition(hmp, kind); c.Status != status || !slices.Contains(reasons, c.Reason) {
		t.Errorf("%s is %s, %s (%s); want %s, %s", kind, c.Status, c.Reason, c.Message, status, strings.Join(reasons, " or "))
	}
}
