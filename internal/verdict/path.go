package verdict

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

// Path is the verdict on one path.
type Path struct {
	Status   metav1.ConditionStatus
	Reason   string
	Message  string
	Evidence api.PathStatus
}

// judgement is what a track comes to at a moment. waits says that it stands only until another run tells more.
type judgement struct {
	status  metav1.ConditionStatus
	reason  string
	message string
	waits   bool
}

// judge comes to a verdict, and remembers it unless it waits for another run.
func (t *track) judge(c Criteria, now time.Time, quick bool) judgement {
	found := t.weigh(c, now, quick)
	if !found.waits {
		t.stands = found.status
	}
	return found
}

// weigh goes by what weighs most: proof, then failures that count, then that nothing is known, then failures that do not
// count yet.
func (t *track) weigh(c Criteria, now time.Time, quick bool) judgement {
	latest := t.latest
	if len(t.proved) > 0 {
		return t.stillProved(c)
	}
	worst := t.worstStreak(c, quick)
	switch {
	case worst != nil && worst.counts:
		return judgement{status: metav1.ConditionFalse, reason: worst.finding.reason, message: worst.finding.message}
	case latest.outcome == api.OutcomeUnknown && t.stands == metav1.ConditionTrue && t.unknownFor(now) < latest.tolerated(c, quick):
		return judgement{t.stands, api.ReasonBelowThreshold, "the verdict of before stands for now: " + latest.message, true}
	case latest.outcome == api.OutcomeUnknown:
		return judgement{status: metav1.ConditionUnknown, reason: latest.reason, message: latest.message}
	case worst != nil:
		return judgement{t.stands, api.ReasonBelowThreshold,
			fmt.Sprintf("failure %d; this counts from %d failures in a row on: %s", worst.count, max(c.FailureThreshold, 1), worst.finding.message), true}
	default:
		return judgement{status: conditionOf(latest.outcome), reason: latest.reason, message: latest.message}
	}
}

func conditionOf(outcome api.Outcome) metav1.ConditionStatus {
	switch outcome {
	case api.OutcomeMatch:
		return metav1.ConditionTrue
	case api.OutcomeMismatch:
		return metav1.ConditionFalse
	default:
		return metav1.ConditionUnknown
	}
}

func (t *track) stillProved(c Criteria) judgement {
	var latest *proved
	for _, host := range slices.Sorted(maps.Keys(t.proved)) {
		if p := t.proved[host]; latest == nil || p.last.After(latest.last) {
			latest = p
		}
	}
	message := latest.finding.message
	if !t.latest.proof {
		message = fmt.Sprintf("%s; not seen in the latest run; this clears when runs over every endpoint have agreed for %s", message, clearAfter*c.Interval)
	}
	return judgement{status: metav1.ConditionFalse, reason: latest.finding.reason, message: message}
}

// worstStreak is the one that counts, else the longest; nil where nothing fails.
func (t *track) worstStreak(c Criteria, quick bool) *streak {
	var worst *streak
	streaks := []*streak{}
	for _, host := range slices.Sorted(maps.Keys(t.streaks)) {
		streaks = append(streaks, t.streaks[host])
	}
	if t.row != nil {
		streaks = append(streaks, t.row)
	}
	for _, s := range streaks {
		s.counts = s.counts || s.finding.computed || s.count >= c.FailureThreshold && s.last.Sub(s.since) >= s.finding.mustLast(c, quick)
		if worst == nil || s.counts && !worst.counts || s.counts == worst.counts && s.count > worst.count {
			worst = s
		}
	}
	return worst
}

// mustLast is for how long a failure must last before it counts. While pods come and go, connections break for moments: a
// pod that ends closes its connections some tenths of a second before the last proxy has heard of it.
func (f finding) mustLast(c Criteria, quick bool) time.Duration {
	if quick && f.brokeOff() {
		return max(c.lasting(), unit)
	}
	return c.lasting()
}

// unknownFor is for how long runs have shown nothing. What broke off is counted from run to run: one that waits for its
// time-out is no longer failure than another.
func (t *track) unknownFor(now time.Time) time.Duration {
	if t.latest.brokeOff() {
		now = t.at
	}
	return now.Sub(t.unknownSince)
}

// tolerated is for how long a verdict stands beside runs that show nothing.
func (f finding) tolerated(c Criteria, quick bool) time.Duration {
	switch {
	case f.reason == api.ReasonNotAttributed:
		return unknownFor * c.Interval
	case quick && f.brokeOff():
		return unit
	default:
		return 0
	}
}

// brokeOff says whether nothing was seen but a connection that failed on its way, on this path or on its control.
func (f finding) brokeOff() bool {
	switch f.reason {
	case api.ReasonNoConnection, api.ReasonConnectionBroken, api.ReasonTimedOut, api.ReasonAuthorizationDenied, api.ReasonNoPositiveControl, api.ReasonInconclusive:
		return f.result.Failed == nil
	default:
		return false
	}
}

func (t *track) path(c Criteria, name api.PathName, started, now time.Time, quick bool) Path {
	found := t.judge(c, now, quick)
	if now.Sub(started) > c.StaleAfter() {
		t.stands = metav1.ConditionUnknown
		found = judgement{status: metav1.ConditionUnknown, reason: api.ReasonNotProbed, message: "no run has come to an end since " + started.UTC().Format(time.RFC3339)}
	}
	if explanation := c.Explanations[name]; explanation != "" && t.latest.outcome == api.OutcomeMismatch {
		found.message += "; " + explanation
	}
	return Path{Status: found.status, Reason: found.reason, Message: found.message, Evidence: t.evidence(c, name, started)}
}

func (t *track) evidence(c Criteria, name api.PathName, started time.Time) api.PathStatus {
	found := t.latest
	began := metav1.NewTime(started)
	status := api.PathStatus{
		Name:                name,
		Expected:            c.Declared[name].String(),
		ExpectedReason:      c.Declared[name].Reason,
		Endpoints:           found.endpoints,
		Observed:            found.observed,
		Outcome:             found.outcome,
		Claims:              found.claims.status(),
		ConsecutiveFailures: int32(min(t.failures(), maxCounted)),
		LastProbeTime:       &began,
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
	if name == meshPath {
		status.Encryption = encryption(seen)
		if seen.Sent != nil && seen.Sent.Cluster != "" {
			status.SentTo = clip(seen.Sent.Cluster+" "+seen.Sent.Host, maxPeer)
		}
	}
	status.Latency = &metav1.Duration{Duration: seen.Finished.Round(latencyPrecision)}
	return status
}

// failures is how many runs in a row failed, at the endpoint of which most did.
func (t *track) failures() int {
	most := 0
	if t.row != nil {
		most = t.row.count
	}
	for _, s := range t.streaks {
		most = max(most, s.count)
	}
	if most == 0 && t.latest.outcome == api.OutcomeMismatch {
		return 1
	}
	return most
}

// Kept are the verdicts that stand in a status, for as long as a new policy is on its way and there are no newer ones.
func Kept(status api.HTTPSMeshProbeStatus) []Path {
	var kept []Path
	for _, path := range paths.All() {
		condition := meta.FindStatusCondition(status.Conditions, path.Condition)
		i := slices.IndexFunc(status.Paths, func(p api.PathStatus) bool { return p.Name == path.Name })
		if condition == nil || i < 0 {
			return nil
		}
		kept = append(kept, Path{Status: condition.Status, Reason: condition.Reason, Message: condition.Message, Evidence: status.Paths[i]})
	}
	return kept
}
