package controllers_test

import (
	"fmt"
	"strings"
	"testing"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// A verdict that goes back and forth is one event for each side, with a count, and not one for each time.
func TestTheSameTransitionsAreOneSeries(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict")
	o.awaitVerified(t, "strict")
	for range 3 {
		o.mesh.enforce("strict", "PERMISSIVE")
		o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted)
		o.mesh.enforce("strict", "")
		o.awaitVerified(t, "strict")
	}
	eventually(t, "the series", func() error {
		var list eventsv1.EventList
		must(t, o.admin.List(t.Context(), &list, client.InNamespace(o.namespace)))
		objects, counting := map[string]int{}, 0
		for _, event := range list.Items {
			objects[event.Reason]++
			if event.Reason == api.ReasonRefuted && event.Series != nil {
				counting++
			}
			if event.Reason == api.ReasonRefuted && !strings.Contains(event.Note, "istio-proxy") {
				t.Errorf("note: got %q, want it to name the paths", event.Note)
			}
		}
		// Where one path is refuted a run before the other, that is a transition of its own kind.
		if objects[api.ReasonRefuted] > 2 || objects[api.ReasonVerified] != 1 || counting == 0 {
			return fmt.Errorf("events by reason: %v, %d refuted ones that count; want one that is verified, no more than two refuted, and one of these that counts", objects, counting)
		}
		return nil
	})
}
