package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/controllers"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/metrics"
	"github.com/meshprobe/httpsmeshprobe/internal/schedule"
)

// operator is the operator at work in one namespace: the real manager, reconciler and runner, as main.go wires them, with
// the rights of its service account. The cluster around it is played.
type operator struct {
	server    *apiServer
	admin     client.WithWatch
	namespace string
	// root is istiod's namespace and, unless the mesh config there names another, the root namespace.
	root      string
	heartbeat time.Duration
	// others are further namespaces of the test's. everywhere lets the operator watch the whole cluster, as it does in
	// earnest; otherwise tests can run side by side.
	others         []string
	everywhere     bool
	crossNamespace bool
	// alone lets the operator serve the test's namespace alone, as --watch-namespace does; istioUnreadable is what it then
	// lacks in istiod's.
	alone           bool
	istioUnreadable string

	cluster *cluster
	mesh    *mesh
	metrics *prometheus.Registry
	clock   *clock
	calls   *calls
	stop    func()
}

// startOperator gives a test a namespace of its own with an operator in it.
func startOperator(t *testing.T, edit ...func(*operator)) *operator {
	t.Helper()
	return startOperatorAt(t, theAPIServer(t), edit...)
}

func startOperatorAt(t *testing.T, server *apiServer, edit ...func(*operator)) *operator {
	t.Helper()
	o := &operator{
		server: server, admin: server.admin, heartbeat: time.Second,
		clock: &clock{}, calls: &calls{},
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "probes-"}}
	must(t, o.admin.Create(t.Context(), namespace))
	o.namespace, o.root = namespace.Name, namespace.Name+"-root"
	root := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: o.root}}
	must(t, o.admin.Create(t.Context(), root))
	for _, one := range edit {
		one(o)
	}
	o.cluster = playCluster(t, o.admin, append([]string{o.namespace, o.root}, o.others...)...)
	o.mesh = newMesh(o.cluster, o.root)
	o.start(t)
	return o
}

// start starts the manager; it is stopped with the test at the latest.
func (o *operator) start(t *testing.T) {
	t.Helper()
	manager, err := o.newManager()
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- manager.Start(ctx) }()
	o.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the manager ended: %v", err)
		}
		if got := o.mesh.openStreams(); got != 0 {
			t.Errorf("open exec streams after the manager's end: got %d, want 0", got)
		}
	})
	t.Cleanup(o.stop)
}

func (o *operator) newManager() (ctrl.Manager, error) {
	settings := controllers.Settings{
		Images:        fixture.Images{Server: "nginx:test", Sleep: "curl:test", Agent: "httpsmeshprobe:test"},
		ClusterDomain: "cluster.local", IstioNamespace: o.root, AllowCrossNamespace: o.crossNamespace, Heartbeat: o.heartbeat,
	}
	if o.alone {
		settings.WatchNamespace, settings.IstioUnreadable = o.namespace, o.istioUnreadable
	}
	user := rest.CopyConfig(o.server.operator)
	user.Wrap(o.calls.through)
	skipNameValidation := true
	options := ctrl.Options{
		Scheme: o.server.scheme, Cache: controllers.CacheOptions(settings.Place()), Logger: logged.logger(),
		Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		Controller: config.Controller{SkipNameValidation: &skipNameValidation},
	}
	if !o.everywhere && !o.alone {
		o.narrow(&options.Cache)
	}
	manager, err := ctrl.NewManager(user, options)
	if err != nil {
		return nil, err
	}
	wakeups := make(controllers.Wakeups)
	counts := metrics.New("test")
	runs := schedule.New(logged.logger().WithName("runner"), o.mesh, settings.Heartbeat, wakeups.Wake, counts)
	o.metrics = prometheus.NewRegistry()
	if err := counts.Register(o.metrics, runs.Load); err != nil {
		return nil, err
	}
	if err := manager.Add(runs); err != nil {
		return nil, err
	}
	return manager, (&controllers.Reconciler{
		Client: manager.GetClient(), Live: manager.GetAPIReader(), Runner: runs,
		Recorder: manager.GetEventRecorder("httpsmeshprobe"), Metrics: counts, Settings: settings, Now: o.clock.now,
	}).SetupWithManager(manager, wakeups)
}

// narrow keeps a cache to the test's own namespaces.
func (o *operator) narrow(options *cache.Options) {
	options.DefaultNamespaces = map[string]cache.Config{}
	for _, namespace := range append([]string{o.namespace, o.root}, o.others...) {
		options.DefaultNamespaces[namespace] = cache.Config{}
	}
	for object, of := range options.ByObject {
		everywhere, ok := of.Namespaces[cache.AllNamespaces]
		if !ok {
			continue
		}
		delete(of.Namespaces, cache.AllNamespaces)
		for namespace := range options.DefaultNamespaces {
			if _, own := of.Namespaces[namespace]; !own {
				of.Namespaces[namespace] = everywhere
			}
		}
		options.ByObject[object] = of
	}
}

// clock is the reconciler's, which can be put forward.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// calls counts what the operator writes, and can make a call fail.
type calls struct {
	mu     sync.Mutex
	writes []string
	fail   func(*http.Request) bool
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (c *calls) through(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		c.mu.Lock()
		if r.Method != http.MethodGet {
			c.writes = append(c.writes, r.Method+" "+r.URL.Path)
		}
		fails := c.fail != nil && c.fail(r)
		c.mu.Unlock()
		if fails {
			return nil, errors.New("the test lets this call fail")
		}
		return next.RoundTrip(r)
	})
}

func (c *calls) failing(fail func(*http.Request) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = fail
}

// written are the writes so far, without those of events.
func (c *calls) written() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.writes), func(call string) bool { return strings.HasSuffix(call, "/events") })
}

// logged keeps every log line of the operator and of the libraries under it.
var logged logBook

type logBook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logBook) logger() logr.Logger {
	return funcr.New(func(prefix, args string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, prefix+" "+args)
	}, funcr.Options{Verbosity: 4})
}

func (l *logBook) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// strict is a probe as the sample mtls-strict, with the shortest interval.
func strict(p *api.HTTPSMeshProbe) {
	p.Spec.Target.Sidecar, p.Spec.MTLS.Mode = api.SidecarEnabled, api.MTLSStrict
}

// create creates a probe, strict where edit says nothing else.
func (o *operator) create(t *testing.T, name string, edit ...func(*api.HTTPSMeshProbe)) *api.HTTPSMeshProbe {
	t.Helper()
	probe := &api.HTTPSMeshProbe{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: o.namespace}}
	probe.Spec.Interval.Duration, probe.Spec.Timeout.Duration = 5*time.Second, time.Second
	strict(probe)
	for _, one := range edit {
		one(probe)
	}
	must(t, o.admin.Create(t.Context(), probe))
	return probe
}

// change edits a probe as a person would.
func (o *operator) change(t *testing.T, name string, edit func(*api.HTTPSMeshProbe)) {
	t.Helper()
	probe := o.probe(t, name)
	before := probe.DeepCopy()
	edit(probe)
	must(t, o.admin.Patch(t.Context(), probe, client.MergeFrom(before), client.FieldOwner("kubectl-edit")))
}

func (o *operator) probe(t *testing.T, name string) *api.HTTPSMeshProbe {
	t.Helper()
	probe := &api.HTTPSMeshProbe{}
	must(t, o.get(t, name, probe))
	return probe
}

func (o *operator) get(t *testing.T, name string, object client.Object) error {
	t.Helper()
	return o.admin.Get(t.Context(), client.ObjectKey{Namespace: o.namespace, Name: name}, object)
}

// condition checks one condition of a probe, on its present generation.
func (o *operator) condition(t *testing.T, name, kind string, status metav1.ConditionStatus, reason string) error {
	t.Helper()
	probe := o.probe(t, name)
	got := meta.FindStatusCondition(probe.Status.Conditions, kind)
	if got == nil {
		return fmt.Errorf("probe %s has no condition %s", name, kind)
	}
	if got.Status != status || got.Reason != reason || got.ObservedGeneration != probe.Generation {
		return fmt.Errorf("%s of %s is %s (%s, generation %d of %d): %s; want %s (%s)",
			kind, name, got.Status, got.Reason, got.ObservedGeneration, probe.Generation, got.Message, status, reason)
	}
	return nil
}

// await waits until a condition of a probe is as told, and returns its message.
func (o *operator) await(t *testing.T, name, kind string, status metav1.ConditionStatus, reason string) string {
	t.Helper()
	eventually(t, fmt.Sprintf("%s of %s", kind, name), func() error { return o.condition(t, name, kind, status, reason) })
	return o.message(t, name, kind)
}

func (o *operator) message(t *testing.T, name, kind string) string {
	t.Helper()
	if got := meta.FindStatusCondition(o.probe(t, name).Status.Conditions, kind); got != nil {
		return got.Message
	}
	return ""
}

func (o *operator) awaitVerified(t *testing.T, name string) {
	t.Helper()
	o.await(t, name, api.ConditionReady, metav1.ConditionTrue, api.ReasonVerified)
}

// notReady checks that Ready of a probe is not True.
func (o *operator) notReady(t *testing.T, name string) error {
	t.Helper()
	if meta.IsStatusConditionTrue(o.probe(t, name).Status.Conditions, api.ConditionReady) {
		return fmt.Errorf("%s is Ready: %s", name, o.message(t, name, api.ConditionReady))
	}
	return nil
}

// events are the notes of the events about a probe with a reason; a series counts as often as it was seen.
func (o *operator) events(t *testing.T, probe, reason string) []string {
	t.Helper()
	var list eventsv1.EventList
	must(t, o.admin.List(t.Context(), &list, client.InNamespace(o.namespace)))
	var notes []string
	for _, event := range list.Items {
		if event.Regarding.Name != probe || event.Reason != reason {
			continue
		}
		times := 1
		if event.Series != nil {
			times = int(event.Series.Count)
		}
		notes = append(notes, slices.Repeat([]string{event.Note}, times)...)
	}
	return notes
}

func wantMention(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("got %q, want it to mention %q", text, word)
		}
	}
}
