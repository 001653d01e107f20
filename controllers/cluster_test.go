package controllers_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// cluster plays, in some namespaces, what no kube-apiserver does by itself: the Deployment controller, the kubelet, the
// EndpointSlice controller, and Istio's injector. It makes pods of Deployments, one each, lets all pods become ready once
// the Secrets that they mount are there, reports in the Deployments' status, and lists the pods behind each Service. Nothing
// collects garbage: what owner references should remove stays.
type cluster struct {
	admin      client.WithWatch
	namespaces []string
	poked      chan struct{}

	mu     sync.Mutex
	faults map[string]fault
	// serving are the certificates that the pods of servers have mounted.
	serving map[types.UID]observation.Certificate
	pods    int
	present state
}

// fault is what goes wrong with the pods of one Deployment.
type fault struct {
	// missedByInjector leaves out a wanted sidecar; injectedAnyway adds one that is not.
	missedByInjector, injectedAnyway bool
	// waiting is the state of a container that does not come up.
	waiting *corev1.ContainerStateWaiting
	// refused is why the API server lets no pod be made.
	refused string
	// slow keeps new pods from becoming ready.
	slow bool
	// keepOld holds a roll-out at the moment at which both the old and the new pod are ready.
	keepOld bool
}

const templateHash = "pod-template-hash"

// labelPlayed marks, with the value "no", pods that a test plays itself.
const labelPlayed = "test/played"

// lastAddress makes the addresses of all pods of all tests different.
var lastAddress atomic.Uint32

func nextAddress() string {
	number := lastAddress.Add(1)
	return netip.AddrFrom4([4]byte{10, byte(number >> 16), byte(number >> 8), byte(number)}).String()
}

// playCluster plays until the test is over.
func playCluster(t *testing.T, admin client.WithWatch, namespaces ...string) *cluster {
	t.Helper()
	c := &cluster{
		admin: admin, namespaces: namespaces, poked: make(chan struct{}, 1),
		faults: map[string]fault{}, serving: map[types.UID]observation.Certificate{},
	}
	ctx, cancel := context.WithCancel(context.Background())
	var playing sync.WaitGroup
	for _, namespace := range namespaces {
		for _, list := range []client.ObjectList{
			&appsv1.DeploymentList{}, &corev1.PodList{}, &corev1.ServiceList{}, &discoveryv1.EndpointSliceList{},
			&securityv1.PeerAuthenticationList{}, &networkingv1.DestinationRuleList{},
		} {
			playing.Go(func() { c.watch(ctx, namespace, list) })
		}
	}
	playing.Go(func() { c.play(ctx, t) })
	t.Cleanup(func() {
		cancel()
		playing.Wait()
	})
	return c
}

func (c *cluster) poke() {
	select {
	case c.poked <- struct{}{}:
	default:
	}
}

func (c *cluster) watch(ctx context.Context, namespace string, list client.ObjectList) {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for ctx.Err() == nil {
		watching, err := c.admin.Watch(ctx, list, client.InNamespace(namespace))
		if err != nil {
			<-again.C // the test ends, or Istio's kinds are not there yet
			continue
		}
		for range watching.ResultChan() {
			c.poke()
		}
	}
}

func (c *cluster) play(ctx context.Context, t *testing.T) {
	again := time.NewTicker(500 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.poked:
		case <-again.C:
		}
		err := c.playAll(ctx)
		if err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			t.Logf("play the cluster: %v", err)
		}
	}
}

// set makes something go wrong, or nothing any more, with the pods of a Deployment that are not ready yet.
func (c *cluster) set(deployment string, f fault) {
	c.mu.Lock()
	c.faults[deployment] = f
	c.mu.Unlock()
	c.poke()
}

func (c *cluster) fault(deployment string) fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.faults[deployment]
}

func (c *cluster) playAll(ctx context.Context) error {
	next := state{services: map[types.NamespacedName][]endpoint{}, ports: map[types.NamespacedName][]int32{}}
	var changes []sliceChange
	for _, namespace := range c.namespaces {
		if err := c.playPods(ctx, namespace); err != nil {
			return err
		}
		found, err := c.readServices(ctx, namespace, &next)
		if err != nil {
			return err
		}
		changes = append(changes, found...)
	}
	c.mu.Lock()
	next.leave(c.present, time.Now())
	c.present = next
	c.mu.Unlock()
	// An endpoint answers before anybody is told of it.
	for _, change := range changes {
		if err := change(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) playPods(ctx context.Context, namespace string) error {
	var deployments appsv1.DeploymentList
	if err := c.admin.List(ctx, &deployments, client.InNamespace(namespace)); err != nil {
		return err
	}
	var pods corev1.PodList
	if err := c.admin.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
		return err
	}
	single := pods.Items
	for i := range deployments.Items {
		deployment := &deployments.Items[i]
		selector, err := metav1.LabelSelectorAsSelector(deployment.Spec.Selector)
		if err != nil {
			return err
		}
		selected := func(pod corev1.Pod) bool { return selector.Matches(labels.Set(pod.Labels)) }
		own := slices.DeleteFunc(slices.Clone(pods.Items), func(pod corev1.Pod) bool { return !selected(pod) || pod.DeletionTimestamp != nil })
		single = slices.DeleteFunc(slices.Clone(single), selected)
		if err := c.playDeployment(ctx, deployment, own); err != nil {
			return err
		}
	}
	for i := range single {
		if pod := &single[i]; pod.DeletionTimestamp == nil && pod.Labels[labelPlayed] != "no" {
			if _, err := c.playPod(ctx, pod, c.fault(pod.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *cluster) playDeployment(ctx context.Context, deployment *appsv1.Deployment, pods []corev1.Pod) error {
	f := c.fault(deployment.Name)
	if *deployment.Spec.Replicas == 0 {
		for i := range pods {
			if err := c.remove(ctx, &pods[i]); err != nil {
				return err
			}
		}
		return c.report(ctx, deployment, appsv1.DeploymentStatus{})
	}
	if f.refused != "" {
		return c.report(ctx, deployment, appsv1.DeploymentStatus{Conditions: []appsv1.DeploymentCondition{{
			Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: f.refused,
		}}})
	}
	present, status := presentHash(deployment), appsv1.DeploymentStatus{}
	var updatedReady bool
	var old []*corev1.Pod
	for i := range pods {
		pod := &pods[i]
		ready, err := c.playPod(ctx, pod, f)
		if err != nil {
			return err
		}
		status.Replicas++
		if ready {
			status.ReadyReplicas++
			status.AvailableReplicas++
		}
		if pod.Labels[templateHash] != present {
			old = append(old, pod)
			continue
		}
		status.UpdatedReplicas++
		updatedReady = updatedReady || ready
	}
	if status.UpdatedReplicas == 0 {
		return c.create(ctx, deployment, f)
	}
	if updatedReady && !f.keepOld && len(old) > 0 {
		for _, pod := range old {
			if err := c.remove(ctx, pod); err != nil {
				return err
			}
		}
		return nil // the watch brings us back
	}
	return c.report(ctx, deployment, status)
}

func presentHash(deployment *appsv1.Deployment) string {
	encoded, err := json.Marshal(deployment.Spec.Template)
	if err != nil {
		panic(err) // it came as JSON
	}
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:4])
}

func (c *cluster) create(ctx context.Context, deployment *appsv1.Deployment, f fault) error {
	c.mu.Lock()
	c.pods++
	number := c.pods
	c.mu.Unlock()
	template := deployment.Spec.Template.DeepCopy()
	pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	pod.Namespace = deployment.Namespace
	pod.Labels[templateHash] = presentHash(deployment)
	pod.Name = fmt.Sprintf("%s-%s-%s", deployment.Name, pod.Labels[templateHash], strconv.Itoa(number))
	if f.injectedAnyway || fixture.WantsSidecar(pod.Labels) && !f.missedByInjector {
		inject(pod)
	}
	return c.admin.Create(ctx, pod, client.FieldOwner("kube-controller-manager"))
}

// labelTLSMode is what the injector marks pods with that take mutual TLS.
const labelTLSMode = "security.istio.io/tlsMode"

// inject does to a pod what Istio's injector does, as far as anybody looks at it.
func inject(pod *corev1.Pod) {
	pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: "istio-init", Image: "proxy"})
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: fixture.ContainerIstioProxy, Image: "proxy"})
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[labelTLSMode] = "istio"
}

func (c *cluster) remove(ctx context.Context, pod *corev1.Pod) error {
	return client.IgnoreNotFound(c.admin.Delete(ctx, pod, client.GracePeriodSeconds(0)))
}

// playPod brings a pod as far as it gets, and says whether it is ready.
func (c *cluster) playPod(ctx context.Context, pod *corev1.Pod, f fault) (bool, error) {
	if isReady(*pod) {
		return true, nil
	}
	waiting := f.waiting
	mounted, err := c.mount(ctx, pod)
	if err != nil {
		return false, err
	}
	if waiting == nil && (!mounted || f.slow) {
		waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
	}
	status := corev1.PodStatus{Phase: corev1.PodRunning}
	ready := corev1.ConditionTrue
	if waiting != nil {
		status.Phase, ready = corev1.PodPending, corev1.ConditionFalse
	}
	status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
	for _, container := range pod.Spec.Containers {
		one := corev1.ContainerStatus{Name: container.Name, Image: container.Image, Ready: waiting == nil}
		if waiting != nil {
			one.State.Waiting = waiting
		}
		status.ContainerStatuses = append(status.ContainerStatuses, one)
	}
	if reflect.DeepEqual(pod.Status.Conditions, status.Conditions) && reflect.DeepEqual(pod.Status.ContainerStatuses, status.ContainerStatuses) {
		return waiting == nil, nil
	}
	pod.Status.Phase, pod.Status.Conditions, pod.Status.ContainerStatuses = status.Phase, status.Conditions, status.ContainerStatuses
	if waiting == nil {
		pod.Status.Conditions[0].LastTransitionTime = metav1.Now()
	}
	if pod.Status.PodIP == "" {
		pod.Status.PodIP = nextAddress()
		pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
	}
	return waiting == nil, c.admin.Status().Update(ctx, pod, client.FieldOwner("kubelet"))
}

// mount reads the Secrets that a pod wants, as a kubelet does; without them it does not start.
func (c *cluster) mount(ctx context.Context, pod *corev1.Pod) (bool, error) {
	for _, volume := range pod.Spec.Volumes {
		if volume.Secret == nil {
			continue
		}
		var secret corev1.Secret
		err := c.admin.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: volume.Secret.SecretName}, &secret)
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		block, _ := pem.Decode(secret.Data[corev1.TLSCertKey])
		if block == nil || len(secret.Data[corev1.TLSPrivateKeyKey]) == 0 {
			return false, nil
		}
		c.mu.Lock()
		c.serving[pod.UID] = presented(block.Bytes)
		c.mu.Unlock()
	}
	return true, nil
}

// presented is what a client sees of a certificate.
func presented(der []byte) observation.Certificate {
	sum := sha256.Sum256(der)
	seen := observation.Certificate{SHA256: hex.EncodeToString(sum[:]), Chain: [][]byte{der}}
	if parsed, err := x509.ParseCertificate(der); err == nil {
		seen.NotAfter = parsed.NotAfter
	}
	return seen
}

func (c *cluster) report(ctx context.Context, deployment *appsv1.Deployment, status appsv1.DeploymentStatus) error {
	status.ObservedGeneration = deployment.Generation
	if reflect.DeepEqual(deployment.Status, status) {
		return nil
	}
	deployment.Status = status
	return c.admin.Status().Update(ctx, deployment, client.FieldOwner("kube-controller-manager"))
}

// servers are the fingerprints that the ready pods of a probe's own server present, and whether a sidecar stands before them.
func (c *cluster) servers(ctx context.Context, probe string) (fingerprints []string, sidecar bool) {
	var pods corev1.PodList
	if err := c.admin.List(ctx, &pods, client.InNamespace(c.namespaces[0]), client.MatchingLabels(fixture.ServerLabels(probe))); err != nil {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, pod := range pods.Items {
		if isReady(pod) && pod.DeletionTimestamp == nil {
			fingerprints = append(fingerprints, c.serving[pod.UID].SHA256)
			sidecar = hasSidecar(pod)
		}
	}
	return fingerprints, sidecar
}

func hasSidecar(pod corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == fixture.ContainerIstioProxy })
}

func isReady(pod corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}
