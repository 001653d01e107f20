package metrics

import (
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
	"github.com/meshprobe/httpsmeshprobe/internal/schedule"
)

// verdicts are what a probe's status says. A scrape sees all of one status, never half of it and half of the next.
type verdicts struct {
	conditions  []metav1.Condition
	expected    map[string]string
	lastVerdict time.Time
	notAfter    time.Time
	interval    time.Duration
}

// Conditions are the types of conditions that have series.
func Conditions() []string {
	return []string{
		api.ConditionReady, api.ConditionReconciling, api.ConditionStalled,
		api.ConditionSleepVerified, api.ConditionIstioProxyVerified, api.ConditionOutsiderVerified, api.ConditionPolicyInEffect,
	}
}

// Record takes down the status that stands for a probe from now on.
func (m *Metrics) Record(probe *api.HTTPSMeshProbe, status api.HTTPSMeshProbeStatus) {
	said := verdicts{expected: map[string]string{}}
	for _, kind := range Conditions() {
		if condition := meta.FindStatusCondition(status.Conditions, kind); condition != nil {
			said.conditions = append(said.conditions, *condition)
		} else if kind == api.ConditionReconciling || kind == api.ConditionStalled {
			// These two are left out while they are not True.
			said.conditions = append(said.conditions, metav1.Condition{Type: kind, Status: metav1.ConditionFalse})
		}
	}
	for _, path := range status.Paths {
		said.expected[paths.Condition(path.Name)] = expectation(path.Expected)
	}
	if status.LastProbeTime != nil {
		said.lastVerdict = status.LastProbeTime.Time
	}
	if status.Certificate != nil && status.Certificate.NotAfter != nil {
		said.notAfter = status.Certificate.NotAfter.Time
	}
	if !probe.Spec.Suspend && !meta.IsStatusConditionTrue(status.Conditions, api.ConditionStalled) {
		said.interval = probe.Spec.Interval.Duration
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := schedule.Key{Namespace: probe.Namespace, Name: probe.Name}
	if _, ok := m.probes[key]; ok {
		m.probes[key] = said
	}
}

// expectation keeps status codes out of labels.
func expectation(expected string) string {
	switch expected {
	case "refused", "denied", "no answer":
		return expected
	default:
		return "answer"
	}
}

var (
	conditionDesc = prometheus.NewDesc(prefix+"condition",
		"1 for the status that a condition of the probe has, 0 for the other two.", append(ofProbe, "condition", "status"), nil)
	reasonDesc = prometheus.NewDesc(prefix+"condition_reason",
		"1, labelled with the reason of a condition of the probe.", append(ofProbe, "condition", "reason"), nil)
	expectedDesc = prometheus.NewDesc(prefix+"condition_expected",
		"1, labelled with what is expected on the path that a condition judges: an answer, refused, denied, or no answer.", append(ofProbe, "condition", "expected"), nil)
	verdictDesc = prometheus.NewDesc(prefix+"last_verdict_timestamp_seconds",
		"When the run began that the status rests on, as Unix time; a status that stays the same is written once a heartbeat.", ofProbe, nil)
	certificateDesc = prometheus.NewDesc(prefix+"certificate_expiration_timestamp_seconds",
		"When the server's own certificate ends, as Unix time, as the probe has last seen it.", ofProbe, nil)
	intervalDesc = prometheus.NewDesc(prefix+"interval_seconds",
		"The time between two runs; absent while none are due because the probe is suspended or stalled.", ofProbe, nil)
)

type verdictCollector struct{ metrics *Metrics }

// Describe implements prometheus.Collector.
func (verdictCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{conditionDesc, reasonDesc, expectedDesc, verdictDesc, certificateDesc, intervalDesc} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector. It holds up nobody who counts: what it hands out is a copy.
func (c verdictCollector) Collect(series chan<- prometheus.Metric) {
	c.metrics.mu.RLock()
	probes := maps.Clone(c.metrics.probes)
	c.metrics.mu.RUnlock()
	for key, said := range probes {
		said.collect(key, series)
	}
}

func (v verdicts) collect(key schedule.Key, series chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		series <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append([]string{key.Namespace, key.Name}, labels...)...)
	}
	for _, condition := range v.conditions {
		for label, status := range map[string]metav1.ConditionStatus{"true": metav1.ConditionTrue, "false": metav1.ConditionFalse, "unknown": metav1.ConditionUnknown} {
			value := 0.0
			if condition.Status == status {
				value = 1
			}
			gauge(conditionDesc, value, condition.Type, label)
		}
		if condition.Reason != "" {
			gauge(reasonDesc, 1, condition.Type, condition.Reason)
		}
	}
	for condition, expected := range v.expected {
		gauge(expectedDesc, 1, condition, expected)
	}
	for desc, moment := range map[*prometheus.Desc]time.Time{verdictDesc: v.lastVerdict, certificateDesc: v.notAfter} {
		if !moment.IsZero() {
			gauge(desc, seconds(moment))
		}
	}
	if v.interval > 0 {
		gauge(intervalDesc, v.interval.Seconds())
	}
}
