package metrics

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/schedule"
)

var (
	strict = schedule.Key{Namespace: "shop", Name: "strict"}
	other  = schedule.Key{Namespace: "shop", Name: "other"}
	moment = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
)

// registered are metrics in a registry of their own.
func registered(t *testing.T) (*Metrics, *prometheus.Registry) {
	t.Helper()
	m, registry := New("v1.2.3"), prometheus.NewPedanticRegistry()
	if err := m.Register(registry, func() schedule.Load {
		return schedule.Load{Probes: 2, Load: agents.Load{StreamsWanted: 3, StreamsOpen: 1}}
	}); err != nil {
		t.Fatal(err)
	}
	return m, registry
}

// everything happens to a probe once.
func everything(m *Metrics, key schedule.Key) {
	m.Keep(key)
	m.Asked(schedule.Asked{Probe: key, Path: "sleep", Result: observation.Result{Seen: observation.Observation{Class: observation.Answered, Finished: 3 * time.Millisecond}}})
	m.Asked(schedule.Asked{Probe: key, Path: "outsider", Result: observation.Result{Failed: &observation.Failure{Kind: observation.NoVantage}}})
	m.Asked(schedule.Asked{Probe: key, Path: "outsider", Result: observation.Result{Failed: &observation.Failure{Kind: observation.AgentSilent}}, Interrupted: true})
	m.Asked(schedule.Asked{Probe: key, Path: "istio-proxy", Hello: observation.HelloForged, Result: observation.Result{Seen: observation.Observation{Class: observation.Alerted, Finished: time.Hour}}})
	m.Ran(key, moment)
	m.Followed(key, schedule.Change{Settled: true, After: 200 * time.Millisecond, Sent: 9, Lost: 2})
	m.Followed(key, schedule.Change{Sent: 40})
	m.Record(probeOf(key), judged())
}

func probeOf(key schedule.Key) *api.HTTPSMeshProbe {
	probe := &api.HTTPSMeshProbe{}
	probe.Namespace, probe.Name = key.Namespace, key.Name
	probe.Spec.Interval.Duration = time.Minute
	return probe
}

func judged() api.HTTPSMeshProbeStatus {
	at, ends := metav1.NewTime(moment), metav1.NewTime(moment.Add(24*time.Hour))
	return api.HTTPSMeshProbeStatus{
		LastProbeTime: &at, Certificate: &api.CertificateStatus{NotAfter: &ends},
		Paths: []api.PathStatus{{Name: api.PathSleep, Expected: "200"}, {Name: api.PathIstioProxy, Expected: "refused"}, {Name: api.PathOutsider, Expected: "no answer"}},
		Conditions: []metav1.Condition{
			{Type: api.ConditionReady, Status: metav1.ConditionFalse, Reason: api.ReasonRefuted},
			{Type: api.ConditionSleepVerified, Status: metav1.ConditionTrue, Reason: api.ReasonAnswered},
			{Type: api.ConditionIstioProxyVerified, Status: metav1.ConditionFalse, Reason: api.ReasonMTLSNotEnforced},
			{Type: api.ConditionOutsiderVerified, Status: metav1.ConditionUnknown, Reason: api.ReasonInconclusive},
			{Type: api.ConditionPolicyInEffect, Status: metav1.ConditionTrue, Reason: api.ReasonInEffect},
		},
	}
}

// series are all series of a registry but build_info, as text, with their values; of histograms the number of observations.
func series(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	found := map[string]float64{}
	for _, family := range families(t, registry) {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetValue())
			}
			value := metric.GetGauge().GetValue() + metric.GetCounter().GetValue() + float64(metric.GetHistogram().GetSampleCount())
			found[strings.TrimPrefix(family.GetName(), prefix)+" "+strings.Join(labels, " ")] = value
		}
	}
	return found
}

func families(t *testing.T, registry *prometheus.Registry) []*dto.MetricFamily {
	t.Helper()
	gathered, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return gathered
}

// Labels are in the order of their names: class|condition, name, namespace, and what comes after.
func TestWhatHappensIsCounted(t *testing.T) {
	m, registry := registered(t)
	everything(m, strict)
	m.Opened()
	m.Broke(agents.BreakSilent)
	m.Delayed(time.Second)
	got := series(t, registry)
	for name, want := range map[string]float64{
		"requests_total Answered strict shop sleep":                       1,
		"requests_total NoVantage strict shop outsider":                   1,
		"requests_total Interrupted strict shop outsider":                 1,
		"hellos_total Alerted Forged strict shop istio-proxy":             1,
		"request_duration_seconds strict shop sleep":                      1,
		"runs_total strict shop":                                          1,
		"last_run_timestamp_seconds strict shop":                          float64(moment.Unix()),
		"policy_changes_total strict shop true":                           1,
		"policy_changes_total strict shop false":                          1,
		"policy_settle_duration_seconds strict shop":                      1,
		"transition_requests_total strict shop":                           49,
		"transition_requests_lost_total strict shop":                      2,
		"condition Ready strict shop false":                               1,
		"condition Ready strict shop true":                                0,
		"condition Ready strict shop unknown":                             0,
		"condition SleepVerified strict shop true":                        1,
		"condition OutsiderVerified strict shop unknown":                  1,
		"condition Stalled strict shop false":                             1,
		"condition_reason IstioProxyVerified strict shop MTLSNotEnforced": 1,
		"condition_expected SleepVerified answer strict shop":             1,
		"condition_expected IstioProxyVerified refused strict shop":       1,
		"condition_expected OutsiderVerified no answer strict shop":       1,
		"last_verdict_timestamp_seconds strict shop":                      float64(moment.Unix()),
		"certificate_expiration_timestamp_seconds strict shop":            float64(moment.Unix() + 86400),
		"interval_seconds strict shop":                                    60,
		"runner_probes ":                                                  2,
		"exec_streams_wanted ":                                            3,
		"exec_streams_open ":                                              1,
		"exec_stream_openings_total ":                                     1,
		"exec_stream_failures_total Silent":                               1,
		"exec_stream_failures_total Forbidden":                            0,
		"runner_run_delay_seconds ":                                       1,
	} {
		if value, ok := got[name]; !ok || value != want {
			t.Errorf("%s: got %v (there: %v), want %v", name, value, ok, want)
		}
	}
	if _, ok := got["request_duration_seconds strict shop outsider"]; ok {
		t.Error("a request of which nothing was seen has a duration")
	}
}

// What has happened but seldom starts at 0, so that Prometheus sees the first time.
func TestRareCountersStartAtZero(t *testing.T) {
	m, registry := registered(t)
	m.Keep(strict)
	got := series(t, registry)
	for _, name := range []string{"policy_changes_total strict shop true", "policy_changes_total strict shop false", "policy_settle_duration_seconds strict shop",
		"runs_total strict shop", "transition_requests_total strict shop", "transition_requests_lost_total strict shop"} {
		if value, ok := got[name]; !ok || value != 0 {
			t.Errorf("%s: got %v (there: %v), want 0", name, value, ok)
		}
	}
}

func TestForgottenProbeLeavesNothing(t *testing.T) {
	m, registry := registered(t)
	everything(m, other)
	before := series(t, registry)
	everything(m, strict)
	if len(series(t, registry)) < len(before)+30 {
		t.Fatal("the probe has hardly any series, so the test shows nothing")
	}
	m.Forget(strict)
	// What a run that was under way still tells.
	m.Asked(schedule.Asked{Probe: strict, Path: "sleep", Result: observation.Result{}})
	m.Ran(strict, moment)
	m.Followed(strict, schedule.Change{Settled: true})
	m.Record(probeOf(strict), judged())
	after := series(t, registry)
	if !maps.Equal(before, after) {
		t.Errorf("series before the probe came and after it went: %d and %d; left: %v", len(before), len(after), left(before, after))
	}
}

func left(before, after map[string]float64) (names []string) {
	for name := range after {
		if _, ok := before[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

func TestNextStatusTakesThePlaceOfTheLast(t *testing.T) {
	m, registry := registered(t)
	everything(m, strict)
	next := judged()
	next.Conditions[2] = metav1.Condition{Type: api.ConditionIstioProxyVerified, Status: metav1.ConditionTrue, Reason: api.ReasonRefusedByMesh}
	next.Certificate = nil
	m.Record(probeOf(strict), next)
	got := series(t, registry)
	for name, want := range map[string]bool{
		"condition_reason IstioProxyVerified strict shop MTLSNotEnforced": false,
		"condition_reason IstioProxyVerified strict shop RefusedByMesh":   true,
		"certificate_expiration_timestamp_seconds strict shop":            false,
	} {
		if _, ok := got[name]; ok != want {
			t.Errorf("%s: there: %v, want %v", name, ok, want)
		}
	}
	if got["condition IstioProxyVerified strict shop true"] != 1 || got["condition IstioProxyVerified strict shop false"] != 0 {
		t.Error("the condition's series do not say True alone")
	}
}

func TestNoRunsAreDueWhileSuspendedOrStalled(t *testing.T) {
	for name, edit := range map[string]func(*api.HTTPSMeshProbe, *api.HTTPSMeshProbeStatus){
		"suspended": func(probe *api.HTTPSMeshProbe, _ *api.HTTPSMeshProbeStatus) { probe.Spec.Suspend = true },
		"stalled": func(_ *api.HTTPSMeshProbe, status *api.HTTPSMeshProbeStatus) {
			status.Conditions = append(status.Conditions, metav1.Condition{Type: api.ConditionStalled, Status: metav1.ConditionTrue, Reason: api.ReasonNameTaken})
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, registry := registered(t)
			everything(m, strict)
			probe, status := probeOf(strict), judged()
			edit(probe, &status)
			m.Record(probe, status)
			if got := series(t, registry); got["interval_seconds strict shop"] != 0 || got["last_run_timestamp_seconds strict shop"] == 0 {
				t.Error("there is an interval, or the latest run is forgotten")
			}
		})
	}
}

func TestNamesFollowTheConventions(t *testing.T) {
	m, registry := registered(t)
	everything(m, strict)
	problems, err := promlint.NewWithMetricFamilies(families(t, registry)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

// row is a line of the tables in docs/metrics.md: name, type, labels.
var row = regexp.MustCompile("(?m)^\\| `(httpsmeshprobe_[a-z_]+)` \\| ([a-z]+) \\|([^|]*)\\|")

func TestDocumentationListsWhatIsRegistered(t *testing.T) {
	content, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, match := range row.FindAllStringSubmatch(string(content), -1) {
		documented[match[1]] = match[2] + " " + strings.TrimSpace(strings.NewReplacer("`", "", ",", "").Replace(match[3]))
	}
	m, registry := registered(t)
	everything(m, strict)
	inUse := map[string]string{}
	for _, family := range families(t, registry) {
		var labels []string
		for _, label := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, label.GetName())
		}
		inUse[family.GetName()] = strings.ToLower(family.GetType().String()) + " " + strings.Join(inOrder(labels), " ")
	}
	for name := range inUse {
		if inUse[name] != documented[name] {
			t.Errorf("%s is %q, and docs/metrics.md says %q", name, inUse[name], documented[name])
		}
	}
	for name := range documented {
		if _, ok := inUse[name]; !ok {
			t.Errorf("docs/metrics.md has %s, which is not registered", name)
		}
	}
}

// inOrder puts the probe's labels first, as the documentation does.
func inOrder(labels []string) []string {
	rest := slices.DeleteFunc(slices.Clone(labels), func(label string) bool { return slices.Contains(ofProbe, label) })
	if len(rest) == len(labels) {
		return labels
	}
	return append(slices.Clone(ofProbe), rest...)
}

// A run must not notice that it is counted.
func BenchmarkAsked(b *testing.B) {
	m := New("dev")
	for i := range 50 {
		everything(m, schedule.Key{Namespace: "shop", Name: fmt.Sprint(i)})
	}
	result := observation.Result{Seen: observation.Observation{Class: observation.Answered, Finished: time.Millisecond}}
	key := schedule.Key{Namespace: "shop", Name: "7"}
	for b.Loop() {
		m.Asked(schedule.Asked{Probe: key, Path: "sleep", Result: result})
	}
}
