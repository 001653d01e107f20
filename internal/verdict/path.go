// Package verdict holds what was observed against what is expected, and words the result as status conditions. It
// never turns "could not be asked" into a pass or a fail, and it counts a refusal only beside a request of the same run
// that got through.
package verdict

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// Input is everything a verdict on the paths rests on.
type Input struct {
	Expectations expectation.Expectations
	Server       Server
	// Runs are the latest runs that were made under these expectations, oldest first.
	Runs []observation.Run
	// FailureThreshold is how many mismatches in a row make a path False; at least 1.
	FailureThreshold int
	// Quick says that more runs follow within moments, because pods or policies have just changed. Connections that fail
	// then do not count before they have failed for the time lasting.
	Quick bool
	// Previous are the conditions' statuses from before the first of Runs, where they still speak of the same spec.
	Previous map[api.PathName]metav1.ConditionStatus
	// CheckedSince is since when kubelet's readiness probes have vouched for every endpoint; zero where they do not. It
	// is the positive control where the path sleep is not to get through.
	CheckedSince time.Time
	// Explanations say, for paths that Istio computes otherwise than declared, what it computes and why.
	Explanations map[api.PathName]string
}

// Path is the verdict on one path.
type Path struct {
	Status   metav1.ConditionStatus
	Reason   string
	Message  string
	Evidence api.PathStatus
}

// Paths judges every path by the latest run and by those before it. Without runs there is nothing to judge and it
// returns nil.
func Paths(in Input) []Path {
	if len(in.Runs) == 0 {
		return nil
	}
	findings := make([]map[api.PathName]finding, len(in.Runs))
	for i, run := range in.Runs {
		findings[i] = findAll(in, run)
	}
	paths := make([]Path, 0, len(in.Expectations))
	for _, name := range api.PathNames() {
		ofPath := make([]finding, len(in.Runs))
		for i := range findings {
			ofPath[i] = findings[i][name]
		}
		paths = append(paths, judgePath(in, name, ofPath))
	}
	return paths
}

func judgePath(in Input, name api.PathName, findings []finding) Path {
	findings = upToPlaintext(findings)
	latest := findings[len(findings)-1]
	if explanation := in.Explanations[name]; explanation != "" && latest.outcome == api.OutcomeMismatch {
		latest.message += "; " + explanation
	}
	failures := consecutiveMismatches(findings)
	path := Path{Reason: latest.reason, Message: latest.message}
	switch latest.outcome {
	case api.OutcomeMatch:
		path.Status = metav1.ConditionTrue
	case api.OutcomeUnknown:
		path.Status = metav1.ConditionUnknown
	case api.OutcomeMismatch:
		path.Status = metav1.ConditionFalse
		// A path that was False before already goes on saying why.
		if before := statusBefore(in, name, findings[:len(findings)-failures]); failures < in.FailureThreshold && before != metav1.ConditionFalse {
			path.Status, path.Reason = before, api.ReasonBelowThreshold
			path.Message = fmt.Sprintf("mismatch %d of %d before this turns False: %s", failures, in.FailureThreshold, latest.message)
		}
	}
	if in.fleeting(name, findings) {
		path.Status, path.Reason = metav1.ConditionTrue, api.ReasonBelowThreshold
		path.Message = fmt.Sprintf("pods or policies have just changed, and this counts only if it lasts for %s: %s", lasting, latest.message)
	}
	run := in.Runs[len(findings)-1]
	path.Evidence = evidence(name, in.Expectations[name], latest, run, failures)
	return path
}

// lasting is for how long connections must fail while pods come and go. A pod that ends closes its connections some tenths
// of a second before the last proxy has heard of it.
const lasting = 2 * time.Second

// fleeting says whether a path that got through has failed to for moments only, just after something has changed.
func (in Input) fleeting(name api.PathName, findings []finding) bool {
	first := len(findings)
	for first > 0 && findings[first-1].brokeOff() {
		first--
	}
	if !in.Quick || first == len(findings) {
		return false
	}
	lasted := in.Runs[len(findings)-1].Started.Sub(in.Runs[first].Started)
	return lasted < lasting && statusBefore(in, name, findings[:first]) == metav1.ConditionTrue
}

// brokeOff says whether nothing was seen but a connection that failed on its way, on this path or on its control.
func (f finding) brokeOff() bool {
	switch f.reason {
	case api.ReasonNoAnswer, api.ReasonNoPositiveControl:
		return true
	case api.ReasonInconclusive:
		return f.brokenEndpoint || f.result.Failed == nil && f.result.Seen.Class != observation.ClientCertificateRequired
	default:
		return false
	}
}

// Kept are the verdicts that stand in a status, for as long as a new policy is on its way and there are no newer ones.
func Kept(status api.HTTPSMeshProbeStatus) []Path {
	var paths []Path
	for _, name := range api.PathNames() {
		condition := meta.FindStatusCondition(status.Conditions, api.PathCondition(name))
		i := slices.IndexFunc(status.Paths, func(p api.PathStatus) bool { return p.Name == name })
		if condition == nil || i < 0 {
			return nil
		}
		paths = append(paths, Path{Status: condition.Status, Reason: condition.Reason, Message: condition.Message, Evidence: status.Paths[i]})
	}
	return paths
}

// statusBefore is the status that the runs before a streak of mismatches had led to.
func statusBefore(in Input, name api.PathName, before []finding) metav1.ConditionStatus {
	if len(before) > 0 {
		if before[len(before)-1].outcome == api.OutcomeMatch {
			return metav1.ConditionTrue
		}
		return metav1.ConditionUnknown
	}
	if previous, ok := in.Previous[name]; ok {
		return previous
	}
	return metav1.ConditionUnknown
}

// upToPlaintext leaves out the latest answers of which it was not counted how they were sent, if the last one of which it
// was had been sent in plaintext where it must not: they do not show that this has changed.
func upToPlaintext(findings []finding) []finding {
	counted := len(findings) - 1
	for counted >= 0 && findings[counted].uncounted() {
		counted--
	}
	if counted < 0 || findings[counted].reason != api.ReasonPlaintextInMesh {
		return findings
	}
	return findings[:counted+1]
}

func (f finding) uncounted() bool {
	return f.outcome == api.OutcomeMatch && f.reason == api.ReasonAnswered && f.result.Failed == nil && f.result.Seen.Wrapping() == observation.NotCounted
}

func consecutiveMismatches(findings []finding) int {
	count := 0
	for i := len(findings) - 1; i >= 0 && findings[i].outcome == api.OutcomeMismatch; i-- {
		count++
	}
	return count
}

func evidence(name api.PathName, expected expectation.Expectation, found finding, run observation.Run, failures int) api.PathStatus {
	started := metav1.NewTime(run.Started)
	status := api.PathStatus{
		Name:                name,
		Expected:            expected.String(),
		ExpectedReason:      expected.Reason,
		Endpoints:           found.endpoints,
		Observed:            found.observed,
		Outcome:             found.outcome,
		ConsecutiveFailures: int32(min(failures, maxCounted)),
		LastProbeTime:       &started,
		Message:             clip(found.message, maxMessage),
	}
	if found.result.Failed != nil || found.result.Seen.Class == "" {
		return status
	}
	seen := found.result.Seen
	status.HTTPCode = int32(seen.HTTPCode)
	status.TLSVersion, status.CipherSuite = clip(seen.TLSVersion, maxVersion), clip(seen.CipherSuite, maxName)
	status.Peer = clip(peerID(seen), maxPeer)
	status.ClientCertificateRequested = seen.CertificateRequested
	status.Alert = clip(seen.Alert, maxName)
	if name == api.PathSleep {
		status.Encryption = encryption(seen)
	}
	status.Latency = &metav1.Duration{Duration: seen.Finished.Round(latencyPrecision)}
	return status
}
