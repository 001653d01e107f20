package verdict

import (
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

// Record takes in the runs of one probe, each once and in order, and keeps of them what a verdict rests on. It may be used
// from several goroutines.
type Record struct {
	mu       sync.Mutex
	criteria Criteria
	tracks   map[api.PathName]*track
	latest   observation.Run
	runs     int
	// changed is when the policy changed, and settled says that what runs show is the new one's: one of them has shown all
	// of it, or the proxies' time is over.
	changed time.Time
	settled bool
}

// track is what has to be remembered of one path.
type track struct {
	latest finding
	// at is when the run began that brought it.
	at time.Time
	// stands is the status of the latest verdict that was more than waiting for another run.
	stands metav1.ConditionStatus
	// unknownSince is since when no run has shown anything; zero while the latest did.
	unknownSince time.Time
	// streaks are the failures in a row, by the endpoint to which the client's Envoy sent them, "" where that is not known:
	// an endpoint that answers says nothing of another one that does not.
	streaks map[string]*streak
	// row are the failures since something was last shown, whatever the endpoint: of a Service of many, each may fail once.
	// nil where nothing failed since.
	row *streak
	// proved is what was proved and is not believed to be gone yet, by the endpoint as well: what one shows now says nothing
	// of another.
	proved map[string]*proved
}

type streak struct {
	finding     finding
	since, last time.Time
	count       int
	// counts says that the streak has turned the path False.
	counts bool
}

type proved struct {
	finding finding
	last    time.Time
}

// NewRecord begins a record at a moment.
func NewRecord(criteria Criteria, now time.Time) *Record {
	// Where verdicts stood before, no policy is known to have changed that would void them.
	r := &Record{criteria: criteria, tracks: map[api.PathName]*track{}, changed: now, settled: len(criteria.Previous) > 0}
	for _, path := range paths.All() {
		t := &track{stands: metav1.ConditionUnknown, streaks: map[string]*streak{}, proved: map[string]*proved{}}
		if previous, ok := criteria.Previous[path.Name]; ok {
			// What only stood on older evidence does not stand for another term.
			fresh := now.Sub(previous.At) <= criteria.StaleAfter() && previous.Reason != api.ReasonBelowThreshold
			if previous.Status == metav1.ConditionFalse || fresh {
				t.stands = previous.Status
			}
			if previous.Status == metav1.ConditionFalse && needsClearing(path, previous.Reason) {
				t.proved[""] = &proved{
					finding: finding{outcome: api.OutcomeMismatch, reason: previous.Reason, proof: true, message: "it was proved before the operator started"},
					last:    previous.At,
				}
			}
		}
		r.tracks[path.Name] = t
	}
	return r
}

// needsClearing lists the reasons of which proof is given. Through the mesh, what was refused may have gone out in plaintext.
func needsClearing(path paths.Path, reason string) bool {
	switch reason {
	case api.ReasonRefused:
		return path.ThroughMesh
	case api.ReasonMTLSNotEnforced, api.ReasonUntrustedCertificateAccepted, api.ReasonPlaintextInMesh, api.ReasonLedElsewhere, api.ReasonUnexpectedMutualTLS:
		return true
	default:
		return false
	}
}

// Renew gives the record the criteria of the present. Those that make earlier runs void take a new Record.
func (r *Record) Renew(criteria Criteria, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if criteria.Policy != r.criteria.Policy {
		r.changed, r.settled = now, false
	}
	r.criteria = criteria
}

// AwaitPolicy says that the policy changed at a moment, so that proxies may still follow the one before.
func (r *Record) AwaitPolicy(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed, r.settled = now, false
}

// Record takes in one run.
func (r *Record) Record(run observation.Run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.runs > 0 && run.Started.Sub(r.latest.Started) > r.criteria.StaleAfter() {
		for _, track := range r.tracks {
			track.stands = metav1.ConditionUnknown
		}
	}
	r.latest = run
	r.runs++
	shown := r.settle(run)
	for _, path := range paths.All() {
		track, found := r.tracks[path.Name], r.criteria.find(path, run)
		if shown {
			track.forgetPolicy(found)
		}
		track.add(r.criteria, found, run.Started)
	}
}

// settle says whether a run is the first that shows all of a new policy. What goes on being seen after the proxies' time is
// over is the present one's.
func (r *Record) settle(run observation.Run) (shown bool) {
	if r.settled {
		return false
	}
	shown = askedSince(r.changed, run) && r.criteria.AsComputed(run)
	r.settled = shown || run.Started.Sub(r.changed) >= settleTime
	return shown
}

// forgetPolicy forgets what was seen of the policy before. A failure that is still there was none of its.
func (t *track) forgetPolicy(found finding) {
	t.proved = map[string]*proved{}
	if found.outcome == api.OutcomeMatch {
		t.streaks = map[string]*streak{}
	}
}

// askedSince says whether all that a run tells was asked since a moment. What it carries of earlier runs may be the policy's
// of before.
func askedSince(moment time.Time, run observation.Run) bool {
	if run.Started.Before(moment) {
		return false
	}
	for _, result := range run.Results {
		for _, endpoint := range result.Endpoints {
			if endpoint.Asked.Before(moment) {
				return false
			}
		}
	}
	return true
}

// Latest is the latest run; ok is false where there was none.
func (r *Record) Latest() (run observation.Run, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.latest, r.runs > 0
}

// Paths judges every path at a moment. quick says that more runs follow within moments, because something has just
// changed. Without runs there is nothing to judge and it returns nil.
func (r *Record) Paths(now time.Time, quick bool) []Path {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.runs == 0 {
		return nil
	}
	judged := make([]Path, 0, len(r.tracks))
	for _, path := range paths.All() {
		judged = append(judged, r.tracks[path.Name].path(r.criteria, path.Name, r.latest.Started, now, quick))
	}
	return judged
}

// add takes in what a run brought along the path.
func (t *track) add(c Criteria, found finding, at time.Time) {
	t.latest, t.at = found, at
	switch {
	case found.outcome == api.OutcomeMatch:
		t.unknownSince = time.Time{}
		delete(t.streaks, found.host)
		delete(t.streaks, "")
		t.row = nil
		t.clear(c, found, at)
	case found.proof:
		t.unknownSince = time.Time{}
		t.proves(c, found, at)
	case found.outcome == api.OutcomeMismatch:
		t.unknownSince = time.Time{}
		t.fails(found, at)
	case t.unknownSince.IsZero():
		t.unknownSince = at
	}
	t.forget(c, at)
	// Whether more runs follow within moments is not known here; Paths knows.
	t.judge(c, at, true)
}

func (t *track) fails(found finding, at time.Time) {
	if t.row == nil {
		t.row = t.begun(at)
	}
	s, ok := t.streaks[found.host]
	if !ok {
		s = t.begun(at)
		t.streaks[found.host] = s
	}
	for _, one := range []*streak{s, t.row} {
		one.finding, one.last = found, at
		one.count++
	}
}

// begun is a streak that begins. Where the path is False for its failures, another one leaves it so.
func (t *track) begun(at time.Time) *streak {
	return &streak{since: at, counts: t.stands == metav1.ConditionFalse && len(t.proved) == 0}
}

// proves takes in a proof, and drops what is so old that the new one says more.
func (t *track) proves(c Criteria, found finding, at time.Time) {
	for host, p := range t.proved {
		if at.Sub(p.last) >= c.forgetting() {
			delete(t.proved, host)
		}
	}
	t.proved[found.host] = &proved{finding: found, last: at}
}

// clear believes that what was proved is gone: nothing was seen of it for clearAfter intervals, in which every endpoint was
// asked, the one that it was proved of among them.
func (t *track) clear(c Criteria, found finding, at time.Time) {
	for host, p := range t.proved {
		if at.Sub(p.last) < clearAfter*c.Interval || !found.asked.After(p.last) {
			continue
		}
		if host == "" || host == found.host || gone(c, host, found) || at.Sub(p.last) >= c.forgetting() {
			delete(t.proved, host)
		}
	}
}

// forget drops endpoints that are no longer there, and those to which nothing was sent for so long that it says nothing.
func (t *track) forget(c Criteria, at time.Time) {
	for host, s := range t.streaks {
		if host != "" && s.last.Before(at) && (gone(c, host, t.latest) || at.Sub(s.last) >= c.forgetting()+grace) {
			delete(t.streaks, host)
		}
	}
}

// gone says whether the client's Envoy has been told all endpoints, and an address is none of them.
func gone(c Criteria, host string, found finding) bool {
	delivered := found.result.Seen.Delivered
	if delivered == nil || delivered.Error != "" || delivered.LegsLeftOut > 0 || len(delivered.Legs) == 0 {
		return false
	}
	if _, ready := c.Service.Endpoints[host]; ready {
		return false
	}
	for _, leg := range delivered.Legs {
		if leg.EndpointsLeftOut > 0 || leg.TLS != observation.TLSByEndpoint && len(leg.Endpoints) == 0 {
			return false
		}
		for _, endpoint := range leg.Endpoints {
			if endpoint.Address == host {
				return false
			}
		}
	}
	return true
}
