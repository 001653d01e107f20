// Package played plays agents for tests. What it plays is the far end alone: the streams, their pipes and the wire format
// are the real ones, so that a test of a caller is one of the transport as well.
package played

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// Agents is an Opener whose agents are played by the test, over the pipes that Open is given.
type Agents struct {
	play func(*Agent) error

	mu sync.Mutex
	// opened and asked are when streams were opened and requests arrived; pinged counts the pings.
	opened map[agents.Vantage][]time.Time
	asked  map[agents.Vantage][]time.Time
	pinged int
	open   map[agents.Vantage]int
}

// New returns agents that live as play says, from the opening of a stream to its end; nil plays healthy ones, whose
// every answer is 200.
func New(play func(*Agent) error) *Agents {
	if play == nil {
		play = Codes(200)
	}
	return &Agents{play: play, opened: map[agents.Vantage][]time.Time{}, asked: map[agents.Vantage][]time.Time{}, open: map[agents.Vantage]int{}}
}

// Open implements agents.Opener.
func (a *Agents) Open(ctx context.Context, from agents.Vantage, stdin io.Reader, stdout io.Writer) error {
	a.mu.Lock()
	a.opened[from] = append(a.opened[from], time.Now())
	a.open[from]++
	one := &Agent{From: from, Opening: len(a.opened[from]), Out: stdout, all: a, ctx: ctx, in: bufio.NewScanner(stdin)}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.open[from]--
	}()
	return a.play(one)
}

// Openings are when streams to a container were opened.
func (a *Agents) Openings(from agents.Vantage) []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.opened[from])
}

// Requests are when requests arrived in a container, pings left out.
func (a *Agents) Requests(from agents.Vantage) []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.asked[from])
}

// Pings counts the pings that arrived anywhere.
func (a *Agents) Pings() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pinged
}

// OpenNow is how many streams to a container stand at this moment.
func (a *Agents) OpenNow(from agents.Vantage) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open[from]
}

// Agent is one played agent at the far end of a stream.
type Agent struct {
	// From is the container it plays in, and Opening counts the streams to it, from 1.
	From    agents.Vantage
	Opening int
	// Out is its standard output.
	Out io.Writer

	all *Agents
	ctx context.Context
	in  *bufio.Scanner
}

// Next waits for a request; false is the end of standard input.
func (a *Agent) Next() (observation.Request, bool) {
	var request observation.Request
	if !a.in.Scan() || json.Unmarshal(a.in.Bytes(), &request) != nil {
		return request, false
	}
	a.all.mu.Lock()
	defer a.all.mu.Unlock()
	if request.ID == 0 {
		a.all.pinged++
	} else {
		a.all.asked[a.From] = append(a.all.asked[a.From], time.Now())
	}
	return request, true
}

// Say writes one observation.
func (a *Agent) Say(seen observation.Observation) { _ = json.NewEncoder(a.Out).Encode(seen) }

// AnswerAll answers pings and hands everything else to answer, one after the other, until the stream ends.
func (a *Agent) AnswerAll(answer func(observation.Request) observation.Observation) error {
	for {
		request, ok := a.Next()
		if !ok {
			return errors.New("the stream ended")
		}
		if request.ID == 0 {
			a.Say(observation.Observation{})
			continue
		}
		seen := answer(request)
		seen.ID = request.ID
		a.Say(seen)
	}
}

// Hang does nothing more until the stream is cancelled.
func (a *Agent) Hang() error {
	<-a.ctx.Done()
	return a.ctx.Err()
}

// Code is the observation of an HTTP answer.
func Code(code int) observation.Observation {
	return observation.Observation{Class: observation.Answered, HTTPCode: code}
}

// OK answers a request with 200.
func OK(observation.Request) observation.Observation { return Code(200) }

// Codes plays agents that answer the numbered request, from 0, as told; beyond the end the last one counts.
func Codes(sequence ...int) func(*Agent) error {
	var mu sync.Mutex
	next := 0
	return func(a *Agent) error {
		return a.AnswerAll(func(observation.Request) observation.Observation {
			mu.Lock()
			defer mu.Unlock()
			next++
			return Code(sequence[min(next, len(sequence))-1])
		})
	}
}

// Slowly plays agents that take their time for every answer.
func Slowly(latency time.Duration) func(*Agent) error {
	return func(a *Agent) error {
		return a.AnswerAll(func(observation.Request) observation.Observation {
			time.Sleep(latency)
			return Code(200)
		})
	}
}
