package controllers_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// statuses are all the statuses that a probe had, one for each write.
type statuses struct {
	mu   sync.Mutex
	seen []api.HTTPSMeshProbeStatus
}

func (s *statuses) all() []api.HTTPSMeshProbeStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// wantReady checks that Ready was True in every one of them, and tells all that they said where it was not.
func (s *statuses) wantReady(t *testing.T) {
	t.Helper()
	var told []string
	lost := false
	for _, status := range s.all() {
		ready := meta.FindStatusCondition(status.Conditions, api.ConditionReady)
		if ready == nil {
			lost, told = true, append(told, "no Ready")
			continue
		}
		lost = lost || ready.Status != metav1.ConditionTrue
		told = append(told, fmt.Sprintf("%s (%s, since %s): %s", ready.Status, ready.Reason, ready.LastTransitionTime.Format(time.TimeOnly), ready.Message))
	}
	if lost {
		t.Errorf("Ready was lost on the way:\n%s", strings.Join(told, "\n"))
	}
}

// wantNotRefuted fails if Ready was False on the way: while the operator cannot look after a probe it is Unknown, and no more.
func (s *statuses) wantNotRefuted(t *testing.T) {
	t.Helper()
	for _, status := range s.all() {
		if ready := meta.FindStatusCondition(status.Conditions, api.ConditionReady); ready != nil && ready.Status == metav1.ConditionFalse {
			t.Errorf("Ready was False on the way: %s, %s", ready.Reason, ready.Message)
		}
	}
}

// follow watches a probe, which need not be there yet, until the test is over.
func (o *operator) follow(t *testing.T, name string) *statuses {
	t.Helper()
	// A watch that begins at no particular version may begin with statuses from before.
	named := []client.ListOption{client.InNamespace(o.namespace), client.MatchingFields{"metadata.name": name}}
	var list api.HTTPSMeshProbeList
	must(t, o.admin.List(t.Context(), &list, named...))
	s := &statuses{}
	for _, probe := range list.Items {
		s.seen = append(s.seen, probe.Status)
	}
	ctx, cancel := context.WithCancel(context.Background())
	from := &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}}
	watching, err := o.admin.Watch(ctx, &api.HTTPSMeshProbeList{}, append(named, from)...)
	must(t, err)
	var following sync.WaitGroup
	following.Go(func() {
		for event := range watching.ResultChan() {
			if probe, ok := event.Object.(*api.HTTPSMeshProbe); ok {
				s.mu.Lock()
				s.seen = append(s.seen, probe.Status)
				s.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		following.Wait()
	})
	return s
}
