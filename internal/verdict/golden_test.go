package verdict_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"

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
		"strict-verified":    strictAfter(run(served, turnedAway, turnedAway), run(served, turnedAway, turnedAway)),
		"strict-one-breach":  strictAfter(run(served, turnedAway, turnedAway), run(served, served, turnedAway)),
		"strict-refuted":     strictAfter(run(served, served, turnedAway), run(served, served, turnedAway)),
		"strict-nginx-down":  strictAfter(run(closed, turnedAway, turnedAway), run(closed, turnedAway, turnedAway)),
		"strict-overridden":  overriddenByOlder(),
		"permissive":         permissiveInherited(),
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

// judgedAt is when the stories' statuses are written.
var judgedAt = firstRun.Add(2 * time.Second)

func strictAfter(runs ...observation.Run) api.HTTPSMeshProbeStatus {
	own := meshpolicy.Effective{Mode: api.MTLSStrict, Scope: meshpolicy.ScopeWorkload,
		Decider: &meshpolicy.PeerAuthentication{Namespace: "shop", Name: "strict-nginx"}}
	return verdict.Status(untouched, verdict.Judgement{
		Generation: 1, Standing: verdict.Standing{Phase: verdict.Judged}, Paths: pathsAfter(runs...),
		Policy: verdict.PolicyInEffect(api.SidecarEnabled, api.MTLSStrict, own),
	}, judgedAt, heartbeat)
}

func overriddenByOlder() api.HTTPSMeshProbeStatus {
	legacy := meshpolicy.Effective{Mode: api.MTLSPermissive, Scope: meshpolicy.ScopeWorkload,
		Decider: &meshpolicy.PeerAuthentication{Namespace: "shop", Name: "legacy"}}
	through := run(served, served, served)
	return verdict.Status(untouched, verdict.Judgement{
		Generation: 1, Standing: verdict.Standing{Phase: verdict.Judged}, Paths: pathsAfter(through, through),
		Policy: verdict.PolicyInEffect(api.SidecarEnabled, api.MTLSStrict, legacy),
	}, judgedAt, heartbeat)
}

func permissiveInherited() api.HTTPSMeshProbeStatus {
	byDefault := meshpolicy.Effective{Mode: api.MTLSPermissive, Scope: meshpolicy.ScopeDefault}
	paths := verdict.Paths(verdict.Input{
		Expectations: expectation.For(api.SidecarEnabled, byDefault.Mode), Server: server,
		Runs: []observation.Run{run(served, served, served)}, FailureThreshold: 2,
	})
	return verdict.Status(untouched, verdict.Judgement{
		Generation: 1, Standing: verdict.Standing{Phase: verdict.Judged}, Paths: paths,
		Policy: verdict.PolicyInEffect(api.SidecarEnabled, api.MTLSUnset, byDefault),
	}, judgedAt, heartbeat)
}

func unjudged(phase verdict.Phase, reason, message string) api.HTTPSMeshProbeStatus {
	return verdict.Status(untouched, verdict.Judgement{
		Generation: 1, Standing: verdict.Standing{Phase: phase, Reason: reason, Message: message},
	}, judgedAt, heartbeat)
}

// suspended keeps what a verified probe showed of its paths.
func suspended() api.HTTPSMeshProbeStatus {
	return verdict.Status(strictAfter(run(served, turnedAway, turnedAway)), verdict.Judgement{
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
