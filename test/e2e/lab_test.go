// Package e2e tests the operator on a lab: a real Kubernetes, istiod, Envoy and nginx, the operator in a pod under its
// own rights. hack/e2e.sh brings all of it up and runs these tests inside the lab's network.
package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	networkingv1beta1 "istio.io/client-go/pkg/apis/networking/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// cluster is the lab.
type cluster struct {
	client.WithWatch
	config    *rest.Config
	clientset kubernetes.Interface
}

var lab *cluster

func TestMain(m *testing.M) {
	if os.Getenv("MESHPROBE_LAB") == "" {
		fmt.Println("the end-to-end tests need a lab: make test-e2e brings one up and runs them")
		os.Exit(0)
	}
	var err error
	if lab, err = connect(); err != nil {
		fmt.Fprintln(os.Stderr, "connect to the lab:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func connect() (*cluster, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, securityv1.AddToScheme, networkingv1beta1.AddToScheme, networkingv1.AddToScheme, api.AddToScheme,
	} {
		utilruntime.Must(add(scheme))
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 200, 200
	withWatch, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	clientset, err := kubernetes.NewForConfig(config)
	return &cluster{WithWatch: withWatch, config: config, clientset: clientset}, err
}

// namespace makes a namespace for one test, and removes it at its end.
func namespace(t *testing.T) string {
	t.Helper()
	return labelledNamespace(t, nil)
}

func labelledNamespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	ns := &corev1.Namespace{}
	ns.GenerateName, ns.Labels = "e2e-", labels
	if err := lab.Create(t.Context(), ns); err != nil {
		t.Fatalf("create a namespace: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			describe(t, ns.Name)
		}
		if err := lab.Delete(context.Background(), ns); err != nil {
			t.Errorf("delete namespace %s: %v", ns.Name, err)
		}
	})
	return ns.Name
}

// newProbe is a probe with short times, so that a test need not wait for the schedule.
func newProbe(namespace, name string, sidecar api.Sidecar, mode api.MTLSMode) *api.HTTPSMeshProbe {
	hmp := &api.HTTPSMeshProbe{}
	hmp.Namespace, hmp.Name = namespace, name
	hmp.Spec.Target.Sidecar = sidecar
	hmp.Spec.MTLS.Mode = mode
	hmp.Spec.Interval.Duration, hmp.Spec.Timeout.Duration = 5*time.Second, 2*time.Second
	return hmp
}

func createProbe(t *testing.T, hmp *api.HTTPSMeshProbe) {
	t.Helper()
	if err := lab.Create(t.Context(), hmp); err != nil {
		t.Fatalf("create probe %s: %v", hmp.Name, err)
	}
}

func probe(t *testing.T, namespace, name string, sidecar api.Sidecar, mode api.MTLSMode) *api.HTTPSMeshProbe {
	t.Helper()
	hmp := newProbe(namespace, name, sidecar, mode)
	createProbe(t, hmp)
	return hmp
}

const patience = 2 * time.Minute

// await polls until check says that all is well, and fails with its last complaint otherwise.
func await(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s: %v", what, err)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("waiting for %s: interrupted", what)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func read(t *testing.T, hmp *api.HTTPSMeshProbe) *api.HTTPSMeshProbe {
	t.Helper()
	fresh := &api.HTTPSMeshProbe{}
	if err := lab.Get(t.Context(), client.ObjectKeyFromObject(hmp), fresh); err != nil {
		t.Fatalf("get probe %s: %v", hmp.Name, err)
	}
	return fresh
}

func condition(hmp *api.HTTPSMeshProbe, kind string) metav1.Condition {
	if found := meta.FindStatusCondition(hmp.Status.Conditions, kind); found != nil {
		return *found
	}
	return metav1.Condition{Type: kind, Status: "absent"}
}

func observed(hmp *api.HTTPSMeshProbe) string {
	var words []string
	for _, path := range hmp.Status.Paths {
		words = append(words, path.Observed)
	}
	return strings.Join(words, "/")
}

func awaitCondition(t *testing.T, hmp *api.HTTPSMeshProbe, kind string, want metav1.ConditionStatus) *api.HTTPSMeshProbe {
	t.Helper()
	var fresh *api.HTTPSMeshProbe
	await(t, fmt.Sprintf("%s=%s of probe %s", kind, want, hmp.Name), func() error {
		fresh = read(t, hmp)
		if found := condition(fresh, kind); found.Status != want {
			return fmt.Errorf("it is %s (%s: %s)", found.Status, found.Reason, found.Message)
		}
		return nil
	})
	return fresh
}

// history records every status that Ready takes from now on, without repetitions, and logs what is said of those that
// are not True.
type history struct {
	watcher  watch.Interface
	ended    atomic.Bool
	statuses chan []metav1.ConditionStatus
}

func recordReady(t *testing.T, hmp *api.HTTPSMeshProbe) *history {
	t.Helper()
	from := &client.ListOptions{Namespace: hmp.Namespace, Raw: &metav1.ListOptions{ResourceVersion: read(t, hmp).ResourceVersion}}
	watcher, err := lab.Watch(t.Context(), &api.HTTPSMeshProbeList{}, from)
	if err != nil {
		t.Fatalf("watch the probes of %s: %v", hmp.Namespace, err)
	}
	h := &history{watcher: watcher, statuses: make(chan []metav1.ConditionStatus, 1)}
	go h.record(t, hmp.Name)
	t.Cleanup(func() {
		h.ended.Store(true)
		watcher.Stop()
	})
	return h
}

func (h *history) record(t *testing.T, name string) {
	var seen []metav1.ConditionStatus
	for event := range h.watcher.ResultChan() {
		changed, ok := event.Object.(*api.HTTPSMeshProbe)
		if !ok && h.ended.Load() {
			break // the connection that we have closed
		}
		if !ok {
			t.Errorf("the watch brought %s: %v", event.Type, apierrors.FromObject(event.Object))
			break
		}
		if changed.Name != name {
			continue
		}
		ready := condition(changed, api.ConditionReady)
		if seen = append(seen, ready.Status); ready.Status != metav1.ConditionTrue {
			t.Logf("%s Ready is %s: %s", time.Now().Format("15:04:05.000"), ready.Status, ready.Message)
		}
	}
	h.statuses <- slices.Compact(seen)
}

// end stops the recording. A recording that saw nothing proves nothing.
func (h *history) end(t *testing.T) []metav1.ConditionStatus {
	t.Helper()
	h.ended.Store(true)
	h.watcher.Stop()
	statuses := <-h.statuses
	if len(statuses) == 0 {
		t.Error("no status was recorded")
	}
	return statuses
}

// run executes a command in a container and returns what it printed.
func run(t *testing.T, namespace, pod, container string, command ...string) (string, error) {
	t.Helper()
	request := lab.clientset.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: container, Command: command, Stdout: true, Stderr: true}, clientgoscheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(lab.config, "GET", request.URL().String())
	if err != nil {
		t.Fatalf("exec into %s: %v", pod, err)
	}
	var out, complaint bytes.Buffer
	err = executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out, Stderr: &complaint})
	if err != nil {
		err = fmt.Errorf("%w: %s", err, complaint.String())
	}
	return out.String(), err
}

// clientPod returns the living pod of a shared client, as soon as there is one.
func clientPod(t *testing.T, namespace, client string) corev1.Pod {
	t.Helper()
	var living corev1.Pod
	await(t, "a pod of client "+client, func() error {
		for _, pod := range podsWith(t, namespace, "meshprobe.dev/client="+client) {
			if pod.DeletionTimestamp == nil {
				living = pod
				return nil
			}
		}
		return fmt.Errorf("there is none in namespace %s", namespace)
	})
	return living
}

func podsWith(t *testing.T, namespace, selector string) []corev1.Pod {
	t.Helper()
	list, err := lab.clientset.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		t.Fatalf("list pods %s: %v", selector, err)
	}
	return list.Items
}

// describe prints what a person would look at after a failure.
func describe(t *testing.T, namespace string) {
	ctx := context.Background()
	var probes api.HTTPSMeshProbeList
	if err := lab.List(ctx, &probes, client.InNamespace(namespace)); err == nil {
		for i := range probes.Items {
			for _, c := range probes.Items[i].Status.Conditions {
				t.Logf("%s %s=%s %s: %s", probes.Items[i].Name, c.Type, c.Status, c.Reason, c.Message)
			}
		}
	}
	if pods, err := lab.clientset.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{}); err == nil {
		for _, pod := range pods.Items {
			t.Logf("pod %s %s", pod.Name, pod.Status.Phase)
		}
	}
}
