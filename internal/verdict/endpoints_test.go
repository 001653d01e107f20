package verdict_test

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

func TestOneBadEndpointTurnsThePathFalse(t *testing.T) {
	for place := range 3 {
		results := []observation.Result{turnedAway, turnedAway, turnedAway}
		results[place] = served
		got := judge(strict, api.PathOutsider, run(served, turnedAway, beside(turnedAway, all(results...)...)))
		wantMeaning(t, "one of three", got, differs(api.ReasonMTLSNotEnforced), "200")
		name := fmt.Sprintf("shop-%d", place)
		if !strings.HasPrefix(got.Message, name+" (1 of 3 endpoints): the request got in") {
			t.Errorf("the message does not name %s: %s", name, got.Message)
		}
		summary := got.Evidence.Endpoints
		if summary == nil || summary.Total != 3 || summary.Asked != 3 || summary.Mismatched != 1 || len(summary.Examples) != 1 {
			t.Fatalf("endpoints %+v", summary)
		}
		if e := summary.Examples[0]; e.Name != name || e.Address != name+":8443" || e.Observed != "200" || !strings.Contains(e.Message, "the request got in") {
			t.Errorf("example %+v", e)
		}
		// The evidence is that of the request that decided, and not partly another's.
		if e := got.Evidence; e.HTTPCode != 200 || e.Alert != "" || e.ClientCertificateRequested || e.Peer != "sha256:"+nginxLeaf.SHA256 {
			t.Errorf("the evidence is not the endpoint's: %+v", e)
		}
	}
}

func TestEndpoints(t *testing.T) {
	refusal := matches(api.ReasonRefusedByMesh)
	notEnforced := differs(api.ReasonMTLSNotEnforced)
	notAskedYet := open(api.ReasonEndpointsNotAsked)
	for name, c := range map[string]struct {
		result observation.Result
		want   meaning
		word   string
		says   string
	}{
		"all as expected":              {beside(turnedAway, all(turnedAway, turnedAway, turnedAway)...), refusal, "refused", "refused by"},
		"none known":                   {beside(turnedAway), refusal, "refused", "refused by"},
		"one not asked yet":            {beside(turnedAway, endpoint("a", turnedAway), notAsked("b"), endpoint("c", turnedAway)), notAskedYet, "refused", "2 of 3 endpoints have been dialed so far"},
		"none asked yet":               {beside(turnedAway, notAsked("a"), notAsked("b")), notAskedYet, "refused", "0 of 2 endpoints"},
		"one bad, one not asked yet":   {beside(turnedAway, endpoint("a", served), notAsked("b")), notEnforced, "200", "a (1 of 2 endpoints)"},
		"one proves nothing":           {beside(turnedAway, all(turnedAway, closed, turnedAway)...), inconclusive, "closed", "shop-1: the peer closed"},
		"one could not be asked":       {beside(turnedAway, all(failed(observation.AgentSilent, "silent"), turnedAway)...), notProbed, "refused", "shop-0: silent"},
		"one proves nothing, one bad":  {beside(turnedAway, all(closed, turnedAway, served)...), notEnforced, "200", "shop-2 (1 of 3 endpoints)"},
		"one bad, one proves nothing":  {beside(turnedAway, all(served, closed)...), notEnforced, "200", "shop-0 (1 of 2 endpoints)"},
		"two bad":                      {beside(turnedAway, all(turnedAway, served, served)...), notEnforced, "200", "shop-1 (2 of 3 endpoints)"},
		"a stranger":                   {beside(turnedAway, all(turnedAway, refused(neighbourLeaf))...), differs(api.ReasonUnexpectedCertificate), "refused", "shop-1 (1 of 2 endpoints)"},
		"no TLS":                       {beside(turnedAway, all(saw(observation.NotTLS, nil), turnedAway)...), differs(api.ReasonNotTLS), "no TLS", "shop-0"},
		"address bad, endpoints good":  {beside(served, all(turnedAway, turnedAway)...), notEnforced, "200", "the request got in (200)"},
		"address bad, others not yet":  {beside(served, notAsked("a")), notEnforced, "200", "the request got in (200)"},
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
	wantMeaning(t, "one is down", got, noConnection, "no connection")
	got = judge(permissive, api.PathOutsider, run(served, served, beside(served, all(served, answered(500, nginxLeaf))...)))
	wantMeaning(t, "one fails", got, differs(api.ReasonUnexpectedStatusCode), "500")
	got = judge(permissive, api.PathOutsider, run(served, served, beside(served, all(served, turnedAway)...)))
	wantMeaning(t, "one is stricter", got, differs(api.ReasonRefused), "refused")
}

func TestExamplesAreBounded(t *testing.T) {
	huge := strings.Repeat("ü", 400)
	var endpoints []observation.EndpointResult
	for i := range 300 {
		one := endpoint(fmt.Sprintf("shop-%d", i), served)
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

// A failure of endpoints counts as the path's does: by runs in a row.
func TestEndpointsObeyTheThreshold(t *testing.T) {
	alphabet := map[rune]observation.Run{
		'+': run(through, served, beside(served, all(served, served)...)), '-': run(through, served, beside(served, all(brokenOff, served)...)),
		'=': run(through, served, beside(served, all(served, brokenOff)...)),
	}
	for runs, want := range map[string]string{"+-+-": "TtTt", "+--": "TtF", "+-=": "TtF", "--+": "uFT"} {
		if got := story(twice(permissive), api.PathOutsider, false, steps(interval, alphabet, runs)...); got != want {
			t.Errorf("%s: %s, want %s", runs, got, want)
		}
	}
}

func TestRequestMatches(t *testing.T) {
	for name, c := range map[string]struct {
		expected expectation.Expectations
		endpoint observation.EndpointResult
		want     bool
	}{
		"refused as expected":  {strict, endpoint("a", turnedAway), true},
		"got through":          {strict, endpoint("a", served), false},
		"answered as expected": {permissive, endpoint("a", served), true},
		"refused":              {permissive, endpoint("a", turnedAway), false},
		"proves nothing":       {strict, endpoint("a", brokenOff), false},
		"could not be asked":   {strict, endpoint("a", failed(observation.ExecFailed, "broken")), false},
		"not asked":            {permissive, notAsked("a"), false},
		"nothing is declared":  {nil, endpoint("a", served), false},
	} {
		if got := criteria(c.expected).RequestMatches(api.PathOutsider, c.endpoint); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if criteria(strict).RequestMatches("another", endpoint("a", turnedAway)) {
		t.Error("an endpoint of a path that does not exist matches")
	}
	if criteria(strict).GreetingsMatch(api.PathIstioProxy, endpoint("a", turnedAway)) {
		t.Error("an endpoint that was not greeted matches")
	}
}

// No run of endpoints makes a pass of anything but a match of the address and of every endpoint.
func TestEveryEndpointHasToMatch(t *testing.T) {
	kinds := map[rune]observation.EndpointResult{
		'+': endpoint("good", turnedAway), '-': endpoint("bad", served), '?': endpoint("open", brokenOff),
		'_': notAsked("later"), 'x': endpoint("lost", failed(observation.NoVantage, "gone")),
	}
	letters := []rune("+-?_x")
	for i := range 5 * 5 * 5 {
		told := []rune{letters[i%5], letters[i/5%5], letters[i/25%5]}
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

// The Service's address leads to any endpoint. Whichever it was, the one that lets requests in is named.
func TestTheBadEndpointIsNamedWhereverTheAddressLed(t *testing.T) {
	for name, met := range map[string]observation.Result{"to the bad one": served, "to the good one": turnedAway} {
		got := judge(strict, api.PathOutsider, run(served, turnedAway, beside(met, all(turnedAway, served)...)))
		wantMeaning(t, name, got, differs(api.ReasonMTLSNotEnforced), "200")
		if !strings.HasPrefix(got.Message, "shop-1 (1 of 2 endpoints): ") {
			t.Errorf("%s: %s", name, got.Message)
		}
	}
}
