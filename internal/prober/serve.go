package prober

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

const (
	maxRequestBytes = 16 << 10
	maxConcurrent   = 64
)

// ErrSilence is returned by Serve when nothing was heard from the operator for too long.
var ErrSilence = errors.New("nothing heard from the operator")

// Serve reads one request a line from in, carries them out side by side, and writes one observation a line to out, in
// the order in which they end. It returns nil when in ends, ErrSilence when in was silent for longer than silence (a
// connection that died without a word must not leave an agent behind), and otherwise the error that ended it. Probes
// still under way are then given up.
func Serve(ctx context.Context, in io.Reader, out io.Writer, silence time.Duration) error {
	follower := newFollower()
	defer follower.admin.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{
		out: json.NewEncoder(out), follower: follower,
		slots: make(chan struct{}, maxConcurrent), done: make(chan error, 1),
	}
	heard := make(chan struct{}, 1)
	go s.read(ctx, in, heard)

	watchdog := time.NewTimer(silence)
	defer watchdog.Stop()
	for {
		select {
		case err := <-s.done:
			return err
		case <-heard:
			watchdog.Reset(silence)
		case <-watchdog.C:
			return ErrSilence
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

type server struct {
	mu       sync.Mutex
	out      *json.Encoder
	follower *follower
	slots    chan struct{}
	done     chan error
}

func (s *server) end(err error) {
	select {
	case s.done <- err:
	default:
	}
}

func (s *server) read(ctx context.Context, in io.Reader, heard chan<- struct{}) {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, maxRequestBytes), maxRequestBytes)
	for lines.Scan() {
		select {
		case heard <- struct{}{}:
		default:
		}
		s.take(ctx, lines.Bytes())
	}
	s.end(lines.Err())
}

func (s *server) take(ctx context.Context, line []byte) {
	var request observation.Request
	if err := json.Unmarshal(line, &request); err != nil {
		s.write(observation.Observation{Class: observation.InvalidRequest, Error: shorten(err.Error())})
		return
	}
	if request.ID == 0 {
		s.write(observation.Observation{})
		return
	}
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	go func() {
		defer func() { <-s.slots }()
		seen := s.follower.probe(ctx, request)
		// A probe that was given up looks like one that timed out, and is evidence of nothing.
		if ctx.Err() == nil {
			s.write(seen)
		}
	}()
}

func (s *server) write(seen observation.Observation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.out.Encode(seen); err != nil {
		s.end(fmt.Errorf("write observation: %w", err))
	}
}
