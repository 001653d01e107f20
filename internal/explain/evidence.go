package explain

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// evidence is what a run saw beside the outcome, in words.
func evidence(seen api.PathStatus) string {
	var words []string
	add := func(holds bool, format string, arguments ...any) {
		if holds {
			words = append(words, fmt.Sprintf(format, arguments...))
		}
	}
	add(seen.Encryption != "", "sent by %s", seen.Encryption)
	add(seen.TLSVersion != "", "%s", seen.TLSVersion)
	add(seen.Peer != "", "peer %s", seen.Peer)
	add(seen.ClientCertificateRequested, "a client certificate was asked for")
	add(seen.Alert != "", "alert %s", seen.Alert)
	if endpoints := seen.Endpoints; endpoints != nil {
		add(true, "%d of %d endpoints dialed, %d not as expected", endpoints.Asked, endpoints.Total, endpoints.Mismatched)
	}
	return strings.Join(words, ", ")
}

// notes say how far observed and computed speak of the same moment.
func notes(probe *api.HTTPSMeshProbe, policy Judgement, now time.Time) []string {
	var notes []string
	if probe.Spec.Suspend {
		notes = append(notes, "the probe is suspended: what was observed is from before")
	}
	if probe.Generation != 0 && probe.Status.ObservedGeneration != probe.Generation {
		notes = append(notes, fmt.Sprintf("the status is of generation %d and the spec of %d: the operator has not looked at the present spec", probe.Status.ObservedGeneration, probe.Generation))
	}
	told := condition(probe, api.ConditionPolicyInEffect)
	if told != nil && told.Status != policy.Status && told.Reason != api.ReasonNotEnforced {
		notes = append(notes, fmt.Sprintf("the status says PolicyInEffect %s (%s), and computed now it is %s (%s): either it has just changed, or the operator sees other objects than you do",
			told.Status, told.Reason, policy.Status, policy.Reason))
	}
	if late := probe.Status.LastProbeTime; late != nil && !probe.Spec.Suspend {
		if age, limit := now.Sub(late.Time), staleAfter(probe.Spec.Interval); age > limit {
			notes = append(notes, fmt.Sprintf("the last run is %s old, at an interval of %s: does the operator run?", age.Round(time.Second), probe.Spec.Interval.Duration))
		}
	}
	return notes
}

// staleAfter is the age from which on a run is late: the status is written on a heartbeat, a minute by default, and not
// at every run.
func staleAfter(interval metav1.Duration) time.Duration {
	return 2*interval.Duration + 2*time.Minute
}
