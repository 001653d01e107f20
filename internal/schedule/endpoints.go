package schedule

import (
	"cmp"
	"slices"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

const (
	// EndpointsPerRun bounds how many endpoints a path dials in one run; more of them take turns.
	EndpointsPerRun = 16
	// GreetEvery is after how many runs an endpoint is greeted again whose last hellos showed what is computed.
	GreetEvery = 3
)

// endpointBook holds what came of the latest requests to each endpoint.
type endpointBook struct {
	// run is the number of the latest run that is written down, from 1.
	run int
	// entries are by path and endpoint ID.
	entries map[string]map[string]entry
}

type entry struct {
	observation.EndpointResult
	// greeted is the number of the run that made the latest hellos; 0 where others are due, whatever those showed.
	greeted int
}

func newEndpointBook() endpointBook { return endpointBook{entries: map[string]map[string]entry{}} }

// turns are the endpoints that a run dials, by path.
type turns map[string][]turn

type turn struct {
	observation.Endpoint
	// greet says that hellos are due beside the request.
	greet bool
}

// turns picks the endpoints whose turn it is: those never asked first, then those that did not show what is computed, so
// that one bad answer is checked by the next run, then those whose last turn was longest ago.
func (b *endpointBook) turns(plan Plan) turns {
	picked := turns{}
	for path, request := range plan.Requests {
		for _, endpoint := range b.inTurn(plan, path, request) {
			picked[path] = append(picked[path], turn{Endpoint: endpoint, greet: request.Greets && b.greetingDue(plan, path, endpoint.ID)})
		}
	}
	return picked
}

func (b *endpointBook) inTurn(plan Plan, path string, request Request) []observation.Endpoint {
	if len(request.Endpoints) <= EndpointsPerRun {
		return request.Endpoints
	}
	urgency := map[string]int{}
	asked := map[string]time.Time{}
	for _, endpoint := range request.Endpoints {
		known, ok := b.entries[path][endpoint.ID]
		switch {
		case !ok:
			urgency[endpoint.ID] = 0
		case !plan.Matches(path, known.EndpointResult), request.Greets && !plan.Greeted(path, known.EndpointResult):
			urgency[endpoint.ID] = 1
		default:
			urgency[endpoint.ID] = 2
		}
		asked[endpoint.ID] = known.Asked
	}
	inOrder := slices.SortedStableFunc(slices.Values(request.Endpoints), func(a, b observation.Endpoint) int {
		return cmp.Or(cmp.Compare(urgency[a.ID], urgency[b.ID]), asked[a.ID].Compare(asked[b.ID]))
	})
	return inOrder[:EndpointsPerRun]
}

// greetingDue says whether the next run makes the hellos to an endpoint: after every change and every few runs, and in
// each run while they do not show what is computed.
func (b *endpointBook) greetingDue(plan Plan, path, id string) bool {
	known := b.entries[path][id]
	return known.greeted == 0 || b.run+1-known.greeted >= GreetEvery || !plan.Greeted(path, known.EndpointResult)
}

// greetAnew makes hellos to every endpoint due.
func (b *endpointBook) greetAnew() {
	for _, endpoints := range b.entries {
		for id, known := range endpoints {
			known.greeted = 0
			endpoints[id] = known
		}
	}
}

// record takes down what a run came to, and completes the run with what is known of the endpoints that it left out, and of
// the hellos that it did not make.
func (b *endpointBook) record(plan Plan, run *observation.Run) {
	b.run++
	for path, request := range plan.Requests {
		known := map[string]entry{}
		for _, endpoint := range request.Endpoints {
			if earlier, ok := b.entries[path][endpoint.ID]; ok {
				known[endpoint.ID] = earlier
			}
		}
		result := run.Results[path]
		for _, fresh := range result.Endpoints {
			known[fresh.Endpoint.ID] = known[fresh.Endpoint.ID].replaced(fresh, b.run)
		}
		b.entries[path] = known
		result.Endpoints = nil
		for _, endpoint := range request.Endpoints {
			latest := observation.EndpointResult{Endpoint: endpoint}
			if asked, ok := known[endpoint.ID]; ok {
				latest = asked.EndpointResult
			}
			result.Endpoints = append(result.Endpoints, latest)
		}
		run.Results[path] = result
	}
}

// replaced is an entry after a run with that number, which may have made no hellos.
func (e entry) replaced(fresh observation.EndpointResult, run int) entry {
	if fresh.Mesh.Asked.IsZero() {
		fresh.Mesh, fresh.Forged = e.Mesh, e.Forged
		return entry{fresh, e.greeted}
	}
	return entry{fresh, run}
}
