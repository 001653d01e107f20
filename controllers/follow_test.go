package controllers_test

import (
	"context"
	"slices"
	"sync"
	"testing"

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

// follow watches a probe, which need not be there yet, until the test is over.
func (o *operator) follow(t *testing.T, name string) *statuses {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	watching, err := o.admin.Watch(ctx, &api.HTTPSMeshProbeList{}, client.InNamespace(o.namespace), client.MatchingFields{"metadata.name": name})
	must(t, err)
	s := &statuses{}
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
