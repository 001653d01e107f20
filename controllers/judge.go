package controllers

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/podhealth"
	"github.com/meshprobe/httpsmeshprobe/internal/runner"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// schedule is what a visit has asked the runner to do, and what the answer is to be held against.
type schedule struct {
	epoch        string
	expectations map[api.PathName]expectation.Expectation
	server       verdict.Server
}

// scheduleRuns works out what every path should see and gives the runner its plan.
func (r *Reconciler) scheduleRuns(_ context.Context, v *visit) (verdict.Standing, error) {
	spec := v.Probe.Spec
	effective := meshpolicy.Compute(v.PeerAuthentications, meshpolicy.Workload{
		Namespace: v.Probe.Namespace, Labels: serverLabels(v), Port: fixture.ServerContainerPort,
	}, r.Settings.RootNamespace)
	v.policy = verdict.PolicyInEffect(spec.Target.Sidecar, spec.MTLS.Mode, effective)
	expected := spec.MTLS.Mode
	if expected == api.MTLSUnset {
		expected = effective.Mode
	}
	v.schedule = schedule{
		expectations: expectation.For(spec.Target.Sidecar, expected),
		server: verdict.Server{
			Fingerprints: []string{v.server.certificate.SHA256},
			Namespace:    v.Probe.Namespace, ServiceAccount: fixture.ServerName(v.Probe.Name),
			Roots: rootPool(v.MeshRoots),
		},
	}
	if v.server.previous != "" {
		v.schedule.server.Fingerprints = append(v.schedule.server.Fingerprints, v.server.previous)
	}
	v.schedule.epoch = fmt.Sprint(spec.Target.Sidecar, expected, spec.Revision, v.schedule.server.Fingerprints)
	r.Runner.Set(keyOf(v), r.plan(v, effective, expected))
	return proceed, nil
}

// serverLabels are the labels by which policies select the server's pods: all that these carry, not ours alone.
func serverLabels(v *visit) map[string]string {
	ours := fixture.ServerLabels(v.Probe.Name)
	if pods := podhealth.Living(v.PodsOf(ours)); len(pods) > 0 {
		return newest(pods).Labels
	}
	if deployment := v.Deployments[fixture.ServerName(v.Probe.Name)]; deployment != nil {
		return deployment.Spec.Template.Labels
	}
	return ours
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

func (r *Reconciler) plan(v *visit, effective meshpolicy.Effective, expected api.MTLSMode) runner.Plan {
	requests := r.requests(v)
	expectations, server := v.schedule.expectations, v.schedule.server
	return runner.Plan{
		Interval: v.Probe.Spec.Interval.Duration,
		Timeout:  v.Probe.Spec.Timeout.Duration,
		Requests: requests,
		Epoch:    v.schedule.epoch,
		Policy:   fmt.Sprint(v.Probe.Spec.Target.Sidecar, expected),
		Fresh:    !judgedBefore(v.Probe),
		Occasion: occasion(v, effective, requests),
		Satisfied: func(run observation.Run) bool {
			return verdict.Satisfied(expectations, server, run)
		},
	}
}

// occasion changes with whatever may change what the paths see: the policy, the server's pods, the clients'.
func occasion(v *visit, effective meshpolicy.Effective, requests map[string]runner.Request) string {
	parts := []string{effective.String()}
	for _, pod := range podhealth.Living(v.PodsOf(fixture.ServerLabels(v.Probe.Name))) {
		if podhealth.IsReady(pod) {
			parts = append(parts, string(pod.UID))
		}
	}
	for path, request := range requests {
		if request.From != nil {
			parts = append(parts, path+request.From.UID)
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// requests asks along every path for the server by its Service's name, as any client in the cluster would.
func (r *Reconciler) requests(v *visit) map[string]runner.Request {
	names := fixture.HostNames(v.Probe.Name, v.Probe.Namespace, r.Settings.ClusterDomain)
	host := names[len(names)-1]
	ask := observation.Request{
		// The dot at the end makes the name absolute: one look-up instead of one for every search domain.
		Address: fmt.Sprintf("%s.:%d", host, fixture.ServerPort), ServerName: host, Path: "/",
	}
	from := func(client, container string) runner.Request {
		vantage, missing := findVantage(client, container, v.PodsOf(fixture.ClientLabels(client)))
		return runner.Request{From: vantage, Missing: missing, Ask: ask}
	}
	sleep := fixture.SleepName(v.Probe.Spec.Revision)
	return map[string]runner.Request{
		string(api.PathSleep):      from(sleep, fixture.ContainerSleep),
		string(api.PathIstioProxy): from(sleep, fixture.ContainerIstioProxy),
		string(api.PathOutsider):   from(fixture.OutsiderName, fixture.ContainerSleep),
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
	report := r.Runner.Report(keyOf(v), v.schedule.epoch)
	if len(report.Runs) == 0 {
		if judgedBefore(v.Probe) {
			v.unchanged = true
			return verdict.Standing{Phase: verdict.Judged}, nil
		}
		return verdict.Standing{Phase: verdict.Progressing, Reason: api.ReasonProgressing, Message: "the first run is under way"}, nil
	}
	if report.Settling {
		return verdict.Standing{Phase: verdict.Progressing, Reason: api.ReasonProgressing,
			Message: "waiting for the sidecars to follow the policy"}, nil
	}
	if forbidden := execForbidden(report.Runs[len(report.Runs)-1]); forbidden != "" {
		return verdict.Standing{Phase: verdict.Troubled, Reason: api.ReasonExecForbidden, Message: forbidden}, nil
	}
	v.paths = verdict.Paths(verdict.Input{
		Expectations:     v.schedule.expectations,
		Server:           v.schedule.server,
		Runs:             report.Runs,
		FailureThreshold: int(v.Probe.Spec.FailureThreshold),
		Previous:         previousStatuses(v.Probe, v.schedule.expectations),
	})
	return verdict.Standing{Phase: verdict.Judged}, nil
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
func previousStatuses(probe *api.HTTPSMeshProbe, expectations map[api.PathName]expectation.Expectation) map[api.PathName]metav1.ConditionStatus {
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
