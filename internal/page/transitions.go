package page

import (
	"cmp"
	"slices"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// maxTransitions bounds what is kept and shown of one probe.
const maxTransitions = 100

// sameMoment is how far apart the times of a condition and of the event about it may be: both have whole seconds.
const sameMoment = 2 * time.Second

// Transition is something that happened to a probe: a condition that changed its status, or an Event.
type Transition struct {
	At      time.Time `json:"at"`
	What    string    `json:"what"`
	State   State     `json:"state,omitempty"`
	From    string    `json:"from,omitempty"`
	To      string    `json:"to,omitempty"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	// Count is how many times an Event was seen, where that is more than once.
	Count int32 `json:"count,omitempty"`
}

// changesOf is how the conditions' statuses changed from one version of a probe to the next.
func changesOf(before, after *api.HTTPSMeshProbe) []Transition {
	var changes []Transition
	for _, transition := range standing(after) {
		was := meta.FindStatusCondition(before.Status.Conditions, transition.What)
		if was == nil || string(was.Status) == transition.To {
			continue
		}
		transition.From = string(was.Status)
		changes = append(changes, transition)
	}
	return changes
}

// standing is when each condition came to be what it is. Reconciling comes and goes with every change and tells nothing.
func standing(probe *api.HTTPSMeshProbe) []Transition {
	var transitions []Transition
	for _, condition := range probe.Status.Conditions {
		if condition.Type == api.ConditionReconciling {
			continue
		}
		state := stateOf(condition.Status)
		switch condition.Type {
		case api.ConditionReady:
			state = ready(probe).State
		case api.ConditionStalled:
			state = Unknown
		}
		transitions = append(transitions, Transition{
			At: condition.LastTransitionTime.UTC(), What: condition.Type, State: state,
			To: string(condition.Status), Reason: condition.Reason, Message: condition.Message,
		})
	}
	return transitions
}

// eventTransitions are the Events about exactly this probe, not about an earlier one of the same name.
func eventTransitions(probe *api.HTTPSMeshProbe, events []eventsv1.Event) []Transition {
	var transitions []Transition
	for i := range events {
		event := &events[i]
		if event.Regarding.UID != probe.UID {
			continue
		}
		at, count := eventTime(event)
		transitions = append(transitions, Transition{
			At: at, What: event.Type + " event", Reason: event.Reason, Message: event.Note, Count: count,
		})
	}
	return transitions
}

func eventTime(event *eventsv1.Event) (at time.Time, count int32) {
	switch {
	case event.Series != nil:
		return event.Series.LastObservedTime.UTC(), event.Series.Count
	case !event.EventTime.IsZero():
		return event.EventTime.UTC(), 0
	}
	return cmp.Or(event.DeprecatedLastTimestamp, event.CreationTimestamp).UTC(), event.DeprecatedCount
}

// History is what happened to a probe, the latest first: what was seen to change, since when the conditions are as they
// are, and Events, each thing once.
func History(probe *api.HTTPSMeshProbe, seen []Transition, events []eventsv1.Event) []Transition {
	history := slices.Clone(seen)
	for _, transition := range standing(probe) {
		if !slices.ContainsFunc(history, func(known Transition) bool {
			return known.What == transition.What && known.At.Equal(transition.At) && known.To == transition.To
		}) {
			history = append(history, transition)
		}
	}
	conditions := slices.Clone(history)
	for _, transition := range eventTransitions(probe, events) {
		if !slices.ContainsFunc(conditions, func(known Transition) bool {
			return known.What == api.ConditionReady && known.Reason == transition.Reason && known.At.Sub(transition.At).Abs() <= sameMoment
		}) {
			history = append(history, transition)
		}
	}
	slices.SortStableFunc(history, func(a, b Transition) int { return b.At.Compare(a.At) })
	return history[:min(len(history), maxTransitions)]
}
