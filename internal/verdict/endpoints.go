package verdict

import (
	"fmt"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

const (
	maxExamples        = 5
	maxExampleMessage  = 512
	maxEndpointName    = 253
	maxEndpointAddress = 64
)

// EndpointMatches says whether the latest request to an endpoint met what is expected of its path.
func EndpointMatches(expected expectation.Expectation, server Server, result observation.EndpointResult) bool {
	return find(expected, server, result.Result).outcome == api.OutcomeMatch
}

// withEndpoints adds to what a path saw at the Service's address what it saw at the single endpoints: one that shows
// something else than expected decides, whatever the address shows, and one that was not asked leaves the path open.
func (in Input) withEndpoints(found finding, expected expectation.Expectation, endpoints []observation.EndpointResult) finding {
	summary := &api.EndpointsStatus{Total: int32(len(endpoints))}
	var worst *finding
	worstName := ""
	for _, endpoint := range endpoints {
		if endpoint.Asked.IsZero() {
			continue
		}
		summary.Asked++
		single := find(expected, in.Server, endpoint.Result)
		if needsControl(expected, single) && !in.controlled(endpoint.Asked, endpoint.Control, nil) {
			single.unknown(api.ReasonNoPositiveControl, noControl)
		}
		if single.outcome == api.OutcomeMatch {
			continue
		}
		if single.outcome == api.OutcomeMismatch {
			summary.Mismatched++
			summary.Examples = append(summary.Examples, example(endpoint.Endpoint, single))
		}
		if worst == nil || worst.outcome == api.OutcomeUnknown && single.outcome == api.OutcomeMismatch {
			worst, worstName = &single, endpoint.Endpoint.Name
		}
	}
	summary.Examples = summary.Examples[:min(len(summary.Examples), maxExamples)]
	found.endpoints = summary
	switch {
	// The Service's address leads to any of several endpoints: where one of them shows the same, it is to be named.
	case found.outcome == api.OutcomeMismatch && (summary.Total == 1 || worst == nil || worst.reason != found.reason):
	case worst != nil && worst.outcome == api.OutcomeMismatch:
		found.outcome, found.reason, found.observed, found.result = worst.outcome, worst.reason, worst.observed, worst.result
		found.message = fmt.Sprintf("%s (%d of %d endpoints): %s", worstName, summary.Mismatched, summary.Total, worst.message)
	case found.outcome == api.OutcomeUnknown:
	case worst != nil:
		found.brokenEndpoint = worst.brokeOff()
		found.unknown(worst.reason, fmt.Sprintf("%s: %s", worstName, worst.message))
	case summary.Asked < summary.Total:
		found.unknown(api.ReasonEndpointsNotAsked, fmt.Sprintf("%d of %d endpoints have been dialed so far, all as expected", summary.Asked, summary.Total))
	}
	return found
}

func example(endpoint observation.Endpoint, found finding) api.EndpointStatus {
	return api.EndpointStatus{
		Name: clip(endpoint.Name, maxEndpointName), Address: clip(endpoint.Address, maxEndpointAddress),
		Observed: found.observed, Message: clip(found.message, maxExampleMessage),
	}
}
