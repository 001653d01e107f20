package runner

import (
	"context"
	"sync"

	"github.com/go-logr/logr"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// streams holds one exec stream for each container from which probes start.
type streams struct {
	log      logr.Logger
	opener   Opener
	observer Observer

	mu   sync.Mutex
	open map[Vantage]*stream
	// closing are the streams that are no longer wanted and have not ended yet.
	closing sync.WaitGroup
}

func newStreams(log logr.Logger, opener Opener, observer Observer) *streams {
	return &streams{log: log, opener: opener, observer: observer, open: map[Vantage]*stream{}}
}

func (s *streams) ask(ctx context.Context, from Vantage, request observation.Request) (observation.Observation, *observation.Failure) {
	ctx, cancel := context.WithTimeout(ctx, openTime+request.Timeout+agentSlack)
	defer cancel()
	return s.to(from).ask(ctx, request)
}

// to returns the stream to a container, and opens it where there is none.
func (s *streams) to(from Vantage) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.open[from]; !ok {
		s.open[from] = openStream(context.Background(), s.log, s.opener, from, s.observer)
	}
	return s.open[from]
}

// keep closes every stream whose container is not among those in use.
func (s *streams) keep(used map[Vantage]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for from, stream := range s.open {
		if !used[from] {
			delete(s.open, from)
			s.closing.Go(stream.close)
		}
	}
}

// close ends all streams and returns when they have ended.
func (s *streams) close() {
	s.keep(nil)
	s.closing.Wait()
}

// addTo adds the streams and what they are waiting for to the load.
func (s *streams) addTo(load *Load) {
	s.mu.Lock()
	defer s.mu.Unlock()
	load.StreamsWanted = len(s.open)
	for _, stream := range s.open {
		open, awaiting := stream.load()
		load.Awaiting += awaiting
		if open {
			load.StreamsOpen++
		}
	}
}
