package explain_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/explain"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

var update = flag.Bool("update", false, "write the golden files anew")

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// strictClaim is a probe that claims STRICT of a Service with two pods, and has been judged.
func strictClaim(edits ...func(*inventory.Inventory)) *inventory.Inventory {
	probe := &api.HTTPSMeshProbe{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Generation: 2}}
	probe.Spec.Target = api.Target{Sidecar: api.SidecarEnabled, Service: &api.TargetService{Name: "web", Port: intstr.FromInt32(443)}}
	probe.Spec.MTLS = api.MTLS{Mode: api.MTLSStrict, ClientMode: api.ClientTLSUnset}
	probe.Spec.Interval.Duration = time.Minute
	lastProbe := metav1.NewTime(noon.Add(-20 * time.Second))
	probe.Status = api.HTTPSMeshProbeStatus{ObservedGeneration: 2, LastProbeTime: &lastProbe, Paths: []api.PathStatus{
		{Name: api.PathSleep, Expected: "200", Observed: "200", Outcome: api.OutcomeMatch, Encryption: api.EncryptionMutualTLS, TLSVersion: "TLS 1.3", Peer: "sha256:ab12", LastProbeTime: &lastProbe},
		refusedBy(api.PathIstioProxy, lastProbe), refusedBy(api.PathOutsider, lastProbe),
	}}
	i := &inventory.Inventory{
		Probe: probe, IstioInstalled: true, Mesh: meshpolicy.Mesh{RootNamespace: "istio-system", AutoMTLS: true},
		PeerAuthentications: []meshpolicy.PeerAuthentication{{Namespace: "shop", Name: "default", Created: noon.Add(-time.Hour), Mode: api.MTLSStrict}},
		Target: inventory.Target{Namespace: "shop", Name: "web", WantedPort: intstr.FromInt32(443),
			Service: &corev1.Service{}, Port: &corev1.ServicePort{Port: 443}},
	}
	for _, name := range []string{"web-1", "web-2"} {
		pod := meshpolicy.Pod{Namespace: "shop", Name: name, Sidecar: true, Labels: map[string]string{"app": "web", "security.istio.io/tlsMode": "istio"}}
		i.Target.Pods = append(i.Target.Pods, pod)
		i.Target.Endpoints = append(i.Target.Endpoints, inventory.Endpoint{IP: "10.0.0." + name[4:], Port: 8443, Pod: pod})
	}
	judge(i, api.ConditionReady, metav1.ConditionTrue, api.ReasonVerified, "sleep 200, istio-proxy refused, outsider refused: as expected")
	judge(i, api.ConditionPolicyInEffect, metav1.ConditionTrue, api.ReasonInEffect, "PeerAuthentication shop/default (namespace level) sets STRICT")
	judge(i, api.ConditionSleepVerified, metav1.ConditionTrue, api.ReasonAnswered, "the server answered 200")
	judge(i, api.ConditionIstioProxyVerified, metav1.ConditionTrue, api.ReasonRefusedByMesh, "refused")
	judge(i, api.ConditionOutsiderVerified, metav1.ConditionTrue, api.ReasonRefusedByMesh, "refused")
	for _, edit := range edits {
		edit(i)
	}
	return i
}

func refusedBy(path api.PathName, at metav1.Time) api.PathStatus {
	return api.PathStatus{
		Name: path, Expected: "refused", Observed: "refused", Outcome: api.OutcomeMatch, Alert: "certificate_required", ClientCertificateRequested: true,
		Peer: "spiffe://cluster.local/ns/shop/sa/web", TLSVersion: "TLS 1.3", Endpoints: &api.EndpointsStatus{Total: 2, Asked: 2}, LastProbeTime: &at,
	}
}

// judge sets a condition as the operator would have.
func judge(i *inventory.Inventory, kind string, status metav1.ConditionStatus, reason, message string) {
	conditions := &i.Probe.Status.Conditions
	for at := range *conditions {
		if (*conditions)[at].Type == kind {
			(*conditions)[at].Status, (*conditions)[at].Reason, (*conditions)[at].Message = status, reason, message
			return
		}
	}
	*conditions = append(*conditions, metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message})
}

// gotThrough is a path around the client's sidecar that the server answered.
func gotThrough(i *inventory.Inventory, path api.PathName) {
	for at := range i.Probe.Status.Paths {
		if seen := &i.Probe.Status.Paths[at]; seen.Name == path {
			seen.Observed, seen.Outcome, seen.Peer, seen.Alert, seen.ClientCertificateRequested = "200", api.OutcomeMismatch, "sha256:ab12", "", false
			seen.Endpoints.Mismatched = 2
		}
	}
	judge(i, paths.Condition(path), metav1.ConditionFalse, api.ReasonMTLSNotEnforced, "the request reached the server (200) without a certificate of the mesh")
	judge(i, api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted, string(path)+": 200 instead of refused")
}

func overriddenByOlder(i *inventory.Inventory) {
	i.PeerAuthentications = append(i.PeerAuthentications, meshpolicy.PeerAuthentication{
		Namespace: "shop", Name: "legacy", Created: noon.Add(-2 * time.Hour), Mode: api.MTLSPermissive, Selector: map[string]string{"app": "web"}})
	gotThrough(i, api.PathIstioProxy)
	gotThrough(i, api.PathOutsider)
	judge(i, api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonOverridden, "overridden")
}

func stories() map[string]*inventory.Inventory {
	return map[string]*inventory.Inventory{
		"verified":   strictClaim(),
		"overridden": strictClaim(overriddenByOlder),
		"not-enforced": strictClaim(func(i *inventory.Inventory) {
			gotThrough(i, api.PathOutsider)
			judge(i, api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonNotEnforced, "but on the path outsider the request got through")
		}),
		"own-mode": strictClaim(func(i *inventory.Inventory) {
			i.Probe.Spec.MTLS.Mode = api.MTLSUnset
			i.PeerAuthentications = append(i.PeerAuthentications, meshpolicy.PeerAuthentication{
				Namespace: "shop", Name: "web", Created: noon.Add(-2 * time.Hour), Mode: api.MTLSStrict, Selector: map[string]string{"app": "web"}})
			judge(i, api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonOverridden, "mtls.mode is UNSET, which inherits")
			judge(i, api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted, "policy: mtls.mode is UNSET, which inherits")
		}),
		"led-elsewhere": strictClaim(func(i *inventory.Inventory) {
			i.Probe.Status.Delivered = &api.DeliveredStatus{Object: "VirtualService shop/lead", Legs: []api.DeliveredLeg{
				{Cluster: "outbound|443||web.shop.svc.cluster.local", Percent: 30, Endpoints: 2, MutualTLS: 2},
				{Cluster: "outbound|443||other.shop.svc.cluster.local", Percent: 70, Endpoints: 1, Object: "DestinationRule shop/other"},
			}}
			led := "the client's Envoy is configured to lead 70 % of the requests to other.shop.svc.cluster.local, port 443: VirtualService shop/lead leads it there"
			seen := &i.Probe.Status.Paths[0]
			seen.Outcome, seen.SentTo = api.OutcomeMismatch, "outbound|443||web.shop.svc.cluster.local 10.0.0.1:8443"
			seen.Claims = []api.ClaimStatus{
				{Question: api.QuestionWho, Answer: api.AnswerContradicted, Evidence: led},
				{Question: api.QuestionHow, Answer: api.AnswerShown, Evidence: "sent by mutual TLS: the counters of the client's Envoy show a handshake"},
			}
			judge(i, api.ConditionSleepVerified, metav1.ConditionFalse, api.ReasonLedElsewhere, led)
			judge(i, api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted, "sleep: "+led)
		}),
		"shaped-to-plaintext": strictClaim(func(i *inventory.Inventory) {
			i.Probe.Status.Delivered = &api.DeliveredStatus{Legs: []api.DeliveredLeg{
				{Cluster: "outbound|443|v1|web.shop.svc.cluster.local", Percent: 100, Endpoints: 2, Object: "DestinationRule shop/subsets"},
			}}
			i.Probe.Status.Paths[0].Outcome = api.OutcomeMismatch
			judge(i, api.ConditionSleepVerified, metav1.ConditionFalse, api.ReasonPlaintextInMesh, "the client's Envoy is configured to send requests without mutual TLS to web")
			judge(i, api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted, "sleep: plaintext")
		}),
		"delivered-not-known": strictClaim(func(i *inventory.Inventory) {
			i.Probe.Status.Delivered = &api.DeliveredStatus{Message: "not known: Envoy's admin interface did not answer"}
		}),
		"one-without-sidecar": strictClaim(func(i *inventory.Inventory) {
			i.Target.Endpoints[1].Pod.Sidecar, i.Target.Endpoints[1].Pod.Labels = false, map[string]string{"app": "web"}
		}),
		"client-told-otherwise": strictClaim(func(i *inventory.Inventory) {
			i.DestinationRules = []meshpolicy.DestinationRule{{Namespace: "shop", Name: "web", Host: "web", HasTrafficPolicy: true, TLS: &meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSDisable}}}
		}),
		"outdated-and-late": strictClaim(func(i *inventory.Inventory) {
			i.Probe.Generation = 3
			late := metav1.NewTime(noon.Add(-time.Hour))
			i.Probe.Status.LastProbeTime = &late
		}),
		"nothing-to-compute": strictClaim(func(i *inventory.Inventory) {
			i.Target.Endpoints, i.Target.Pods, i.Probe.Status = nil, nil, api.HTTPSMeshProbeStatus{ObservedGeneration: 2}
		}),
	}
}

// The golden files show what a person reads.
func TestGoldenExplanations(t *testing.T) {
	for name, found := range stories() {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			if err := explain.Of(found, noon).Write(&got, noon); err != nil {
				t.Fatal(err)
			}
			wantGolden(t, name+".txt", got.Bytes())
		})
	}
}

// What programs read is held as well.
func TestGoldenJSON(t *testing.T) {
	encoded, err := json.MarshalIndent(explain.Of(strictClaim(overriddenByOlder), noon), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	wantGolden(t, "overridden.json", append(encoded, '\n'))
}

func wantGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got:\n%s\nwant:\n%s", path, got, want)
	}
}

func TestOutcome(t *testing.T) {
	for name, want := range map[string]api.Outcome{
		"verified": api.OutcomeMatch, "overridden": api.OutcomeMismatch, "not-enforced": api.OutcomeMismatch,
		"outdated-and-late": api.OutcomeUnknown, "one-without-sidecar": api.OutcomeUnknown, "nothing-to-compute": api.OutcomeUnknown,
	} {
		if got := explain.Of(stories()[name], noon).Outcome(); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// A thousand endpoints with one policy are one entry.
func TestEndpointsWithOnePolicyAreOneEntry(t *testing.T) {
	found := strictClaim(func(i *inventory.Inventory) {
		for len(i.Target.Endpoints) < 1000 {
			i.Target.Endpoints = append(i.Target.Endpoints, i.Target.Endpoints[0])
		}
	})
	got := explain.Of(found, noon).Endpoints
	if len(got) != 1 || got[0].Count != 1000 || len(got[0].Names) != 3 {
		t.Errorf("got %d entries, the first of %d endpoints; want one of 1000 that names 3", len(got), got[0].Count)
	}
}
