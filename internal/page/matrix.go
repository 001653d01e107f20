package page

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/explain"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

// State is what the page says of a verdict, in a word and a symbol.
type State string

const (
	// Verified says that what was observed is what was expected.
	Verified State = "verified"
	// Refuted says that it is not.
	Refuted State = "refuted"
	// Unknown says that it could not be told, or what is known is too old to stand for the present.
	Unknown State = "unknown"
	// Wavering says that the condition stands, and the latest run contradicts it, fewer times in a row than failureThreshold.
	Wavering State = "wavering"
)

// Reasons that the page gives beside those of the conditions.
const (
	reasonNotSeen = "NotSeenYet"
	reasonOverdue = "Overdue"
)

// Row is one probe in the matrix.
type Row struct {
	Namespace  string     `json:"namespace"`
	Name       string     `json:"name"`
	Target     string     `json:"target"`
	Sidecar    string     `json:"sidecar"`
	Mode       string     `json:"mode"`
	ClientMode string     `json:"clientMode"`
	Ready      Judgement  `json:"ready"`
	Policy     Judgement  `json:"policy"`
	Paths      []Cell     `json:"paths"`
	Marks      []Mark     `json:"marks"`
	Checked    *time.Time `json:"checked,omitempty"`
	Version    string     `json:"version"`
}

// Judgement is a condition as the page shows it.
type Judgement struct {
	State   State      `json:"state"`
	Reason  string     `json:"reason"`
	Message string     `json:"message"`
	Since   *time.Time `json:"since,omitempty"`
}

// Cell is one path of one probe.
type Cell struct {
	Path     api.PathName `json:"path"`
	State    State        `json:"state"`
	Reason   string       `json:"reason"`
	Expected string       `json:"expected"`
	Observed string       `json:"observed"`
	// Earlier says that what was observed is from before and speaks no more for the present.
	Earlier bool `json:"earlier"`
}

// Mark is a word beside the verdict that everybody must see: suspended, stalled, reconciling, overdue or not seen yet.
type Mark struct {
	Word    string `json:"word"`
	Message string `json:"message"`
}

// RowOf is the probe's row as of now.
func RowOf(probe *api.HTTPSMeshProbe, now time.Time) Row {
	row := Row{
		Namespace: probe.Namespace, Name: probe.Name, Version: probe.ResourceVersion, Target: target(probe),
		Sidecar: string(probe.Spec.Target.Sidecar), Mode: string(probe.Spec.MTLS.Mode), ClientMode: string(probe.Spec.MTLS.ClientMode),
		Ready:   ready(probe),
		Policy:  judgement(probe, api.ConditionPolicyInEffect),
		Checked: timeOf(probe.Status.LastProbeTime),
		Marks:   []Mark{},
	}
	for _, name := range paths.Names() {
		row.Paths = append(row.Paths, cell(probe, name))
	}
	for _, known := range []struct{ condition, word string }{
		{api.ConditionStalled, "stalled"}, {api.ConditionReconciling, "reconciling"},
	} {
		if condition := meta.FindStatusCondition(probe.Status.Conditions, known.condition); condition != nil && condition.Status == metav1.ConditionTrue {
			row.Marks = append(row.Marks, Mark{known.word, condition.Message})
		}
	}
	if probe.Spec.Suspend {
		row.Marks = append(row.Marks, Mark{"suspended", "no requests are sent while spec.suspend is true"})
	}
	if probe.DeletionTimestamp != nil {
		row.Marks = append(row.Marks, Mark{"being deleted", "the probe is on its way out"})
	}
	markAsOld(&row, probe, now)
	return row
}

// markAsOld takes the verdict back where the status does not speak of the present.
func markAsOld(row *Row, probe *api.HTTPSMeshProbe, now time.Time) {
	switch {
	case probe.Status.ObservedGeneration != probe.Generation:
		message := "the operator has not looked at this spec yet"
		takeBack(row, reasonNotSeen, message)
		row.Marks = append(row.Marks, Mark{"not seen yet", message})
	case isOverdue(probe, now):
		message := fmt.Sprintf("the last run in the status is older than an interval of %s accounts for: does the operator run?", probe.Spec.Interval.Duration)
		takeBack(row, reasonOverdue, message)
		row.Marks = append(row.Marks, Mark{"overdue", message})
	}
}

func takeBack(row *Row, reason, message string) {
	row.Ready = Judgement{State: Unknown, Reason: reason, Message: message}
	row.Policy.State, row.Policy.Reason = Unknown, reason
	for i := range row.Paths {
		row.Paths[i].State, row.Paths[i].Reason = Unknown, reason
		row.Paths[i].Earlier = row.Paths[i].Observed != ""
	}
}

// isOverdue says whether a verdict that rests on runs has had no new run for too long.
func isOverdue(probe *api.HTTPSMeshProbe, now time.Time) bool {
	ready := meta.FindStatusCondition(probe.Status.Conditions, api.ConditionReady)
	if ready == nil {
		return false
	}
	switch ready.Reason {
	case api.ReasonVerified, api.ReasonRefuted, api.ReasonUndetermined:
		return explain.Late(probe, now)
	}
	return false
}

func target(probe *api.HTTPSMeshProbe) string {
	service := probe.Spec.Target.Service
	if service == nil {
		return "the operator's own server"
	}
	namespace := service.Namespace
	if namespace == "" {
		namespace = probe.Namespace
	}
	return fmt.Sprintf("Service %s/%s port %s", namespace, service.Name, service.Port.String())
}

// ready is Refuted only where something was: most reasons for which Ready is False mean that nothing could be asked
// (docs/verdicts.md).
func ready(probe *api.HTTPSMeshProbe) Judgement {
	judged := judgement(probe, api.ConditionReady)
	if judged.State == Refuted && judged.Reason != api.ReasonRefuted {
		judged.State = Unknown
	}
	return judged
}

func judgement(probe *api.HTTPSMeshProbe, conditionType string) Judgement {
	condition := meta.FindStatusCondition(probe.Status.Conditions, conditionType)
	if condition == nil {
		return Judgement{State: Unknown, Reason: reasonNotSeen, Message: "the operator has said nothing of it yet"}
	}
	return Judgement{
		State: stateOf(condition.Status), Reason: condition.Reason, Message: condition.Message, Since: timeOf(&condition.LastTransitionTime),
	}
}

func stateOf(status metav1.ConditionStatus) State {
	switch status {
	case metav1.ConditionTrue:
		return Verified
	case metav1.ConditionFalse:
		return Refuted
	}
	return Unknown
}

func cell(probe *api.HTTPSMeshProbe, name api.PathName) Cell {
	judged := judgement(probe, paths.Condition(name))
	cell := Cell{Path: name, State: judged.State, Reason: judged.Reason}
	path := pathStatus(probe, name)
	if path == nil {
		if cell.State == Verified {
			cell.State = Unknown
		}
		return cell
	}
	cell.Expected, cell.Observed = path.Expected, path.Observed
	switch {
	case cell.State == Verified && path.Outcome != api.OutcomeMatch:
		cell.State = Wavering
	case cell.State == Unknown && path.Outcome != api.OutcomeUnknown:
		cell.Earlier = path.Observed != ""
	}
	return cell
}

func pathStatus(probe *api.HTTPSMeshProbe, name api.PathName) *api.PathStatus {
	for i := range probe.Status.Paths {
		if probe.Status.Paths[i].Name == name {
			return &probe.Status.Paths[i]
		}
	}
	return nil
}

func timeOf(t *metav1.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	utc := t.UTC()
	return &utc
}
