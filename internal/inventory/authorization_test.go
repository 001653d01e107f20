package inventory

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshprobe/httpsmeshprobe/internal/authz"
)

func TestAuthorizationPolicyIsTakenWhole(t *testing.T) {
	for name, c := range map[string]struct {
		annotations, spec string
		want              authz.Policy
	}{
		"empty":           {"{}", "{}", authz.Policy{Action: authz.Allow}},
		"no spec":         {"{}", "null", authz.Policy{Action: authz.Allow}},
		"deny to all":     {"{}", "{action: DENY, rules: [{}]}", authz.Policy{Action: authz.Deny, Rules: []authz.Rule{{}}}},
		"custom":          {"{}", "{action: CUSTOM, provider: {name: x}, rules: [{}]}", authz.Policy{Action: authz.Custom, Rules: []authz.Rule{{}}}},
		"selecting":       {"{}", "{selector: {matchLabels: {app: web}}}", authz.Policy{Action: authz.Allow, Selector: map[string]string{"app": "web"}}},
		"attached":        {"{}", "{targetRefs: [{kind: Gateway, name: g}]}", authz.Policy{Action: authz.Allow, TargetRefs: true}},
		"attached before": {"{}", "{targetRef: {kind: Gateway, name: g}}", authz.Policy{Action: authz.Allow, TargetRefs: true}},
		"dry-run":         {`{istio.io/dry-run: "true"}`, "{}", authz.Policy{Action: authz.Allow, DryRun: true}},
		"no boolean":      {`{istio.io/dry-run: "yes"}`, "{}", authz.Policy{Action: authz.Allow}},
		"everything": {"{}", `{rules: [{
			from: [{source: {principals: [a], notPrincipals: [b], namespaces: [c], notIpBlocks: [d], requestPrincipals: [e]}}, {}],
			to: [{operation: {ports: ["8443"], notMethods: [GET], notHosts: [f], paths: [g]}}],
			when: [{key: "source.namespace", values: [h], notValues: [i]}]}]}`, authz.Policy{Action: authz.Allow, Rules: []authz.Rule{{
			From: [][]authz.Condition{{
				{Key: "request.auth.principal", Values: []string{"e"}}, {Key: "source.ip", NotValues: []string{"d"}},
				{Key: "source.namespace", Values: []string{"c"}}, {Key: "source.principal", NotValues: []string{"b"}}, {Key: "source.principal", Values: []string{"a"}},
			}, {}},
			To: [][]authz.Condition{{
				{Key: "destination.port", Values: []string{"8443"}}, {Key: authz.KeyHost, NotValues: []string{"f"}},
				{Key: authz.KeyMethod, NotValues: []string{"GET"}}, {Key: authz.KeyPath, Values: []string{"g"}},
			}},
			When: []authz.Condition{{Key: "source.namespace", Values: []string{"h"}, NotValues: []string{"i"}}},
		}}}},
		// What is not known must not be taken for absent: without it the rule would be for everybody.
		"a source's field of later": {"{}", "{rules: [{from: [{source: {moods: [good], notMoods: [bad]}}]}]}", authz.Policy{Action: authz.Allow,
			Rules: []authz.Rule{{From: [][]authz.Condition{{{Key: "moods", Values: []string{"good"}}, {Key: "notMoods", NotValues: []string{"bad"}}}}}}}},
	} {
		object := unstructured.Unstructured{}
		decode(t, "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {namespace: shop, name: p, annotations: "+c.annotations+"}, spec: "+c.spec+"}", &object.Object)
		c.want.Namespace, c.want.Name = "shop", "p"
		if got := authorizationPolicy(object); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
	for name, spec := range map[string]string{
		"a rule's field of later": "{rules: [{unless: [{}]}]}", "a spec's field of later": "{strength: 1}", "another shape": "{rules: {}}", "a source of another shape": "{rules: [{from: [{source: {principals: a}}]}]}",
	} {
		object := unstructured.Unstructured{}
		decode(t, "{metadata: {namespace: shop, name: p}, spec: "+spec+"}", &object.Object)
		if got := authorizationPolicy(object); got.Unread == "" || got.Selector != nil || got.Rules != nil {
			t.Errorf("%s: got %+v, want nothing but why it could not be read", name, got)
		}
	}
}

// crowd holds more policies than are read.
type crowd struct{ client.Reader }

func (crowd) List(_ context.Context, into client.ObjectList, _ ...client.ListOption) error {
	into.SetContinue("more")
	return nil
}

func TestTooManyAuthorizationPolicies(t *testing.T) {
	if _, err := ReadAuthorizationPolicies(t.Context(), crowd{}, "shop"); !errors.Is(err, ErrTooManyPolicies) {
		t.Errorf("%v", err)
	}
}

// TestAsMeasured holds what is read and judged against what curl met on a mesh of Istio 1.31: from a pod with sidecar, service
// account default, and from its container istio-proxy, which has no certificate, to a Service's TCP port 443, pod port 80.
func TestAsMeasured(t *testing.T) {
	for name, c := range map[string]struct {
		spec        string
		app, bypass bool
	}{
		"no rules":                {"{}", false, false},
		"the client's account":    {`{rules: [{from: [{source: {principals: ["cluster.local/ns/policy-lab/sa/default"]}}]}]}`, true, false},
		"another account":         {`{rules: [{from: [{source: {principals: ["cluster.local/ns/policy-lab/sa/other"]}}]}]}`, false, false},
		"serviceAccounts":         {`{rules: [{from: [{source: {serviceAccounts: ["default"]}}]}]}`, true, false},
		"GET":                     {`{rules: [{to: [{operation: {methods: [GET]}}]}]}`, false, false},
		"GET, or the port":        {`{rules: [{to: [{operation: {methods: [GET]}}, {operation: {ports: ["80"]}}]}]}`, false, false},
		"the pod's port":          {`{rules: [{to: [{operation: {ports: ["80"]}}]}]}`, true, true},
		"the Service's port":      {`{rules: [{to: [{operation: {ports: ["443"]}}]}]}`, false, false},
		"DENY POST":               {`{action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]}`, false, false},
		"DENY POST, another port": {`{action: DENY, rules: [{to: [{operation: {methods: [POST], ports: ["81"]}}]}]}`, true, true},
		"DENY without principal":  {`{action: DENY, rules: [{from: [{source: {notPrincipals: ["*"]}}]}]}`, true, false},
		"the namespace":           {`{rules: [{from: [{source: {namespaces: ["pol*"]}}]}]}`, true, false},
	} {
		object := unstructured.Unstructured{}
		decode(t, "{metadata: {namespace: policy-lab, name: p}, spec: "+c.spec+"}", &object.Object)
		held := []authz.Policy{authorizationPolicy(object)}
		for identity, admitted := range map[string]bool{"spiffe://cluster.local/ns/policy-lab/sa/default": c.app, "": c.bypass} {
			got := authz.Judge(held, "istio-system", authz.Server{Namespace: "policy-lab", Labels: map[string]string{"app": "plain"}, Port: 80}, identity)
			if (len(got.Denials) == 0) != admitted || len(got.Uncertain) > 0 {
				t.Errorf("%s, client %q: %+v, and curl was admitted: %v", name, identity, got, admitted)
			}
		}
	}
}
