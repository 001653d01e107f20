package controllers_test

import (
	"errors"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/controllers"
)

func alone(o *operator) { o.alone = true }

func TestOperatorForOneNamespaceFollowsTheMeshsPolicies(t *testing.T) {
	t.Parallel()
	var elsewhere string
	o := startOperator(t, another(&elsewhere), alone)
	o.makeNamespace(t, elsewhere)
	o.create(t, "unset", withMode(api.MTLSUnset), seldom)
	other := &api.HTTPSMeshProbe{ObjectMeta: metav1.ObjectMeta{Name: "other", Namespace: elsewhere}}
	strict(other)
	must(t, o.admin.Create(t.Context(), other))
	o.awaitVerified(t, "unset")
	o.declare(t, o.root, "default", strictMode, nil)
	eventually(t, "the mesh's policy", func() error { return o.observes(t, "unset", "200 refused refused") })
	wantMention(t, o.message(t, "unset", api.ConditionPolicyInEffect), o.root+"/default (mesh level) sets STRICT")

	// A root namespace that it does not read is said, and not taken for one without policies.
	o.meshConfig(t, "rootNamespace: "+elsewhere)
	wantMention(t, o.await(t, "unset", api.ConditionStalled, metav1.ConditionTrue, api.ReasonMeshUnreadable), "makes "+elsewhere+" the root namespace")
	o.await(t, "unset", api.ConditionReady, metav1.ConditionFalse, api.ReasonMeshUnreadable)
	o.meshConfig(t, "rootNamespace: "+o.root)
	o.awaitVerified(t, "unset")

	must(t, o.admin.Get(t.Context(), client.ObjectKeyFromObject(other), other))
	if got := other.Status.ObservedGeneration; got != -1 {
		t.Errorf("a probe of another namespace was looked at: observedGeneration %d", got)
	}
}

func TestOperatorForOneNamespaceThatMayNotReadTheMeshSaysSo(t *testing.T) {
	t.Parallel()
	o := startOperator(t, alone, func(o *operator) { o.istioUnreadable = "the operator may not list configmaps" })
	o.create(t, "strict")
	wantMention(t, o.await(t, "strict", api.ConditionStalled, metav1.ConditionTrue, api.ReasonMeshUnreadable), "may not list configmaps")
	throughout(t, time.Second, "nothing is verified", func() error {
		return o.condition(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonMeshUnreadable)
	})
	if got := o.made(t, "apps/v1 Deployment"); len(got) != 0 {
		t.Errorf("Deployments: got %d, want none", len(got))
	}
}

func TestOperatorForOneNamespaceProbesNoOther(t *testing.T) {
	t.Parallel()
	var elsewhere string
	o := startOperator(t, another(&elsewhere), alone)
	o.makeNamespace(t, elsewhere)
	o.create(t, "strict", ofService("shop"), inNamespace(elsewhere))
	message := o.await(t, "strict", api.ConditionStalled, metav1.ConditionTrue, api.ReasonCrossNamespaceForbidden)
	wantMention(t, message, "Service "+elsewhere+"/shop", "serves namespace "+o.namespace+" alone")
}

func TestRightsInIstiosNamespaceAreAsked(t *testing.T) {
	t.Parallel()
	server := theAPIServer(t)
	ask := func(user *envtest.AuthenticatedUser) string {
		asker, err := client.New(user.Config(), client.Options{Scheme: server.scheme})
		must(t, err)
		missing, err := controllers.IstioUnreadable(t.Context(), asker, "default")
		must(t, err)
		return missing
	}
	user, err := server.env.AddUser(envtest.User{Name: "reader"}, nil)
	must(t, err)
	wantMention(t, ask(user), "list configmaps, watch configmaps, list peerauthentications", "watch destinationrules in namespace default")

	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "reader"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{"", "security.istio.io", "networking.istio.io"}, Resources: []string{"configmaps", "peerauthentications", "destinationrules"}, Verbs: []string{"list", "watch"}},
	}}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: role.ObjectMeta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "reader"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "reader"}},
	}
	must(t, server.admin.Create(t.Context(), role))
	must(t, server.admin.Create(t.Context(), binding))
	eventually(t, "the rights to count", func() error {
		if missing := ask(user); missing != "" {
			return errors.New(missing)
		}
		return nil
	})
}
