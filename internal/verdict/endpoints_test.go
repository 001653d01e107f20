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

// endpoint is one that was dialed in the run that began at firstRun, while the path sleep met control.
func endpoint(name string, result, control observation.Result) observation.EndpointResult {
	return observation.EndpointResult{
		Endpoint: observation.Endpoint{ID: "uid-of-" + name, Name: name, Address: name + ":8443"}, Asked: firstRun, Result: result, Control: control,
	}
}

// notAsked is an endpoint whose turn has not come yet.
func notAsked(name string) observation.EndpointResult {
	return observation.EndpointResult{Endpoint: observation.Endpoint{ID: "uid-of-" + name, Name: name, Address: name + ":8443"}}
}

// beside is what a path met at the Service's address, and beside it at single endpoints.
func beside(address observation.Result, endpoints ...observation.EndpointResult) observation.Result {
	address.Endpoints = endpoints
	return address
}

// all are endpoints shop-0, shop-1 and so on that met the results, each with a positive control.
func all(results ...observation.Result) []observation.EndpointResult {
	endpoints := make([]observation.EndpointResult, 0, len(results))
	for i, result := range results {
		endpoints = append(endpoints, endpoint(fmt.Sprintf("shop-%d", i), result, served))
	}
	return endpoints
}

func TestOneBadEndpointTurnsThePathFalse(t *testing.T) {
	for place := range 3 {
		results := []observation.Result{turnedAway, turnedAway, turnedAway}
		results[place] = served
		got := judge(strict, api.PathIstioProxy, run(served, beside(turnedAway, all(results...)...), turnedAway))
		wantMeaning(t, "one of three", got, meaning{api.OutcomeMismatch, api.ReasonMTLSNotEnforced}, "200")
		name := fmt.Sprintf("shop-%d", place)
		if !strings.HasPrefix(got.Message, name+" (1 of 3 endpoints): the request reached the server") {
			t.Errorf("the message does not name %s: %s", name, got.Message)
		}
		summary := got.Evidence.Endpoints
		if summary == nil || summary.Total != 3 || summary.Asked != 3 || summary.Mismatched != 1 || len(summary.Examples) != 1 {
			t.Fatalf("endpoints %+v", summary)
		}
		if e := summary.Examples[0]; e.Name != name || e.Address != name+":8443" || e.Observed != "200" || !strings.Contains(e.Message, "the request reached the server") {
			t.Errorf("example %+v", e)
		}
		// The evidence is that of the request that decided, and not partly another's.
		if e := got.Evidence; e.HTTPCode != 200 || e.Alert != "" || e.ClientCertificateRequested || e.Peer != "sha256:"+nginxLeaf.SHA256 {
			t.Errorf("the evidence is not the endpoint's: %+v", e)
		}
	}
}

func TestEndpoints(t *testing.T) {
	refusal := meaning{api.OutcomeMatch, api.ReasonRefusedByMesh}
	notEnforced := meaning{api.OutcomeMismatch, api.ReasonMTLSNotEnforced}
	notAskedYet := meaning{api.OutcomeUnknown, api.ReasonEndpointsNotAsked}
	closed := saw(observation.HandshakeClosed, nil)
	for name, c := range map[string]struct {
		result observation.Result
		want   meaning
		word   string
		says   string
	}{
		"all as expected":              {beside(turnedAway, all(turnedAway, turnedAway, turnedAway)...), refusal, "refused", "refused by"},
		"none known":                   {beside(turnedAway), refusal, "refused", "refused by"},
		"one not asked yet":            {beside(turnedAway, endpoint("a", turnedAway, served), notAsked("b"), endpoint("c", turnedAway, served)), notAskedYet, "refused", "2 of 3 endpoints have been dialed so far"},
		"none asked yet":               {beside(turnedAway, notAsked("a"), notAsked("b")), notAskedYet, "refused", "0 of 2 endpoints"},
		"one bad, one not asked yet":   {beside(turnedAway, endpoint("a", served, served), notAsked("b")), notEnforced, "200", "a (1 of 2 endpoints)"},
		"one proves nothing":           {beside(turnedAway, all(turnedAway, closed, turnedAway)...), inconclusive, "refused", "shop-1: the peer closed"},
		"one could not be asked":       {beside(turnedAway, all(failed(observation.AgentSilent, "silent"), turnedAway)...), notProbed, "refused", "shop-0: silent"},
		"one proves nothing, one bad":  {beside(turnedAway, all(closed, turnedAway, served)...), notEnforced, "200", "shop-2 (1 of 3 endpoints)"},
		"one bad, one proves nothing":  {beside(turnedAway, all(served, closed)...), notEnforced, "200", "shop-0 (1 of 2 endpoints)"},
		"two bad":                      {beside(turnedAway, all(turnedAway, served, served)...), notEnforced, "200", "shop-1 (2 of 3 endpoints)"},
		"a stranger":                   {beside(turnedAway, all(turnedAway, refused(neighbourLeaf))...), meaning{api.OutcomeMismatch, api.ReasonUnexpectedCertificate}, "refused", "shop-1 (1 of 2 endpoints)"},
		"no TLS":                       {beside(turnedAway, all(saw(observation.NotTLS, nil), turnedAway)...), meaning{api.OutcomeMismatch, api.ReasonNotTLS}, "no TLS", "shop-0"},
		"address bad, endpoints good":  {beside(served, all(turnedAway, turnedAway)...), notEnforced, "200", "the request reached the server (200)"},
		"address bad, others not yet":  {beside(served, notAsked("a")), notEnforced, "200", "the request reached the server (200)"},
		"address open, endpoints good": {beside(closed, all(turnedAway, turnedAway)...), inconclusive, "closed", "the peer closed"},
		"address open, one bad":        {beside(closed, all(turnedAway, served)...), notEnforced, "200", "shop-1 (1 of 2 endpoints)"},
		"address not asked, one bad":   {beside(failed(observation.ExecFailed, "broken"), all(served)...), notEnforced, "200", "shop-0 (1 of 1 endpoints)"},
		"both open, in different ways": {beside(closed, all(failed(observation.AgentSilent, "silent"))...), inconclusive, "closed", "the peer closed"},
		"address open, others not yet": {beside(closed, notAsked("a")), inconclusive, "closed", "the peer closed"},
		"address not asked":            {beside(failed(observation.ExecFailed, "broken"), all(turnedAway)...), notProbed, "not probed", "broken"},
	} {
		t.Run(name, func(t *testing.T) {
			got := judge(strict, api.PathOutsider, run(served, turnedAway, c.result))
			wantMeaning(t, name, got, c.want, c.word)
			if !strings.Contains(got.Message, c.says) {
				t.Errorf("message %q lacks %q", got.Message, c.says)
			}
			if summary := got.Evidence.Endpoints; (summary != nil) != (len(c.result.Endpoints) > 0) {
				t.Errorf("endpoints %+v", summary)
			}
		})
	}
}

// Where an answer is expected, an endpoint that gives none counts as much as one that answers wrongly.
func TestEndpointsThatMustAnswer(t *testing.T) {
	down := saw(observation.ConnectionRefused, nil)
	got := judge(permissive, api.PathOutsider, run(served, served, beside(served, all(served, down, served)...)))
	wantMeaning(t, "one is down", got, meaning{api.OutcomeMismatch, api.ReasonNoAnswer}, "no connection")
	got = judge(permissive, api.PathOutsider, run(served, served, beside(served, all(served, answered(500, nginxLeaf))...)))
	wantMeaning(t, "one fails", got, meaning{api.OutcomeMismatch, api.ReasonUnexpectedStatusCode}, "500")
	got = judge(permissive, api.PathOutsider, run(served, served, beside(served, all(served, turnedAway)...)))
	wantMeaning(t, "one is stricter", got, meaning{api.OutcomeMismatch, api.ReasonRefused}, "refused")
}

// A result of an earlier run is held against the control of that run, not against today's.
func TestACarriedRefusalNeedsTheControlOfItsOwnRun(t *testing.T) {
	carried := func(control observation.Result) observation.EndpointResult {
		one := endpoint("old", turnedAway, control)
		one.Asked = firstRun.Add(-time.Minute)
		return one
	}
	got := judge(strict, api.PathIstioProxy, run(served, beside(turnedAway, carried(served)), turnedAway))
	wantMeaning(t, "with control", got, meaning{api.OutcomeMatch, api.ReasonRefusedByMesh}, "refused")
	for name, control := range map[string]observation.Result{
		"no request": unasked, "nobody answered": saw(observation.HandshakeClosed, nil), "refused too": turnedAway,
		"a stranger answered": answered(200, foreignLeaf), "could not be asked": failed(observation.ExecFailed, "broken"),
	} {
		got := judge(strict, api.PathIstioProxy, run(served, beside(turnedAway, carried(control)), turnedAway))
		wantMeaning(t, name, got, noControl, "refused")
		if !strings.HasPrefix(got.Message, "old: ") || got.Evidence.Endpoints.Mismatched != 0 || got.Evidence.Endpoints.Asked != 1 {
			t.Errorf("%s: %s, %+v", name, got.Message, got.Evidence.Endpoints)
		}
	}
	// Today's control may be lost while that of the endpoint's run was there: the address alone is open.
	got = judge(strict, api.PathIstioProxy, run(brokenOff, beside(turnedAway, carried(served)), turnedAway))
	wantMeaning(t, "the address has none", got, noControl, "refused")
}

// Where sleep is not to get through, nothing at an endpoint is controlled by other paths, for they may have met another one.
func TestWhereSleepMustFailKubeletAloneVouchesForAnEndpoint(t *testing.T) {
	one := run(brokenOff, beside(turnedAway, endpoint("a", turnedAway, brokenOff)), served)
	got := judge(strictSimple, api.PathIstioProxy, one)
	wantMeaning(t, "nobody vouches", got, noControl, "refused")
	got = judgeChecked(strictSimple, api.PathIstioProxy, firstRun.Add(-time.Second), one)
	wantMeaning(t, "kubelet vouches", got, meaning{api.OutcomeMatch, api.ReasonRefusedByMesh}, "refused")
	// Dialed before kubelet vouched, in a run whose result is carried.
	early := endpoint("a", turnedAway, brokenOff)
	early.Asked = firstRun.Add(-time.Hour)
	got = judgeChecked(strictSimple, api.PathIstioProxy, firstRun.Add(-time.Minute), run(brokenOff, beside(turnedAway, early), turnedAway))
	wantMeaning(t, "kubelet vouches since later", got, noControl, "refused")
}

func TestExamplesAreBounded(t *testing.T) {
	huge := strings.Repeat("ü", 400)
	var endpoints []observation.EndpointResult
	for i := range 300 {
		one := endpoint(fmt.Sprintf("shop-%d", i), served, served)
		if i < 3 {
			one.Endpoint.Name, one.Endpoint.Address = huge, huge
			one.Result = answered(200, certificate("f", "spiffe://"+huge))
		}
		endpoints = append(endpoints, one)
	}
	got := judge(strict, api.PathOutsider, run(served, turnedAway, beside(turnedAway, endpoints...)))
	summary := got.Evidence.Endpoints
	if summary.Total != 300 || summary.Asked != 300 || summary.Mismatched != 300 || len(summary.Examples) != 5 {
		t.Fatalf("%d of %d asked, %d mismatched, %d examples", summary.Asked, summary.Total, summary.Mismatched, len(summary.Examples))
	}
	if !strings.Contains(got.Message, "(300 of 300 endpoints)") {
		t.Errorf("message %s", got.Message)
	}
	wantWithinLimits(t, verdict.Status(untouched, verdict.Judgement{
		Standing: verdict.Standing{Phase: verdict.Judged}, Paths: []verdict.Path{got, got, got}, Policy: inEffect,
	}, firstRun, 0))
}

// What endpoints show counts as the path does: by runs in a row.
func TestEndpointsObeyTheThreshold(t *testing.T) {
	good := run(served, beside(turnedAway, all(turnedAway)...), turnedAway)
	bad := run(served, beside(turnedAway, all(served)...), turnedAway)
	for _, c := range []struct {
		runs   []observation.Run
		status metav1.ConditionStatus
		reason string
	}{
		{[]observation.Run{good, bad}, metav1.ConditionTrue, api.ReasonBelowThreshold},
		{[]observation.Run{good, bad, bad}, metav1.ConditionFalse, api.ReasonMTLSNotEnforced},
		{[]observation.Run{bad, bad, good}, metav1.ConditionTrue, api.ReasonRefusedByMesh},
	} {
		if got := pathsAfter(c.runs...)[1]; got.Status != c.status || got.Reason != c.reason {
			t.Errorf("%s %s, want %s %s", got.Status, got.Reason, c.status, c.reason)
		}
	}
}

func TestEndpointMatches(t *testing.T) {
	refusal, answer := strict[api.PathOutsider], permissive[api.PathOutsider]
	for name, c := range map[string]struct {
		expected expectation.Expectation
		endpoint observation.EndpointResult
		want     bool
	}{
		"refused as expected":     {refusal, endpoint("a", turnedAway, served), true},
		"got through":             {refusal, endpoint("a", served, served), false},
		"answered as expected":    {answer, endpoint("a", served, served), true},
		"refused":                 {answer, endpoint("a", turnedAway, served), false},
		"proves nothing":          {refusal, endpoint("a", brokenOff, served), false},
		"could not be asked":      {refusal, endpoint("a", failed(observation.ExecFailed, "broken"), served), false},
		"not asked":               {answer, notAsked("a"), false},
		"refused without control": {refusal, endpoint("a", turnedAway, unasked), true},
	} {
		if got := verdict.EndpointMatches(c.expected, server, c.endpoint); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// No run of endpoints makes a pass of anything but a match of the address and of every endpoint.
func TestEveryEndpointHasToMatch(t *testing.T) {
	kinds := map[rune]observation.EndpointResult{
		'+': endpoint("good", turnedAway, served), '-': endpoint("bad", served, served), '?': endpoint("open", brokenOff, served),
		'0': endpoint("uncontrolled", turnedAway, unasked), '_': notAsked("later"), 'x': endpoint("lost", failed(observation.NoVantage, "gone"), served),
	}
	letters := []rune("+-?0_x")
	for i := range 6 * 6 * 6 {
		told := []rune{letters[i%6], letters[i/6%6], letters[i/36%6]}
		var endpoints []observation.EndpointResult
		for _, letter := range told {
			endpoints = append(endpoints, kinds[letter])
		}
		got := judge(strict, api.PathOutsider, run(served, turnedAway, beside(turnedAway, endpoints...)))
		want := metav1.ConditionUnknown
		switch {
		case strings.ContainsRune(string(told), '-'):
			want = metav1.ConditionFalse
		case string(told) == "+++":
			want = metav1.ConditionTrue
		}
		if got.Status != want {
			t.Errorf("%s: %s %s, want %s", string(told), got.Status, got.Reason, want)
		}
	}
}
