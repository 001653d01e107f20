package controllers_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	securityv1beta1 "istio.io/api/security/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
)

func containsAll(text string, words ...string) bool {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// edit changes an object as a person would.
func (o *operator) edit(t *testing.T, name string, object client.Object, change func()) {
	t.Helper()
	must(t, o.get(t, name, object))
	before := object.DeepCopyObject().(client.Object)
	change()
	must(t, o.admin.Patch(t.Context(), object, client.MergeFrom(before), client.FieldOwner("kubectl-edit")))
}

func TestDriftIsRepaired(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict")
	o.awaitVerified(t, "strict")
	policy, configMap, service, sleep := &securityv1.PeerAuthentication{}, &corev1.ConfigMap{}, &corev1.Service{}, &appsv1.Deployment{}
	for i, drift := range []struct {
		kind, name string
		object     client.Object
		change     func()
		repaired   func() bool
	}{
		{"PeerAuthentication", "strict-nginx", policy,
			func() { policy.Spec.Mtls.Mode = securityv1beta1.PeerAuthentication_MutualTLS_DISABLE },
			func() bool { return policy.Spec.Mtls.Mode == securityv1beta1.PeerAuthentication_MutualTLS_STRICT }},
		{"ConfigMap", "strict-nginx", configMap,
			func() { configMap.Data["nginx.conf"] = "events {}" },
			func() bool { return strings.Contains(configMap.Data["nginx.conf"], "meshprobe") }},
		{"Service", "strict-nginx", service,
			func() { service.Spec.Ports[0].Port = 8443 },
			func() bool { return len(service.Spec.Ports) == 1 && service.Spec.Ports[0].Port == 443 }},
		{"Deployment", "meshprobe-sleep", sleep,
			func() { sleep.Spec.Template.Spec.Containers[0].Image = "someone/else:1" },
			func() bool { return sleep.Spec.Template.Spec.Containers[0].Image == "curl:test" }},
	} {
		o.edit(t, drift.name, drift.object, drift.change)
		eventually(t, "the repair of "+drift.kind, func() error {
			if err := o.get(t, drift.name, drift.object); err != nil {
				return err
			}
			if !drift.repaired() {
				return fmt.Errorf("%s is still as it was changed", drift.kind)
			}
			if got := o.events(t, "strict", "Repaired"); len(got) != i+1 {
				return fmt.Errorf("%d repairs were told, want %d: %v", len(got), i+1, got)
			}
			return nil
		})
	}
	o.awaitVerified(t, "strict")
	o.awaitRuns(t, "strict", 3)
	notes := o.events(t, "strict", "Repaired")
	for _, want := range []string{"PeerAuthentication strict-nginx", "ConfigMap strict-nginx", "Service strict-nginx", "Deployment meshprobe-sleep"} {
		if count := strings.Count(strings.Join(notes, "\n"), want+" was changed by kubectl-edit"); count != 1 {
			t.Errorf("events of the repair of %s: got %d in %v, want 1", want, count, notes)
		}
	}
	if len(notes) != 4 {
		t.Errorf("events of repairs: got %v, want one for each", notes)
	}
}

// Server-side apply keeps what another manager adds to a list, even where it makes the object invalid together with ours.
func TestEntriesThatOthersPutIntoListsAreTakenOut(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict")
	o.awaitVerified(t, "strict")
	service, deployment := &corev1.Service{}, &appsv1.Deployment{}
	intrude := func() {
		o.edit(t, "strict-nginx", service, func() {
			service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: "back-door", Port: 80})
		})
		o.edit(t, "strict-nginx", deployment, func() {
			containers := &deployment.Spec.Template.Spec.Containers
			*containers = append(*containers, corev1.Container{Name: "tunnel", Image: "someone/else:1"})
		})
	}
	repaired := func() error {
		must(t, o.get(t, "strict-nginx", service))
		must(t, o.get(t, "strict-nginx", deployment))
		if ports, containers := service.Spec.Ports, deployment.Spec.Template.Spec.Containers; len(ports) != 1 || len(containers) != 1 {
			return fmt.Errorf("ports %+v, containers %+v", ports, containers)
		}
		return nil
	}
	intrude()
	eventually(t, "the repair", repaired)
	o.awaitRuns(t, "strict", 2)
	if got := o.events(t, "strict", "Repaired"); len(got) != 2 {
		t.Errorf("events of repairs: got %v, want one for each object", got)
	}
	o.stop()
	o.edit(t, "strict-nginx", service, func() { service.Spec.Ports[0].Port = 8443 })
	intrude()
	o.start(t)
	eventually(t, "the repair of what was changed while no operator ran", repaired)
	o.awaitVerified(t, "strict")
}

func TestAdditionsOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	modes := map[string]api.MTLSMode{"strict": api.MTLSStrict, "unset": api.MTLSUnset, "disable": api.MTLSDisable}
	for name, mode := range modes {
		o.create(t, name, func(p *api.HTTPSMeshProbe) { p.Spec.MTLS.Mode = mode })
	}
	for name := range modes {
		o.awaitVerified(t, name)
		for _, object := range []client.Object{&securityv1.PeerAuthentication{}, &corev1.ConfigMap{}, &corev1.Service{}, &appsv1.Deployment{}} {
			o.edit(t, name+"-nginx", object, func() { object.SetAnnotations(map[string]string{"example.com/team": "shop"}) })
		}
	}
	before := len(o.calls.written())
	for name := range modes {
		o.awaitRuns(t, name, 2)
		if got := o.events(t, name, "Repaired"); len(got) != 0 {
			t.Errorf("%s: repaired what needed no repair: %v", name, got)
		}
		if got := o.policy(t, name+"-nginx").Annotations["example.com/team"]; got != "shop" {
			t.Errorf("%s: the annotation of somebody else is gone", name)
		}
	}
	for _, call := range o.calls.written()[before:] {
		if !strings.HasSuffix(call, "/status") {
			t.Errorf("written though nothing was to repair: %s", call)
		}
	}
}

func TestServerScaledToZeroIsLeftAlone(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict")
	o.awaitVerified(t, "strict")
	scale := func(replicas int32) {
		deployment := &appsv1.Deployment{}
		o.edit(t, "strict-nginx", deployment, func() { deployment.Spec.Replicas = &replicas })
	}
	scale(0)
	o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted)
	o.await(t, "strict", api.ConditionIstioProxyVerified, metav1.ConditionUnknown, api.ReasonInconclusive)
	o.awaitRuns(t, "strict", 2)
	deployment := &appsv1.Deployment{}
	must(t, o.get(t, "strict-nginx", deployment))
	if *deployment.Spec.Replicas != 0 {
		t.Errorf("replicas: got %d, want 0 as the person has set it", *deployment.Spec.Replicas)
	}
	if got := o.events(t, "strict", "Repaired"); len(got) != 0 {
		t.Errorf("events: got %v, want no repair", got)
	}
	scale(1)
	o.awaitVerified(t, "strict")
}

func TestDeletedObjectsComeBack(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict")
	o.awaitVerified(t, "strict")
	policy, service := o.policy(t, "strict-nginx"), &corev1.Service{}
	must(t, o.get(t, "strict-nginx", service))
	for _, object := range []client.Object{policy, service} {
		old := object.GetUID()
		must(t, o.admin.Delete(t.Context(), object))
		eventually(t, "the deleted object's successor", func() error {
			if err := o.get(t, "strict-nginx", object); err != nil {
				return err
			}
			if object.GetUID() == old {
				return fmt.Errorf("%T is still the old one", object)
			}
			return nil
		})
	}
	o.awaitVerified(t, "strict")
}

func TestTakenNamesAreLeftAlone(t *testing.T) {
	t.Parallel()
	name := metav1.ObjectMeta{Name: "strict-nginx"}
	foreign := &appsv1.Deployment{ObjectMeta: name}
	foreign.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "theirs"}}
	foreign.Spec.Template.Labels = foreign.Spec.Selector.MatchLabels
	foreign.Spec.Template.Spec.Containers = []corev1.Container{{Name: "theirs", Image: "theirs:1"}}
	foreignClient := foreign.DeepCopy()
	foreignClient.Name = "meshprobe-sleep"
	for kind, object := range map[string]client.Object{
		"ConfigMap":          &corev1.ConfigMap{ObjectMeta: name, Data: map[string]string{"nginx.conf": "theirs"}},
		"ServiceAccount":     &corev1.ServiceAccount{ObjectMeta: name},
		"Service":            &corev1.Service{ObjectMeta: name, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}},
		"Deployment":         foreign,
		"client":             foreignClient,
		"PeerAuthentication": &securityv1.PeerAuthentication{ObjectMeta: name},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			o := startOperator(t)
			object.SetNamespace(o.namespace)
			must(t, o.admin.Create(t.Context(), object, client.FieldOwner("somebody-else")))
			o.settle(t, object)
			o.create(t, "strict")
			message := o.await(t, "strict", api.ConditionStalled, metav1.ConditionTrue, api.ReasonNameTaken)
			wantMention(t, message, o.namespace+"/"+object.GetName(), "left alone")
			o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonNameTaken)
			after := object.DeepCopyObject().(client.Object)
			must(t, o.get(t, object.GetName(), after))
			if before, now := asJSON(t, object), asJSON(t, after); before != now {
				t.Errorf("the foreign object was changed:\n%s\n%s", before, now)
			}
			must(t, o.admin.Delete(t.Context(), object, client.GracePeriodSeconds(0)))
			o.awaitVerified(t, "strict")
		})
	}
}

// asJSON is everything in an object, its managed fields among it.
func asJSON(t *testing.T, object client.Object) string {
	t.Helper()
	encoded, err := json.Marshal(object)
	must(t, err)
	return string(encoded)
}

// settle waits until the played controllers have done their part of an object, and reads it as it is then.
func (o *operator) settle(t *testing.T, object client.Object) {
	t.Helper()
	eventually(t, "the played Deployment controller", func() error {
		if err := o.get(t, object.GetName(), object); err != nil {
			return err
		}
		if deployment, ok := object.(*appsv1.Deployment); ok && deployment.Status.AvailableReplicas == 0 {
			return fmt.Errorf("Deployment %s has no pod yet", deployment.Name)
		}
		return nil
	})
}

func TestObjectThatAppearsMeanwhileIsNotTaken(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	// Labels of ours do not make an object ours.
	theirs := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: "strict-nginx", Namespace: o.namespace, Labels: map[string]string{fixture.LabelManagedBy: fixture.ManagedBy},
	}}
	must(t, o.admin.Create(t.Context(), theirs, client.FieldOwner("somebody-else")))
	o.create(t, "strict")
	o.await(t, "strict", api.ConditionStalled, metav1.ConditionTrue, api.ReasonNameTaken)
	after := &corev1.ConfigMap{}
	must(t, o.get(t, "strict-nginx", after))
	if after.ResourceVersion != theirs.ResourceVersion {
		t.Errorf("the foreign object was written: %+v", after)
	}
}

func TestObjectOfADeletedNamesakeIsWaitedFor(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	isController := true
	left := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: "strict-nginx", Namespace: o.namespace, Labels: map[string]string{fixture.LabelManagedBy: fixture.ManagedBy},
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: api.GroupVersion.String(), Kind: api.Kind, Name: "strict", UID: types.UID("0a1b"), Controller: &isController,
		}},
	}}
	must(t, o.admin.Create(t.Context(), left))
	o.create(t, "strict")
	eventually(t, "the message about the namesake", func() error {
		if got := o.message(t, "strict", api.ConditionReconciling); !containsAll(got, "deleted probe of the same name") {
			return fmt.Errorf("Reconciling says %q", got)
		}
		return o.condition(t, "strict", api.ConditionReady, metav1.ConditionUnknown, api.ReasonProgressing)
	})
	must(t, o.admin.Delete(t.Context(), left))
	o.awaitVerified(t, "strict")
}

func TestDeletedProbeIsForgotten(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	probe := o.create(t, "strict")
	o.create(t, "other")
	o.awaitVerified(t, "strict")
	o.awaitVerified(t, "other")
	must(t, o.admin.Delete(t.Context(), probe))
	o.awaitRuns(t, "other", 2)
	requests := o.mesh.requests("strict")
	o.awaitRuns(t, "other", 2)
	if got := o.mesh.requests("strict"); got != requests {
		t.Errorf("requests of a deleted probe: got %d more, want none", got-requests)
	}
	if got := o.mesh.openStreams(); got != 3 {
		t.Errorf("exec streams of the other probe: got %d, want 3", got)
	}
	must(t, o.admin.Delete(t.Context(), o.probe(t, "other")))
	eventually(t, "the end of all exec streams", func() error {
		if got := o.mesh.openStreams(); got != 0 {
			return fmt.Errorf("%d streams are open", got)
		}
		return nil
	})
}
