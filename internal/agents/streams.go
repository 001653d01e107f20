package agents

import (
	"context"
	"sync"

	"github.com/go-logr/logr"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// Streams holds one exec stream for each container from which requests start.
type Streams struct {
	log      logr.Logger
	opener   Opener
	observer Observer

	mu   sync.Mutex
	open map[Vantage]*stream
	// closing are the streams that are no longer wanted and have not ended yet.
	closing sync.WaitGroup
}

// NewStreams returns streams, none of them open, that opener opens.
func NewStreams(log logr.Logger, opener Opener, observer Observer) *Streams {
	return &Streams{log: log, opener: opener, observer: observer, open: map[Vantage]*stream{}}
}

// Ask sends a request to the agent in a container and waits for its observation, for at most OpenTime, the request's own
// time-out and Slack together. It opens the stream where there is none. A failure says why there is no observation.
func (s *Streams) Ask(ctx context.Context, from Vantage, request observation.Request) (observation.Observation, *observation.Failure) {
	ctx, cancel := context.WithTimeout(ctx, OpenTime+request.Timeout+Slack)
	defer cancel()
	return s.to(from).ask(ctx, request)
}

func (s *Streams) to(from Vantage) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.open[from]; !ok {
		s.open[from] = openStream(context.Background(), s.log, s.opener, from, s.observer)
	}
	return s.open[from]
}

// Keep closes every stream whose container is not among those in use, and does not wait for their ends.
func (s *Streams) Keep(used map[Vantage]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for from, stream := range s.open {
		if !used[from] {
			delete(s.open, from)
			s.closing.Go(stream.close)
		}
	}
}

// Close ends all streams and returns when they have ended.
func (s *Streams) Close() {
	s.Keep(nil)
	s.closing.Wait()
}

// Load tells what the streams have in hand.
func (s *Streams) Load() Load {
	s.mu.Lock()
	defer s.mu.Unlock()
	load := Load{StreamsWanted: len(s.open)}
	for _, stream := range s.open {
		open, awaiting := stream.load()
		load.Awaiting += awaiting
		if open {
			load.StreamsOpen++
		}
	}
	return load
}
