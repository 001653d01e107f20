package gitops

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/argoproj/gitops-engine/pkg/health"
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// state is a probe as an API server once handed it out, and what the two judges are to make of it.
type state struct {
	file string
	argo health.HealthStatusCode
	flux status.Status
	// words is the condition whose message Argo CD shows; "" where it has words of its own, in which says is found.
	words string
	says  string
}

// states has one entry for each file in testdata.
var states = []state{
	{file: "created", argo: health.HealthStatusProgressing, flux: status.InProgressStatus, says: "not looked at the probe yet"},
	{file: "starting", argo: health.HealthStatusProgressing, flux: status.InProgressStatus, words: "Reconciling"},
	{file: "first-run", argo: health.HealthStatusProgressing, flux: status.InProgressStatus, words: "Reconciling"},
	{file: "verified", argo: health.HealthStatusHealthy, flux: status.CurrentStatus, words: "Ready"},
	{file: "verified-inherited", argo: health.HealthStatusHealthy, flux: status.CurrentStatus, words: "Ready"},
	{file: "following-while-verified", argo: health.HealthStatusProgressing, flux: status.InProgressStatus, words: "Reconciling"},
	{file: "following-while-refuted", argo: health.HealthStatusProgressing, flux: status.InProgressStatus, words: "Reconciling"},
	{file: "refuted", argo: health.HealthStatusDegraded, flux: status.InProgressStatus, words: "Ready"},
	{file: "refuted-server-down", argo: health.HealthStatusDegraded, flux: status.InProgressStatus, words: "Ready"},
	{file: "undetermined", argo: health.HealthStatusProgressing, flux: status.InProgressStatus, words: "Ready"},
	{file: "no-endpoints", argo: health.HealthStatusProgressing, flux: status.InProgressStatus, words: "Ready"},
	{file: "pods-failing", argo: health.HealthStatusProgressing, flux: status.InProgressStatus, words: "Ready"},
	{file: "pods-not-created", argo: health.HealthStatusDegraded, flux: status.InProgressStatus, words: "Ready"},
	{file: "name-taken", argo: health.HealthStatusDegraded, flux: status.FailedStatus, words: "Stalled"},
	{file: "service-not-found", argo: health.HealthStatusDegraded, flux: status.FailedStatus, words: "Stalled"},
	{file: "run-asked-while-verified", argo: health.HealthStatusProgressing, flux: status.CurrentStatus, says: "requestedAt: revision-2 has not ended yet"},
	{file: "run-asked-while-refuted", argo: health.HealthStatusProgressing, flux: status.InProgressStatus, says: "requestedAt: revision-2 has not ended yet"},
	{file: "suspension-asked", argo: health.HealthStatusSuspended, flux: status.InProgressStatus, says: "spec.suspend is true"},
	{file: "suspended", argo: health.HealthStatusSuspended, flux: status.InProgressStatus, says: "spec.suspend is true"},
	{file: "resumption-asked", argo: health.HealthStatusProgressing, flux: status.InProgressStatus, says: "latest change of the spec"},
	{file: "resumed", argo: health.HealthStatusProgressing, flux: status.InProgressStatus, words: "Reconciling"},
	{file: "deleted", argo: health.HealthStatusProgressing, flux: status.TerminatingStatus, says: "Pending deletion"},
}

func TestEveryStateIsJudgedAsPromised(t *testing.T) {
	overrides := argoOverrides(t)
	for _, state := range states {
		t.Run(state.file, func(t *testing.T) {
			probe := readProbe(t, state.file)
			assessed, err := health.GetResourceHealth(probe, overrides)
			if err != nil {
				t.Fatal(err)
			}
			says := state.says
			if state.words != "" {
				says = conditionMessage(t, probe, state.words)
			}
			if assessed.Status != state.argo || !strings.Contains(assessed.Message, says) {
				t.Errorf("Argo CD: %s %q, want %s with %q", assessed.Status, assessed.Message, state.argo, says)
			}
			computed, err := status.Compute(probe)
			if err != nil {
				t.Fatal(err)
			}
			if computed.Status != state.flux {
				t.Errorf("kstatus: %s (%s), want %s", computed.Status, computed.Message, state.flux)
			}
		})
	}
}

func TestEveryFileIsJudged(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in testdata: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		if !slices.ContainsFunc(states, func(s state) bool { return s.file == name }) {
			t.Errorf("nobody says what is to be made of %s", file)
		}
	}
}

// Both judges let a rollout go on only at one of their verdicts. Whoever does, the probe must be verified.
func TestOnlyAVerifiedProbeLetsARolloutGoOn(t *testing.T) {
	for _, state := range states {
		goesOn := state.argo == health.HealthStatusHealthy || state.flux == status.CurrentStatus
		if goesOn && conditionOf(t, readProbe(t, state.file), "Ready")["reason"] != "Verified" {
			t.Errorf("%s lets a rollout go on, and is not verified", state.file)
		}
	}
}

func readProbe(t *testing.T, name string) *unstructured.Unstructured {
	t.Helper()
	return readObject(t, filepath.Join("testdata", name+".yaml"))
}

// readObject reads numbers as int64, as a live object's are: kstatus and the scripts see what they see in a cluster.
func readObject(t *testing.T, path string) *unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	object, err := parseObject(text)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return object
}

func parseObject(text []byte) (*unstructured.Unstructured, error) {
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, err
	}
	object := &unstructured.Unstructured{}
	return object, object.UnmarshalJSON(asJSON)
}

func conditionMessage(t *testing.T, probe *unstructured.Unstructured, kind string) string {
	t.Helper()
	message, _ := conditionOf(t, probe, kind)["message"].(string)
	if message == "" {
		t.Fatalf("%s has no condition %s with a message", probe.GetName(), kind)
	}
	return message
}

func conditionOf(t *testing.T, probe *unstructured.Unstructured, kind string) map[string]any {
	t.Helper()
	conditions, _, err := unstructured.NestedSlice(probe.Object, "status", "conditions")
	if err != nil {
		t.Fatal(err)
	}
	for _, condition := range conditions {
		if condition := condition.(map[string]any); condition["type"] == kind {
			return condition
		}
	}
	return nil
}
