package install

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestOneNamespace runs the operator with Roles alone: in team-a, next to a team-b that is none of its business.
func TestOneNamespace(t *testing.T) {
	const operator = "system:serviceaccount:team-a:httpsmeshprobe-manager"
	for _, namespace := range []string{"team-a", "team-b"} {
		kubectl(t, "create", "namespace", namespace)
		afterwards(t, "delete", "namespace", namespace, "--wait=false")
	}
	afterwards(t, "delete", "-k", root+"/config/lab/namespaced", "--ignore-not-found")
	kubectl(t, "apply", "-k", root+"/config/lab/namespaced")
	kubectl(t, "-n", "istio-system", "delete", "rolebinding", "httpsmeshprobe-mesh-reader")
	kubectl(t, "-n", "team-a", "rollout", "status", "deployment/httpsmeshprobe-manager", "--timeout=120s")
	apply(t, strictProbe("team-a", "strict")+"---"+strictProbe("team-b", "strict"))

	// Without the Role in Istio's namespace nobody knows which policies hold there, and nothing is verified.
	message := awaitReady(t, "team-a", "strict", "False MeshUnreadable")
	for _, want := range []string{"list configmaps", "watch peerauthentications", "namespace istio-system", "docs/install.md"} {
		if !strings.Contains(message, want) {
			t.Errorf("the message does not speak of %q: %s", want, message)
		}
	}
	kubectl(t, "apply", "-k", root+"/config/lab/namespaced")
	awaitReady(t, "team-a", "strict", "True Verified")
	checkHeld(t, operator, "team-a")
	checkRights(t, operator)
	checkLeftAlone(t, "team-b")
	followRootNamespace(t)
}

// checkRights holds what the operator may do in other namespaces against what any service account may.
func checkRights(t *testing.T, operator string) {
	t.Helper()
	const anybody = "system:serviceaccount:team-b:default"
	for _, namespace := range []string{"team-b", "kube-system"} {
		if got, want := rightsOf(t, operator, namespace), rightsOf(t, anybody, namespace); !slices.Equal(got, want) {
			t.Errorf("rights in %s: got %q, want %q", namespace, got, want)
		}
	}
	for _, namespace := range []string{"team-a", "istio-system"} {
		common := rightsOf(t, anybody, namespace)
		own := slices.DeleteFunc(rightsOf(t, operator, namespace), func(right string) bool { return slices.Contains(common, right) })
		t.Logf("kubectl auth can-i --list in %s, beyond everybody's:\n%s", namespace, strings.Join(own, "\n"))
		for _, right := range own {
			verbs := strings.Join(strings.Fields(right)[1:], " ")
			// What is watched takes three verbs, and what is read on demand one.
			if namespace == "istio-system" && verbs != "[] [] [get list watch]" && verbs != "[] [] [list]" {
				t.Errorf("a right in istio-system that is more than reading: %s", right)
			}
		}
	}
	for _, ask := range [][]string{{"list", "pods"}, {"get", "namespaces"}, {"list", "httpsmeshprobes.meshprobe.dev"}, {"create", "deployments"}} {
		if out, err := kubectlTry(t.Context(), append([]string{"auth", "can-i", "--as=" + operator, "--all-namespaces"}, ask...)...); err == nil {
			t.Errorf("the operator may %s everywhere: %s", strings.Join(ask, " "), out)
		}
	}
	if out := kubectl(t, "get", "clusterrolebindings", "-o", "jsonpath={.items[*].subjects[*].name}"); strings.Contains(out, "httpsmeshprobe") {
		t.Errorf("a ClusterRoleBinding is for the operator: %s", out)
	}
}

func rightsOf(t *testing.T, user, namespace string) []string {
	t.Helper()
	namespaceOf := strings.Split(user, ":")[2]
	listed := kubectl(t, "auth", "can-i", "--list", "--no-headers", "-n", namespace, "--as="+user,
		"--as-group=system:serviceaccounts", "--as-group=system:serviceaccounts:"+namespaceOf, "--as-group=system:authenticated")
	var rights []string
	for _, line := range strings.Split(strings.TrimSpace(listed), "\n") {
		rights = append(rights, strings.Join(strings.Fields(line), " "))
	}
	slices.Sort(rights)
	return rights
}

func checkLeftAlone(t *testing.T, namespace string) {
	t.Helper()
	if got := kubectl(t, "-n", namespace, "get", "hmp", "strict", "-o", "jsonpath={.status}"); got != `{"observedGeneration":-1}` {
		t.Errorf("status of a probe in another namespace: got %s, want untouched", got)
	}
	if got := kubectl(t, "-n", namespace, "get", "deployments,services,configmaps,secrets,peerauthentications", "-l", "app.kubernetes.io/managed-by=httpsmeshprobe", "-o", "name"); got != "" {
		t.Errorf("objects of the operator's in another namespace: %s", got)
	}
}

// followRootNamespace proves that a policy of the whole mesh is seen, though only a Role lets the operator read it.
func followRootNamespace(t *testing.T) {
	t.Helper()
	apply(t, `
apiVersion: meshprobe.dev/v1alpha1
kind: HTTPSMeshProbe
metadata: {namespace: team-a, name: inherits}
spec: {target: {sidecar: Enabled}, interval: 5s, timeout: 2s}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {namespace: istio-system, name: whole-mesh}
spec: {mtls: {mode: STRICT}}
`)
	afterwards(t, "-n", "istio-system", "delete", "peerauthentication", "whole-mesh")
	await(t, "the mesh's policy to be the one in effect", func() error {
		said := kubectl(t, "-n", "team-a", "get", "hmp", "inherits", "-o",
			`jsonpath={.status.conditions[?(@.type=="PolicyInEffect")].message} {.status.conditions[?(@.type=="IstioProxyVerified")].reason}`)
		if !strings.Contains(said, "PeerAuthentication istio-system/whole-mesh (mesh level) sets STRICT") || !strings.Contains(said, "RefusedByMesh") {
			return fmt.Errorf("the probe says %s", said)
		}
		return nil
	})
}
