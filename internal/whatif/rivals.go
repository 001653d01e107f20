package whatif

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/effective"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
)

// rivalry says whether the answer depends on which of the files' new policies is created first, and names one that would
// change it by being the first. Among policies of one level Istio takes the oldest, and nobody knows their ages yet.
func (w *world) rivalry(found *inventory.Inventory) string {
	if !found.IstioInstalled || found.MeshProblem != "" {
		return ""
	}
	before := effective.Of(found)
	differs := func() bool {
		after := effective.Of(found)
		return !reflect.DeepEqual(before.Computed, after.Computed) || before.Agreement.Status != after.Agreement.Status
	}
	for i := range found.PeerAuthentications {
		policy := &found.PeerAuthentications[i]
		if w.isNew(Reference{kindPeerAuthentication, policy.Namespace, policy.Name}) && firstOf(&policy.Created, differs) {
			return policy.String()
		}
	}
	for i := range found.DestinationRules {
		rule := &found.DestinationRules[i]
		if w.isNew(Reference{kindDestinationRule, rule.Namespace, rule.Name}) && firstOf(&rule.Created, differs) {
			return rule.String()
		}
	}
	return ""
}

// firstOf asks a question with an object made older than the other new ones.
func firstOf(created *time.Time, question func() bool) bool {
	moment := *created
	defer func() { *created = moment }()
	*created = moment.Add(-time.Second)
	return question()
}

func (w *world) isNew(reference Reference) bool { return slices.Contains(w.fresh, reference) }

func undecided(rival string) string {
	return fmt.Sprintf("several new policies are for the same pods, and the one that is created first will be in force: shown is what holds if all are created in the same second, where the name decides; with %s first it is something else", rival)
}
