package explain

import (
	"fmt"
	"strings"
	"time"

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
	add(seen.SentTo != "", "to %s", seen.SentTo)
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
	if Late(probe, now) {
		notes = append(notes, fmt.Sprintf("the last run is %s old, at an interval of %s: does the operator run?",
			now.Sub(probe.Status.LastProbeTime.Time).Round(time.Second), probe.Spec.Interval.Duration))
	}
	return notes
}

// statusHeartbeat is how often a status is written at least while nothing changes, with room for a busy operator; a minute
// by default (--heartbeat).
const statusHeartbeat = 2 * time.Minute

// Late says that the last run in the status is longer ago than a probe that is not suspended ever leaves it.
func Late(probe *api.HTTPSMeshProbe, now time.Time) bool {
	last := probe.Status.LastProbeTime
	return last != nil && !probe.Spec.Suspend && now.Sub(last.Time) > 2*probe.Spec.Interval.Duration+statusHeartbeat
}
