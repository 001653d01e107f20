package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	networkingapi "istio.io/api/networking/v1beta1"
	networkingv1beta1 "istio.io/client-go/pkg/apis/networking/v1beta1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

const operatorNamespace = "httpsmeshprobe-system"

// TestSleepPodDeleted takes the client away: the paths cannot be asked for a while, and then they can again.
func TestSleepPodDeleted(t *testing.T) {
	ns := namespace(t)
	hmp := probe(t, ns, "strict", api.SidecarEnabled, api.MTLSStrict)
	awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionTrue)
	old := clientPod(t, ns, "meshprobe-sleep")
	ready := recordReady(t, hmp)
	if err := lab.Delete(t.Context(), &old); err != nil {
		t.Fatal(err)
	}
	await(t, "a run from the new pod", func() error {
		pod := clientPod(t, ns, "meshprobe-sleep")
		fresh := read(t, hmp)
		if pod.UID == old.UID || !fresh.Status.LastProbeTime.After(pod.CreationTimestamp.Time) || condition(fresh, api.ConditionReady).Status != metav1.ConditionTrue {
			return fmt.Errorf("pod %s, last run at %s, Ready %s", pod.Name, fresh.Status.LastProbeTime, condition(fresh, api.ConditionReady).Status)
		}
		return nil
	})
	if statuses := ready.end(t); slices.Contains(statuses, metav1.ConditionFalse) {
		t.Errorf("Ready went through %v; a client that is away is no failure of the policy", statuses)
	}
}

// TestOperatorRestarted takes the operator away: verdicts stay, runs go on, and no agent is left over.
func TestOperatorRestarted(t *testing.T) {
	ns := namespace(t)
	hmp := probe(t, ns, "strict", api.SidecarEnabled, api.MTLSStrict)
	before := awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionTrue)
	ready := recordReady(t, hmp)
	restartOperator(t)
	await(t, "a run by the new operator", func() error {
		fresh := read(t, hmp)
		if !fresh.Status.LastProbeTime.After(before.Status.LastProbeTime.Add(5 * time.Second)) {
			return fmt.Errorf("last run at %s", fresh.Status.LastProbeTime)
		}
		return nil
	})
	if statuses := ready.end(t); !slices.Equal(statuses, []metav1.ConditionStatus{metav1.ConditionTrue}) {
		t.Errorf("Ready went through %v; want True throughout", statuses)
	}
	await(t, "one agent in each container", func() error { return oneAgentEach(t, ns) })
}

func restartOperator(t *testing.T) {
	t.Helper()
	pods := podsWith(t, operatorNamespace, "app.kubernetes.io/component=manager")
	for i := range pods {
		if err := lab.Delete(t.Context(), &pods[i]); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the operator to be back", func() error {
		for _, pod := range podsWith(t, operatorNamespace, "app.kubernetes.io/component=manager") {
			if pod.DeletionTimestamp == nil && isReady(pod) {
				return nil
			}
		}
		return fmt.Errorf("no pod of it is ready")
	})
}

func isReady(pod corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func oneAgentEach(t *testing.T, ns string) error {
	for client, container := range map[string]string{"meshprobe-sleep": "sleep", "meshprobe-outsider": "sleep"} {
		agents, err := agentsIn(t, ns, clientPod(t, ns, client).Name, container)
		if err != nil {
			return err
		}
		if len(agents) != 1 {
			return fmt.Errorf("%d agents in %s/%s", len(agents), client, container)
		}
	}
	return nil
}

// agentsIn lists the process IDs of the agents in a container.
func agentsIn(t *testing.T, ns, pod, container string) ([]string, error) {
	out, err := run(t, ns, pod, container, "sh", "-c", `for p in /proc/[0-9]*; do [ "$(tr '\0' ' ' <$p/cmdline 2>/dev/null)" = "/meshprobe/probe agent " ] && echo ${p#/proc/}; done; true`)
	return strings.Fields(out), err
}

// TestAgentKilled ends the agent in the middle of its work: the stream is opened again, and no verdict is lost.
func TestAgentKilled(t *testing.T) {
	ns := namespace(t)
	hmp := probe(t, ns, "strict", api.SidecarEnabled, api.MTLSStrict)
	before := awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionTrue)
	ready := recordReady(t, hmp)
	pod := clientPod(t, ns, "meshprobe-sleep").Name
	old, err := agentsIn(t, ns, pod, "sleep")
	if err != nil || len(old) != 1 {
		t.Fatalf("agents %v, %v; want one", old, err)
	}
	if _, err := run(t, ns, pod, "sleep", "sh", "-c", "kill -9 "+old[0]); err != nil {
		t.Fatal(err)
	}
	await(t, "another agent, and runs by it", func() error {
		now, err := agentsIn(t, ns, pod, "sleep")
		if err != nil || len(now) != 1 || now[0] == old[0] {
			return fmt.Errorf("agents %v, %w", now, err)
		}
		if fresh := read(t, hmp); !fresh.Status.LastProbeTime.After(before.Status.LastProbeTime.Add(5 * time.Second)) {
			return fmt.Errorf("last run at %s", fresh.Status.LastProbeTime)
		}
		return nil
	})
	if statuses := ready.end(t); !slices.Equal(statuses, []metav1.ConditionStatus{metav1.ConditionTrue}) {
		t.Errorf("Ready went through %v; want True throughout", statuses)
	}
}

// TestDistrolessProxy probes from proxies whose image holds neither a shell nor curl.
func TestDistrolessProxy(t *testing.T) {
	ns := namespace(t)
	config := &networkingv1beta1.ProxyConfig{}
	config.Namespace, config.Name = ns, "distroless"
	config.Spec.Image = &networkingapi.ProxyImage{ImageType: "distroless"}
	if err := lab.Create(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	await(t, "the injector to follow the ProxyConfig", func() error {
		if image := injectedImage(t, ns, map[string]string{"sidecar.istio.io/inject": "true"}); !strings.HasSuffix(image, "-distroless") {
			return fmt.Errorf("it still injects %q", image)
		}
		return nil
	})
	hmp := awaitCondition(t, probe(t, ns, "strict", api.SidecarEnabled, api.MTLSStrict), api.ConditionReady, metav1.ConditionTrue)
	if got := observed(hmp); got != "200/refused/refused" {
		t.Errorf("paths: %s", got)
	}
	pod := clientPod(t, ns, "meshprobe-sleep")
	for _, program := range []string{"sh", "curl"} {
		if out, err := run(t, ns, pod.Name, "istio-proxy", program, "--version"); err == nil || !strings.Contains(err.Error(), "not found") {
			t.Errorf("istio-proxy has %s (%q, %v): the test proves nothing", program, out, err)
		}
	}
}

// injectedImage is the image of the sidecar that a pod with these labels would get if it was made now, or "" where it
// would get none; none is made.
func injectedImage(t *testing.T, ns string, labels map[string]string) string {
	t.Helper()
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name, pod.Labels = ns, "dry-run", labels
	pod.Spec.Containers = []corev1.Container{{Name: "app", Image: "app"}}
	if err := lab.Create(t.Context(), pod, client.DryRunAll); err != nil {
		t.Fatalf("dry run of a pod: %v", err)
	}
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if container.Name == "istio-proxy" {
			return container.Image
		}
	}
	return ""
}

// TestDeletedProbeLeavesNothing lists every object of a namespace before the first probe and after the last.
func TestDeletedProbeLeavesNothing(t *testing.T) {
	ns := namespace(t)
	await(t, "the namespace's own objects", func() error {
		if names := objects(t, ns); len(names) < 2 {
			return fmt.Errorf("only %v", names)
		}
		return nil
	})
	before := objects(t, ns)
	first := probe(t, ns, "first", api.SidecarEnabled, api.MTLSStrict)
	second := probe(t, ns, "second", api.SidecarDisabled, api.MTLSUnset)
	awaitCondition(t, first, api.ConditionReady, metav1.ConditionTrue)
	awaitCondition(t, second, api.ConditionReady, metav1.ConditionTrue)

	if err := lab.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	await(t, "the first probe's objects to go, and the clients to stay", func() error {
		names := objects(t, ns)
		for _, name := range names {
			if strings.Contains(name, "/first-nginx") {
				return fmt.Errorf("%s is still there", name)
			}
		}
		if !slices.Contains(names, "deployments/meshprobe-sleep") {
			t.Fatalf("the shared client went with the first of its two probes: %v", names)
		}
		return nil
	})
	if c := condition(read(t, second), api.ConditionReady); c.Status != metav1.ConditionTrue {
		t.Errorf("the other probe is %s: %s", c.Status, c.Message)
	}
	if err := lab.Delete(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	await(t, "the namespace to be as it was", func() error {
		if after := objects(t, ns); !slices.Equal(before, after) {
			return fmt.Errorf("before %v, now %v", before, after)
		}
		return nil
	})
}

// objects lists every object of every kind in a namespace, but for events.
func objects(t *testing.T, ns string) []string {
	t.Helper()
	var names []string
	for _, object := range everything(t, ns) {
		names = append(names, object.path())
	}
	slices.Sort(names)
	return names
}
