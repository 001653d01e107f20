// Package podhealth says whether the pods of one of our Deployments are up, and if not, why and what to do.
package podhealth

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

const sidecarContainer = "istio-proxy"

// State is how far a Deployment's pods have come.
type State struct {
	// Ready says that the wanted pod is up, with or without sidecar as wanted, and that no other kind of pod is.
	Ready bool
	// Troubled says that this will not pass by waiting alone; otherwise a state that is not ready is on its way.
	Troubled bool
	Reason   string
	Message  string
}

// Check looks at a Deployment, which may be nil, and its pods.
func Check(name string, deployment *appsv1.Deployment, pods []corev1.Pod, sidecar api.Sidecar) State {
	if deployment == nil {
		return progressing("Deployment %s is being created", name)
	}
	if deployment.Spec.Replicas != nil && *deployment.Spec.Replicas == 0 {
		return troubled(api.ReasonPodsFailing, "Deployment %s is scaled to zero: scale it to 1", name)
	}
	for _, condition := range deployment.Status.Conditions {
		if condition.Type == appsv1.DeploymentReplicaFailure && condition.Status == corev1.ConditionTrue {
			return troubled(api.ReasonPodsNotCreated, "the pods of Deployment %s are refused: %s", name, condition.Message)
		}
	}
	living := Living(pods)
	for _, pod := range living {
		if state, ok := wrongSidecar(pod, sidecar); ok {
			return state
		}
	}
	for _, pod := range living {
		if state, ok := trouble(pod); ok {
			return state
		}
	}
	if !RolledOut(deployment) {
		return progressing("waiting for the pod of Deployment %s to become ready%s", name, waitingFor(living))
	}
	return State{Ready: true}
}

// Living are the pods that are not on their way out.
func Living(pods []corev1.Pod) []corev1.Pod {
	return slices.DeleteFunc(slices.Clone(pods), func(pod corev1.Pod) bool {
		return pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
	})
}

// RolledOut says that the Deployment's present template, and no other, is up.
func RolledOut(deployment *appsv1.Deployment) bool {
	status := deployment.Status
	return status.ObservedGeneration >= deployment.Generation && status.Replicas > 0 &&
		status.UpdatedReplicas == status.Replicas && status.AvailableReplicas == status.Replicas
}

// HasSidecar says whether istio-proxy is in the pod, be it a native sidecar (an init container that is restarted) or a
// classic one.
func HasSidecar(pod corev1.Pod) bool {
	isProxy := func(c corev1.Container) bool { return c.Name == sidecarContainer }
	return slices.ContainsFunc(pod.Spec.InitContainers, isProxy) || slices.ContainsFunc(pod.Spec.Containers, isProxy)
}

// Redirects says whether a container of this name leads a pod's connections to its sidecar: istio-init does, and where a CNI
// plugin has done so istio-validation makes sure of it (istio.io/istio manifests/charts/istio-control/istio-discovery,
// files/injection-template.yaml). The template for gateways has neither of them.
func Redirects(container string) bool {
	return container == "istio-init" || container == "istio-validation"
}

// IsReady says whether the pod's condition Ready is True.
func IsReady(pod corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func wrongSidecar(pod corev1.Pod, want api.Sidecar) (State, bool) {
	switch has := HasSidecar(pod); {
	case want == api.SidecarEnabled && !has:
		return troubled(api.ReasonSidecarNotInjected, "pod %s was created without a sidecar: check that istiod runs and that its injection webhook "+
			"selects the pod (kubectl get mutatingwebhookconfigurations; istioctl experimental check-inject); the operator makes the pod anew every half minute", pod.Name), true
	case want == api.SidecarDisabled && has:
		return troubled(api.ReasonSidecarNotWanted, "pod %s got a sidecar although its label sidecar.istio.io/inject is \"false\": "+
			"look for a webhook or policy that injects one all the same", pod.Name), true
	}
	return State{}, false
}

func trouble(pod corev1.Pod) (State, bool) {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse && condition.Reason == corev1.PodReasonUnschedulable {
			return troubled(api.ReasonPodsFailing, "pod %s cannot be scheduled: %s", pod.Name, condition.Message), true
		}
	}
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if waiting := status.State.Waiting; waiting != nil {
			if state, ok := stuck(pod.Name, status, *waiting); ok {
				return state, true
			}
		}
	}
	return State{}, false
}

func stuck(pod string, status corev1.ContainerStatus, waiting corev1.ContainerStateWaiting) (State, bool) {
	switch waiting.Reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull":
		return troubled(api.ReasonImagePullFailed, "image %s of container %s in pod %s cannot be pulled: name another one in the operator's flags "+
			"(--server-image, --sleep-image, --agent-image) or let the node pull it: %s", status.Image, status.Name, pod, firstLine(waiting.Message)), true
	case "CrashLoopBackOff", "RunContainerError", "CreateContainerConfigError", "CreateContainerError":
		return troubled(api.ReasonPodsFailing, "container %s in pod %s does not run (%s): see kubectl logs %s -c %s%s",
			status.Name, pod, waiting.Reason, pod, status.Name, lastWords(status)), true
	}
	return State{}, false
}

func lastWords(status corev1.ContainerStatus) string {
	if last := status.LastTerminationState.Terminated; last != nil {
		return fmt.Sprintf("; it ended with exit code %d", last.ExitCode)
	}
	return ""
}

func waitingFor(pods []corev1.Pod) string {
	for _, pod := range pods {
		for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			if !status.Ready {
				return fmt.Sprintf(" (container %s)", status.Name)
			}
		}
	}
	return ""
}

// firstLine leaves out the rest of a pull error, which holds request identifiers that change every time.
func firstLine(message string) string {
	line, _, _ := strings.Cut(message, "\n")
	return line
}

func progressing(format string, args ...any) State {
	return State{Reason: api.ReasonProgressing, Message: fmt.Sprintf(format, args...)}
}

func troubled(reason, format string, args ...any) State {
	return State{Troubled: true, Reason: reason, Message: fmt.Sprintf(format, args...)}
}
