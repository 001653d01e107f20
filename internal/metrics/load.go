package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshprobe/httpsmeshprobe/internal/schedule"
)

var (
	probesDesc = prometheus.NewDesc(prefix+"runner_probes",
		"Probes that the runner has a plan for; the others are suspended, stalled or not ready for their first run.", nil, nil)
	runningDesc = prometheus.NewDesc(prefix+"runner_runs_in_progress",
		"Runs under way.", nil, nil)
	awaitingDesc = prometheus.NewDesc(prefix+"runner_requests_in_flight",
		"Requests that were handed to an exec stream and have no answer yet.", nil, nil)
	wantedDesc = prometheus.NewDesc(prefix+"exec_streams_wanted",
		"Exec streams that there should be, one for each container from which requests start.", nil, nil)
	openDesc = prometheus.NewDesc(prefix+"exec_streams_open",
		"Exec streams that take requests.", nil, nil)
)

// loadCollector asks the runner with every scrape.
type loadCollector struct{ load func() schedule.Load }

// Describe implements prometheus.Collector.
func (loadCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{probesDesc, runningDesc, awaitingDesc, wantedDesc, openDesc} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector.
func (c loadCollector) Collect(series chan<- prometheus.Metric) {
	load := c.load()
	for desc, value := range map[*prometheus.Desc]int{
		probesDesc: load.Probes, runningDesc: load.Running, awaitingDesc: load.Awaiting,
		wantedDesc: load.StreamsWanted, openDesc: load.StreamsOpen,
	} {
		series <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value))
	}
}
