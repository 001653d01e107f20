package controllers

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// writtenStatuses remember the last status that was written for each probe: on a busy machine the cache may still hold
// the one before at the next visit, which would then take back what the last one found.
type writtenStatuses struct {
	mu      sync.Mutex
	byProbe map[types.NamespacedName]writtenStatus
}

type writtenStatus struct {
	uid             types.UID
	resourceVersion string
	status          api.HTTPSMeshProbeStatus
}

// refresh gives a probe out of the cache the status that was written since.
func (w *writtenStatuses) refresh(probe *api.HTTPSMeshProbe) {
	w.mu.Lock()
	defer w.mu.Unlock()
	written, ok := w.byProbe[client.ObjectKeyFromObject(probe)]
	if ok && written.uid == probe.UID && isOlder(probe, written.resourceVersion) {
		written.status.DeepCopyInto(&probe.Status)
	}
}

func (w *writtenStatuses) put(probe *api.HTTPSMeshProbe, resourceVersion string, status api.HTTPSMeshProbeStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byProbe == nil {
		w.byProbe = map[types.NamespacedName]writtenStatus{}
	}
	w.byProbe[client.ObjectKeyFromObject(probe)] = writtenStatus{uid: probe.UID, resourceVersion: resourceVersion, status: status}
}

func (w *writtenStatuses) forget(probe types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.byProbe, probe)
}
