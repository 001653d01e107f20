package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	securityapi "istio.io/api/security/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
)

const operatorAccount = "httpsmeshprobe-manager"

// thief is somebody who has got hold of the operator's token.
type thief struct {
	client.Client
	config *rest.Config
}

func stealToken(t *testing.T) thief {
	t.Helper()
	token, err := lab.clientset.CoreV1().ServiceAccounts(operatorNamespace).
		CreateToken(t.Context(), operatorAccount, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("a token of the operator's service account: %v", err)
	}
	config := rest.AnonymousClientConfig(lab.config)
	config.BearerToken = token.Status.Token
	as, err := client.New(config, client.Options{Scheme: lab.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return thief{as, config}
}

// exec runs a command with the thief's rights, with nothing on its standard input, and returns what it printed.
func (s thief) exec(t *testing.T, subresource, namespace, pod string, options *corev1.PodExecOptions) (string, error) {
	t.Helper()
	clientset, err := kubernetes.NewForConfig(s.config)
	if err != nil {
		t.Fatal(err)
	}
	options.Stdin, options.Stdout, options.Stderr = true, true, true
	request := clientset.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource(subresource).
		VersionedParams(options, clientgoscheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(s.config, "GET", request.URL().String())
	if err != nil {
		t.Fatal(err)
	}
	var out, complaint bytes.Buffer
	err = executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: bytes.NewReader(nil), Stdout: &out, Stderr: &complaint})
	var refused *httpstream.UpgradeFailureError
	if errors.As(err, &refused) {
		err = refused.Cause
	}
	return out.String() + complaint.String(), err
}

// expectDenial expects the API server to have refused a call by one of the operator's admission policies, in its words.
func expectDenial(err error, policy, words string) error {
	if err == nil {
		return errors.New("it was let through")
	}
	if !strings.Contains(err.Error(), policy) || !strings.Contains(err.Error(), words) {
		return fmt.Errorf("it failed otherwise, want a denial by %s that says %q: %w", policy, words, err)
	}
	return nil
}

// A policy takes some seconds to take effect; every API server learns of it by itself.
func awaitPolicies(t *testing.T, as thief, ns string, pod corev1.Pod) {
	t.Helper()
	await(t, "the admission policies to take effect", func() error {
		_, err := as.exec(t, "exec", ns, pod.Name, &corev1.PodExecOptions{Container: fixture.ContainerSleep, Command: []string{"id"}})
		return expectDenial(err, "httpsmeshprobe-exec", "its agent and nothing else")
	})
}

func TestOperatorsTokenRunsTheAgentAndNothingElse(t *testing.T) {
	ns := namespace(t)
	hmp := probe(t, ns, "guarded", api.SidecarEnabled, api.MTLSStrict)
	awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionTrue)
	sleep, outsider := clientPod(t, ns, fixture.SleepName("")), clientPod(t, ns, fixture.OutsiderName)
	server := podsWith(t, ns, fixture.LabelProbe+"=guarded")[0]
	grantAttach(t, ns)
	as := stealToken(t)
	awaitPolicies(t, as, ns, sleep)

	agent := []string{fixture.AgentPath, "agent"}
	for name, test := range map[string]struct {
		subresource, pod, container string
		command                     []string
		words                       string
	}{
		"another program":             {"exec", sleep.Name, fixture.ContainerSleep, []string{"cat", "/etc/passwd"}, "its agent and nothing else"},
		"a program in istio-proxy":    {"exec", sleep.Name, fixture.ContainerIstioProxy, []string{"id"}, "its agent and nothing else"},
		"the agent's other command":   {"exec", sleep.Name, fixture.ContainerSleep, []string{fixture.AgentPath, "install", "/tmp/x"}, "its agent and nothing else"},
		"the agent with more to it":   {"exec", sleep.Name, fixture.ContainerSleep, append(agent, "x"), "its agent and nothing else"},
		"the agent in a shell":        {"exec", sleep.Name, fixture.ContainerSleep, []string{"sh", "-c", strings.Join(agent, " ")}, "its agent and nothing else"},
		"no container named":          {"exec", sleep.Name, "", agent, "in the containers sleep and istio-proxy"},
		"the container that installs": {"exec", sleep.Name, "agent", agent, "in the containers sleep and istio-proxy"},
		"a server":                    {"exec", server.Name, fixture.ContainerIstioProxy, agent, "in the pods of meshprobe-sleep"},
		"attach":                      {"attach", sleep.Name, fixture.ContainerSleep, nil, "exec alone"},
	} {
		out, err := as.exec(t, test.subresource, ns, test.pod, &corev1.PodExecOptions{Container: test.container, Command: test.command})
		if err := expectDenial(err, "httpsmeshprobe-exec", test.words); err != nil {
			t.Errorf("%s: %v; it printed %q", name, err, out)
		}
	}
	for _, from := range []struct{ pod, container string }{
		{sleep.Name, fixture.ContainerSleep}, {sleep.Name, fixture.ContainerIstioProxy}, {outsider.Name, fixture.ContainerSleep},
	} {
		// The agent ends with its standard input, which is empty.
		if out, err := as.exec(t, "exec", ns, from.pod, &corev1.PodExecOptions{Container: from.container, Command: agent}); err != nil {
			t.Errorf("the agent in %s of %s: %v; it printed %q", from.container, from.pod, err, out)
		}
	}
	// Nobody else is bound by these policies.
	if out, err := run(t, ns, sleep.Name, fixture.ContainerSleep, "id"); err != nil || !strings.HasPrefix(out, "uid=") {
		t.Errorf("a person's id in the client: got %q, %v", out, err)
	}
}

// grantAttach gives the operator a right that it does not have, as somebody might by mistake.
func grantAttach(t *testing.T, ns string) {
	t.Helper()
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "attach"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods/attach"}, Verbs: []string{"get", "create"}},
	}}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "attach"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "attach"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: operatorNamespace, Name: operatorAccount}},
	}
	for _, object := range []client.Object{role, binding} {
		if err := lab.Create(t.Context(), object); err != nil {
			t.Fatalf("let the operator attach: %v", err)
		}
	}
}

func TestOperatorsTokenWritesNothingOfOthers(t *testing.T) {
	ns := namespace(t)
	hmp := probe(t, ns, "guarded", api.SidecarEnabled, api.MTLSStrict)
	sleep := clientPod(t, ns, fixture.SleepName(""))
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "theirs"}}
	configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "theirs"}}
	stranger := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "theirs", Labels: map[string]string{"sidecar.istio.io/inject": "false"}}}
	stranger.Spec = corev1.PodSpec{Containers: []corev1.Container{{Name: "pause", Image: sleep.Spec.Containers[0].Image, Command: []string{"sleep", "infinity"}}}}
	for _, object := range []client.Object{secret, configMap, stranger} {
		if err := lab.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	as := stealToken(t)
	awaitPolicies(t, as, ns, sleep)

	ours := deploymentLike(t, hmp)
	for name, test := range map[string]struct {
		call          func(context.Context) error
		policy, words string
	}{
		"delete a Secret": {func(ctx context.Context) error { return as.Delete(ctx, secret.DeepCopy()) }, "objects", "may change and delete only"},
		"delete a pod":    {func(ctx context.Context) error { return as.Delete(ctx, stranger.DeepCopy()) }, "objects", "may change and delete only"},
		"label a ConfigMap as its own": {func(ctx context.Context) error {
			return as.Patch(ctx, configMap.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"app.kubernetes.io/managed-by":"httpsmeshprobe"}}}`)))
		}, "objects", "may change and delete only"},
		"make an unmarked ConfigMap": {func(ctx context.Context) error {
			return as.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "free"}})
		}, "objects", "what the operator makes"},
		"another service account": {func(ctx context.Context) error {
			return as.Create(ctx, ours(func(pod *corev1.PodSpec) { pod.ServiceAccountName = "istiod" }))
		}, "pods", "run as their own"},
		"a service account's token": {func(ctx context.Context) error {
			return as.Create(ctx, ours(func(pod *corev1.PodSpec) { pod.AutomountServiceAccountToken = nil }))
		}, "pods", "mount no token"},
		"the node's files": {func(ctx context.Context) error {
			return as.Create(ctx, ours(func(pod *corev1.PodSpec) {
				pod.Volumes = append(pod.Volumes, corev1.Volume{Name: "node", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}})
			}))
		}, "pods", "emptyDir, configMap and secret alone"},
		"the node's network": {func(ctx context.Context) error {
			return as.Create(ctx, ours(func(pod *corev1.PodSpec) { pod.HostNetwork = true }))
		}, "pods", "none of the node's namespaces"},
		"a privileged container": {func(ctx context.Context) error {
			yes := true
			return as.Create(ctx, ours(func(pod *corev1.PodSpec) {
				pod.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: &yes}
			}))
		}, "pods", "have no privileges"},
		"a container without bounds": {func(ctx context.Context) error {
			return as.Create(ctx, ours(func(pod *corev1.PodSpec) { pod.InitContainers[0].SecurityContext = nil }))
		}, "pods", "have no privileges"},
		"mutual TLS off for the mesh": {func(ctx context.Context) error {
			off := &securityv1.PeerAuthentication{ObjectMeta: ours(nil).ObjectMeta}
			off.Namespace = "istio-system"
			t.Cleanup(func() { _ = lab.Delete(context.Background(), off) }) // there only if it was let through
			off.Spec.Mtls = &securityapi.PeerAuthentication_MutualTLS{Mode: securityapi.PeerAuthentication_MutualTLS_DISABLE}
			return as.Create(ctx, off)
		}, "policies", "select its own servers"},
	} {
		if err := expectDenial(test.call(t.Context()), "httpsmeshprobe-"+test.policy, test.words); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := as.Create(t.Context(), ours(nil)); err != nil {
		t.Errorf("a Deployment as the operator makes it: %v", err)
	}
}

// deploymentLike returns a maker of Deployments that differ from a client of the operator's by an edit alone.
func deploymentLike(t *testing.T, hmp *api.HTTPSMeshProbe) func(edit func(*corev1.PodSpec)) *appsv1.Deployment {
	t.Helper()
	var model appsv1.Deployment
	await(t, "the client's Deployment", func() error {
		return lab.Get(t.Context(), client.ObjectKey{Namespace: hmp.Namespace, Name: fixture.SleepName("")}, &model)
	})
	return func(edit func(*corev1.PodSpec)) *appsv1.Deployment {
		made := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: hmp.Namespace, Name: "made", Labels: model.Labels}, Spec: *model.Spec.DeepCopy()}
		none := int32(0)
		made.Spec.Replicas = &none
		if edit != nil {
			edit(&made.Spec.Template.Spec)
		}
		return made
	}
}
