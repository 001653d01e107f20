package verdict_test

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s.io/apimachinery/pkg/util/intstr"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// judgeChecked returns the verdict on one path after one run, where kubelet vouches for the server since a time.
func judgeChecked(expectations expectation.Expectations, name api.PathName, since time.Time, one observation.Run) verdict.Path {
	return verdictOn(name, verdict.Paths(verdict.Input{
		Expectations: expectations, Server: server, Runs: []observation.Run{one}, FailureThreshold: 1, CheckedSince: since,
	}))
}

var noControl = meaning{api.OutcomeUnknown, api.ReasonNoPositiveControl}

// Where sleep is not to get through, whoever else reached the server in that run shows that it is up.
func TestWhereSleepMustFailAnotherPathIsTheControl(t *testing.T) {
	for name, c := range map[string]struct {
		istioProxy, outsider observation.Result
		want                 meaning
	}{
		"both others reached the server":    {served, served, asDeclared},
		"istio-proxy alone did":             {served, brokenOff, asDeclared},
		"outsider alone did":                {unasked, served, asDeclared},
		"outsider got an error from it":     {brokenOff, answered(503, nginxLeaf), asDeclared},
		"nobody did":                        {brokenOff, brokenOff, noControl},
		"nobody was asked":                  {unasked, unasked, noControl},
		"nobody could be asked":             {failed(observation.ExecFailed, "broken"), failed(observation.NoVantage, "none"), noControl},
		"both were refused":                 {turnedAway, turnedAway, noControl},
		"somebody else answered":            {answered(200, foreignLeaf), answered(200, sidecarLeaf), noControl},
		"the server's handshake, no more":   {saw(observation.ResponseTimeout, nginxLeaf), saw(observation.ResponseReset, nginxLeaf), noControl},
		"an answer that nobody vouches for": {answered(200, nil), answered(200, nil), noControl},
	} {
		t.Run(name, func(t *testing.T) {
			wantMeaning(t, name, judge(permissiveSimple, api.PathSleep, run(brokenOff, c.istioProxy, c.outsider)), c.want, "reset")
		})
	}
	// The run before had a control; it must not lend it to this one.
	got := judge(permissiveSimple, api.PathSleep, run(brokenOff, served, served), run(brokenOff, brokenOff, brokenOff))
	wantMeaning(t, "lent", got, noControl, "reset")
}

// Where nobody is to get through, only kubelet can say that the server is up, and only if it said so before the run.
func TestWhereNobodyGetsThroughKubeletIsTheControl(t *testing.T) {
	for name, c := range map[string]struct {
		since time.Time
		want  bool
	}{
		"nobody vouches":     {time.Time{}, false},
		"since long":         {firstRun.Add(-time.Hour), true},
		"since just before":  {firstRun.Add(-time.Nanosecond), true},
		"since the same":     {firstRun, false},
		"since after it":     {firstRun.Add(time.Second), false},
		"since the epoch":    {time.Unix(0, 0), true},
		"since much later":   {firstRun.Add(24 * time.Hour), false},
		"since a day before": {firstRun.Add(-24 * time.Hour), true},
	} {
		t.Run(name, func(t *testing.T) {
			byMesh, end := meaning{api.OutcomeMatch, api.ReasonRefusedByMesh}, asDeclared
			if !c.want {
				byMesh, end = noControl, noControl
			}
			allRefused := run(turnedAway, turnedAway, turnedAway)
			for _, path := range api.PathNames() {
				wantMeaning(t, string(path), judgeChecked(strictPlain, path, c.since, allRefused), byMesh, "refused")
			}
			sleepBroken := run(brokenOff, turnedAway, turnedAway)
			wantMeaning(t, "sleep", judgeChecked(strictSimple, api.PathSleep, c.since, sleepBroken), end, "reset")
			wantMeaning(t, "outsider", judgeChecked(strictSimple, api.PathOutsider, c.since, sleepBroken), byMesh, "refused")
		})
	}
}

// Where sleep must get through, nothing else makes up for it: not kubelet, whose probes go another way, and not a path
// that got through although it must not.
func TestWhereSleepMustGetThroughOnlySleepIsTheControl(t *testing.T) {
	since := firstRun.Add(-time.Hour)
	got := judgeChecked(strict, api.PathOutsider, since, run(brokenOff, turnedAway, turnedAway))
	wantMeaning(t, "kubelet vouches", got, noControl, "refused")
	got = judgeChecked(strict, api.PathOutsider, since, run(brokenOff, served, turnedAway))
	wantMeaning(t, "istio-proxy got through", got, noControl, "refused")
}

// Sleep in plaintext is a finding of its own, and the server is up all the same.
func TestPlaintextIsAPositiveControl(t *testing.T) {
	plain := counting(served, passedOn)
	got := judge(strict, api.PathOutsider, run(plain, turnedAway, turnedAway))
	wantMeaning(t, "outsider", got, meaning{api.OutcomeMatch, api.ReasonRefusedByMesh}, "refused")
	got = judge(strict, api.PathSleep, run(plain, turnedAway, turnedAway))
	wantMeaning(t, "sleep", got, meaning{api.OutcomeMismatch, api.ReasonPlaintextInMesh}, "200")
}

// An override changes who is the control: sleep is, with the code that it is to see.
func TestAnOverriddenSleepIsStillTheControl(t *testing.T) {
	expectations := promised(api.MTLSStrict, api.ClientTLSUnset)
	expectations.Override([]api.PathExpectation{{Path: api.PathSleep, See: intstr.Parse("401"), Reason: "it wants a token"}})
	got := judge(expectations, api.PathOutsider, run(answered(401, nginxLeaf), turnedAway, turnedAway))
	wantMeaning(t, "401", got, meaning{api.OutcomeMatch, api.ReasonRefusedByMesh}, "refused")
	got = judge(expectations, api.PathOutsider, run(served, turnedAway, turnedAway))
	wantMeaning(t, "200", got, noControl, "refused")
}

// A lost control takes a path that was True with it, at once, and is no mismatch that could turn it False.
func TestALostControlIsUnknownAtOnce(t *testing.T) {
	up, down := run(served, turnedAway, turnedAway), run(brokenOff, turnedAway, turnedAway)
	in := verdict.Input{Expectations: strict, Server: server, FailureThreshold: 2, Runs: []observation.Run{up, down, down, down}}
	got := verdictOn(api.PathOutsider, verdict.Paths(in))
	if got.Status != metav1.ConditionUnknown || got.Evidence.ConsecutiveFailures != 0 {
		t.Errorf("%s with %d failures", got.Status, got.Evidence.ConsecutiveFailures)
	}
}
