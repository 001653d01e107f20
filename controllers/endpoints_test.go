package controllers_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/schedule"
)

func (o *operator) deletePod(t *testing.T, name string) {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: name}}
	must(t, o.admin.Delete(t.Context(), pod, client.GracePeriodSeconds(0)))
}

func onHostNetwork(pod *corev1.Pod) { pod.Spec.HostNetwork = true }

func withAnnotation(key, value string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Annotations = map[string]string{key: value} }
}

// One pod among three lets everybody in. Whatever the Service's address leads to, the pod is found and named.
func TestOnePodThatIsNotProtectedIsNamed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		odd      []func(*corev1.Pod)
		reason   string
		mentions []string
	}{
		"without sidecar": {nil, api.ReasonSidecarMissing, []string{"target.sidecar is Enabled", "none in shop-1 (1 of 3 endpoints)"}},
		"on the node's network": {
			[]func(*corev1.Pod){onHostNetwork}, api.ReasonSidecarMissing, []string{"shop-1 (1 of 3 endpoints)", "node's own network"},
		},
		"port excluded": {
			[]func(*corev1.Pod){inject, withAnnotation("traffic.sidecar.istio.io/excludeInboundPorts", "8443")},
			api.ReasonNotCaptured, []string{"shop-1 (1 of 3 endpoints)", "past the sidecar"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := startOperator(t)
			o.declare(t, o.namespace, "default", strictMode, nil)
			o.addShop(t, 1)
			o.addPod(t, "shop", "shop-1", test.odd...)
			o.addPod(t, "shop", "shop-2", inject)
			o.awaitEndpoints(t, "shop", 3)
			o.create(t, "strict", ofService("shop"))
			wantMention(t, o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionFalse, test.reason), test.mentions...)
			for path, kind := range map[api.PathName]string{
				api.PathIstioProxy: api.ConditionIstioProxyVerified, api.PathOutsider: api.ConditionOutsiderVerified,
			} {
				wantMention(t, o.await(t, "strict", kind, metav1.ConditionFalse, api.ReasonMTLSNotEnforced), "shop-1", "without a certificate of the mesh")
				got := o.path(t, "strict", path).Endpoints
				if got == nil || got.Total != 3 || got.Mismatched != 1 || len(got.Examples) != 1 || got.Examples[0].Name != "shop-1" || got.Examples[0].Observed != "200" {
					t.Errorf("endpoints of path %s: got %+v, want shop-1 as the one of three that answers 200", path, got)
				}
			}
			o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted)
			o.deletePod(t, "shop-1")
			o.awaitVerified(t, "strict")
			o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionTrue, api.ReasonInEffect)
		})
	}
}

// A claim that there is no sidecar is held against the pods as well.
func TestUnclaimedSidecarIsNamed(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.addShop(t, 1)
	o.addPod(t, "shop", "shop-1")
	o.create(t, "bare", ofService("shop"), func(p *api.HTTPSMeshProbe) {
		p.Spec.Target.Sidecar, p.Spec.MTLS.Mode = api.SidecarDisabled, api.MTLSUnset
	})
	wantMention(t, o.await(t, "bare", api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonSidecarPresent), "shop-0")
	o.deletePod(t, "shop-0")
	o.awaitVerified(t, "bare")
	o.await(t, "bare", api.ConditionPolicyInEffect, metav1.ConditionTrue, api.ReasonNoSidecar)
}

// A pod of the ambient mesh refuses whoever has no certificate as well, in a way that proves nothing: that is no pass.
func TestAmbientPodIsNotJudged(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.declare(t, o.namespace, "default", strictMode, nil)
	o.addService(t, "shop")
	o.addPod(t, "shop", "shop-0", withAnnotation("ambient.istio.io/redirection", "enabled"))
	for _, path := range []api.PathName{api.PathIstioProxy, api.PathOutsider} {
		o.mesh.script("shop", path, observation.Observation{Class: observation.HandshakeReset})
	}
	// The client's Envoy leads there by ways that are not judged.
	tunnelled := answeredWith(usersCertificate)
	tunnelled.Sent = &observation.Sent{Error: "the counters do not tell"}
	o.mesh.script("shop", api.PathSleep, tunnelled)
	o.create(t, "strict", ofService("shop"))
	wantMention(t, o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionUnknown, api.ReasonAmbientNotJudged), "shop-0", "ambient")
	o.await(t, "strict", api.ConditionIstioProxyVerified, metav1.ConditionUnknown, api.ReasonInconclusive)
	o.await(t, "strict", api.ConditionReady, metav1.ConditionUnknown, api.ReasonUndetermined)
	for _, path := range []api.PathName{api.PathIstioProxy, api.PathOutsider} {
		o.mesh.script("shop", path, answeredWith(usersCertificate))
	}
	o.change(t, "strict", withMode(api.MTLSPermissive))
	o.await(t, "strict", api.ConditionOutsiderVerified, metav1.ConditionTrue, api.ReasonAnswered)
	o.await(t, "strict", api.ConditionSleepVerified, metav1.ConditionUnknown, api.ReasonNotAttributed)
	o.await(t, "strict", api.ConditionReady, metav1.ConditionUnknown, api.ReasonUndetermined)
}

func TestTwoProbesOfOneService(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.declare(t, o.namespace, "default", strictMode, nil)
	o.addShop(t, 2)
	strict := o.create(t, "strict", ofService("shop"))
	o.create(t, "permissive", ofService("shop"), withMode(api.MTLSPermissive))
	o.awaitVerified(t, "strict")
	o.await(t, "permissive", api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted)
	o.await(t, "permissive", api.ConditionIstioProxyVerified, metav1.ConditionFalse, api.ReasonRefused)
	wantMention(t, o.await(t, "permissive", api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonOverridden), "mtls.mode is PERMISSIVE", o.namespace+"/default")
	seen := o.follow(t, "strict")
	o.change(t, "permissive", func(p *api.HTTPSMeshProbe) { p.Spec.Suspend = true })
	o.await(t, "permissive", api.ConditionReady, metav1.ConditionUnknown, api.ReasonSuspended)
	o.awaitRuns(t, "shop", 1)
	seen.wantReady(t)
	must(t, o.admin.Delete(t.Context(), strict))
	o.change(t, "permissive", func(p *api.HTTPSMeshProbe) { p.Spec.Suspend = false })
	o.await(t, "permissive", api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted)
	o.change(t, "permissive", withMode(api.MTLSStrict))
	o.awaitVerified(t, "permissive")
}

// shopOf makes the Service shop with many pods, which no kubelet is played for.
func (o *operator) shopOf(t *testing.T, pods int) {
	t.Helper()
	o.addService(t, "shop")
	var makers sync.WaitGroup
	for part := range slices.Chunk(slices.Collect(numbers(pods)), (pods+3)/4) {
		makers.Go(func() {
			for _, i := range part {
				pod := o.addPod(t, "shop", fmt.Sprint("shop-", i), inject, func(p *corev1.Pod) { p.Labels[labelPlayed] = "no" })
				pod.Status.Phase, pod.Status.PodIP = corev1.PodRunning, nextAddress()
				pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
				pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
				if err := o.admin.Status().Update(t.Context(), pod); err != nil {
					t.Errorf("make pod %s ready: %v", pod.Name, err)
				}
			}
		})
	}
	makers.Wait()
	o.awaitEndpoints(t, "shop", pods)
}

func numbers(count int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := range count {
			if !yield(i) {
				return
			}
		}
	}
}

func TestServiceWithThreeHundredEndpoints(t *testing.T) {
	t.Parallel()
	const endpoints = 300
	o := startOperator(t)
	o.declare(t, o.namespace, "default", strictMode, nil)
	o.shopOf(t, endpoints)
	o.create(t, "strict", ofService("shop"))
	o.awaitVerified(t, "strict")
	for _, path := range []api.PathName{api.PathIstioProxy, api.PathOutsider} {
		if got := o.path(t, "strict", path).Endpoints; got == nil || got.Total != endpoints || got.Asked != endpoints {
			t.Errorf("endpoints of path %s: got %+v, want all %d asked before it is verified", path, got, endpoints)
		}
		o.wantBounded(t, path, endpoints)
	}

	// One pod's proxy has not taken the policy.
	pod := &corev1.Pod{}
	must(t, o.get(t, "shop-217", pod))
	bad := pod.Status.PodIP
	o.mesh.set(func(m *mesh) { m.addresses[bad] = answeredWith(usersCertificate) })
	o.request(t, "strict", "1") // a run an interval is too slow for a test; each request brings a quick series
	eventually(t, "the one that is found", func() error {
		if meta.IsStatusConditionFalse(o.probe(t, "strict").Status.Conditions, api.ConditionOutsiderVerified) {
			return nil
		}
		o.request(t, "strict", time.Now().String())
		return fmt.Errorf("OutsiderVerified says %q", o.message(t, "strict", api.ConditionOutsiderVerified))
	})
	seen := o.follow(t, "strict")
	wantMention(t, o.await(t, "strict", api.ConditionOutsiderVerified, metav1.ConditionFalse, api.ReasonMTLSNotEnforced), "shop-217", "1 of 300")
	o.awaitQuiet(t, "shop")
	before := len(o.dials(bad))
	o.awaitRuns(t, "shop", 2)
	if got := len(o.dials(bad)) - before; got < 3 {
		t.Errorf("the bad endpoint was dialed %d times in two runs on two paths, want it in every run", got)
	}
	for _, status := range seen.all() {
		if !meta.IsStatusConditionFalse(status.Conditions, api.ConditionOutsiderVerified) {
			t.Errorf("OutsiderVerified while one of 300 lets everybody in: %+v", meta.FindStatusCondition(status.Conditions, api.ConditionOutsiderVerified))
		}
	}
	o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonNotEnforced)
	// That it lets nobody in any more takes a run over each of the 300 to be believed.
	o.mesh.set(func(m *mesh) { delete(m.addresses, bad) })
	o.awaitHeld(t, "strict", api.ConditionOutsiderVerified)
}

func (o *operator) dials(address string) []asked {
	return o.mesh.arrived(func(one asked) bool { return one.endpoint == address })
}

// wantBounded checks that a path dialed every endpoint, and never more than EndpointsPerRun in a run.
func (o *operator) wantBounded(t *testing.T, path api.PathName, endpoints int) {
	t.Helper()
	dialed := map[string]bool{}
	runs, inAll := 0, 0
	for _, one := range o.mesh.arrived(func(one asked) bool { return one.route == route{"shop", path} && one.Hello == observation.HelloHTTPS }) {
		if one.endpoint == "" {
			runs++
			continue
		}
		inAll++
		dialed[one.endpoint] = true
		// The Service's request of a run may come after those to endpoints.
		if inAll > (runs+1)*schedule.EndpointsPerRun {
			t.Fatalf("path %s: %d endpoints were dialed in %d runs, want at most %d in each", path, inAll, runs, schedule.EndpointsPerRun)
		}
	}
	if len(dialed) != endpoints {
		t.Errorf("path %s dialed %d endpoints, want %d", path, len(dialed), endpoints)
	}
}

// Addresses without a pod have no sidecar, as far as anybody knows; they are named by their address.
func TestEndpointsWithoutPods(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.addService(t, "shop", func(s *corev1.Service) { s.Spec.Selector = nil })
	addresses := []string{nextAddress(), nextAddress()}
	o.addSlice(t, "shop", func(*discoveryv1.EndpointSlice) {}, addresses...)
	o.create(t, "bare", ofService("shop"), func(p *api.HTTPSMeshProbe) {
		p.Spec.Target.Sidecar, p.Spec.MTLS.Mode = api.SidecarDisabled, api.MTLSUnset
	})
	o.create(t, "strict", ofService("shop"))
	o.awaitVerified(t, "bare")
	message := o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonSidecarMissing)
	wantMention(t, message, addresses[0]+":8443", addresses[1]+":8443")
	o.mesh.set(func(m *mesh) {
		m.addresses[addresses[1]] = observation.Observation{Class: observation.ConnectionRefused}
	})
	o.mesh.script("shop", api.PathSleep, answeredWith(usersCertificate))
	message = o.await(t, "bare", api.ConditionOutsiderVerified, metav1.ConditionFalse, api.ReasonNoConnection)
	if !strings.Contains(message, addresses[1]) {
		t.Errorf("OutsiderVerified says %q, want it to name %s", message, addresses[1])
	}
}

// Slices lag behind pods: an address may be listed for the pod that had it before as well as for the one that has it now,
// and a pod in a slice that is full while it moves to another in both.
func TestAddressInSeveralSlicesIsOneEndpoint(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.declare(t, o.namespace, "default", strictMode, nil)
	o.addService(t, "shop", func(s *corev1.Service) { s.Spec.Selector = nil })
	o.addPod(t, "shop", "shop-0", inject)
	pod := &corev1.Pod{}
	eventually(t, "the pod's address", func() error {
		if must(t, o.get(t, "shop-0", pod)); pod.Status.PodIP == "" {
			return fmt.Errorf("it has none yet")
		}
		return nil
	})
	of := func(uid types.UID) *corev1.ObjectReference {
		return &corev1.ObjectReference{Kind: "Pod", Namespace: o.namespace, Name: "shop-0", UID: uid}
	}
	for i, reference := range []*corev1.ObjectReference{of("before"), of("before-that"), of(pod.UID), of("and-before"), of(pod.UID)} {
		o.addSlice(t, "shop", func(s *discoveryv1.EndpointSlice) {
			s.Name, s.Endpoints[0].TargetRef = fmt.Sprint("shop-", i), reference
		}, pod.Status.PodIP)
	}
	o.create(t, "strict", ofService("shop"))
	o.awaitVerified(t, "strict")
	if got := o.path(t, "strict", api.PathOutsider).Endpoints; got == nil || got.Total != 1 || got.Asked != 1 {
		t.Errorf("endpoints: got %+v, want the pod once", got)
	}
}
