package controllers_test

import (
	"fmt"
	"strings"
	"testing"

	securityv1beta1 "istio.io/api/security/v1beta1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

const strictMode, permissiveMode, disableMode = securityv1beta1.PeerAuthentication_MutualTLS_STRICT,
	securityv1beta1.PeerAuthentication_MutualTLS_PERMISSIVE, securityv1beta1.PeerAuthentication_MutualTLS_DISABLE

func TestServiceIsVerifiedAndLeftAlone(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	policy := o.declare(t, o.namespace, "default", strictMode, nil)
	service := o.addShop(t, 3)
	objects := []client.Object{service, policy}
	for i := range 3 {
		objects = append(objects, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: fmt.Sprint("shop-", i)}})
	}
	objects = append(objects, &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: "shop-0"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: o.namespace}})
	before := make([]string, len(objects))
	for i, object := range objects {
		must(t, o.admin.Get(t.Context(), client.ObjectKeyFromObject(object), object))
		before[i] = asJSON(t, object)
	}

	o.create(t, "strict", ofService("shop"))
	o.awaitVerified(t, "strict")
	must(t, o.observes(t, "strict", "200 refused refused"))
	wantMention(t, o.message(t, "strict", api.ConditionPolicyInEffect), "PeerAuthentication "+o.namespace+"/default", "STRICT")
	if got := o.path(t, "strict", api.PathSleep); got.Encryption != api.EncryptionMutualTLS || got.Endpoints != nil {
		t.Errorf("path sleep: got encryption %s, endpoints %+v; want MutualTLS, and no endpoint dialed", got.Encryption, got.Endpoints)
	}
	for _, name := range []api.PathName{api.PathIstioProxy, api.PathOutsider} {
		got := o.path(t, "strict", name).Endpoints
		if got == nil || got.Total != 3 || got.Asked != 3 || got.Mismatched != 0 {
			t.Errorf("endpoints of path %s: got %+v, want all 3 asked", name, got)
		}
	}
	o.awaitRuns(t, "shop", 2)

	for i, object := range objects {
		must(t, o.admin.Get(t.Context(), client.ObjectKeyFromObject(object), object))
		if after := asJSON(t, object); after != before[i] {
			t.Errorf("%T %s was changed:\n%s\n%s", object, object.GetName(), before[i], after)
		}
	}
	for _, call := range o.calls.written() {
		if !strings.Contains(call, "/deployments/meshprobe-") && !strings.HasSuffix(call, "/httpsmeshprobes/strict/status") {
			t.Errorf("written: %s, want the clients and the status alone", call)
		}
	}
	for kind, want := range map[string]int{
		"apps/v1 Deployment": 2, "v1 Service": 0, "v1 ConfigMap": 0, "v1 Secret": 0, "v1 ServiceAccount": 0,
		"security.istio.io/v1 PeerAuthentication": 0, "networking.istio.io/v1 DestinationRule": 0,
	} {
		if got := o.made(t, kind); len(got) != want {
			t.Errorf("%s made for the probe: got %d, want %d", kind, len(got), want)
		}
	}
}

func TestServicesPortByNumberAndByName(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.declare(t, o.namespace, "default", strictMode, nil)
	o.addService(t, "shop", func(s *corev1.Service) {
		s.Spec.Ports = []corev1.ServicePort{
			{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)},
			{Name: "https-admin", Port: 9443, TargetPort: intstr.FromString("admin")},
		}
	})
	o.addPod(t, "shop", "shop-0", inject, func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "admin", ContainerPort: 7443}}
	})
	o.create(t, "by-number", ofService("shop"), onPort(intstr.FromInt32(9443)))
	o.create(t, "by-name", ofService("shop"), onPort(intstr.FromString("https-admin")))
	for _, name := range []string{"by-number", "by-name"} {
		o.awaitVerified(t, name)
	}
	for _, one := range o.mesh.arrived(func(one asked) bool { return one.target == "shop" }) {
		want := "shop." + o.namespace + ".svc.cluster.local.:9443"
		if one.endpoint != "" {
			want = one.endpoint + ":7443"
		}
		if one.Address != want {
			t.Fatalf("asked %s, want %s: the Service's port, and the container's at an endpoint", one.Address, want)
		}
		if count := one.Count; count != nil && (count.Port != 9443 || count.Host != "shop."+o.namespace+".svc.cluster.local") {
			t.Fatalf("counted for %+v", count)
		}
	}
}

// hopeless is a Service that cannot be probed truthfully, what is said of it, and how its owner mends it.
type hopeless struct {
	service  func(*testing.T, *operator)
	probe    []func(*api.HTTPSMeshProbe)
	reason   string
	mentions []string
	mend     func(*testing.T, *operator)
	// troubled is not Stalled.
	troubled bool
}

func hopelessServices() map[string]hopeless {
	ports := func(name string, edit func(*corev1.Service)) func(*testing.T, *operator) {
		return func(t *testing.T, o *operator) {
			o.addService(t, name, edit)
			o.addPod(t, name, name+"-0", inject)
		}
	}
	mended := func(name string, edit func(*corev1.Service)) func(*testing.T, *operator) {
		return func(t *testing.T, o *operator) {
			service := &corev1.Service{}
			o.edit(t, name, service, func() { edit(service) })
		}
	}
	https := "https"
	return map[string]hopeless{
		"missing": {
			reason: api.ReasonServiceNotFound, mentions: []string{"/missing does not exist"},
			mend: ports("missing", func(*corev1.Service) {}),
		},
		"portless": {
			service: ports("portless", func(s *corev1.Service) {
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "http", Port: 8080})
			}),
			probe:  []func(*api.HTTPSMeshProbe){onPort(intstr.FromInt32(8443))},
			reason: api.ReasonPortNotFound, mentions: []string{"has no port 8443; it has 443 (https), 8080 (http)"},
			mend: mended("portless", func(s *corev1.Service) { s.Spec.Ports[0].Port = 8443 }),
		},
		"nameless": {
			service: ports("nameless", func(s *corev1.Service) { s.Spec.Ports[0].Name = "" }),
			probe:   []func(*api.HTTPSMeshProbe){onPort(intstr.FromString("https"))},
			reason:  api.ReasonPortNotFound, mentions: []string{"has no port https; it has 443"},
			mend: mended("nameless", func(s *corev1.Service) { s.Spec.Ports[0].Name = "https" }),
		},
		"named": {
			service: ports("named", func(s *corev1.Service) { s.Spec.Ports[0].Name = "http-web" }),
			reason:  api.ReasonPortProtocol, mentions: []string{"port 443", "for http by its name", "name the port https"},
			mend: mended("named", func(s *corev1.Service) { s.Spec.Ports[0].AppProtocol = &https }),
		},
		"protocol": {
			service: ports("protocol", func(s *corev1.Service) { http := "HTTP"; s.Spec.Ports[0].AppProtocol = &http }),
			reason:  api.ReasonPortProtocol, mentions: []string{"port 443", "for http by its appProtocol"},
			mend: mended("protocol", func(s *corev1.Service) { s.Spec.Ports[0].AppProtocol = nil }),
		},
		"datagrams": {
			service: ports("datagrams", func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP }),
			reason:  api.ReasonPortProtocol, mentions: []string{"UDP", "TLS goes over TCP"},
			mend: mended("datagrams", func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolTCP }),
		},
		"external": {
			service: ports("external", func(s *corev1.Service) {
				s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "shop.example.com"}
			}),
			reason: api.ReasonServiceNotProbeable, mentions: []string{"ExternalName for shop.example.com"},
			mend: mended("external", func(s *corev1.Service) {
				s.Spec.Type, s.Spec.ExternalName, s.Spec.Selector = corev1.ServiceTypeClusterIP, "", map[string]string{"app": "external"}
				s.Spec.Ports = []corev1.ServicePort{{Name: "https", Port: 443, TargetPort: intstr.FromInt32(serverPort)}}
			}),
		},
		"empty": {
			service: func(t *testing.T, o *operator) { o.addService(t, "empty") },
			reason:  api.ReasonNoEndpoints, mentions: []string{"no endpoint", "/empty", "none at all"}, troubled: true,
			mend: func(t *testing.T, o *operator) { o.addPod(t, "empty", "empty-0", inject) },
		},
		"unready": {
			service: func(t *testing.T, o *operator) {
				o.cluster.set("unready-0", fault{waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}})
				ports("unready", func(*corev1.Service) {})(t, o)
			},
			reason: api.ReasonNoEndpoints, mentions: []string{"no endpoint", "/unready", "one that is not"}, troubled: true,
			mend: func(_ *testing.T, o *operator) { o.cluster.set("unready-0", fault{}) },
		},
	}
}

func TestServiceThatCannotBeProbedIsExplainedUntilItIsMended(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.declare(t, o.namespace, "default", strictMode, nil)
	cases := hopelessServices()
	for name, one := range cases {
		if one.service != nil {
			one.service(t, o)
		}
		o.create(t, name, append([]func(*api.HTTPSMeshProbe){ofService(name)}, one.probe...)...)
	}
	for name, one := range cases {
		eventually(t, "the words about "+name, func() error {
			if got := o.message(t, name, api.ConditionReady); !containsAll(got, one.mentions...) {
				return fmt.Errorf("Ready says %q, want it to mention %q", got, one.mentions)
			}
			return o.condition(t, name, api.ConditionReady, metav1.ConditionFalse, one.reason)
		})
		status := o.probe(t, name).Status
		if stalled := meta.FindStatusCondition(status.Conditions, api.ConditionStalled) != nil; stalled == one.troubled {
			t.Errorf("%s: Stalled is there: %v", name, stalled)
		}
		if got := o.mesh.requests(name); got != 0 || len(status.Paths) != 0 {
			t.Errorf("%s: %d requests were sent, paths %+v", name, got, status.Paths)
		}
	}
	for _, one := range cases {
		one.mend(t, o)
	}
	for name := range cases {
		o.awaitVerified(t, name)
	}
}

func TestServiceIsDeletedAndMadeAnew(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.declare(t, o.namespace, "default", strictMode, nil)
	service := o.addShop(t, 2)
	o.create(t, "strict", ofService("shop"))
	o.awaitVerified(t, "strict")
	must(t, o.admin.Delete(t.Context(), service))
	o.await(t, "strict", api.ConditionStalled, metav1.ConditionTrue, api.ReasonServiceNotFound)
	o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonServiceNotFound)
	if got := o.mesh.openStreams(); got != 0 {
		t.Errorf("exec streams for a Service that is gone: got %d, want 0", got)
	}
	o.addService(t, "shop")
	o.awaitVerified(t, "strict")
	if got := meta.FindStatusCondition(o.probe(t, "strict").Status.Conditions, api.ConditionStalled); got != nil {
		t.Errorf("Stalled beside a verdict: %+v", got)
	}
}

func TestServiceLosesAndRegainsItsPods(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.declare(t, o.namespace, "default", strictMode, nil)
	o.addShop(t, 2)
	o.create(t, "strict", ofService("shop"), seldom)
	o.awaitVerified(t, "strict")
	o.deletePods(t, client.MatchingLabels{"app": "shop"})
	o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonNoEndpoints)
	o.addPod(t, "shop", "shop-7", inject)
	o.awaitVerified(t, "strict")
	if got := o.path(t, "strict", api.PathOutsider).Endpoints; got == nil || got.Total != 1 || got.Asked != 1 {
		t.Errorf("endpoints: got %+v, want the new one alone", got)
	}
}

// another gives a test one more namespace.
func another(namespace *string) func(*operator) {
	return func(o *operator) {
		*namespace = o.namespace + "-other"
		o.others = append(o.others, *namespace)
	}
}

func (o *operator) makeNamespace(t *testing.T, name string) *corev1.Namespace {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	must(t, o.admin.Create(t.Context(), namespace))
	return namespace
}

func inNamespace(name string) func(*api.HTTPSMeshProbe) {
	return func(p *api.HTTPSMeshProbe) { p.Spec.Target.Service.Namespace = name }
}

func TestServiceOfAnotherNamespaceIsForbiddenByDefault(t *testing.T) {
	t.Parallel()
	var elsewhere string
	o := startOperator(t, another(&elsewhere))
	o.makeNamespace(t, elsewhere)
	o.addService(t, "shop", func(s *corev1.Service) { s.Namespace = elsewhere })
	o.addPod(t, "shop", "shop-0", inject, func(p *corev1.Pod) { p.Namespace = elsewhere })
	o.create(t, "strict", ofService("shop"), inNamespace(elsewhere))
	message := o.await(t, "strict", api.ConditionStalled, metav1.ConditionTrue, api.ReasonCrossNamespaceForbidden)
	wantMention(t, message, "Service "+elsewhere+"/shop", "--allow-cross-namespace")
	o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonCrossNamespaceForbidden)
	if got := o.mesh.requests("shop"); got != 0 {
		t.Errorf("requests to another namespace: got %d, want 0", got)
	}
	if got := o.made(t, "apps/v1 Deployment"); len(got) != 0 {
		t.Errorf("clients: got %d, want none", len(got))
	}
}

func TestServiceOfAnotherNamespaceIsProbedWhereThatIsAllowed(t *testing.T) {
	t.Parallel()
	var elsewhere string
	o := startOperator(t, another(&elsewhere), func(o *operator) { o.crossNamespace = true })
	namespace := o.makeNamespace(t, elsewhere)
	// The policy is that of the Service's namespace; the one of the probe's own is of no account.
	o.declare(t, o.namespace, "default", permissiveMode, nil)
	o.addService(t, "shop", func(s *corev1.Service) { s.Namespace = elsewhere })
	o.addPod(t, "shop", "shop-0", inject, func(p *corev1.Pod) { p.Namespace = elsewhere })
	policy := o.declare(t, elsewhere, "default", strictMode, nil)
	o.create(t, "strict", ofService("shop"), inNamespace(elsewhere), seldom)
	o.awaitVerified(t, "strict")
	wantMention(t, o.message(t, "strict", api.ConditionPolicyInEffect), elsewhere+"/default")
	must(t, o.admin.Delete(t.Context(), policy))
	wantMention(t, o.await(t, "strict", api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonOverridden), "default holds", "PERMISSIVE")
	o.declare(t, elsewhere, "default", strictMode, nil)
	o.awaitVerified(t, "strict")

	// Nothing empties a namespace here, so it stays on its way out until the test lets it go.
	must(t, o.admin.Delete(t.Context(), namespace))
	wantMention(t, o.await(t, "strict", api.ConditionStalled, metav1.ConditionTrue, api.ReasonNamespaceTerminating), elsewhere)
	o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonNamespaceTerminating)
	must(t, o.admin.Get(t.Context(), client.ObjectKeyFromObject(namespace), namespace))
	namespace.Spec.Finalizers = nil
	must(t, o.admin.SubResource("finalize").Update(t.Context(), namespace))
	o.makeNamespace(t, elsewhere)
	o.awaitVerified(t, "strict")
}

func TestProbeInATerminatingNamespace(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.declare(t, o.namespace, "default", strictMode, nil)
	o.addShop(t, 1)
	o.create(t, "strict", ofService("shop"), seldom)
	o.create(t, "own", seldom)
	o.awaitVerified(t, "strict")
	o.awaitVerified(t, "own")
	must(t, o.admin.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: o.namespace}}))
	o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonNamespaceTerminating)
}

func TestExpectedOtherwise(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.declare(t, o.namespace, "default", strictMode, nil)
	o.addShop(t, 1)
	login := answeredWith(usersCertificate)
	login.HTTPCode = 401
	o.mesh.script("shop", api.PathSleep, login)
	o.create(t, "login", ofService("shop"), func(p *api.HTTPSMeshProbe) {
		p.Spec.Expect = []api.PathExpectation{{Path: api.PathSleep, See: intstr.FromInt32(401), Reason: "whoever has not logged in is sent away"}}
	})
	o.create(t, "plain", ofService("shop"))
	o.awaitVerified(t, "login")
	must(t, o.observes(t, "login", "401 refused refused"))
	if got := o.path(t, "login", api.PathSleep); got.Expected != "401" || got.ExpectedReason != "whoever has not logged in is sent away" {
		t.Errorf("path sleep: expected %s because %q, want 401 with the reason in the spec", got.Expected, got.ExpectedReason)
	}
	if got := o.path(t, "login", api.PathOutsider).ExpectedReason; got != "" {
		t.Errorf("path outsider: expected because %q, want what the policy promises", got)
	}
	// By default what a stranger's server answers is its own affair.
	o.await(t, "plain", api.ConditionSleepVerified, metav1.ConditionTrue, api.ReasonAnswered)
	o.change(t, "login", func(p *api.HTTPSMeshProbe) { p.Spec.Expect[0].See = intstr.FromInt32(200) })
	o.await(t, "login", api.ConditionSleepVerified, metav1.ConditionFalse, api.ReasonUnexpectedStatusCode)

	// An outsider that is let in by an agreement is no pass unless it is let in.
	o.change(t, "login", func(p *api.HTTPSMeshProbe) {
		p.Spec.Expect = append(p.Spec.Expect, api.PathExpectation{Path: api.PathOutsider, See: intstr.FromInt32(200), Reason: "the load balancer comes from outside"})
	})
	wantMention(t, o.await(t, "login", api.ConditionOutsiderVerified, metav1.ConditionFalse, api.ReasonRefused), "the load balancer comes from outside")
	o.mesh.script("shop", api.PathOutsider, answeredWith(usersCertificate))
	o.await(t, "login", api.ConditionOutsiderVerified, metav1.ConditionTrue, api.ReasonAnswered)
}
