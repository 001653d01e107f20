package controllers

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

func cachedProbe(uid types.UID, resourceVersion, handled string) *api.HTTPSMeshProbe {
	probe := &api.HTTPSMeshProbe{}
	probe.Namespace, probe.Name, probe.UID, probe.ResourceVersion = "shop", "strict", uid, resourceVersion
	probe.Status.LastHandledRequest = handled
	return probe
}

// A cache that is behind must not bring back the status from before, and one that has caught up is believed.
func TestAnOlderStatusOutOfTheCacheIsNotBelieved(t *testing.T) {
	for name, c := range map[string]struct {
		cached *api.HTTPSMeshProbe
		want   string
	}{
		"behind":              {cachedProbe("a", "9", "cached"), "written"},
		"behind by one digit": {cachedProbe("a", "99", "cached"), "written"},
		"caught up":           {cachedProbe("a", "100", "cached"), "cached"},
		"ahead":               {cachedProbe("a", "101", "cached"), "cached"},
		"a namesake":          {cachedProbe("b", "9", "cached"), "cached"},
	} {
		var written writtenStatuses
		written.put(cachedProbe("a", "99", ""), "100", api.HTTPSMeshProbeStatus{LastHandledRequest: "written"})
		written.refresh(c.cached)
		if got := c.cached.Status.LastHandledRequest; got != c.want {
			t.Errorf("%s: the status is the one that was %s, want %s", name, got, c.want)
		}
	}
	var written writtenStatuses
	probe := cachedProbe("a", "9", "cached")
	written.put(probe, "100", api.HTTPSMeshProbeStatus{LastHandledRequest: "written"})
	written.forget(client.ObjectKeyFromObject(probe))
	written.refresh(probe)
	if got := probe.Status.LastHandledRequest; got != "cached" {
		t.Errorf("a forgotten probe has the status that was %s", got)
	}
}
