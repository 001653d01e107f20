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
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The golden files show what a person sees with kubectl get -o yaml, story by story.
func TestGoldenStatuses(t *testing.T) {
	for name, status := range map[string]api.HTTPSMeshProbeStatus{
		"strict-verified":    strictAfter(run(through, turnedAway, turnedAway), run(through, turnedAway, turnedAway)),
		"strict-one-breach":  strictAfter(run(through, turnedAway, turnedAway), run(through, served, turnedAway)),
		"strict-refuted":     strictAfter(run(through, served, turnedAway), run(through, served, turnedAway)),
		"strict-nginx-down":  strictAfter(run(closed, turnedAway, turnedAway), run(closed, turnedAway, turnedAway)),
		"strict-overridden":  overriddenByOlder(),
		"permissive":         permissiveInherited(),
		"plaintext-in-mesh":  strictAfter(run(counting(served, passedOn), turnedAway, turnedAway), run(counting(served, passedOn), turnedAway, turnedAway)),
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

// through is what the path through the mesh sees while all is well, with the counters of the client's Envoy.
var through = counting(served, wrapped)

// judgedAt is when the stories' statuses are written.
var judgedAt = firstRun.Add(2 * time.Second)

func strictAfter(runs ...observation.Run) api.HTTPSMeshProbeStatus {
	return verdict.Status(untouched, verdict.Judgement{
		Generation: 1, Standing: verdict.Standing{Phase: verdict.Judged}, Paths: pathsAfter(runs...), Policy: inEffectFor(api.MTLSStrict, ownPolicy),
	}, judgedAt, heartbeat)
}

// The policies that decide in the stories.
var (
	ownPolicy = meshpolicy.Server{Mode: api.MTLSStrict, Scope: meshpolicy.ScopeWorkload, Capture: meshpolicy.Captured,
		Decider: &meshpolicy.PeerAuthentication{Namespace: "shop", Name: "strict-nginx", Selector: map[string]string{"app": "strict"}}}
	legacyPolicy = meshpolicy.Server{Mode: api.MTLSPermissive, Scope: meshpolicy.ScopeWorkload, Capture: meshpolicy.Captured,
		Decider:    &meshpolicy.PeerAuthentication{Namespace: "shop", Name: "legacy", Selector: map[string]string{"app": "strict"}, Created: firstRun.Add(-time.Hour)},
		Overridden: []meshpolicy.PeerAuthentication{{Namespace: "shop", Name: "strict-nginx", Selector: map[string]string{"app": "strict"}, Mode: api.MTLSStrict, Created: firstRun}}}
	defaultPolicy = meshpolicy.Server{Mode: api.MTLSPermissive, Scope: meshpolicy.ScopeDefault, Capture: meshpolicy.Captured}
)

// inEffectFor is the verdict on a declared mode of a server with sidecar and one endpoint.
func inEffectFor(declared api.MTLSMode, server meshpolicy.Server) verdict.Policy {
	return verdict.PolicyInEffect(api.Target{Sidecar: api.SidecarEnabled}, api.MTLS{Mode: declared}, []verdict.EndpointPolicy{{
		Name: "strict-nginx-0", Server: server, Client: meshpolicy.ClientPolicy{Sends: meshpolicy.MutualTLS, Why: "auto mTLS finds it ready"},
	}})
}

func overriddenByOlder() api.HTTPSMeshProbeStatus {
	plain := run(through, served, served)
	paths := verdict.Paths(verdict.Input{
		Expectations: strict, Server: server, Runs: []observation.Run{plain, plain}, FailureThreshold: 2,
		Explanations: map[api.PathName]string{api.PathIstioProxy: legacyPolicy.String(), api.PathOutsider: legacyPolicy.String()},
	})
	return verdict.Status(untouched, verdict.Judgement{
		Generation: 1, Standing: verdict.Standing{Phase: verdict.Judged}, Paths: paths, Policy: inEffectFor(api.MTLSStrict, legacyPolicy),
	}, judgedAt, heartbeat)
}

func permissiveInherited() api.HTTPSMeshProbeStatus {
	return verdict.Status(untouched, verdict.Judgement{
		Generation: 1, Standing: verdict.Standing{Phase: verdict.Judged}, Policy: inEffectFor(api.MTLSUnset, defaultPolicy),
		Paths: verdict.Paths(verdict.Input{Expectations: permissive, Server: server, Runs: []observation.Run{run(through, served, served)}, FailureThreshold: 2}),
	}, judgedAt, heartbeat)
}

// everythingThatAStatusMayHold is a Service of three endpoints, of which one has no sidecar, a moment after somebody
// changed the policy.
func everythingThatAStatusMayHold() api.HTTPSMeshProbeStatus {
	expectations := promised(api.MTLSStrict, api.ClientTLSUnset)
	expectations.Override([]api.PathExpectation{{Path: api.PathSleep, See: intstr.Parse("401"), Reason: "the service wants a token"}})
	withEndpoints := turnedAway
	control := counting(answered(401, nginxLeaf), wrapped)
	for i, result := range []observation.Result{turnedAway, served, turnedAway} {
		name := fmt.Sprintf("shop-%d", i)
		withEndpoints.Endpoints = append(withEndpoints.Endpoints, observation.EndpointResult{
			Endpoint: observation.Endpoint{ID: name, Name: name, Address: fmt.Sprintf("10.0.0.%d:8443", i+1)}, Asked: firstRun, Result: result, Control: control,
		})
	}
	one := run(control, withEndpoints, turnedAway)
	in := verdict.Input{
		Expectations: expectations, Server: server, Runs: []observation.Run{one, one}, FailureThreshold: 2,
		Explanations: map[api.PathName]string{api.PathIstioProxy: "no PeerAuthentication sets a mode, so Istio's default holds: PERMISSIVE, but the pod has no sidecar to enforce it"},
	}
	seen := metav1.NewTime(firstRun.Add(-10 * time.Second))
	return verdict.Status(untouched, verdict.Judgement{
		Generation: 1, Standing: verdict.Standing{Phase: verdict.Judged}, Paths: verdict.Paths(in), Settling: true,
		Policy:      verdict.Policy{Status: metav1.ConditionFalse, Reason: api.ReasonSidecarMissing, Message: "target.sidecar is Enabled, but there is none in shop-1 (1 of 3 endpoints)"},
		Certificate: verdict.OwnCertificate(server, one, judgedAt), Handled: "2026-03-01T12:00:00Z",
		Change: &api.PolicyChange{
			Object: "PeerAuthentication shop/default", From: "PERMISSIVE, MutualTLS from the client", To: "STRICT, MutualTLS from the client",
			SeenTime: &seen, SettledAfter: &metav1.Duration{Duration: 140 * time.Millisecond}, ProbesSent: 12, ProbesLost: 2,
		},
	}, judgedAt, heartbeat)
}

// failedAsDeclared is a server without sidecar to which the client's sidecar is told to send mutual TLS.
func failedAsDeclared() api.HTTPSMeshProbeStatus {
	expectations := expectation.Declared(api.SidecarDisabled, api.MTLSUnset, api.ClientTLSIstioMutual).Expectations()
	sleep := counting(brokenOff, passedOn)
	return verdict.Status(untouched, verdict.Judgement{
		Generation: 1, Standing: verdict.Standing{Phase: verdict.Judged},
		Paths: verdict.Paths(verdict.Input{Expectations: expectations, Server: server, Runs: []observation.Run{run(sleep, served, served)}, FailureThreshold: 2}),
		Policy: verdict.PolicyInEffect(api.Target{Sidecar: api.SidecarDisabled}, api.MTLS{ClientMode: api.ClientTLSIstioMutual}, []verdict.EndpointPolicy{{
			Name: "strict-nginx-0", Server: meshpolicy.Server{Mode: api.MTLSPermissive, Capture: meshpolicy.NoSidecar}, Client: meshpolicy.ClientPolicy{Sends: meshpolicy.MutualTLS},
		}}),
	}, judgedAt, heartbeat)
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
