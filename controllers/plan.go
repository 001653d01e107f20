package controllers

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/effective"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
	"github.com/meshprobe/httpsmeshprobe/internal/podhealth"
	"github.com/meshprobe/httpsmeshprobe/internal/schedule"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// planned is what a visit has asked the runner to do, and what the answer is to be held against.
type planned struct {
	epoch    schedule.Mark
	criteria verdict.Criteria
	record   *verdict.Record
}

// scheduleRuns gives the runner its plan.
func (r *Reconciler) scheduleRuns(ctx context.Context, v *visit) (verdict.Standing, error) {
	server := r.expectedServer(v)
	v.schedule.epoch = schedule.MarkOf(epochOf(v, server))
	criteria, err := r.criteria(ctx, v, server)
	if err != nil {
		return proceed, err
	}
	v.schedule.criteria = criteria
	v.schedule.record = r.records.present(v.Probe, v.schedule.epoch, criteria, time.Now()) // the clock of the runs
	r.Runner.Set(keyOf(v), r.plan(v))
	return proceed, nil
}

// epoch is what makes earlier runs void when it changes.
type epoch struct {
	Sidecar      api.Sidecar
	Expected     []string
	Revision     string
	Fingerprints []string
	Path         string
	ServerName   string
	Target       string
	Port         string
	CA           string
}

func epochOf(v *visit, server verdict.Server) epoch {
	target := v.Probe.Spec.Target
	return epoch{
		Sidecar: target.Sidecar, Expected: expectationsInWords(v), Revision: v.Probe.Spec.Revision, Fingerprints: server.Fingerprints,
		Path: target.Path, ServerName: target.ServerName, Target: v.Target.String(), Port: v.Target.WantedPort.String(), CA: v.server.caText,
	}
}

func expectationsInWords(v *visit) (words []string) {
	for _, path := range paths.All() {
		expected := v.policies.Declared[path.Name]
		words = append(words, fmt.Sprint(expected, expected.Encryption, expected.Mode))
	}
	return words
}

// criteria are what the runs are held against.
func (r *Reconciler) criteria(ctx context.Context, v *visit, server verdict.Server) (verdict.Criteria, error) {
	denials, err := r.denials(ctx, v)
	if err != nil {
		return verdict.Criteria{}, err
	}
	service := verdict.Service{Host: r.host(v), Port: effective.Service(v.Inventory).Port, Endpoints: map[string]string{}}
	for _, endpoint := range v.Target.Endpoints {
		service.Endpoints[endpoint.Address()] = endpoint.Name()
	}
	// Status codes are the server's affair, and nothing that Istio computes.
	computed, endpoints := maps.Clone(v.policies.Computed), maps.Clone(v.policies.ComputedEndpoints)
	computed.OfAnyCode()
	for id, expected := range endpoints {
		expected.Code = expectation.AnyCode
		endpoints[id] = expected
	}
	return verdict.Criteria{
		Declared: v.policies.Declared, Computed: computed, Endpoints: endpoints,
		Explanations: v.policies.Explanations(),
		Server:       server, Service: service, Denials: denials, Policy: v.policies.Modes,
		Interval: v.Probe.Spec.Interval.Duration, FailureThreshold: int(v.Probe.Spec.FailureThreshold),
		Previous: previousVerdicts(v.Probe, v.policies.Declared),
	}, nil
}

// expectedServer is how the target shows who it is. The operator's own server has a certificate that is known.
func (r *Reconciler) expectedServer(v *visit) verdict.Server {
	server := verdict.Server{Namespace: v.Target.Namespace, Roots: rootPool(v.MeshRoots), Name: r.serverName(v), CA: v.server.ca}
	if v.Probe.Spec.Target.Service == nil {
		server.ServiceAccounts = []string{fixture.ServerName(v.Probe.Name)}
		server.Fingerprints = []string{v.server.certificate.SHA256}
		if v.server.previous != "" {
			server.Fingerprints = append(server.Fingerprints, v.server.previous)
		}
		return server
	}
	for _, endpoint := range v.Target.Endpoints {
		if endpoint.ServiceAccount != "" && !slices.Contains(server.ServiceAccounts, endpoint.ServiceAccount) {
			server.ServiceAccounts = append(server.ServiceAccounts, endpoint.ServiceAccount)
		}
	}
	return server
}

func (r *Reconciler) serverName(v *visit) string {
	if name := v.Probe.Spec.Target.ServerName; name != "" {
		return name
	}
	return r.host(v)
}

func newest(pods []corev1.Pod) corev1.Pod {
	return slices.MaxFunc(pods, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
}

func rootPool(encoded string) *x509.CertPool {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(encoded)) {
		return nil
	}
	return pool
}

func (r *Reconciler) plan(v *visit) schedule.Plan {
	requests := r.requests(v)
	policies, criteria := v.policies, v.schedule.criteria
	return schedule.Plan{
		Interval:  v.Probe.Spec.Interval.Duration,
		Timeout:   v.Probe.Spec.Timeout.Duration,
		Requests:  requests,
		Control:   string(paths.Mesh().Name),
		Epoch:     v.schedule.epoch,
		Policy:    policies.Modes,
		Cause:     policies.cause,
		Fresh:     !judgedBefore(v.Probe),
		Answers:   answers(policies.Computed[paths.Mesh().Name]),
		Requested: v.Probe.Annotations[api.AnnotationRequestedAt],
		Occasion:  schedule.MarkOf(occasionOf(v, requests)),
		Repeats:   max(quickRepeats, int(v.Probe.Spec.FailureThreshold)),
		Recorder:  v.schedule.record,
		AsComputed: func(run observation.Run) bool {
			return criteria.AsComputed(run)
		},
		Matches: func(path string, result observation.EndpointResult) bool {
			return criteria.RequestMatches(api.PathName(path), result)
		},
		Greeted: func(path string, result observation.EndpointResult) bool {
			return criteria.GreetingsMatch(api.PathName(path), result)
		},
	}
}

// answers says whether an answer is promised. Nothing is where nothing is computed.
func answers(expected expectation.Expectation) bool {
	return expected.Why != "" && expected.Kind == expectation.Answer
}

// quickRepeats is how many runs in a row must show what is computed before a probe goes back to its interval.
const quickRepeats = 2

// occasion is what may change what the paths see: the policies, the server's endpoints, the clients' pods; and a person's
// asking.
type occasion struct {
	Modes     string
	Deciders  []string
	Requested string
	Endpoints []string
	From      map[string]string
}

func occasionOf(v *visit, requests map[string]schedule.Request) occasion {
	o := occasion{Modes: v.policies.Modes, Requested: v.Probe.Annotations[api.AnnotationRequestedAt], From: map[string]string{}}
	for _, decider := range v.policies.Deciders {
		o.Deciders = append(o.Deciders, decider.String())
	}
	for path, request := range requests {
		if request.From != nil {
			o.From[path] = request.From.UID
		}
		for _, endpoint := range request.Endpoints {
			o.Endpoints = append(o.Endpoints, endpoint.ID)
		}
	}
	slices.Sort(o.Endpoints)
	o.Endpoints = slices.Compact(o.Endpoints)
	return o
}

// envoyAdmin is where a sidecar's Envoy tells its counters and its configuration, within its pod.
const envoyAdmin = "127.0.0.1:15000"

// requests asks along every path for the server by its Service's name, as any client in the cluster would, and on the
// paths that go around the client's sidecar every endpoint on its own as well.
func (r *Reconciler) requests(v *visit) map[string]schedule.Request {
	port := effective.Service(v.Inventory).Port
	// The dot at the end makes the name absolute: one look-up instead of one for every search domain.
	ask := observation.Request{
		Address: fmt.Sprintf("%s.:%d", r.host(v), port), ServerName: r.serverName(v), Path: cmp.Or(v.Probe.Spec.Target.Path, "/"),
		Chain: v.server.ca != nil,
	}
	endpoints := r.endpoints(v)
	requests := map[string]schedule.Request{}
	for _, path := range paths.All() {
		client := fixture.OutsiderName
		if path.Client == paths.ClientMeshed {
			client = fixture.SleepName(v.Probe.Spec.Revision)
		}
		from, missing := findSource(client, path.Container, v.PodsOf(fixture.ClientLabels(client)))
		request := schedule.Request{From: from, Missing: missing, Ask: ask}
		if path.ThroughMesh {
			request.Ask.Count = &observation.Count{Admin: envoyAdmin, Host: r.host(v), Port: port}
		} else {
			request.Endpoints = endpoints
		}
		if path.Greets {
			// As the mesh might have named the client. The certificate is signed by itself, and nothing may let it in.
			request.Greets, request.Identity = true, r.clientIdentity(v)
		}
		requests[string(path.Name)] = request
	}
	return requests
}

const maxIstioEndpoints = 64

// endpoints are those of the Service, and those that only Istio knows (WorkloadEntries, ServiceEntries for the same host):
// the client's Envoy has been told of them, so that requests may come to them.
func (r *Reconciler) endpoints(v *visit) []observation.Endpoint {
	endpoints := make([]observation.Endpoint, 0, len(v.Target.Endpoints))
	for _, endpoint := range v.Target.Endpoints {
		endpoints = append(endpoints, observation.Endpoint{ID: endpoint.ID(), Name: endpoint.Name(), Address: endpoint.Address()})
	}
	run, ok := v.schedule.record.Latest()
	delivered := run.Results[string(paths.Mesh().Name)].Seen.Delivered
	if !ok || delivered == nil {
		return endpoints
	}
	only := 0
	for _, address := range v.schedule.criteria.OwnAddresses(delivered) {
		if _, err := netip.ParseAddrPort(address); err != nil || r.records.wasListed(v.Probe, address) || only == maxIstioEndpoints {
			continue
		}
		only++
		endpoints = append(endpoints, observation.Endpoint{ID: "istio/" + address, Name: address, Address: address})
	}
	return endpoints
}

// findSource picks the newest ready pod of a client.
func findSource(client, container string, pods []corev1.Pod) (*agents.Vantage, string) {
	ready := slices.DeleteFunc(podhealth.Living(pods), func(pod corev1.Pod) bool { return !podhealth.IsReady(pod) })
	if len(ready) == 0 {
		return nil, fmt.Sprintf("no pod of Deployment %s is ready to send the request from", client)
	}
	pod := newest(ready)
	return &agents.Vantage{Namespace: pod.Namespace, Pod: pod.Name, UID: string(pod.UID), Container: container}, ""
}

// previousVerdicts are those in the status of the paths of which the same was expected before. An expectation may have
// changed while the operator was away: an inherited mode is in no spec.
func previousVerdicts(probe *api.HTTPSMeshProbe, expectations expectation.Expectations) map[api.PathName]verdict.Previous {
	if !judgedBefore(probe) {
		return nil
	}
	previous := map[api.PathName]verdict.Previous{}
	for _, path := range verdict.Kept(probe.Status) {
		if path.Evidence.Expected == expectations[path.Evidence.Name].String() {
			previous[path.Evidence.Name] = verdict.Previous{Status: path.Status, Reason: path.Reason, At: timeOf(path.Evidence.LastProbeTime)}
		}
	}
	return previous
}

func timeOf(at *metav1.Time) time.Time {
	if at == nil {
		return time.Time{}
	}
	return at.Time
}
