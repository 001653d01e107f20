package podhealth_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/podhealth"
)

// rolledOut is a Deployment of one pod that is up; the changes make something else of it.
func rolledOut(changes ...func(*appsv1.Deployment)) *appsv1.Deployment {
	deployment := &appsv1.Deployment{}
	deployment.Generation = 3
	deployment.Status = appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
	for _, change := range changes {
		change(deployment)
	}
	return deployment
}

func starting(deployment *appsv1.Deployment) { deployment.Status.AvailableReplicas = 0 }

func withReplicas(wanted int32) func(*appsv1.Deployment) {
	return func(deployment *appsv1.Deployment) { deployment.Spec.Replicas = &wanted }
}

func refusedPods(status corev1.ConditionStatus) func(*appsv1.Deployment) {
	return func(deployment *appsv1.Deployment) {
		deployment.Status.Conditions = append(deployment.Status.Conditions, appsv1.DeploymentCondition{
			Type: appsv1.DeploymentReplicaFailure, Status: status, Message: "exceeded quota: pods=0",
		})
	}
}

// The three ways in which a pod may or may not have a sidecar.
func bare(changes ...func(*corev1.Pod)) corev1.Pod {
	pod := corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "nginx"}}}}
	pod.Name = "strict-nginx-0"
	pod.Status.Phase = corev1.PodRunning
	for _, change := range changes {
		change(&pod)
	}
	return pod
}

func native(changes ...func(*corev1.Pod)) corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	pod := bare()
	pod.Spec.InitContainers = []corev1.Container{{Name: "istio-init"}, {Name: "istio-proxy", RestartPolicy: &always}}
	for _, change := range changes {
		change(&pod)
	}
	return pod
}

func classic(changes ...func(*corev1.Pod)) corev1.Pod {
	pod := bare()
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "istio-proxy"})
	for _, change := range changes {
		change(&pod)
	}
	return pod
}

func terminating(pod *corev1.Pod) { pod.DeletionTimestamp = &metav1.Time{} }

func inPhase(phase corev1.PodPhase) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Status.Phase = phase }
}

func unschedulable(pod *corev1.Pod) {
	pod.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "0/1 nodes are available: 1 Insufficient cpu.",
	}}
}

// waiting makes a container wait for a reason.
func waiting(container, reason string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		status := waitingStatus(container, reason)
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, status)
	}
}

func initWaiting(container, reason string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.InitContainerStatuses = append(pod.Status.InitContainerStatuses, waitingStatus(container, reason))
	}
}

func waitingStatus(container, reason string) corev1.ContainerStatus {
	return corev1.ContainerStatus{
		Name: container, Image: "example.org/nginx:1", LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137}},
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "not found\nrequest id 4711"}},
	}
}

const (
	progressing = "Progressing"
	noReason    = ""
)

var states = map[string]struct {
	deployment *appsv1.Deployment
	pods       []corev1.Pod
	sidecar    api.Sidecar
	reason     string
	says       string
}{
	"not there yet": {nil, nil, api.SidecarEnabled, progressing, "Deployment strict-nginx is being created"},
	"no pod yet":    {rolledOut(starting), nil, api.SidecarEnabled, progressing, "waiting for the pod of Deployment strict-nginx to become ready"},

	"up, native sidecar":  {rolledOut(), []corev1.Pod{native()}, api.SidecarEnabled, noReason, ""},
	"up, classic sidecar": {rolledOut(), []corev1.Pod{classic()}, api.SidecarEnabled, noReason, ""},
	"up, no sidecar":      {rolledOut(), []corev1.Pod{bare()}, api.SidecarDisabled, noReason, ""},

	"not injected":                 {rolledOut(), []corev1.Pod{bare()}, api.SidecarEnabled, api.ReasonSidecarNotInjected, "pod strict-nginx-0 was created without a sidecar"},
	"not injected and starting":    {rolledOut(starting), []corev1.Pod{bare(waiting("nginx", "CrashLoopBackOff"))}, api.SidecarEnabled, api.ReasonSidecarNotInjected, ""},
	"one of two not injected":      {rolledOut(), []corev1.Pod{native(), bare()}, api.SidecarEnabled, api.ReasonSidecarNotInjected, ""},
	"injected, native":             {rolledOut(), []corev1.Pod{native()}, api.SidecarDisabled, api.ReasonSidecarNotWanted, "pod strict-nginx-0 got a sidecar"},
	"injected, classic":            {rolledOut(), []corev1.Pod{classic()}, api.SidecarDisabled, api.ReasonSidecarNotWanted, "pod strict-nginx-0 got a sidecar"},
	"not injected, but on its way": {rolledOut(), []corev1.Pod{bare(terminating), native()}, api.SidecarEnabled, noReason, ""},
	"not injected, but failed":     {rolledOut(), []corev1.Pod{bare(inPhase(corev1.PodFailed)), native()}, api.SidecarEnabled, noReason, ""},

	"scaled to zero": {rolledOut(withReplicas(0)), nil, api.SidecarEnabled, api.ReasonPodsFailing, "scaled to zero: scale it to 1"},
	"scaled to two":  {rolledOut(withReplicas(2)), []corev1.Pod{native(), native()}, api.SidecarEnabled, noReason, ""},
	"pods refused":   {rolledOut(starting, refusedPods(corev1.ConditionTrue)), nil, api.SidecarEnabled, api.ReasonPodsNotCreated, "exceeded quota: pods=0"},
	"were refused":   {rolledOut(refusedPods(corev1.ConditionFalse)), []corev1.Pod{native()}, api.SidecarEnabled, noReason, ""},
	"unschedulable":  {rolledOut(starting), []corev1.Pod{native(unschedulable)}, api.SidecarEnabled, api.ReasonPodsFailing, "pod strict-nginx-0 cannot be scheduled: 0/1 nodes"},

	"crash of a pod on its way out": {rolledOut(), []corev1.Pod{native(terminating, waiting("nginx", "CrashLoopBackOff")), native()}, api.SidecarEnabled, noReason, ""},
	"starting":                      {rolledOut(starting), []corev1.Pod{native(waiting("nginx", "ContainerCreating"))}, api.SidecarEnabled, progressing, "(container nginx)"},
	"starting, sidecar first":       {rolledOut(starting), []corev1.Pod{native(initWaiting("istio-proxy", "PodInitializing"), waiting("nginx", "PodInitializing"))}, api.SidecarEnabled, progressing, "(container istio-proxy)"},
}

func TestCheck(t *testing.T) {
	for name, c := range states {
		t.Run(name, func(t *testing.T) {
			wantState(t, podhealth.Check("strict-nginx", c.deployment, c.pods, c.sidecar), c.reason, c.says)
		})
	}
}

func wantState(t *testing.T, got podhealth.State, reason, says string) {
	t.Helper()
	if got.Reason != reason || !strings.Contains(got.Message, says) {
		t.Errorf("%q: %q, want %q: %q", got.Reason, got.Message, reason, says)
	}
	if got.Ready != (reason == noReason) {
		t.Errorf("ready is %v with reason %q", got.Ready, got.Reason)
	}
	if got.Troubled != (reason != noReason && reason != progressing) {
		t.Errorf("troubled is %v with reason %q", got.Troubled, got.Reason)
	}
}

func TestContainersThatDoNotStart(t *testing.T) {
	for waitingFor, reason := range map[string]string{
		"ErrImagePull": api.ReasonImagePullFailed, "ImagePullBackOff": api.ReasonImagePullFailed,
		"InvalidImageName": api.ReasonImagePullFailed, "ErrImageNeverPull": api.ReasonImagePullFailed,
		"CrashLoopBackOff": api.ReasonPodsFailing, "RunContainerError": api.ReasonPodsFailing,
		"CreateContainerConfigError": api.ReasonPodsFailing, "CreateContainerError": api.ReasonPodsFailing,
		"ContainerCreating": progressing, "PodInitializing": progressing,
	} {
		for container, pod := range map[string]corev1.Pod{
			"nginx":       native(waiting("nginx", waitingFor)),
			"istio-proxy": native(initWaiting("istio-proxy", waitingFor)),
		} {
			got := podhealth.Check("strict-nginx", rolledOut(starting), []corev1.Pod{native(), pod}, api.SidecarEnabled)
			wantState(t, got, reason, "container "+container)
			if strings.Contains(got.Message, "4711") {
				t.Errorf("%s: the message holds what changes every time: %s", waitingFor, got.Message)
			}
		}
	}
}

// The message says what to do next.
func TestTroubleNamesTheNextStep(t *testing.T) {
	pull := podhealth.Check("strict-nginx", rolledOut(starting), []corev1.Pod{native(waiting("nginx", "ErrImagePull"))}, api.SidecarEnabled)
	crash := podhealth.Check("strict-nginx", rolledOut(starting), []corev1.Pod{native(waiting("nginx", "CrashLoopBackOff"))}, api.SidecarEnabled)
	for _, c := range []struct{ message, part string }{
		{pull.Message, "example.org/nginx:1"}, {pull.Message, "--server-image"}, {pull.Message, "not found"},
		{crash.Message, "kubectl logs strict-nginx-0 -c nginx"}, {crash.Message, "exit code 137"},
	} {
		if !strings.Contains(c.message, c.part) {
			t.Errorf("%q lacks %q", c.message, c.part)
		}
	}
}

func TestRolledOut(t *testing.T) {
	for name, c := range map[string]struct {
		status appsv1.DeploymentStatus
		want   bool
	}{
		"up":                          {appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}, true},
		"two up":                      {appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 2, AvailableReplicas: 2}, true},
		"the controller is behind":    {appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}, false},
		"no pod":                      {appsv1.DeploymentStatus{ObservedGeneration: 3}, false},
		"the old pod is up":           {appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 1, AvailableReplicas: 1}, false},
		"old and new are up":          {appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 1, AvailableReplicas: 2}, false},
		"the new one is not up":       {appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 1, UpdatedReplicas: 1}, false},
		"old up, new one on its way":  {appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 1, AvailableReplicas: 1}, false},
		"updated, with one not ready": {appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 2, AvailableReplicas: 1}, false},
	} {
		deployment := rolledOut(func(d *appsv1.Deployment) { d.Status = c.status })
		if got := podhealth.RolledOut(deployment); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestLiving(t *testing.T) {
	pods := []corev1.Pod{
		native(), native(terminating), native(inPhase(corev1.PodFailed)), native(inPhase(corev1.PodSucceeded)),
		native(inPhase(corev1.PodPending)), native(inPhase(corev1.PodUnknown)),
	}
	living := podhealth.Living(pods)
	if len(living) != 3 || living[0].Status.Phase != corev1.PodRunning || living[1].Status.Phase != corev1.PodPending || living[2].Status.Phase != corev1.PodUnknown {
		t.Errorf("%d are living: %v", len(living), living)
	}
	if len(pods) != 6 || pods[1].DeletionTimestamp == nil || pods[5].Status.Phase != corev1.PodUnknown {
		t.Error("the list that was handed in has changed")
	}
}

func TestHasSidecar(t *testing.T) {
	for name, c := range map[string]struct {
		pod  corev1.Pod
		want bool
	}{"native": {native(), true}, "classic": {classic(), true}, "bare": {bare(), false}} {
		if got := podhealth.HasSidecar(c.pod); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestIsReady(t *testing.T) {
	for _, c := range []struct {
		condition corev1.PodCondition
		want      bool
	}{
		{corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}, true},
		{corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse}, false},
		{corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionUnknown}, false},
		{corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionTrue}, false},
	} {
		if got := podhealth.IsReady(bare(func(pod *corev1.Pod) { pod.Status.Conditions = []corev1.PodCondition{c.condition} })); got != c.want {
			t.Errorf("%v: %v", c.condition, got)
		}
	}
	if podhealth.IsReady(bare()) {
		t.Error("a pod without conditions is ready")
	}
}
