package verdict_test

import (
	"testing"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// computedFor is what is computed where all paths promise the same on every endpoint.
func computedFor(paths expectation.Expectations) verdict.Computed {
	return verdict.Computed{Paths: paths, Endpoints: map[string]expectation.Expectation{}}
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
		"encryption as computed":             {strict, run(counting(served, wrapped), turnedAway, turnedAway), true},
		"plaintext as computed":              {promised(api.MTLSDisable, ""), run(counting(served, passedOn), served, served), true},
		"encryption not counted":             {strict, run(counting(served, &observation.Counted{Error: "no answer in time"}), turnedAway, turnedAway), true},
		"still in plaintext":                 {permissive, run(counting(served, passedOn), served, served), false},
		"still in mutual TLS":                {promised(api.MTLSPermissive, api.ClientTLSDisable), run(counting(served, wrapped), served, served), false},
		"one got through":                    {strict, run(served, served, turnedAway), false},
		"one still refused":                  {permissive, run(served, served, turnedAway), false},
		"one inconclusive":                   {strict, run(served, turnedAway, saw(observation.ClosedAfterCertificateRequest, sidecarLeaf)), false},
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
		t.Run(name, func(t *testing.T) {
			if got := verdict.AsComputed(computedFor(c.paths), server, c.run); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// Of a path of which nothing is computed, for its endpoints promise different things, anything will do; but it is asked.
func TestAsComputedWhereNothingIsComputed(t *testing.T) {
	nothing := computedFor(expectation.Expectations{})
	for name, c := range map[string]struct {
		run  observation.Run
		want bool
	}{
		"refused":     {run(turnedAway, turnedAway, turnedAway), true},
		"answered":    {run(served, served, served), true},
		"broken":      {run(brokenOff, brokenOff, brokenOff), true},
		"one missing": {run(served, served, unasked), false},
	} {
		if got := verdict.AsComputed(nothing, server, c.run); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	some := computedFor(expectation.Expectations{api.PathOutsider: strict[api.PathOutsider]})
	if !verdict.AsComputed(some, server, run(brokenOff, served, turnedAway)) || verdict.AsComputed(some, server, run(served, turnedAway, served)) {
		t.Error("the path of which something is computed does not decide")
	}
}

func TestEndpointsAsComputed(t *testing.T) {
	refusal, answer := strict[api.PathOutsider], permissive[api.PathOutsider]
	mixed := verdict.Computed{
		Paths:     expectation.Expectations{api.PathSleep: permissive[api.PathSleep]},
		Endpoints: map[string]expectation.Expectation{"uid-of-strict": refusal, "uid-of-open": answer},
	}
	for name, c := range map[string]struct {
		endpoints []observation.EndpointResult
		want      bool
	}{
		"each its own":               {[]observation.EndpointResult{endpoint("strict", turnedAway, served), endpoint("open", served, served)}, true},
		"without a control":          {[]observation.EndpointResult{endpoint("strict", turnedAway, unasked), endpoint("open", served, unasked)}, true},
		"whatever the code":          {[]observation.EndpointResult{endpoint("open", answered(404, nginxLeaf), served)}, true},
		"one behind":                 {[]observation.EndpointResult{endpoint("strict", served, served), endpoint("open", served, served)}, false},
		"the other behind":           {[]observation.EndpointResult{endpoint("strict", turnedAway, served), endpoint("open", turnedAway, served)}, false},
		"one not asked yet":          {[]observation.EndpointResult{endpoint("strict", turnedAway, served), notAsked("open")}, false},
		"one could not be asked":     {[]observation.EndpointResult{endpoint("open", failed(observation.ExecFailed, "broken"), served)}, false},
		"one that nobody computed":   {[]observation.EndpointResult{endpoint("new", brokenOff, served)}, true},
		"and that was not asked yet": {[]observation.EndpointResult{notAsked("new")}, false},
		"none":                       {nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, one := range []observation.Run{run(served, beside(served, c.endpoints...), served), run(served, turnedAway, beside(turnedAway, c.endpoints...))} {
				if got := verdict.AsComputed(mixed, server, one); got != c.want {
					t.Errorf("%v, want %v", got, c.want)
				}
			}
		})
	}
}
