package verdict_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// step is one run of the path sleep, or the one that a path around it takes, so long after the first.
type step struct {
	at  time.Duration
	run observation.Run
}

// story tells what becomes of a path: after each step, its status.
func story(c verdict.Criteria, name api.PathName, quick bool, steps ...step) string {
	record := verdict.NewRecord(c, firstRun.Add(-time.Hour))
	var told strings.Builder
	for _, next := range steps {
		record.Record(at(next.at, next.run))
		told.WriteString(letter(verdictOn(name, record.Paths(firstRun.Add(next.at), quick))))
	}
	return told.String()
}

// letter is T, F or U, and in lower case where the verdict of before stands.
func letter(path verdict.Path) string {
	word := string(path.Status)[:1]
	if path.Reason == api.ReasonBelowThreshold {
		return strings.ToLower(word)
	}
	return word
}

// steps are runs so far apart, by their letters in the alphabet.
func steps(apart time.Duration, alphabet map[rune]observation.Run, letters string) []step {
	var all []step
	for i, letter := range letters {
		one, ok := alphabet[letter]
		if !ok {
			panic(fmt.Sprintf("no run %q", letter))
		}
		all = append(all, step{time.Duration(i) * apart, one})
	}
	return all
}

// sleepRuns are runs of the path sleep: all well to the first and to the second endpoint (1, 2); a failure at one of them (a,
// b) or at one that is not known (x); not attributed (?); not sent (_); plaintext to one of them (p, q).
var sleepRuns = map[rune]observation.Run{
	'1': run(to(firstHost, served), turnedAway, turnedAway),
	'2': run(to(secondHost, served), turnedAway, turnedAway),
	'a': run(to(firstHost, brokenOff), turnedAway, turnedAway),
	'b': run(to(secondHost, brokenOff), turnedAway, turnedAway),
	'c': run(to("10.0.0.3:8443", brokenOff), turnedAway, turnedAway),
	'x': run(sent(brokenOff, &observation.Sent{Error: "no answer"}, toMutual), turnedAway, turnedAway),
	'?': run(sent(served, &observation.Sent{Error: "no answer"}, toMutual), turnedAway, turnedAway),
	'_': run(failed(observation.AgentSilent, "silent"), turnedAway, turnedAway),
	'p': run(sent(served, &observation.Sent{Cluster: ownCluster, Host: firstHost}, toMutual), turnedAway, turnedAway),
	'q': run(sent(served, &observation.Sent{Cluster: ownCluster, Host: secondHost}, toMutual), turnedAway, turnedAway),
	'v': run(sent(served, wrapped, ledByVirtualService), turnedAway, turnedAway),
}

func TestFailuresCountInARow(t *testing.T) {
	for _, c := range []struct {
		threshold  int
		apart      time.Duration
		runs, want string
		why        string
	}{
		{1, interval, "1a1", "TFT", "one suffices"},
		{3, interval, "1aaa", "TttF", "three do"},
		{3, interval, "1aa1aa1", "TttTttT", "a match breaks the row"},
		{3, interval, "aaa", "uuF", "nothing was verified before"},
		{3, interval, "1aaab", "TttFF", "another failure leaves it False"},
		{2, interval, "1a2a2", "TttFF", "an endpoint that answers says nothing of another"},
		{2, interval, "1a2a21", "TttFFT", "the endpoint itself does"},
		{3, interval, "1abc", "TttF", "of a Service of many, each fails once"},
		{3, interval, "1ab1bc", "Tttttt", "an answer breaks the row of all"},
		{3, interval, "1a?aa", "TtttF", "what was not attributed neither passes nor breaks a row"},
		{3, interval, "1a_aa", "TtUuF", "nor does what was not sent"},
		{2, interval, "1xx1", "TtFT", "where the endpoint is not known"},
		{3, 100 * time.Millisecond, "1" + strings.Repeat("a", 41), "T" + strings.Repeat("t", 40) + "F", "runs that follow each other at once count as one"},
		{3, time.Hour, "1a", "Tu", "after a long gap nothing stands"},
		{0, interval, "1a1", "TFT", "a threshold of none is one"},
	} {
		criteria := criteria(strict)
		criteria.FailureThreshold = c.threshold
		if got := story(criteria, api.PathSleep, false, steps(c.apart, sleepRuns, c.runs)...); got != c.want {
			t.Errorf("threshold %d, every %s, %s: %s, want %s (%s)", c.threshold, c.apart, c.runs, got, c.want, c.why)
		}
	}
}

// While pods come and go, connections break for moments.
func TestWhatBreaksOffForMomentsDoesNotCountWhileThingsChange(t *testing.T) {
	const apart = 100 * time.Millisecond
	for runs, want := range map[string]string{
		"1" + strings.Repeat("a", 22): "T" + strings.Repeat("t", 20) + "FF",
		"1aaa1aaa1":                   "TtttTtttT",
		"aaa":                         "uuu",
		"1p":                          "TF",
		"1_":                          "TU",
	} {
		if got := story(criteria(strict), api.PathSleep, true, steps(apart, sleepRuns, runs)...); got != want {
			t.Errorf("%s: %s, want %s", runs, got, want)
		}
	}
	dying := run(through, saw(observation.HandshakeClosed, nil), turnedAway)
	around := map[rune]observation.Run{'+': run(through, turnedAway, turnedAway), '?': dying}
	if got, want := story(criteria(strict), api.PathIstioProxy, true, steps(apart, around, "+"+strings.Repeat("?", 22))...), "T"+strings.Repeat("t", 20)+"UU"; got != want {
		t.Errorf("around: %s, want %s", got, want)
	}
	if got := story(criteria(strict), api.PathIstioProxy, false, steps(apart, around, "+?")...); got != "TU" {
		t.Errorf("where no more runs follow: %s", got)
	}
}

// What is not attributed leaves the verdict for three intervals, and not for more.
func TestWhatIsNotAttributedTurnsUnknown(t *testing.T) {
	for runs, want := range map[string]string{
		"1???????": "TtttUUUU", "1??1???1": "TttTtttT", "????": "UUUU", "???1": "UUUT", "_?": "UU", "1_?": "TUU", "p?": "FF", "1aa?": "TFFF",
	} {
		c := twice(strict)
		if runs == "1aa?" {
			c.FailureThreshold, want = 2, "TtFF"
		}
		if got := story(c, api.PathSleep, false, steps(interval, sleepRuns, runs)...); got != want {
			t.Errorf("%s: %s, want %s", runs, got, want)
		}
	}
	record := verdict.NewRecord(criteria(strict), firstRun)
	record.Record(at(time.Second, sleepRuns['1']))
	record.Record(at(interval, sleepRuns['?']))
	for _, c := range []struct {
		after time.Duration
		want  metav1.ConditionStatus
	}{{interval, metav1.ConditionTrue}, {4*interval - 1, metav1.ConditionTrue}, {4 * interval, metav1.ConditionUnknown}, {3 * interval, metav1.ConditionUnknown}} {
		if got := record.Paths(firstRun.Add(c.after), false)[0]; got.Status != c.want || c.want == metav1.ConditionUnknown && got.Reason != api.ReasonNotAttributed {
			t.Errorf("%s after the first run: %s %s, want %s", c.after, got.Status, got.Reason, c.want)
		}
	}
}

func TestProof(t *testing.T) {
	for _, c := range []struct{ runs, want, why string }{
		{"1p1111", "TFFTTT", "it clears after two intervals"},
		{"1p1p11", "TFFFFT", "each proof begins them anew"},
		{"1p2222", "TFFFFF", "another endpoint shows nothing of this one"},
		{"1p2221", "TFFFFT", "the endpoint itself does"},
		{"1pq1111", "TFFFFFF", "proof of one is not forgotten for that of another"},
		{"1pq2221", "TFFFFFT", "both have been asked"},
		{"1p???1", "TFFFFT", "runs that saw nothing neither clear nor forget it"},
		{"1p_1", "TFFT", "nor does one that was not sent"},
		{"1paa1", "TFFFT", "a failure is none of it"},
		{"1v2222", "TFFTTT", "what is configured is configured for all endpoints"},
		{"1p" + strings.Repeat("2", 10), "T" + strings.Repeat("F", 10) + "T", "in the end it is forgotten"},
	} {
		criteria := criteria(strict)
		criteria.FailureThreshold = 3
		if got := story(criteria, api.PathSleep, false, steps(interval, sleepRuns, c.runs)...); got != c.want {
			t.Errorf("%s: %s, want %s (%s)", c.runs, got, c.want, c.why)
		}
	}
	// Of many endpoints, one is remembered for longer.
	many := criteria(strict)
	many.Service.Endpoints = map[string]string{firstHost: "nginx-0", secondHost: "nginx-1"}
	for i := range 18 {
		many.Service.Endpoints[fmt.Sprintf("10.0.1.%d:8443", i)] = fmt.Sprintf("nginx-%d", i+2)
	}
	told := story(many, api.PathSleep, false, steps(interval, sleepRuns, "1p"+strings.Repeat("2", 101))...)
	if want := "T" + strings.Repeat("F", 100) + "TT"; told != want {
		t.Errorf("of twenty: %s", told)
	}
}

// An endpoint that is gone takes what was proved of it along, once the client's Envoy has heard so.
func TestProofGoesWithItsEndpoint(t *testing.T) {
	alone := criteria(strict)
	alone.Service.Endpoints = map[string]string{secondHost: "nginx-1"}
	only := func(delivered *observation.Delivered) observation.Run {
		return run(sent(served, &observation.Sent{Cluster: ownCluster, Host: secondHost, Handshakes: 1}, delivered), turnedAway, turnedAway)
	}
	second := legs(weighted(1, ownCluster, observation.TLSByEndpoint, observation.LegEndpoint{Address: secondHost, TLS: observation.TLSMutual}))
	for name, c := range map[string]struct {
		delivered *observation.Delivered
		want      string
	}{
		"gone": {second, "FFFT"}, "Envoy still has it": {toMutual, "FFFF"}, "Envoy does not tell its endpoints": {legs(weighted(1, ownCluster, observation.TLSMutual)), "FFFF"},
	} {
		got := story(alone, api.PathSleep, false, step{0, sleepRuns['p']}, step{interval, only(c.delivered)}, step{2*interval - 1, only(c.delivered)}, step{2 * interval, only(c.delivered)})
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// A failure at an address that nobody knows any more is one all the same.
func TestAFailureAtAnUnknownEndpointIsOne(t *testing.T) {
	one := run(to("10.0.0.77:8443", brokenOff), turnedAway, turnedAway)
	for range 2 {
		if got := story(twice(strict), api.PathSleep, false, step{0, sleepRuns['1']}, step{interval, one}, step{2 * interval, one}); got != "TtF" {
			t.Errorf("%s", got)
		}
	}
}

// What was proved of single endpoints clears when every one of them has been asked again.
func TestProofClearsWhenEveryEndpointHasBeenAsked(t *testing.T) {
	around := func(after time.Duration, first, second observation.Result, askedSecond time.Duration) step {
		endpoints := all(first, second)
		endpoints[0].Asked, endpoints[1].Asked = firstRun.Add(after), firstRun.Add(askedSecond)
		for i := range endpoints {
			endpoints[i].Forged = observation.Handshake{Asked: firstRun, Result: refusesForged}
		}
		return step{after, run(through, beside(turnedAway, endpoints...), turnedAway)}
	}
	got := story(criteria(strict), api.PathIstioProxy, false,
		around(0, turnedAway, turnedAway, 0),
		around(1*interval, served, turnedAway, 0),
		around(2*interval, turnedAway, turnedAway, 0),
		around(3*interval, turnedAway, turnedAway, 0),
		around(4*interval, turnedAway, turnedAway, 1*interval),
		around(5*interval, turnedAway, turnedAway, 2*interval))
	if want := "TFFFFT"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Every reason of which proof is given turns the path False at once, and stays for two intervals.
func TestEveryProofTurnsFalseAtOnce(t *testing.T) {
	wrongTLS := sent(served, wrapped, toMutual)
	for reason, c := range map[string]struct {
		declared  expectation.Expectations
		path      api.PathName
		good, bad observation.Run
	}{
		api.ReasonMTLSNotEnforced: {strict, api.PathOutsider, run(through, turnedAway, turnedAway), run(through, turnedAway, served)},
		api.ReasonUntrustedCertificateAccepted: {strict, api.PathIstioProxy, run(through, turnedAway, turnedAway),
			run(through, beside(turnedAway, greeted(endpoint("a", turnedAway), takesMutual, takesForged)), turnedAway)},
		api.ReasonPlaintextInMesh:     {strict, api.PathSleep, sleepRuns['1'], sleepRuns['p']},
		api.ReasonLedElsewhere:        {strict, api.PathSleep, sleepRuns['1'], sleepRuns['v']},
		api.ReasonUnexpectedMutualTLS: {disabled, api.PathSleep, run(plain, served, served), run(wrongTLS, served, served)},
	} {
		criteria := criteria(c.declared)
		criteria.FailureThreshold = 5
		got := story(criteria, c.path, true, step{0, c.good}, step{time.Second, c.bad}, step{time.Second + interval, c.good}, step{2*time.Second + 2*interval, c.good})
		if got != "TFFT" {
			t.Errorf("%s: %s", reason, got)
		}
	}
}

// A failure that is just what Istio computes needs no repetition; a status code is never computed.
func TestWhatIstioComputesCountsAtOnce(t *testing.T) {
	computed := criteria(permissive)
	computed.FailureThreshold = 5
	computed.Computed = promised(api.MTLSStrict, api.ClientTLSUnset)
	computed.Computed.OfAnyCode()
	for name, c := range map[string]struct {
		outsider observation.Result
		want     string
	}{"as computed": {turnedAway, "TFT"}, "otherwise": {brokenOff, "TtT"}, "another code": {answered(503, nginxLeaf), "TtT"}} {
		for _, by := range []string{"address", "endpoint"} {
			bad := run(through, served, c.outsider)
			if by == "endpoint" {
				bad = run(through, served, beside(served, all(c.outsider)...))
				computed.Endpoints = map[string]expectation.Expectation{"uid-of-shop-0": strict[api.PathOutsider]}
			}
			good := run(through, served, served)
			if got := story(computed, api.PathOutsider, false, step{0, good}, step{interval, bad}, step{2 * interval, good}); got != c.want {
				t.Errorf("%s at the %s: %s, want %s", name, by, got, c.want)
			}
		}
	}
	alike := criteria(permissive)
	alike.FailureThreshold = 3
	alike.Computed = promised(api.MTLSPermissive, api.ClientTLSUnset)
	alike.Computed.OfAnyCode()
	unwell := run(answered(503, nginxLeaf), answered(503, nginxLeaf), answered(503, nginxLeaf))
	for _, path := range []api.PathName{api.PathSleep, api.PathOutsider} {
		if got := story(alike, path, false, step{0, run(through, served, served)}, step{interval, unwell}); got != "Tt" {
			t.Errorf("%s, computed alike, another code: %s", path, got)
		}
	}
}

// A run that shows all of a new policy clears what was seen of the one before; nothing else does.
func TestANewPolicyThatIsShownClearsWhatWasBefore(t *testing.T) {
	good, bad := run(through, turnedAway, turnedAway), run(through, turnedAway, served)
	carried := func(asked time.Duration) observation.Run {
		one := greeted(endpoint("a", turnedAway), takesMutual, refusesForged)
		one.Asked = firstRun.Add(asked)
		return run(through, turnedAway, beside(turnedAway, one))
	}
	for name, c := range map[string]struct {
		// renewed is when the policy changed; zero where it did not.
		renewed time.Duration
		second  step
		want    metav1.ConditionStatus
	}{
		"no change":               {0, step{2 * time.Second, good}, metav1.ConditionFalse},
		"a change that is shown":  {time.Second, step{2 * time.Second, good}, metav1.ConditionTrue},
		"a change, shown late":    {time.Second, step{12 * time.Second, good}, metav1.ConditionTrue},
		"a run of before":         {time.Second, step{time.Second - 1, good}, metav1.ConditionFalse},
		"endpoints asked since":   {time.Second, step{2 * time.Second, carried(2 * time.Second)}, metav1.ConditionTrue},
		"endpoints asked before":  {time.Second, step{2 * time.Second, carried(0)}, metav1.ConditionFalse},
		"a change that shows not": {time.Second, step{2 * time.Second, run(through, turnedAway, brokenOff)}, metav1.ConditionFalse},
	} {
		criteria := criteria(strict)
		criteria.Computed, criteria.Policy = strict, "before"
		record := verdict.NewRecord(criteria, firstRun.Add(-time.Hour))
		record.Record(at(-time.Second, good))
		record.Record(bad)
		if c.renewed != 0 {
			criteria.Policy = "after"
		}
		record.Renew(criteria, firstRun.Add(c.renewed))
		record.Record(at(c.second.at, c.second.run))
		if got := verdictOn(api.PathOutsider, record.Paths(firstRun.Add(c.second.at), true)); got.Status != c.want {
			t.Errorf("%s: %s (%s), want %s", name, got.Status, got.Message, c.want)
		}
	}
}

// A fresh probe's first runs may still see the proxies before they have heard of its policy.
func TestAFreshProbeForgetsWhatItSawBeforeItsPolicy(t *testing.T) {
	criteria := criteria(strict)
	criteria.Computed = strict
	record := verdict.NewRecord(criteria, firstRun)
	record.Record(run(through, served, served))
	if got := record.Paths(firstRun, true)[2]; got.Status != metav1.ConditionFalse {
		t.Errorf("let in: %s", got.Status)
	}
	record.Record(at(time.Second, run(through, turnedAway, turnedAway)))
	if got := record.Paths(firstRun.Add(time.Second), true)[2]; got.Status != metav1.ConditionTrue {
		t.Errorf("shown: %s %s", got.Status, got.Message)
	}
}

// After a restart of the operator the verdicts of before stand as far as they still say something.
func TestAfterARestart(t *testing.T) {
	good, lost := run(through, turnedAway, turnedAway), run(through, turnedAway, failed(observation.AgentSilent, "silent"))
	bad := run(through, turnedAway, refused(neighbourLeaf))
	for name, c := range map[string]struct {
		previous verdict.Previous
		first    observation.Run
		want     string
	}{
		"True, all well":                {verdict.Previous{Status: metav1.ConditionTrue, Reason: api.ReasonRefusedByMesh, At: firstRun.Add(-interval)}, good, "TT"},
		"True, and a failure":           {verdict.Previous{Status: metav1.ConditionTrue, Reason: api.ReasonRefusedByMesh, At: firstRun.Add(-interval)}, bad, "tT"},
		"True long ago, and a failure":  {verdict.Previous{Status: metav1.ConditionTrue, Reason: api.ReasonRefusedByMesh, At: firstRun.Add(-time.Hour)}, bad, "uT"},
		"True, but it only stood":       {verdict.Previous{Status: metav1.ConditionTrue, Reason: api.ReasonBelowThreshold, At: firstRun.Add(-interval)}, bad, "uT"},
		"True, and nothing known":       {verdict.Previous{Status: metav1.ConditionTrue, Reason: api.ReasonRefusedByMesh, At: firstRun.Add(-interval)}, lost, "UT"},
		"False for a failure":           {verdict.Previous{Status: metav1.ConditionFalse, Reason: api.ReasonNoConnection, At: firstRun.Add(-interval)}, good, "TT"},
		"False for a failure, and more": {verdict.Previous{Status: metav1.ConditionFalse, Reason: api.ReasonNoConnection, At: firstRun.Add(-interval)}, bad, "FT"},
		"False by proof just now":       {verdict.Previous{Status: metav1.ConditionFalse, Reason: api.ReasonMTLSNotEnforced, At: firstRun.Add(-time.Second)}, good, "FF"},
		"False by proof a minute ago":   {verdict.Previous{Status: metav1.ConditionFalse, Reason: api.ReasonMTLSNotEnforced, At: firstRun.Add(-interval)}, good, "FT"},
		"False by proof long ago":       {verdict.Previous{Status: metav1.ConditionFalse, Reason: api.ReasonMTLSNotEnforced, At: firstRun.Add(-time.Hour)}, good, "TT"},
	} {
		criteria := twice(strict)
		criteria.Computed = strict
		criteria.Previous = map[api.PathName]verdict.Previous{api.PathOutsider: c.previous}
		record := verdict.NewRecord(criteria, firstRun.Add(-time.Millisecond))
		told := ""
		for i, one := range []observation.Run{c.first, good} {
			now := time.Duration(i) * interval
			record.Record(at(now, one))
			told += letter(record.Paths(firstRun.Add(now), false)[2])
		}
		if told != c.want {
			t.Errorf("%s: %s, want %s", name, told, c.want)
		}
	}
}

// A verdict whose runs have stopped does not stand.
func TestAVerdictWithoutRunsIsUnknown(t *testing.T) {
	for letter, want := range map[rune]metav1.ConditionStatus{'1': metav1.ConditionTrue, 'p': metav1.ConditionFalse, 'a': metav1.ConditionFalse} {
		criteria := criteria(strict)
		record := verdict.NewRecord(criteria, firstRun)
		if record.Paths(firstRun, false) != nil {
			t.Error("a verdict without runs")
		}
		if _, ok := record.Latest(); ok {
			t.Error("a latest run without runs")
		}
		record.Record(sleepRuns[letter])
		for after, want := range map[time.Duration]metav1.ConditionStatus{0: want, criteria.StaleAfter(): want, criteria.StaleAfter() + 1: metav1.ConditionUnknown} {
			if got := record.Paths(firstRun.Add(after), false)[0]; got.Status != want {
				t.Errorf("%c, %s later: %s, want %s", letter, after, got.Status, want)
			}
		}
		// What was True before the runs stopped does not stand beside what comes next.
		record.Record(at(time.Hour, sleepRuns['?']))
		if got := record.Paths(firstRun.Add(time.Hour), false)[0]; got.Status == metav1.ConditionTrue {
			t.Errorf("%c: True an hour after anything was shown: %s", letter, got.Message)
		}
	}
}

// What Istio computes explains a mismatch, and nothing else.
func TestExplanationsAreForMismatches(t *testing.T) {
	criteria := criteria(strict)
	criteria.Explanations = map[api.PathName]string{api.PathOutsider: "legacy decides"}
	for outsider, want := range map[*observation.Result]bool{&served: true, &turnedAway: false, &brokenOff: false} {
		got := verdictOn(api.PathOutsider, after(criteria, run(through, turnedAway, *outsider)))
		if explained := strings.HasSuffix(got.Message, "; legacy decides"); explained != want {
			t.Errorf("%s: %s", got.Reason, got.Message)
		}
	}
}

// Failures are told of a number that the API knows.
func TestCountedFailuresEndAtTen(t *testing.T) {
	paths := after(criteria(strict), every(interval, slicesOf(sleepRuns['a'], 30)...)...)
	if got := paths[0].Evidence.ConsecutiveFailures; got != 10 {
		t.Errorf("%d", got)
	}
}

func slicesOf(one observation.Run, count int) []observation.Run {
	runs := make([]observation.Run, count)
	for i := range runs {
		runs[i] = one
	}
	return runs
}

// Policies that change all the time do not hide an application that fails all the time.
func TestANewPolicyForgetsNoFailureThatIsStillThere(t *testing.T) {
	criteria := criteria(strict)
	criteria.Computed, criteria.FailureThreshold = strict, 3
	record := verdict.NewRecord(criteria, firstRun.Add(-time.Hour))
	told := ""
	for i, one := range []observation.Run{run(through, turnedAway, turnedAway), run(answered(503, nginxLeaf), turnedAway, turnedAway)} {
		for j := range 3 {
			now := time.Duration(3*i+j) * interval
			criteria.Policy = fmt.Sprint(now)
			record.Renew(criteria, firstRun.Add(now))
			record.Record(at(now, one))
			told += letter(record.Paths(firstRun.Add(now), false)[0])
		}
	}
	if told != "TTTttF" {
		t.Errorf("%s", told)
	}
}
