package controllers_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
)

func TestPodsThatDoNotComeUpAreExplained(t *testing.T) {
	t.Parallel()
	pull := &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "manifest unknown"}
	for name, test := range map[string]struct {
		deployment string
		fault      fault
		reason     string
		mentions   []string
	}{
		"image of the server": {"strict-nginx", fault{waiting: pull}, api.ReasonImagePullFailed, []string{"nginx:test", "--server-image", "manifest unknown"}},
		"image of a client":   {"meshprobe-outsider", fault{waiting: pull}, api.ReasonImagePullFailed, []string{"curl:test", "--sleep-image"}},
		"crash": {
			"strict-nginx", fault{waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
			api.ReasonPodsFailing, []string{"CrashLoopBackOff", "kubectl logs"},
		},
		"quota":            {"strict-nginx", fault{refused: "exceeded quota: pods"}, api.ReasonPodsNotCreated, []string{"strict-nginx", "exceeded quota: pods"}},
		"unwanted sidecar": {"meshprobe-outsider", fault{injectedAnyway: true}, api.ReasonSidecarNotWanted, []string{"meshprobe-outsider"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := startOperator(t)
			o.cluster.set(test.deployment, test.fault)
			o.create(t, "strict")
			wantMention(t, o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, test.reason), test.mentions...)
			if got := o.mesh.requests("strict"); got != 0 {
				t.Errorf("requests before the pods are up: got %d, want 0", got)
			}
			o.cluster.set(test.deployment, fault{})
			if test.fault.injectedAnyway {
				o.deletePods(t, fixture.ClientLabels(test.deployment))
			}
			o.awaitVerified(t, "strict")
		})
	}
}

func (o *operator) deletePods(t *testing.T, labels client.MatchingLabels) {
	t.Helper()
	must(t, o.admin.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(o.namespace), labels, client.GracePeriodSeconds(0)))
}

func (o *operator) pods(t *testing.T, labels client.MatchingLabels) []corev1.Pod {
	t.Helper()
	var list corev1.PodList
	must(t, o.admin.List(t.Context(), &list, client.InNamespace(o.namespace), labels))
	return list.Items
}

func TestPodsThatAreSlowAreWaitedFor(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.cluster.set("strict-nginx", fault{slow: true})
	o.create(t, "strict")
	eventually(t, "the message about the server's pod", func() error {
		if got := o.message(t, "strict", api.ConditionReconciling); !containsAll(got, "Deployment strict-nginx", "container nginx") {
			return fmt.Errorf("Reconciling says %q", got)
		}
		return o.condition(t, "strict", api.ConditionReady, metav1.ConditionUnknown, api.ReasonProgressing)
	})
	o.cluster.set("strict-nginx", fault{})
	o.awaitVerified(t, "strict")
}

func TestUninjectedPodIsReplaced(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.cluster.set("strict-nginx", fault{missedByInjector: true})
	o.create(t, "strict")
	message := o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonSidecarNotInjected)
	pods := o.pods(t, fixture.ServerLabels("strict"))
	if len(pods) != 1 {
		t.Fatalf("pods of the server: got %d, want 1", len(pods))
	}
	wantMention(t, message, pods[0].Name, "istiod")
	o.cluster.set("strict-nginx", fault{})
	// Once its time is over the operator may be quicker than this.
	look := func() {
		annotation := fmt.Sprintf(`{"metadata":{"annotations":{"looked":%q}}}`, o.clock.now())
		must(t, client.IgnoreNotFound(o.admin.Patch(t.Context(), &pods[0], client.RawPatch(types.MergePatchType, []byte(annotation)))))
	}
	// The clock goes on by itself, on a busy machine for seconds until the operator looks.
	o.clock.forward(15*time.Second - o.clock.now().Sub(pods[0].CreationTimestamp.Time))
	look()
	throughout(t, time.Second, "the pod is younger than 30 s", func() error { return o.get(t, pods[0].Name, &corev1.Pod{}) })
	o.clock.forward(16 * time.Second)
	look()
	o.awaitVerified(t, "strict")
	if err := o.get(t, pods[0].Name, &corev1.Pod{}); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the pod without sidecar: got %v, want it gone", err)
	}
}

func TestPodThatLosesItsSidecarLaterOnIsNoPass(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict")
	o.awaitVerified(t, "strict")
	o.cluster.set("strict-nginx", fault{missedByInjector: true})
	o.deletePods(t, fixture.ServerLabels("strict"))
	o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonSidecarNotInjected)
}

func TestClientsAreShared(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	one, two := o.create(t, "one"), o.create(t, "two")
	o.create(t, "canary", func(p *api.HTTPSMeshProbe) { p.Spec.Revision = "canary" })
	for _, name := range []string{"one", "two", "canary"} {
		o.awaitVerified(t, name)
	}
	o.wantOwners(t, "meshprobe-sleep", "one", "two")
	o.wantOwners(t, "meshprobe-sleep-canary", "canary")
	o.wantOwners(t, "meshprobe-outsider", "canary", "one", "two")
	for _, name := range []string{"one", "two", "canary"} {
		if got := o.events(t, name, "Repaired"); len(got) != 0 {
			t.Errorf("%s: events %v, want no repair of what the probes only share", name, got)
		}
	}
	if got := o.mesh.openStreams(); got != 5 {
		t.Errorf("exec streams: got %d, want 2 for each client with sidecar and 1 for the outsider", got)
	}
	must(t, o.admin.Delete(t.Context(), two))
	o.wantOwners(t, "meshprobe-sleep", "one")
	o.wantOwners(t, "meshprobe-outsider", "canary", "one")
	o.change(t, "canary", func(p *api.HTTPSMeshProbe) { p.Spec.Revision = "" })
	eventually(t, "the end of the client that nobody uses", func() error {
		for _, deployment := range o.made(t, "apps/v1 Deployment") {
			if deployment.Name == "meshprobe-sleep-canary" {
				return fmt.Errorf("%s is still there", deployment.Name)
			}
		}
		return nil
	})
	o.wantOwners(t, "meshprobe-sleep", "canary", "one")
	o.awaitVerified(t, "canary")
	if got := o.probe(t, "one").UID; got != one.UID {
		t.Errorf("the probe was replaced: %s", got)
	}
}

// wantOwners waits until a client belongs to exactly these probes, in the order of their names.
func (o *operator) wantOwners(t *testing.T, client string, probes ...string) {
	t.Helper()
	eventually(t, "the owners of "+client, func() error {
		for _, deployment := range o.made(t, "apps/v1 Deployment") {
			if deployment.Name != client {
				continue
			}
			var owners []string
			for _, owner := range deployment.OwnerReferences {
				owners = append(owners, owner.Name)
			}
			if fmt.Sprint(owners) != fmt.Sprint(probes) {
				return fmt.Errorf("owners %v, want %v", owners, probes)
			}
			return nil
		}
		return fmt.Errorf("no Deployment %s", client)
	})
}
