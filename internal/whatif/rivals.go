package whatif

import (
	"slices"

	"github.com/meshprobe/httpsmeshprobe/internal/effective"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// rivals returns two policies that would both be new and of which only the age can say which one is in force.
func (w *world) rivals(found *inventory.Inventory) (one, other string) {
	if !found.IstioInstalled || found.MeshProblem != "" {
		return "", ""
	}
	for _, endpoint := range effective.Of(found).Endpoints {
		first := endpoint.Server.Decider
		if endpoint.Server.Silent != nil {
			first = endpoint.Server.Silent
		}
		if first == nil {
			continue
		}
		for _, second := range endpoint.Server.Overridden {
			level := second.Namespace == first.Namespace && (len(second.Selector) == 0) == (len(first.Selector) == 0)
			if level && second.Created.Equal(first.Created) && w.isNew(*first) && w.isNew(second) {
				return first.String(), second.String()
			}
		}
	}
	return "", ""
}

func (w *world) isNew(policy meshpolicy.PeerAuthentication) bool {
	return slices.Contains(w.fresh, Reference{kindPeerAuthentication, policy.Namespace, policy.Name})
}
