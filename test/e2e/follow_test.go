package e2e

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// arrival is a version of a probe as a watch brought it, and when.
type arrival struct {
	probe *api.HTTPSMeshProbe
	at    time.Time
}

// follower brings every version of a probe, one after the other, so that none is overlooked that a poll would miss.
type follower struct {
	name     string
	arrivals chan arrival
}

// follow begins with the present version.
func follow(t *testing.T, hmp *api.HTTPSMeshProbe) *follower {
	t.Helper()
	present := read(t, hmp)
	from := &client.ListOptions{Namespace: hmp.Namespace, Raw: &metav1.ListOptions{ResourceVersion: present.ResourceVersion}}
	watcher, err := lab.Watch(t.Context(), &api.HTTPSMeshProbeList{}, from)
	if err != nil {
		t.Fatalf("watch the probes of %s: %v", hmp.Namespace, err)
	}
	t.Cleanup(watcher.Stop)
	const manyVersions = 10_000
	f := &follower{name: hmp.Name, arrivals: make(chan arrival, manyVersions)}
	f.arrivals <- arrival{present, time.Now()}
	go func() {
		defer close(f.arrivals)
		for event := range watcher.ResultChan() {
			if changed, ok := event.Object.(*api.HTTPSMeshProbe); ok && changed.Name == f.name {
				f.arrivals <- arrival{changed, time.Now()}
			}
		}
	}()
	return f
}

// until takes version after version until check says that all is well, and fails with its last complaint otherwise.
func (f *follower) until(t *testing.T, what string, check func(*api.HTTPSMeshProbe) error) arrival {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var complaint error
	for {
		select {
		case next, ok := <-f.arrivals:
			if !ok {
				t.Fatalf("waiting for %s of probe %s: the watch has ended; %v", what, f.name, complaint)
			}
			if complaint = check(next.probe); complaint == nil {
				return next
			}
		case <-timer.C:
			t.Fatalf("waiting for %s of probe %s: %v", what, f.name, complaint)
		}
	}
}
