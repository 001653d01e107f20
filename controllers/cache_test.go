package controllers

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
)

// Of other people's pods arguments are kept where they tell what leads connections to the sidecar, and nowhere else.
func TestOthersPodsAreCachedLean(t *testing.T) {
	made := func() *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "web-0", ManagedFields: []metav1.ManagedFieldsEntry{{}}},
			Spec: corev1.PodSpec{
				NodeName: "n", ServiceAccountName: "web",
				InitContainers: []corev1.Container{{Name: "istio-init", Image: "proxy", Args: []string{"-d", "8443"}}, {Name: "setup", Args: []string{"long"}}},
				Containers:     []corev1.Container{{Name: "web", Image: "web", Args: []string{"long"}, ReadinessProbe: &corev1.Probe{}}},
			},
			Status: corev1.PodStatus{PodIP: "10.0.0.1", HostIP: "192.0.2.1"},
		}
	}
	got, err := lean(made())
	want := corev1.PodSpec{
		ServiceAccountName: "web",
		InitContainers:     []corev1.Container{{Name: "istio-init", Args: []string{"-d", "8443"}}, {Name: "setup"}},
		Containers:         []corev1.Container{{Name: "web"}},
	}
	if pod := got.(*corev1.Pod); err != nil || !reflect.DeepEqual(pod.Spec, want) || pod.Status.PodIP == "" || pod.Status.HostIP != "" || pod.ManagedFields != nil {
		t.Errorf("%v: %+v", err, pod)
	}
	ours := made()
	ours.Labels = map[string]string{fixture.LabelManagedBy: fixture.ManagedBy}
	if got, _ := lean(ours); !reflect.DeepEqual(got.(*corev1.Pod).Spec, made().Spec) {
		t.Errorf("the operator's own pod is not kept whole: %+v", got)
	}
}
