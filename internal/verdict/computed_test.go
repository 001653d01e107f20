package verdict_test

import (
	"testing"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// computing is what is computed where all paths promise the same on every endpoint.
func computing(paths expectation.Expectations) verdict.Criteria {
	c := criteria(nil)
	c.Computed = paths
	return c
}

func TestAsComputed(t *testing.T) {
	for name, c := range map[string]struct {
		paths expectation.Expectations
		run   observation.Run
		want  bool
	}{
		"STRICT":                             {strict, run(served, turnedAway, turnedAway), true},
		"PERMISSIVE":                         {permissive, run(served, served, served), true},
		"the client's sidecar sends none":    {strictPlain, run(turnedAway, turnedAway, turnedAway), true},
		"the client's sidecar wraps it":      {permissiveSimple, run(brokenOff, served, served), true},
		"whatever the status code":           {strict, run(answered(503, nginxLeaf), turnedAway, turnedAway), true},
		"plaintext as computed":              {disabled, run(plain, served, served), true},
		"encryption not counted":             {strict, run(sent(served, &observation.Sent{Error: "no answer in time"}, toMutual), turnedAway, turnedAway), false},
		"still in plaintext":                 {permissive, run(plain, served, served), false},
		"still in mutual TLS":                {promised(api.MTLSPermissive, api.ClientTLSDisable), run(through, served, served), false},
		"still configured otherwise":         {permissive, run(sent(served, wrapped, toPlain), served, served), false},
		"one got through":                    {strict, run(served, served, turnedAway), false},
		"one still refused":                  {permissive, run(served, served, turnedAway), false},
		"one inconclusive":                   {strict, run(served, turnedAway, asking(saw(observation.ClosedAfterCertificateRequest, sidecarLeaf))), false},
		"one not asked":                      {strict, run(served, turnedAway, unasked), false},
		"one not to be asked":                {strict, run(served, turnedAway, failed(observation.ExecFailed, "broken")), false},
		"nothing asked":                      {strict, run(unasked, unasked, unasked), false},
		"sleep refused":                      {strict, run(turnedAway, turnedAway, turnedAway), false},
		"sleep down":                         {strict, run(brokenOff, turnedAway, turnedAway), false},
		"refused by a neighbour":             {strict, run(served, refused(neighbourLeaf), turnedAway), false},
		"answered by a stranger":             {permissive, run(served, answered(200, foreignLeaf), served), false},
		"answered by the sidecar":            {permissive, run(served, answered(200, sidecarLeaf), served), false},
		"answered though it is to break":     {permissiveSimple, run(served, served, served), false},
		"timed out where it is to break":     {permissiveSimple, run(saw(observation.HandshakeTimeout, nil), served, served), false},
		"refused where it is to break":       {strictSimple, run(turnedAway, turnedAway, turnedAway), false},
		"the server's handshake, and no end": {permissive, run(served, served, saw(observation.ResponseTimeout, nginxLeaf)), false},
	} {
		if got := computing(c.paths).AsComputed(c.run); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// Of a path of which nothing is computed, for its endpoints promise different things, anything will do; but it is asked.
func TestAsComputedWhereNothingIsComputed(t *testing.T) {
	for name, c := range map[string]struct {
		run  observation.Run
		want bool
	}{
		"refused": {run(turnedAway, turnedAway, turnedAway), true}, "answered": {run(served, served, served), true},
		"broken": {run(brokenOff, brokenOff, brokenOff), true}, "one missing": {run(served, served, unasked), false},
	} {
		if got := computing(nil).AsComputed(c.run); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	some := computing(expectation.Expectations{api.PathOutsider: strict[api.PathOutsider]})
	if !some.AsComputed(run(brokenOff, served, turnedAway)) || some.AsComputed(run(served, turnedAway, served)) {
		t.Error("the path of which something is computed does not decide")
	}
}

func TestEndpointsAsComputed(t *testing.T) {
	mixed := computing(expectation.Expectations{api.PathSleep: permissive[api.PathSleep]})
	mixed.Endpoints = map[string]expectation.Expectation{"uid-of-strict": strict[api.PathOutsider], "uid-of-open": permissive[api.PathOutsider]}
	strictOne, openOne := greeted(endpoint("strict", turnedAway), unasked, refusesForged), greeted(endpoint("open", served), takesMutual, unasked)
	for name, c := range map[string]struct {
		endpoints []observation.EndpointResult
		want      bool
	}{
		"each its own":               {[]observation.EndpointResult{strictOne, openOne}, true},
		"whatever the code":          {[]observation.EndpointResult{greeted(endpoint("open", answered(404, nginxLeaf)), takesMutual, unasked)}, true},
		"one behind":                 {[]observation.EndpointResult{endpoint("strict", served), openOne}, false},
		"the other behind":           {[]observation.EndpointResult{strictOne, endpoint("open", turnedAway)}, false},
		"one not asked yet":          {[]observation.EndpointResult{strictOne, notAsked("open")}, false},
		"one could not be asked":     {[]observation.EndpointResult{endpoint("open", failed(observation.ExecFailed, "broken"))}, false},
		"one that nobody computed":   {[]observation.EndpointResult{endpoint("new", brokenOff)}, true},
		"and that was not asked yet": {[]observation.EndpointResult{notAsked("new")}, false},
		"none":                       {nil, true},
	} {
		for _, one := range []observation.Run{run(served, beside(served, c.endpoints...), served), run(served, turnedAway, beside(turnedAway, c.endpoints...))} {
			if got := mixed.AsComputed(one); got != c.want {
				t.Errorf("%s: %v, want %v", name, got, c.want)
			}
		}
	}
	// What stands before an endpoint is asked along one path.
	ungreeted := []observation.EndpointResult{endpoint("strict", turnedAway)}
	if mixed.AsComputed(run(served, beside(turnedAway, ungreeted...), turnedAway)) || !mixed.AsComputed(run(served, turnedAway, beside(turnedAway, ungreeted...))) {
		t.Error("whether an endpoint was greeted")
	}
}
