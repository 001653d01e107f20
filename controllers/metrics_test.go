package controllers_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/metrics"
)

// series is the value of a probe's series, and whether there is one: of the metric with these values among its labels.
func (o *operator) series(t *testing.T, metric, probe string, labels ...string) (float64, bool) {
	t.Helper()
	families, err := o.metrics.Gather()
	must(t, err)
	for _, family := range families {
		if family.GetName() != "httpsmeshprobe_"+metric {
			continue
		}
		for _, one := range family.GetMetric() {
			values := []string{}
			for _, label := range one.GetLabel() {
				values = append(values, label.GetValue())
			}
			wanted := append([]string{o.namespace, probe}, labels...)
			if hasAll(values, wanted) {
				return one.GetGauge().GetValue() + one.GetCounter().GetValue() + float64(one.GetHistogram().GetSampleCount()), true
			}
		}
	}
	return 0, false
}

func hasAll(values, wanted []string) bool {
	return !slices.ContainsFunc(wanted, func(value string) bool { return !slices.Contains(values, value) })
}

// seriesOf counts the series that name the probe.
func (o *operator) seriesOf(t *testing.T, probe string) int {
	t.Helper()
	families, err := o.metrics.Gather()
	must(t, err)
	count := 0
	for _, family := range families {
		for _, one := range family.GetMetric() {
			for _, label := range one.GetLabel() {
				if label.GetName() == "name" && label.GetValue() == probe {
					count++
				}
			}
		}
	}
	return count
}

func TestMetricsSayWhatTheStatusSays(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict")
	o.awaitVerified(t, "strict")
	o.awaitSeries(t, "strict", api.ConditionReady, metav1.ConditionTrue)
	for _, want := range []struct {
		metric string
		labels []string
	}{
		{"runs_total", nil},
		{"requests_total", []string{"sleep", "Answered"}},
		{"requests_total", []string{"istio-proxy", "ClientCertificateRequired"}},
		{"request_duration_seconds", []string{"outsider"}},
		{"condition_reason", []string{"IstioProxyVerified", "RefusedByMesh"}},
		{"condition_expected", []string{"IstioProxyVerified", "refused"}},
		{"last_run_timestamp_seconds", nil},
		{"last_verdict_timestamp_seconds", nil},
		{"certificate_expiration_timestamp_seconds", nil},
		{"interval_seconds", nil},
	} {
		if value, ok := o.series(t, want.metric, "strict", want.labels...); !ok || value <= 0 {
			t.Errorf("%s %v: got %v (there: %v)", want.metric, want.labels, value, ok)
		}
	}
	fingerprints, _ := o.cluster.servers(t.Context(), "strict")
	o.mesh.script("strict", api.PathOutsider, answered(fingerprints[0]))
	o.await(t, "strict", api.ConditionOutsiderVerified, metav1.ConditionFalse, api.ReasonMTLSNotEnforced)
	o.awaitSeries(t, "strict", api.ConditionOutsiderVerified, metav1.ConditionFalse)
}

// awaitSeries waits until the series of a condition say that it has the status and none of the others.
func (o *operator) awaitSeries(t *testing.T, probe, kind string, status metav1.ConditionStatus) {
	t.Helper()
	eventually(t, "the series of "+kind, func() error {
		for _, one := range []metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown} {
			value, ok := o.series(t, "condition", probe, kind, strings.ToLower(string(one)))
			if !ok || (value == 1) != (one == status) {
				return fmt.Errorf("the series of %s for %s is %v (there: %v), and the condition should be %s", kind, one, value, ok, status)
			}
		}
		return nil
	})
}

func TestMetricsOutliveTheOperatorAndASuspension(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict")
	o.awaitVerified(t, "strict")
	o.change(t, "strict", func(p *api.HTTPSMeshProbe) { p.Spec.Suspend = true })
	o.awaitSeries(t, "strict", api.ConditionReady, metav1.ConditionUnknown)
	o.stop()
	o.start(t)
	// Nothing is written now, because nothing has changed.
	o.awaitSeries(t, "strict", api.ConditionReady, metav1.ConditionUnknown)
	if _, due := o.series(t, "interval_seconds", "strict"); due {
		t.Error("runs are said to be due while the probe is suspended")
	}
	if _, ok := o.series(t, "condition_reason", "strict", api.ConditionReady, api.ReasonSuspended); !ok {
		t.Error("no series says that the probe is suspended")
	}
}

func TestDeletedProbeLeavesNoSeries(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict")
	o.create(t, "other")
	o.awaitVerified(t, "strict")
	o.awaitVerified(t, "other")
	if got := o.seriesOf(t, "strict"); got < len(metrics.Conditions())*3 {
		t.Fatalf("series of the probe: got %d, too few to show that they vanish", got)
	}
	must(t, o.admin.Delete(t.Context(), o.probe(t, "strict")))
	eventually(t, "the end of the probe's series", func() error {
		if got := o.seriesOf(t, "strict"); got != 0 {
			return fmt.Errorf("%d series are left", got)
		}
		return nil
	})
	runs, _ := o.series(t, "runs_total", "other")
	eventually(t, "a run of the other probe", func() error {
		if now, _ := o.series(t, "runs_total", "other"); now <= runs {
			return fmt.Errorf("the other probe has no run any more")
		}
		return nil
	})
	if got := o.seriesOf(t, "strict"); got != 0 {
		t.Errorf("a run later %d series are there again", got)
	}
}
