package runner

import (
	"cmp"
	"slices"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// endpointBook holds, by path and endpoint ID, what came of the latest request to each endpoint.
type endpointBook map[string]map[string]observation.EndpointResult

// turns are the endpoints that a run dials, by path.
type turns map[string][]observation.Endpoint

// turns picks the endpoints whose turn it is: those never asked first, then those that did not show what is computed, so
// that one bad answer is checked by the next run, then those whose last turn was longest ago.
func (b endpointBook) turns(plan Plan) turns {
	picked := turns{}
	for path, request := range plan.Requests {
		if len(request.Endpoints) <= EndpointsPerRun {
			picked[path] = request.Endpoints
			continue
		}
		urgency := map[string]int{}
		asked := map[string]time.Time{}
		for _, endpoint := range request.Endpoints {
			result, ok := b[path][endpoint.ID]
			switch {
			case !ok:
				urgency[endpoint.ID] = 0
			case !plan.Matches(path, result):
				urgency[endpoint.ID] = 1
			default:
				urgency[endpoint.ID] = 2
			}
			asked[endpoint.ID] = result.Asked
		}
		inOrder := slices.SortedStableFunc(slices.Values(request.Endpoints), func(a, b observation.Endpoint) int {
			return cmp.Or(cmp.Compare(urgency[a.ID], urgency[b.ID]), asked[a.ID].Compare(asked[b.ID]))
		})
		picked[path] = inOrder[:EndpointsPerRun]
	}
	return picked
}

// record takes down what a run came to, and completes the run with what is known of the endpoints that it left out.
func (b endpointBook) record(plan Plan, run *observation.Run) {
	control := run.Results[plan.Control]
	control.Endpoints = nil
	for path, request := range plan.Requests {
		known := map[string]observation.EndpointResult{}
		for _, endpoint := range request.Endpoints {
			if result, ok := b[path][endpoint.ID]; ok {
				known[endpoint.ID] = result
			}
		}
		result := run.Results[path]
		for _, fresh := range result.Endpoints {
			fresh.Control = control
			known[fresh.Endpoint.ID] = fresh
		}
		b[path] = known
		result.Endpoints = nil
		for _, endpoint := range request.Endpoints {
			latest, ok := known[endpoint.ID]
			if !ok {
				latest = observation.EndpointResult{Endpoint: endpoint}
			}
			result.Endpoints = append(result.Endpoints, latest)
		}
		run.Results[path] = result
	}
}
