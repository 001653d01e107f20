package metrics

import (
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/schedule"
)

const prefix = "httpsmeshprobe_"

// Interrupted is the class of requests whose run made room for another one before there was an answer.
const Interrupted = "Interrupted"

const labelNamespace, labelName, labelPath = "namespace", "name", "path"

var ofProbe = []string{labelNamespace, labelName}

// Metrics are all that the operator counts and measures. A probe's series are there from Keep to Forget, and what is told
// of any other probe is dropped: a run may end after its probe has gone.
type Metrics struct {
	requests     *prometheus.CounterVec
	hellos       *prometheus.CounterVec
	durations    *prometheus.HistogramVec
	runs         *prometheus.CounterVec
	lastRun      *prometheus.GaugeVec
	changes      *prometheus.CounterVec
	settling     *prometheus.HistogramVec
	sent, lost   *prometheus.CounterVec
	delays       prometheus.Histogram
	streamsOpen  prometheus.Counter
	streamsBroke *prometheus.CounterVec
	build        *prometheus.GaugeVec

	mu sync.RWMutex
	// probes are those whose series are kept, with what their statuses say.
	probes map[schedule.Key]verdicts
}

// New returns metrics without a single probe. version is the operator's.
func New(version string) *Metrics {
	m := &Metrics{probes: map[schedule.Key]verdicts{}}
	m.ofRequests()
	m.ofChanges()
	m.ofRunner()
	m.build = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + "build_info",
		Help: "1, labelled with the operator's version and the version of Go that it was built with."}, []string{"version", "goversion"})
	m.build.WithLabelValues(version, runtime.Version()).Set(1)
	return m
}

func (m *Metrics) ofRequests() {
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "requests_total",
		Help: "Requests, by path and by the class of how they ended, those included that could not be sent."},
		append(ofProbe, labelPath, "class"))
	m.hellos = prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "hellos_total",
		Help: "TLS hellos to single endpoints after which no request follows, by path, by their sort, and by the class of how they ended."},
		append(ofProbe, labelPath, "hello", "class"))
	m.durations = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + "request_duration_seconds",
		Help:    "How long requests took inside the agent, from resolving the name to the end of what was read, by path.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}},
		append(ofProbe, labelPath))
	m.runs = prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "runs_total",
		Help: "Runs that came to their end; a run sends a request along every path."}, ofProbe)
	m.lastRun = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + "last_run_timestamp_seconds",
		Help: "When the latest run began that came to its end, as Unix time."}, ofProbe)
}

func (m *Metrics) ofChanges() {
	m.changes = prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "policy_changes_total",
		Help: "Changes of what Istio computes for the target, by whether the paths have shown the new policy within 10 seconds."},
		append(ofProbe, "settled"))
	m.settling = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + "policy_settle_duration_seconds",
		Help:    "How long after a change of the policy the paths first showed the new one.",
		Buckets: []float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10}}, ofProbe)
	m.sent = prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "transition_requests_total",
		Help: "Requests on the path sleep between a change of the policy and the first run that showed the new one."}, ofProbe)
	m.lost = prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "transition_requests_lost_total",
		Help: "Those of them that got no answer, though the policies before and after both promise one."}, ofProbe)
}

func (m *Metrics) ofRunner() {
	m.delays = prometheus.NewHistogram(prometheus.HistogramOpts{Name: prefix + "runner_run_delay_seconds",
		Help:    "How long after their time runs begin.",
		Buckets: []float64{.001, .01, .1, .5, 1, 5, 15, 60}})
	m.streamsOpen = prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "exec_stream_openings_total",
		Help: "Exec streams to clients' containers that were opened and found an agent at the other end."})
	m.streamsBroke = prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "exec_stream_failures_total",
		Help: "Exec streams that could not be opened, or ended though they were wanted."}, []string{"reason"})
	for _, why := range agents.Breaks() {
		m.streamsBroke.WithLabelValues(string(why))
	}
}

func (m *Metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.requests, m.hellos, m.durations, m.runs, m.lastRun, m.changes, m.settling, m.sent, m.lost, m.delays, m.streamsOpen, m.streamsBroke, m.build,
	}
}

// partial is what all vectors with a probe's labels can do.
type partial interface {
	DeletePartialMatch(prometheus.Labels) int
}

func (m *Metrics) byProbe() []partial {
	return []partial{m.requests, m.hellos, m.durations, m.runs, m.lastRun, m.changes, m.settling, m.sent, m.lost}
}

// Register hands the metrics to a registry, with the runner's load, which is asked for with every scrape.
func (m *Metrics) Register(registry prometheus.Registerer, load func() schedule.Load) error {
	for _, collector := range append(m.collectors(), verdictCollector{m}, loadCollector{load}) {
		if err := registry.Register(collector); err != nil {
			return err
		}
	}
	return nil
}

// Keep begins a probe's series, where there are none yet. What happens seldom starts at 0: of a counter that comes into
// being with its first count, Prometheus never sees the increase.
func (m *Metrics) Keep(probe schedule.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.probes[probe]; ok {
		return
	}
	m.probes[probe] = verdicts{}
	for _, settled := range []string{"true", "false"} {
		m.changes.WithLabelValues(probe.Namespace, probe.Name, settled)
	}
	m.settling.WithLabelValues(probe.Namespace, probe.Name)
	for _, counter := range []*prometheus.CounterVec{m.runs, m.sent, m.lost} {
		counter.WithLabelValues(probe.Namespace, probe.Name)
	}
}

// Forget ends the series of a probe that is gone.
func (m *Metrics) Forget(probe schedule.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.probes, probe)
	for _, vector := range m.byProbe() {
		vector.DeletePartialMatch(prometheus.Labels{labelNamespace: probe.Namespace, labelName: probe.Name})
	}
}

// of calls count if the probe's series are kept.
func (m *Metrics) of(probe schedule.Key, count func()) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if _, ok := m.probes[probe]; ok {
		count()
	}
}

// Asked counts a request and, where the agent has told, how long it took. Hellos are counted apart, and not timed.
func (m *Metrics) Asked(asked schedule.Asked) {
	class := string(asked.Result.Seen.Class)
	switch {
	case asked.Interrupted:
		class = Interrupted
	case asked.Result.Failed != nil:
		class = string(asked.Result.Failed.Kind)
	}
	probe := asked.Probe
	m.of(probe, func() {
		if asked.Hello != observation.HelloHTTPS {
			m.hellos.WithLabelValues(probe.Namespace, probe.Name, asked.Path, string(asked.Hello), class).Inc()
			return
		}
		m.requests.WithLabelValues(probe.Namespace, probe.Name, asked.Path, class).Inc()
		if asked.Result.Failed == nil {
			m.durations.WithLabelValues(probe.Namespace, probe.Name, asked.Path).Observe(asked.Result.Seen.Finished.Seconds())
		}
	})
}

// Ran counts a run.
func (m *Metrics) Ran(probe schedule.Key, started time.Time) {
	m.of(probe, func() {
		m.runs.WithLabelValues(probe.Namespace, probe.Name).Inc()
		m.lastRun.WithLabelValues(probe.Namespace, probe.Name).Set(seconds(started))
	})
}

// Followed counts a change of the policy and what it cost.
func (m *Metrics) Followed(probe schedule.Key, change schedule.Change) {
	m.of(probe, func() {
		settled := "false"
		if change.Settled {
			settled = "true"
			m.settling.WithLabelValues(probe.Namespace, probe.Name).Observe(change.After.Seconds())
		}
		m.changes.WithLabelValues(probe.Namespace, probe.Name, settled).Inc()
		m.sent.WithLabelValues(probe.Namespace, probe.Name).Add(float64(change.Sent))
		m.lost.WithLabelValues(probe.Namespace, probe.Name).Add(float64(change.Lost))
	})
}

// Delayed counts how late a run began.
func (m *Metrics) Delayed(by time.Duration) { m.delays.Observe(by.Seconds()) }

// Opened counts an exec stream that was opened.
func (m *Metrics) Opened() { m.streamsOpen.Inc() }

// Broke counts an exec stream that ended though it was wanted.
func (m *Metrics) Broke(why agents.Break) { m.streamsBroke.WithLabelValues(string(why)).Inc() }

func seconds(moment time.Time) float64 { return float64(moment.UnixMilli()) / 1000 }
