package controllers

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/effective"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/podhealth"
	"github.com/meshprobe/httpsmeshprobe/internal/runner"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// schedule is what a visit has asked the runner to do, and what the answer is to be held against.
type schedule struct {
	epoch  string
	server verdict.Server
}

// scheduleRuns gives the runner its plan.
func (r *Reconciler) scheduleRuns(_ context.Context, v *visit) (verdict.Standing, error) {
	v.schedule.server = r.expectedServer(v)
	spec := v.Probe.Spec
	v.schedule.epoch = fmt.Sprint(spec.Target.Sidecar, expectationsInWords(v), spec.Revision, v.schedule.server.Fingerprints,
		spec.Target.Path, spec.Target.ServerName, v.Target, v.Target.WantedPort.String(), v.server.caText)
	r.Runner.Set(keyOf(v), r.plan(v))
	return proceed, nil
}

func expectationsInWords(v *visit) (words []string) {
	for _, path := range api.PathNames() {
		expected := v.policies.Declared[path]
		words = append(words, expected.String()+string(expected.Encryption))
	}
	return words
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

func (r *Reconciler) plan(v *visit) runner.Plan {
	requests := r.requests(v)
	policies, server := v.policies, v.schedule.server
	return runner.Plan{
		Interval:  v.Probe.Spec.Interval.Duration,
		Timeout:   v.Probe.Spec.Timeout.Duration,
		Requests:  requests,
		Control:   string(api.PathSleep),
		Epoch:     v.schedule.epoch,
		Policy:    policies.Modes,
		Cause:     policies.cause,
		Fresh:     !judgedBefore(v.Probe),
		Answers:   policies.Computed.Paths[api.PathSleep].Code != 0,
		Requested: v.Probe.Annotations[api.AnnotationRequestedAt],
		Occasion:  occasion(v, requests),
		Repeats:   max(quickRepeats, int(v.Probe.Spec.FailureThreshold)),
		AsComputed: func(run observation.Run) bool {
			return verdict.AsComputed(policies.Computed, server, run)
		},
		Matches: func(path string, result observation.EndpointResult) bool {
			return verdict.EndpointMatches(policies.Declared[api.PathName(path)], server, result)
		},
	}
}

// quickRepeats is how many runs in a row must show what is computed before a probe goes back to its interval.
const quickRepeats = 2

// occasion changes with whatever may change what the paths see: the policies, the server's endpoints, the clients' pods;
// and with a person's asking.
func occasion(v *visit, requests map[string]runner.Request) string {
	parts := []string{v.policies.Modes, v.policies.Deciders, v.Probe.Annotations[api.AnnotationRequestedAt]}
	for _, endpoint := range v.Target.Endpoints {
		parts = append(parts, endpoint.ID())
	}
	for path, request := range requests {
		if request.From != nil {
			parts = append(parts, path+request.From.UID)
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// envoyAdmin is where a sidecar's Envoy tells its counters, within its pod.
const envoyAdmin = "127.0.0.1:15000"

// requests asks along every path for the server by its Service's name, as any client in the cluster would, and on the
// paths that go around the client's sidecar every endpoint on its own as well.
func (r *Reconciler) requests(v *visit) map[string]runner.Request {
	port := effective.Service(v.Inventory).Port
	// The dot at the end makes the name absolute: one look-up instead of one for every search domain.
	ask := observation.Request{
		Address: fmt.Sprintf("%s.:%d", r.host(v), port), ServerName: r.serverName(v), Path: cmp.Or(v.Probe.Spec.Target.Path, "/"),
		Chain: v.server.ca != nil,
	}
	from := func(client, container string, endpoints []observation.Endpoint) runner.Request {
		vantage, missing := findVantage(client, container, v.PodsOf(fixture.ClientLabels(client)))
		return runner.Request{From: vantage, Missing: missing, Ask: ask, Endpoints: endpoints}
	}
	endpoints := make([]observation.Endpoint, 0, len(v.Target.Endpoints))
	for _, endpoint := range v.Target.Endpoints {
		endpoints = append(endpoints, observation.Endpoint{ID: endpoint.ID(), Name: endpoint.Name(), Address: endpoint.Address()})
	}
	sleep := fixture.SleepName(v.Probe.Spec.Revision)
	throughTheMesh := from(sleep, fixture.ContainerSleep, nil)
	throughTheMesh.Ask.Count = &observation.Count{Admin: envoyAdmin, Host: r.host(v), Port: port}
	return map[string]runner.Request{
		string(api.PathSleep):      throughTheMesh,
		string(api.PathIstioProxy): from(sleep, fixture.ContainerIstioProxy, endpoints),
		string(api.PathOutsider):   from(fixture.OutsiderName, fixture.ContainerSleep, endpoints),
	}
}

// findVantage picks the newest ready pod of a client.
func findVantage(client, container string, pods []corev1.Pod) (*runner.Vantage, string) {
	ready := slices.DeleteFunc(podhealth.Living(pods), func(pod corev1.Pod) bool { return !podhealth.IsReady(pod) })
	if len(ready) == 0 {
		return nil, fmt.Sprintf("no pod of Deployment %s is ready to send the request from", client)
	}
	pod := newest(ready)
	return &runner.Vantage{Namespace: pod.Namespace, Pod: pod.Name, UID: string(pod.UID), Container: container}, ""
}

// judge asks the runner what it has seen so far and holds it against the expectations.
func (r *Reconciler) judge(_ context.Context, v *visit) (verdict.Standing, error) {
	v.report = r.Runner.Report(keyOf(v), v.schedule.epoch)
	if len(v.report.Runs) == 0 || v.report.Settling {
		return v.awaitRuns(), nil
	}
	latest := v.report.Runs[len(v.report.Runs)-1]
	if forbidden := execForbidden(latest); forbidden != "" {
		return verdict.Standing{Phase: verdict.Troubled, Reason: api.ReasonExecForbidden, Message: forbidden}, nil
	}
	v.paths = verdict.Paths(verdict.Input{
		Expectations:     v.policies.Declared,
		Server:           v.schedule.server,
		Runs:             v.report.Runs,
		FailureThreshold: int(v.Probe.Spec.FailureThreshold),
		Quick:            v.report.Quick,
		Previous:         previousStatuses(v.Probe, v.policies.Declared),
		CheckedSince:     checkedSince(v),
		Explanations:     v.policies.Explanations(),
	})
	v.policy = v.policy.Against(v.paths, v.policies.Computed.Paths)
	return verdict.Standing{Phase: verdict.Judged}, nil
}

// awaitRuns keeps the verdict on the present spec, if there is one, until there are runs that show the present policy.
// What is computed needs no runs and is told at once.
func (v *visit) awaitRuns() verdict.Standing {
	switch {
	case judgedBefore(v.Probe):
		v.paths = verdict.Kept(v.Probe.Status)
		v.unchanged = v.paths == nil
		return verdict.Standing{Phase: verdict.Judged}
	case v.report.Settling:
		return verdict.Standing{Phase: verdict.Progressing, Reason: api.ReasonProgressing, Message: "waiting for the sidecars to follow the policy"}
	default:
		return verdict.Standing{Phase: verdict.Progressing, Reason: api.ReasonProgressing, Message: "the first run is under way"}
	}
}

// checkedSince is since when kubelet vouches for every endpoint; zero where it does not for one of them.
func checkedSince(v *visit) time.Time {
	var since time.Time
	for _, endpoint := range v.Target.Endpoints {
		if endpoint.CheckedSince.IsZero() {
			return time.Time{}
		}
		if endpoint.CheckedSince.After(since) {
			since = endpoint.CheckedSince
		}
	}
	return since
}

func execForbidden(run observation.Run) string {
	for _, path := range api.PathNames() {
		if failed := run.Results[string(path)].Failed; failed != nil && failed.Kind == observation.ExecForbidden {
			return failed.Message
		}
	}
	return ""
}

// judgedBefore says whether the status holds a verdict on the present spec, which is then kept until there is a new one.
func judgedBefore(probe *api.HTTPSMeshProbe) bool {
	if probe.Status.ObservedGeneration != probe.Generation {
		return false
	}
	ready := meta.FindStatusCondition(probe.Status.Conditions, api.ConditionReady)
	return ready != nil && slices.Contains([]string{api.ReasonVerified, api.ReasonRefuted, api.ReasonUndetermined}, ready.Reason)
}

// previousStatuses are the statuses of the paths of which the same was expected before. An expectation may have changed
// while the operator was away: an inherited mode is in no spec.
func previousStatuses(probe *api.HTTPSMeshProbe, expectations expectation.Expectations) map[api.PathName]metav1.ConditionStatus {
	if !judgedBefore(probe) {
		return nil
	}
	statuses := map[api.PathName]metav1.ConditionStatus{}
	for _, path := range probe.Status.Paths {
		condition := meta.FindStatusCondition(probe.Status.Conditions, api.PathCondition(path.Name))
		if condition != nil && path.Expected == expectations[path.Name].String() {
			statuses[path.Name] = condition.Status
		}
	}
	return statuses
}
