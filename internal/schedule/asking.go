package schedule

import (
	"context"
	"sync"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// asking sends the requests of one path in one run.
type asking struct {
	runner  *Runner
	ctx     context.Context
	probe   Key
	path    string
	request Request
	timeout time.Duration
}

// all sends the request to the Service's address and, beside it, those to the endpoints whose turn it is.
func (a asking) all(turns []turn, started time.Time) observation.Result {
	endpoints := make([]observation.EndpointResult, len(turns))
	var requests sync.WaitGroup
	for i, turn := range turns {
		result := &endpoints[i]
		result.Endpoint, result.Asked = turn.Endpoint, started
		single := a.request.Ask
		single.Address = turn.Address
		requests.Go(func() { result.Result = a.ask(single) })
		if !turn.greet {
			continue
		}
		result.Mesh.Asked, result.Forged.Asked = started, started
		requests.Go(func() { result.Mesh.Result = a.ask(greeting(single, observation.HelloMesh, "")) })
		requests.Go(func() { result.Forged.Result = a.ask(greeting(single, observation.HelloForged, a.request.Identity)) })
	}
	result := a.ask(a.request.Ask)
	requests.Wait()
	result.Endpoints = endpoints
	return result
}

// greeting is a hello of that sort in place of a request.
func greeting(request observation.Request, hello observation.Hello, identity string) observation.Request {
	request.Hello, request.Identity, request.Count = hello, identity, nil
	return request
}

// ask sends one request and tells the observer what came of it.
func (a asking) ask(request observation.Request) (result observation.Result) {
	defer func() {
		if failed := a.runner.caught(recover(), a.probe); failed != nil {
			result = observation.Result{Failed: failed}
		}
	}()
	if a.request.From == nil {
		result.Failed = &observation.Failure{Kind: observation.NoVantage, Message: a.request.Missing}
	} else {
		request.Timeout = a.timeout
		result.Seen, result.Failed = a.runner.streams.Ask(a.ctx, *a.request.From, request)
	}
	// A request that failed because its run was interrupted says nothing of the agent.
	interrupted := a.request.From != nil && result.Failed != nil && a.ctx.Err() != nil
	a.runner.observer.Asked(Asked{Probe: a.probe, Path: a.path, Hello: request.Hello, Result: result, Interrupted: interrupted})
	return result
}
