package verdict_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/intstr"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The golden files show what a person sees with kubectl get -o yaml, story by story.
func TestGoldenStatuses(t *testing.T) {
	for name, status := range map[string]api.HTTPSMeshProbeStatus{
		"strict-verified":    strictAfter(run(through, turnedAway, turnedAway), run(through, turnedAway, turnedAway)),
		"strict-one-failure": strictAfter(run(through, turnedAway, turnedAway), run(answered(503, nginxLeaf), turnedAway, turnedAway)),
		"strict-refuted":     strictAfter(run(through, served, turnedAway)),
		"strict-nginx-down":  strictAfter(run(closed, turnedAway, turnedAway), run(closed, turnedAway, turnedAway)),
		"strict-overridden":  overriddenByOlder(),
		"permissive":         permissiveInherited(),
		"plaintext-in-mesh":  strictAfter(run(sent(served, past, toMutual), turnedAway, turnedAway)),
		"led-elsewhere":      strictAfter(run(sent(served, wrapped, ledByVirtualService), turnedAway, turnedAway)),
		"not-attributed":     strictAfter(run(sent(served, &observation.Sent{Error: "no answer in time"}, toMutual), turnedAway, turnedAway)),
		"still-proved":       strictAfter(run(through, served, turnedAway), run(through, turnedAway, turnedAway)),
		"failed-as-declared": failedAsDeclared(),
		"everything":         everythingThatAStatusMayHold(),
		"progressing":        unjudged(verdict.Progressing, api.ReasonProgressing, "waiting for the pod of Deployment strict-nginx to become ready (container nginx)"),
		"stalled":            unjudged(verdict.Stalled, api.ReasonNameTaken, "Service shop/strict-nginx exists and was not made for this probe"),
		"exec-forbidden":     unjudged(verdict.Troubled, api.ReasonExecForbidden, `pods "meshprobe-sleep-0" is forbidden: cannot create resource "pods/exec"`),
		"suspended-verified": suspended(),
	} {
		t.Run(name, func(t *testing.T) { wantGolden(t, name, status) })
	}
}

// closed is what the path through the mesh sees while nginx is down: the client's sidecar accepts, the server's cannot
// reach nginx and closes.
var closed = saw(observation.HandshakeClosed, nil)

// ledByVirtualService leads three of ten requests to another Service.
var ledByVirtualService = &observation.Delivered{
	Listener: "10.96.0.1_443", Config: "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/lead",
	Legs: []observation.Leg{
		{Cluster: ownCluster, Weight: 70, TLS: observation.TLSMutual, Endpoints: leg(observation.TLSMutual).Endpoints},
		{Cluster: "outbound|443||other.shop.svc.cluster.local", Weight: 30, TLS: observation.TLSNone, Endpoints: []observation.LegEndpoint{{Address: "10.0.0.9:8443", TLS: observation.TLSNone}}},
	},
}

// judgedAt is when the stories' statuses are written.
var judgedAt = firstRun.Add(2 * time.Second)

func strictAfter(runs ...observation.Run) api.HTTPSMeshProbeStatus {
	return judgedAfter(twice(strict), inEffect, runs...)
}

// judgedAfter is the status after runs of which the last began at firstRun.
func judgedAfter(c verdict.Criteria, policy verdict.Policy, runs ...observation.Run) api.HTTPSMeshProbeStatus {
	spaced := every(interval, runs...)
	for i := range spaced {
		spaced[i].Started = spaced[i].Started.Add(-time.Duration(len(runs)-1) * interval)
	}
	return verdict.Status(untouched, verdict.Judgement{
		Generation: 1, Standing: verdict.Standing{Phase: verdict.Judged}, Paths: after(c, spaced...), Policy: policy, Delivered: verdict.Delivered(runs[len(runs)-1]),
	}, judgedAt, heartbeat)
}

// legacy is the policy that decides instead of the declared one, in words.
const legacy = "PeerAuthentication shop/legacy sets PERMISSIVE for the workload; it is older than shop/strict-nginx"

func overriddenByOlder() api.HTTPSMeshProbeStatus {
	c := twice(strict)
	c.Computed = permissive
	c.Explanations = map[api.PathName]string{api.PathIstioProxy: legacy, api.PathOutsider: legacy}
	return judgedAfter(c, verdict.Policy{Status: metav1.ConditionFalse, Reason: api.ReasonOverridden, Message: "mtls.mode is STRICT, but " + legacy}, run(through, served, served))
}

func permissiveInherited() api.HTTPSMeshProbeStatus {
	return judgedAfter(twice(permissive), verdict.Policy{Status: metav1.ConditionTrue, Reason: api.ReasonInherited, Message: "no PeerAuthentication sets a mode, so Istio's default holds: PERMISSIVE"},
		run(through, beside(served, greeted(endpoint("nginx-0", served), takesMutual, unasked)), served))
}

// everythingThatAStatusMayHold is a Service of three endpoints, of which one has no sidecar, a moment after somebody
// changed the policy.
func everythingThatAStatusMayHold() api.HTTPSMeshProbeStatus {
	c := twice(promised(api.MTLSStrict, api.ClientTLSUnset))
	c.Declared.Override([]api.PathExpectation{{Path: api.PathSleep, See: intstr.Parse("401"), Reason: "the service wants a token"}})
	c.Explanations = map[api.PathName]string{api.PathIstioProxy: "no PeerAuthentication sets a mode, so Istio's default holds: PERMISSIVE, but the pod has no sidecar to enforce it"}
	withEndpoints := turnedAway
	for i, result := range []observation.Result{turnedAway, served, turnedAway} {
		name := fmt.Sprintf("shop-%d", i)
		withEndpoints.Endpoints = append(withEndpoints.Endpoints, greeted(observation.EndpointResult{
			Endpoint: observation.Endpoint{ID: name, Name: name, Address: fmt.Sprintf("10.0.0.%d:8443", i+1)}, Asked: firstRun, Result: result,
		}, unasked, refusesForged))
	}
	one := run(sent(answered(401, nginxLeaf), wrapped, ledByVirtualService), withEndpoints, turnedAway)
	seen := metav1.NewTime(firstRun.Add(-10 * time.Second))
	return verdict.Status(untouched, verdict.Judgement{
		Generation: 1, Standing: verdict.Standing{Phase: verdict.Judged}, Paths: after(c, one), Settling: true,
		Policy:    verdict.Policy{Status: metav1.ConditionFalse, Reason: api.ReasonSidecarMissing, Message: "target.sidecar is Enabled, but there is none in shop-1 (1 of 3 endpoints)"},
		Delivered: verdict.Delivered(one), Certificate: ownCertificate(server, one, judgedAt), Handled: "2026-03-01T12:00:00Z",
		Change: &api.PolicyChange{
			Object: "PeerAuthentication shop/default", From: "PERMISSIVE, MutualTLS from the client", To: "STRICT, MutualTLS from the client",
			SeenTime: &seen, SettledAfter: &metav1.Duration{Duration: 140 * time.Millisecond}, ProbesSent: 12, ProbesLost: 2,
		},
	}, judgedAt, heartbeat)
}

// failedAsDeclared is a server without sidecar to which the client's sidecar is told to send mutual TLS.
func failedAsDeclared() api.HTTPSMeshProbeStatus {
	expectations := expectation.Declared(api.SidecarDisabled, api.MTLSUnset, api.ClientTLSIstioMutual).Expectations()
	return judgedAfter(twice(expectations), verdict.Policy{Status: metav1.ConditionTrue, Reason: api.ReasonNoSidecar, Message: "no sidecar stands before the server, so no PeerAuthentication applies to it"},
		run(sent(brokenOff, passedOn, toMutual), served, served))
}

func unjudged(phase verdict.Phase, reason, message string) api.HTTPSMeshProbeStatus {
	return verdict.Status(untouched, verdict.Judgement{
		Generation: 1, Standing: verdict.Standing{Phase: phase, Reason: reason, Message: message},
	}, judgedAt, heartbeat)
}

// suspended keeps what a verified probe showed of its paths.
func suspended() api.HTTPSMeshProbeStatus {
	return verdict.Status(strictAfter(run(through, turnedAway, turnedAway)), verdict.Judgement{
		Generation: 2, Standing: verdict.Standing{Phase: verdict.Suspended, Reason: api.ReasonSuspended, Message: "no requests are sent while spec.suspend is true"},
	}, judgedAt.Add(time.Hour), heartbeat)
}

func wantGolden(t *testing.T, name string, status api.HTTPSMeshProbeStatus) {
	t.Helper()
	probe := &api.HTTPSMeshProbe{
		TypeMeta:   metav1.TypeMeta{APIVersion: api.GroupVersion.String(), Kind: api.Kind},
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "strict"},
		Spec:       api.HTTPSMeshProbeSpec{Target: api.Target{Sidecar: api.SidecarEnabled}},
		Status:     status,
	}
	var got bytes.Buffer
	yaml := json.NewSerializerWithOptions(json.DefaultMetaFactory, nil, nil, json.SerializerOptions{Yaml: true})
	if err := yaml.Encode(probe, &got); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", name+".yaml")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s differs (go test ./internal/verdict -update writes it anew); it is now:\n%s", file, got.String())
	}
}
