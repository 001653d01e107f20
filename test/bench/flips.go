package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	securityapi "istio.io/api/security/v1beta1"
	typeapi "istio.io/api/type/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

const (
	shopName = "shop"
	// slowInterval is that of the prober that does not watch, and closeInterval how often the mesh is asked to find out
	// how quick it is itself.
	slowInterval  = 5 * time.Second
	closeInterval = 5 * time.Millisecond
)

// round is the order of modes through which the policy goes. Every step changes whether a request without a certificate
// of the mesh is refused.
var round = []api.MTLSMode{api.MTLSPermissive, api.MTLSStrict, api.MTLSDisable, api.MTLSStrict}

// flipped is one change of the policy and what the probe's status told of it.
type flipped struct {
	step                    string
	policyTold, requestTold time.Duration
	change                  api.PolicyChange
}

// timeFlips prints how long after the change of a PeerAuthentication the conditions of a probe of that server change, beside
// how long the mesh itself takes and how long a prober that does not watch would, and what the changes cost.
func (b *bench) timeFlips(ctx context.Context, n int) error {
	if err := b.prepareShop(ctx); err != nil {
		return err
	}
	told, err := b.flipAndWatch(ctx, n)
	if err != nil {
		return err
	}
	seen, err := b.flipAndAsk(ctx, n)
	if err != nil {
		return err
	}
	policies, requests := row{name: "PolicyInEffect"}, row{name: requestRow}
	for _, f := range told {
		policies.times = append(policies.times, f.policyTold)
		requests.times = append(requests.times, f.requestTold)
	}
	mesh := row{name: "    the mesh alone: seen by a request every 5 ms", times: seen}
	slow := row{name: "    asked every 5 s instead (computed from that)", times: askedSeldom(seen)}
	rows := []row{policies, requests, mesh, slow}
	for _, r := range rows {
		slices.Sort(r.times)
	}
	printTable("From a changed PeerAuthentication to the changed condition", rows, requestRow)
	printLosses(told)
	return nil
}

const requestRow = "IstioProxyVerified"

// prepareShop makes a server with sidecar and a Service that are none of the operator's: the operator's own nginx, with
// other labels.
func (b *bench) prepareShop(ctx context.Context) error {
	var own appsv1.Deployment
	if err := b.cluster.Get(ctx, client.ObjectKey{Namespace: b.namespace, Name: fixture.ServerName(probeName)}, &own); err != nil {
		return err
	}
	labels := map[string]string{"app": shopName}
	named := metav1.ObjectMeta{Namespace: b.namespace, Name: shopName}
	deployment := &appsv1.Deployment{ObjectMeta: named}
	deployment.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	deployment.Spec.Template = *own.Spec.Template.DeepCopy()
	deployment.Spec.Template.Labels = map[string]string{"app": shopName, "sidecar.istio.io/inject": "true"}
	service := &corev1.Service{ObjectMeta: named}
	service.Spec.Selector = labels
	service.Spec.Ports = []corev1.ServicePort{{Name: "https", Port: 443, TargetPort: intstr.FromInt32(fixture.ServerContainerPort)}}
	policy := &securityv1.PeerAuthentication{ObjectMeta: named}
	policy.Spec.Selector = &typeapi.WorkloadSelector{MatchLabels: labels}
	policy.Spec.Mtls = mutualTLS(api.MTLSStrict)
	for _, object := range []client.Object{deployment, service, policy} {
		if err := b.cluster.Create(ctx, object); err != nil {
			return err
		}
	}
	return poll(ctx, func() (bool, error) {
		err := b.cluster.Get(ctx, client.ObjectKeyFromObject(deployment), deployment)
		return deployment.Status.ReadyReplicas == 1, err
	})
}

func mutualTLS(mode api.MTLSMode) *securityapi.PeerAuthentication_MutualTLS {
	return &securityapi.PeerAuthentication_MutualTLS{
		Mode: securityapi.PeerAuthentication_MutualTLS_Mode(securityapi.PeerAuthentication_MutualTLS_Mode_value[string(mode)]),
	}
}

// setMode changes the shop's policy and returns when that was done.
func (b *bench) setMode(ctx context.Context, mode api.MTLSMode) (time.Time, error) {
	policy := &securityv1.PeerAuthentication{}
	if err := b.cluster.Get(ctx, client.ObjectKey{Namespace: b.namespace, Name: shopName}, policy); err != nil {
		return time.Time{}, err
	}
	policy.Spec.Mtls = mutualTLS(mode)
	err := b.cluster.Update(ctx, policy)
	return time.Now(), err
}

// flipAndWatch changes the policy n times and watches a probe that is asked once an hour, and so is told by nothing else.
func (b *bench) flipAndWatch(ctx context.Context, n int) ([]flipped, error) {
	probe := newProbe(b.namespace, "flips", api.SidecarEnabled, api.MTLSStrict)
	probe.Spec.Target.Service = &api.TargetService{Name: shopName, Port: intstr.FromInt32(443)}
	if err := b.cluster.Create(ctx, probe); err != nil {
		return nil, err
	}
	if err := b.awaitReady(ctx, probe.Name); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	statuses, err := b.watchStatus(ctx, probe)
	if err != nil {
		return nil, err
	}
	told := make([]flipped, n)
	for i := range told {
		if told[i], err = b.flipOnce(ctx, i, statuses); err != nil {
			return nil, fmt.Errorf("flip %d, %s: %w", i+1, told[i].step, err)
		}
	}
	return told, b.cluster.Delete(ctx, probe)
}

// watchStatus brings every status of the probe from now on, until ctx ends.
func (b *bench) watchStatus(ctx context.Context, probe *api.HTTPSMeshProbe) (<-chan api.HTTPSMeshProbeStatus, error) {
	if err := b.cluster.Get(ctx, client.ObjectKeyFromObject(probe), probe); err != nil {
		return nil, err
	}
	from := &client.ListOptions{Namespace: b.namespace, Raw: &metav1.ListOptions{ResourceVersion: probe.ResourceVersion}}
	watcher, err := b.cluster.Watch(ctx, &api.HTTPSMeshProbeList{}, from)
	if err != nil {
		return nil, err
	}
	statuses := make(chan api.HTTPSMeshProbeStatus)
	go func() {
		defer watcher.Stop()
		defer close(statuses)
		for event := range watcher.ResultChan() {
			changed, ok := event.Object.(*api.HTTPSMeshProbe)
			if !ok || changed.Name != probe.Name {
				continue
			}
			select {
			case statuses <- changed.Status:
			case <-ctx.Done():
				return
			}
		}
	}()
	return statuses, nil
}

func (b *bench) flipOnce(ctx context.Context, i int, statuses <-chan api.HTTPSMeshProbeStatus) (flipped, error) {
	from, to := round[(i+len(round)-1)%len(round)], round[i%len(round)]
	f := flipped{step: fmt.Sprintf("%s to %s", from, to)}
	begun, err := b.setMode(ctx, to)
	if err != nil {
		return f, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		select {
		case status, ok := <-statuses:
			if !ok {
				return f, errors.New("the watch has ended")
			}
			if f.take(status, to == api.MTLSStrict, string(to), time.Since(begun)) {
				return f, nil
			}
		case <-ctx.Done():
			return f, errors.New("the conditions did not change")
		}
	}
}

// take notes what a status tells of the change, and says whether it is all.
func (f *flipped) take(status api.HTTPSMeshProbeStatus, holds bool, mode string, after time.Duration) bool {
	says := func(kind string) bool {
		condition := meta.FindStatusCondition(status.Conditions, kind)
		return condition != nil && condition.Reason != api.ReasonBelowThreshold && (condition.Status == metav1.ConditionTrue) == holds
	}
	if f.policyTold == 0 && says(api.ConditionPolicyInEffect) {
		f.policyTold = after
	}
	if f.requestTold == 0 && says(api.ConditionIstioProxyVerified) {
		f.requestTold = after
	}
	settled := !meta.IsStatusConditionTrue(status.Conditions, api.ConditionReconciling)
	if f.policyTold == 0 || f.requestTold == 0 || !settled || status.LastPolicyChange == nil {
		return false
	}
	f.change = *status.LastPolicyChange
	return len(f.change.To) >= len(mode) && f.change.To[:len(mode)] == mode
}

// flipAndAsk changes the policy n times and asks without pause, from the container from which the path istio-proxy is
// asked, until a request meets the other end.
func (b *bench) flipAndAsk(ctx context.Context, n int) ([]time.Duration, error) {
	var pods corev1.PodList
	if err := b.cluster.List(ctx, &pods, client.InNamespace(b.namespace), client.MatchingLabels(fixture.ClientLabels(fixture.SleepName("")))); err != nil {
		return nil, err
	}
	if len(pods.Items) != 1 {
		return nil, fmt.Errorf("%d pods of the client, want 1", len(pods.Items))
	}
	from := agents.Vantage{Namespace: b.namespace, Pod: pods.Items[0].Name, Container: fixture.ContainerIstioProxy}
	stream, err := b.openStream(ctx, from)
	if err != nil {
		return nil, err
	}
	defer stream.close()
	address := shopName + "." + b.namespace + ".svc.cluster.local.:443"
	seen := make([]time.Duration, n)
	for i := range seen {
		to := round[i%len(round)]
		begun, err := b.setMode(ctx, to)
		if err != nil {
			return nil, err
		}
		wanted := observation.Answered
		if to == api.MTLSStrict {
			wanted = observation.ClientCertificateRequired
		}
		for {
			_, met, err := stream.ask(address)
			if err != nil {
				return nil, err
			}
			if seen[i] = time.Since(begun); met.Class == wanted {
				break
			}
			if seen[i] > limit {
				return nil, fmt.Errorf("%s is not enforced after %s", to, limit)
			}
			time.Sleep(closeInterval)
		}
	}
	return seen, nil
}

// askedSeldom is when a prober would see what the mesh does after those times that asks every slowInterval: its next
// request comes at any moment of that, so the requests' moments are spread evenly here.
func askedSeldom(followed []time.Duration) []time.Duration {
	times := make([]time.Duration, len(followed))
	for i, after := range followed {
		next := time.Duration((float64(i) + 0.5) / float64(len(followed)) * float64(slowInterval))
		missed := math.Ceil(max(float64(after-next), 0) / float64(slowInterval))
		times[i] = next + time.Duration(missed)*slowInterval
	}
	return times
}

// printLosses prints for every sort of change how many requests on the path sleep got no answer while it settled.
func printLosses(told []flipped) {
	type loss struct{ changes, sent, lost, most int32 }
	losses := map[string]loss{}
	var steps []string
	for _, f := range told {
		if !slices.Contains(steps, f.step) {
			steps = append(steps, f.step)
		}
		l := losses[f.step]
		losses[f.step] = loss{l.changes + 1, l.sent + f.change.ProbesSent, l.lost + f.change.ProbesLost, max(l.most, f.change.ProbesLost)}
	}
	fmt.Printf("\nRequests lost on the path sleep while the proxies followed\n  %-44s %6s %12s %12s %8s\n", "", "n", "sent", "lost", "most")
	for _, step := range steps {
		l := losses[step]
		fmt.Printf("  %-44s %6d %12d %12d %8d\n", step, l.changes, l.sent, l.lost, l.most)
	}
}
