package controllers

import (
	"encoding/json"
	"fmt"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
)

func TestContains(t *testing.T) {
	for _, c := range []struct {
		have, want string
		contained  bool
	}{
		{`"a"`, `"a"`, true},
		{`"b"`, `"a"`, false},
		{`null`, `"a"`, false},
		{`1`, `1`, true},
		{`2`, `1`, false},
		{`"1"`, `1`, false},
		{`false`, `false`, true},
		{`null`, `false`, false},

		{`{"a":"1"}`, `{"a":"1"}`, true},
		{`{"a":"1","b":"2"}`, `{"a":"1"}`, true},
		{`{"a":"1"}`, `{"a":"1","b":"2"}`, false},
		{`{"a":"2"}`, `{"a":"1"}`, false},
		{`{"a":{"b":"1","c":"2"}}`, `{"a":{"b":"1"}}`, true},
		{`{"a":{"b":"2"}}`, `{"a":{"b":"1"}}`, false},
		{`{"a":"x"}`, `{"a":{"b":"1"}}`, false},
		{`null`, `{"a":"1"}`, false},
		// What is empty may be left out.
		{`null`, `{}`, true},
		{`null`, `[]`, true},
		{`null`, `{"a":{}}`, false},
		{`{}`, `{"a":{}}`, true},

		{`["a","b"]`, `["a","b"]`, true},
		{`["b","a"]`, `["a","b"]`, false},
		{`["a"]`, `["a","b"]`, false},
		{`["a","b"]`, `["a"]`, false},
		{`["a"]`, `[]`, false},
		{`null`, `["a"]`, false},
		{`"a"`, `["a"]`, false},
		{`[{"name":"a","default":"x"}]`, `[{"name":"a"}]`, true},
		{`[{"name":"b"}]`, `[{"name":"a"}]`, false},

		// Owner references come from many probes, in any order.
		{`[{"uid":"1","controller":true}]`, `[{"uid":"1"}]`, true},
		{`[{"uid":"2"},{"uid":"1"}]`, `[{"uid":"1"},{"uid":"2"}]`, true},
		{`[{"uid":"2"},{"uid":"1"},{"uid":"3"}]`, `[{"uid":"1"}]`, true},
		{`[{"uid":"2"},{"uid":"3"}]`, `[{"uid":"1"}]`, false},
		{`[{"uid":"1"}]`, `[{"uid":"1"},{"uid":"2"}]`, false},
		{`[{"uid":"1"},{"uid":"1"}]`, `[{"uid":"1"},{"uid":"2"}]`, false},
		{`null`, `[{"uid":"1"}]`, false},
	} {
		t.Run(c.have+" contains "+c.want, func(t *testing.T) {
			if got := contains(decode(t, c.have), decode(t, c.want)); got != c.contained {
				t.Errorf("%v, want %v", got, c.contained)
			}
		})
	}
}

func decode(t *testing.T, encoded string) any {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(encoded), &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// asTyped is an object as the cache holds it, after the API server has stored what was applied.
func asTyped(t *testing.T, applied *unstructured.Unstructured) client.Object {
	t.Helper()
	typed := map[string]client.Object{
		"ConfigMap": &corev1.ConfigMap{}, "ServiceAccount": &corev1.ServiceAccount{}, "Service": &corev1.Service{},
		"Deployment": &appsv1.Deployment{}, "PeerAuthentication": &securityv1.PeerAuthentication{}, "DestinationRule": &networkingv1.DestinationRule{},
	}[applied.GetKind()]
	encoded, err := json.Marshal(applied)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(encoded, typed); err != nil {
		t.Fatalf("%s: %v", applied.GetKind(), err)
	}
	typed.GetObjectKind().SetGroupVersionKind(applied.GroupVersionKind().GroupVersion().WithKind(""))
	return typed
}

// applied are all objects that are applied for a probe.
func applied(t *testing.T, probe fixture.Probe) []*unstructured.Unstructured {
	t.Helper()
	certificate := fixture.Certificate{PEM: "fake", SHA256: "0123456789abcdef"}
	images := fixture.Images{Server: "nginx", Sleep: "curl", Agent: "operator"}
	server, err := fixture.Server(probe, "strict-nginx.shop.svc.cluster.local", certificate, "fedcba9876543210", images)
	if err != nil {
		t.Fatal(err)
	}
	clients, err := fixture.Clients(probe.Namespace, []fixture.Probe{probe}, images)
	if err != nil {
		t.Fatal(err)
	}
	return append(server, clients...)
}

// Every object that was applied covers itself once it was read back, or each visit would repair what nobody changed.
func TestWhatWasAppliedIsCovered(t *testing.T) {
	for _, mode := range []api.MTLSMode{api.MTLSUnset, api.MTLSDisable, api.MTLSPermissive, api.MTLSStrict} {
		for _, clientMode := range clientModes {
			probe := fixture.Probe{Name: "strict", Namespace: "shop", UID: "uid", Sidecar: api.SidecarEnabled, Mode: mode, ClientMode: clientMode, Revision: "1-32"}
			for _, object := range applied(t, probe) {
				if !covers(asTyped(t, object), object) {
					t.Errorf("%s %s, mode %s, clientMode %s: not covered by itself", object.GetKind(), object.GetName(), mode, clientMode)
				}
			}
		}
	}
}

var clientModes = []api.ClientTLSMode{api.ClientTLSUnset, api.ClientTLSDisable, api.ClientTLSIstioMutual, api.ClientTLSSimple}

// What the API server and others put beside is no change of ours.
func TestDefaultsAndAdditionsAreCovered(t *testing.T) {
	probe := fixture.Probe{Name: "strict", Namespace: "shop", UID: "uid", Sidecar: api.SidecarEnabled, Mode: api.MTLSStrict, ClientMode: api.ClientTLSDisable}
	for _, object := range applied(t, probe) {
		typed := asTyped(t, object)
		typed.SetUID("uid-of-the-object")
		typed.SetResourceVersion("4711")
		typed.SetLabels(with(typed.GetLabels(), "example.org/team", "shop"))
		typed.SetAnnotations(with(typed.GetAnnotations(), "deployment.kubernetes.io/revision", "1"))
		switch typed := typed.(type) {
		case *corev1.Service:
			typed.Spec.ClusterIP, typed.Spec.Type = "10.0.0.1", corev1.ServiceTypeClusterIP
		case *appsv1.Deployment:
			replicas := int32(1)
			typed.Spec.Replicas = &replicas
			typed.Spec.Template.Spec.DNSPolicy = corev1.DNSClusterFirst
			typed.Spec.Template.Spec.Containers[0].ImagePullPolicy = corev1.PullIfNotPresent
			typed.Status.Replicas = 1
		}
		if !covers(typed, object) {
			t.Errorf("%s %s: defaults and additions count as a change", object.GetKind(), object.GetName())
		}
	}
}

func with(values map[string]string, key, value string) map[string]string {
	if values == nil {
		values = map[string]string{}
	}
	values[key] = value
	return values
}

// What somebody changed behind the operator's back is seen, whatever it was.
func TestEveryChangedFieldIsSeen(t *testing.T) {
	probe := fixture.Probe{Name: "strict", Namespace: "shop", UID: "uid", Sidecar: api.SidecarEnabled, Mode: api.MTLSStrict, ClientMode: api.ClientTLSSimple, Revision: "1-32"}
	for _, object := range applied(t, probe) {
		eachLeaf(object.Object, nil, func(path []any) {
			// The API server does not let anybody change who an object is.
			if path[0] == "apiVersion" || path[0] == "kind" {
				return
			}
			changed := object.DeepCopy()
			removeLeaf(changed.Object, path)
			if covers(changed, object) {
				t.Errorf("%s %s: nobody would notice that %v is gone", object.GetKind(), object.GetName(), path)
			}
		})
	}
}

// eachLeaf calls visit with the path of every value that is neither a map nor a list.
func eachLeaf(value any, path []any, visit func(path []any)) {
	switch value := value.(type) {
	case map[string]any:
		for key, one := range value {
			eachLeaf(one, append(path[:len(path):len(path)], key), visit)
		}
	case []any:
		for i, one := range value {
			eachLeaf(one, append(path[:len(path):len(path)], i), visit)
		}
	default:
		visit(path)
	}
}

func removeLeaf(value any, path []any) {
	for _, step := range path[:len(path)-1] {
		if key, ok := step.(string); ok {
			value = value.(map[string]any)[key]
		} else {
			value = value.([]any)[step.(int)]
		}
	}
	switch last := path[len(path)-1].(type) {
	case string:
		delete(value.(map[string]any), last)
	case int:
		value.([]any)[last] = fmt.Sprint(value.([]any)[last], "changed")
	}
}

// A policy that was switched behind the operator's back is the one change that matters most.
func TestASwitchedPolicyIsSeen(t *testing.T) {
	modes := []api.MTLSMode{api.MTLSUnset, api.MTLSDisable, api.MTLSPermissive, api.MTLSStrict}
	for _, declared := range modes {
		for _, found := range modes {
			desired := fixture.PeerAuthentication(fixture.Probe{Name: "strict", Namespace: "shop", UID: "uid", Mode: declared})
			existing := asTyped(t, fixture.PeerAuthentication(fixture.Probe{Name: "strict", Namespace: "shop", UID: "uid", Mode: found}))
			if got := covers(existing, desired); got != (declared == found) {
				t.Errorf("%s where %s is declared: covered is %v", found, declared, got)
			}
		}
	}
}

func TestASwitchedDestinationRuleIsSeen(t *testing.T) {
	const host = "strict-nginx.shop.svc.cluster.local"
	for _, declared := range clientModes[1:] {
		for _, found := range append(clientModes[1:], "MUTUAL") {
			desired := fixture.DestinationRule(fixture.Probe{Name: "strict", Namespace: "shop", UID: "uid", ClientMode: declared}, host)
			existing := asTyped(t, fixture.DestinationRule(fixture.Probe{Name: "strict", Namespace: "shop", UID: "uid", ClientMode: found}, host))
			if got := covers(existing, desired); got != (declared == found) {
				t.Errorf("%s where %s is declared: covered is %v", found, declared, got)
			}
		}
		without := &networkingv1.DestinationRule{}
		if covers(without, fixture.DestinationRule(fixture.Probe{Name: "strict", Namespace: "shop", UID: "uid", ClientMode: declared}, host)) {
			t.Errorf("a rule without TLS settings where %s is declared: covered", declared)
		}
	}
}
