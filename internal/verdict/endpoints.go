package verdict

import (
	"fmt"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

const (
	maxExamples        = 5
	maxExampleMessage  = 512
	maxEndpointName    = 253
	maxEndpointAddress = 64
)

// withEndpoints adds to what a path saw at the Service's address what it saw at the single endpoints: one that shows
// something else than expected decides, whatever the address shows, and one that was not asked leaves the path open.
func (c Criteria) withEndpoints(path paths.Path, found finding, expected expectation.Expectation, endpoints []observation.EndpointResult) finding {
	summary := &api.EndpointsStatus{Total: int32(len(endpoints))}
	var worst *finding
	worstName := ""
	for _, endpoint := range endpoints {
		if !endpoint.Asked.IsZero() {
			summary.Asked++
		}
		if endpoint.Asked.Before(found.asked) {
			found.asked = endpoint.Asked
		}
		single := c.single(path, expected, endpoint.Result, c.endpointClaims(path, expected, endpoint))
		if computed, ok := c.Endpoints[endpoint.Endpoint.ID]; ok && single.outcome == api.OutcomeMismatch {
			single.computed = c.endpointClaims(path, coded(computed, expected), endpoint).decisive().answer == api.AnswerShown
		}
		if single.outcome == api.OutcomeMismatch {
			summary.Mismatched++
			summary.Examples = append(summary.Examples, example(endpoint.Endpoint, single))
		}
		if worst == nil || worse(single, *worst) {
			worst, worstName = &single, endpoint.Endpoint.Name
		}
	}
	summary.Examples = summary.Examples[:min(len(summary.Examples), maxExamples)]
	found.endpoints = summary
	return found.joined(*worst, worstName)
}

// worse says whether one finding decides before another.
func worse(one, other finding) bool { return severity(one) > severity(other) }

func severity(f finding) int {
	switch {
	case f.proof:
		return 4
	case f.outcome == api.OutcomeMismatch:
		return 3
	case f.outcome == api.OutcomeUnknown && f.reason != api.ReasonEndpointsNotAsked:
		return 2
	case f.outcome == api.OutcomeUnknown:
		return 1
	default:
		return 0
	}
}

// joined is the finding at the Service's address together with that at the endpoint that decides. Where both show the same,
// the endpoint is to be named: the Service's address leads to any of several.
func (f finding) joined(worst finding, name string) finding {
	summary := f.endpoints
	same := f.outcome == api.OutcomeMismatch && worst.reason == f.reason && summary.Total > 1
	if worst.outcome != api.OutcomeMatch && (worse(worst, f) || same) {
		address := f
		f, f.endpoints, f.asked = worst, summary, address.asked
		if worst.observed == notProbed {
			// Of an endpoint that was not dialed there is nothing to show but what was seen at the address.
			f.observed, f.result = address.observed, address.result
		}
		switch {
		case f.outcome == api.OutcomeMismatch:
			f.message = fmt.Sprintf("%s (%d of %d endpoints): %s", name, summary.Mismatched, summary.Total, worst.message)
		case f.reason == api.ReasonEndpointsNotAsked && summary.Asked < summary.Total:
			f.message = fmt.Sprintf("%d of %d endpoints have been dialed so far, all as expected", summary.Asked, summary.Total)
		default:
			f.message = fmt.Sprintf("%s: %s", name, worst.message)
		}
		return f
	}
	if f.outcome == api.OutcomeMatch {
		f.claims = append(f.claims, worst.claims...)
		f.message = inOne(dedupe(f.claims))
	}
	return f
}

// dedupe leaves out what the Service's address and an endpoint show alike.
func dedupe(of claims) claims {
	var kept claims
	seen := map[claim]bool{}
	for _, one := range of {
		if !seen[one] {
			seen[one] = true
			kept = append(kept, one)
		}
	}
	return kept
}

func example(endpoint observation.Endpoint, found finding) api.EndpointStatus {
	return api.EndpointStatus{
		Name: clip(endpoint.Name, maxEndpointName), Address: clip(endpoint.Address, maxEndpointAddress),
		Observed: found.observed, Message: clip(found.message, maxExampleMessage),
	}
}
