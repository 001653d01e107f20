package agents

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// Opener opens an exec stream to the agent in a container. Open returns when the stream has ended, which it must when
// ctx does; ErrForbidden in its error says that the API server does not allow it.
type Opener interface {
	Open(ctx context.Context, from Vantage, stdin io.Reader, stdout io.Writer) error
}

// ErrForbidden says that the operator may not exec into a container.
var ErrForbidden = errors.New("exec is forbidden")

var errSilent = errors.New("the agent says nothing")

// ErrAgentEnded says that the program in the container ended by itself, without an error.
var ErrAgentEnded = errors.New("the agent ended")

const (
	// pingEvery keeps a stream from looking idle; the agent ends itself after a minute without a word.
	pingEvery = 15 * time.Second
	// silence is how long a stream may bring nothing before it counts as broken.
	silence = 45 * time.Second

	// reopenPatience is how long a request waits for a stream that could not be opened the last time.
	reopenPatience = time.Second

	backOffMin = 200 * time.Millisecond
	backOffMax = 30 * time.Second

	maxObservationBytes = 128 << 10
)

// stream is the exec stream to one container. It is opened again with back-off for as long as it is wanted.
type stream struct {
	log      logr.Logger
	from     Vantage
	opener   Opener
	observer Observer
	cancel   context.CancelFunc
	done     chan struct{}

	mu      sync.Mutex
	nextID  uint64
	waiting map[uint64]chan<- observation.Observation
	// requests takes what is to be sent; nil while the stream is not open, for the reason in lastError if there was one.
	requests  chan<- observation.Request
	lastError error
	// changed is closed and replaced whenever requests or lastError change.
	changed chan struct{}
}

func openStream(ctx context.Context, log logr.Logger, opener Opener, from Vantage, observer Observer) *stream {
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{
		log:    log.WithValues("namespace", from.Namespace, "pod", from.Pod, "container", from.Container),
		from:   from,
		opener: opener, observer: observer, cancel: cancel,
		done:    make(chan struct{}),
		waiting: map[uint64]chan<- observation.Observation{},
		changed: make(chan struct{}),
	}
	go s.keepOpen(ctx)
	return s
}

func (s *stream) close() {
	s.cancel()
	<-s.done
}

func (s *stream) keepOpen(ctx context.Context) {
	defer close(s.done)
	backOff := backOffMin
	for ctx.Err() == nil {
		opened := time.Now()
		err := s.once(ctx)
		if ctx.Err() != nil {
			break
		}
		s.setState(nil, err)
		s.observer.Broke(breakOf(err))
		s.log.V(1).Info("exec stream ended", "error", err.Error(), "after", time.Since(opened).String())
		if time.Since(opened) > backOffMax {
			backOff = backOffMin
		}
		select {
		case <-ctx.Done():
		case <-time.After(backOff/2 + rand.N(backOff/2)):
		}
		backOff = min(2*backOff, backOffMax)
	}
	s.setState(nil, context.Canceled)
}

// once opens the stream and serves it until it ends.
func (s *stream) once(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stdin, requests := io.Pipe()
	observations, stdout := io.Pipe()
	// Both ends of both pipes are closed on the way out, or whoever still reads or writes would stay for ever.
	defer requests.Close()
	defer observations.Close()

	var ended sync.WaitGroup
	defer ended.Wait()
	defer cancel(nil)
	ended.Go(func() {
		err := s.guarded(func() error { return s.opener.Open(ctx, s.from, stdin, stdout) })
		if err == nil {
			err = ErrAgentEnded
		}
		cancel(err)
		stdin.CloseWithError(err)
		stdout.CloseWithError(err)
	})
	heard := make(chan struct{}, 1)
	outgoing := make(chan observation.Request)
	ended.Go(func() { cancel(s.guarded(func() error { return s.receive(observations, outgoing, heard) })) })
	ended.Go(func() { cancel(send(ctx, requests, outgoing)) })
	ended.Go(func() { cancel(watch(ctx, outgoing, heard)) })
	<-ctx.Done()
	requests.Close()
	observations.Close()
	return context.Cause(ctx)
}

// guarded has a panic break the stream, and not the operator, in which all the others run.
func (s *stream) guarded(do func() error) (err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("the operator failed within itself: %v", panicked)
			s.log.Error(err, "an exec stream panicked", "stack", string(debug.Stack()))
		}
	}()
	return do()
}

// send writes one request after the other, so that nobody else is held up by a connection that takes no more.
func send(ctx context.Context, requests io.Writer, outgoing <-chan observation.Request) error {
	lines := json.NewEncoder(requests)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case request := <-outgoing:
			if err := lines.Encode(request); err != nil {
				return err
			}
		}
	}
}

// watch pings the agent, and ends a stream that says nothing.
func watch(ctx context.Context, outgoing chan<- observation.Request, heard <-chan struct{}) error {
	every := time.NewTicker(pingEvery)
	defer every.Stop()
	quiet := time.NewTimer(OpenTime)
	defer quiet.Stop()
	ping := outgoing
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case ping <- observation.Request{}:
			ping = nil
		case <-every.C:
			ping = outgoing
		case <-heard:
			quiet.Reset(silence)
		case <-quiet.C:
			return errSilent
		}
	}
}

// receive hands observations to those who wait for them. The first line, the answer to a ping, opens the stream for
// requests.
func (s *stream) receive(observations io.Reader, outgoing chan<- observation.Request, heard chan<- struct{}) error {
	lines := bufio.NewScanner(observations)
	lines.Buffer(make([]byte, 0, 4096), maxObservationBytes)
	open := false
	for lines.Scan() {
		var seen observation.Observation
		if err := json.Unmarshal(lines.Bytes(), &seen); err != nil {
			return fmt.Errorf("what came is no observation: %w", err)
		}
		select {
		case heard <- struct{}{}:
		default:
		}
		if !open {
			open = true
			s.setState(outgoing, nil)
			s.observer.Opened()
		}
		s.deliver(seen)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.EOF
}

func (s *stream) deliver(seen observation.Observation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if waiter, ok := s.waiting[seen.ID]; ok {
		delete(s.waiting, seen.ID)
		waiter <- seen
	}
}

// setState says whether requests can be sent, and why not. Those who wait for an answer from a stream that ended are
// told at once.
func (s *stream) setState(requests chan<- observation.Request, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.lastError = requests, err
	if requests == nil {
		for id, waiter := range s.waiting {
			delete(s.waiting, id)
			close(waiter)
		}
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// ask sends one request and waits for its observation. A stream that breaks meanwhile is given one more try, so that
// an API server that restarts costs no verdict.
func (s *stream) ask(ctx context.Context, request observation.Request) (observation.Observation, *observation.Failure) {
	for attempt := 1; ; attempt++ {
		id, answer, failure := s.submit(ctx, request)
		if failure != nil {
			return observation.Observation{}, failure
		}
		select {
		case seen, ok := <-answer:
			if ok {
				return seen, nil
			}
			if attempt == 2 {
				return observation.Observation{}, &observation.Failure{Kind: observation.ExecFailed, Message: s.explain("the exec stream broke")}
			}
		case <-ctx.Done():
			s.forget(id)
			return observation.Observation{}, &observation.Failure{Kind: observation.AgentSilent, Message: s.explain("the agent did not answer in time")}
		}
	}
}

// submit waits until the stream is open and hands it the request. It returns the request's ID and where the answer comes.
func (s *stream) submit(ctx context.Context, request observation.Request) (uint64, <-chan observation.Observation, *observation.Failure) {
	patience := OpenTime
	if _, _, err := s.state(); err != nil {
		patience = reopenPatience
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		requests, changed, lastError := s.state()
		if requests == nil {
			if errors.Is(lastError, ErrForbidden) {
				return 0, nil, &observation.Failure{Kind: observation.ExecForbidden, Message: s.explain(lastError.Error())}
			}
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return 0, nil, &observation.Failure{Kind: observation.ExecFailed, Message: s.explain(whyClosed(lastError))}
			}
		}
		answer := make(chan observation.Observation, 1)
		request.ID = s.expect(answer)
		select {
		case requests <- request:
			return request.ID, answer, nil
		case <-changed:
			s.forget(request.ID)
		case <-ctx.Done():
			s.forget(request.ID)
			return 0, nil, &observation.Failure{Kind: observation.AgentSilent, Message: s.explain("the exec stream takes no request")}
		}
	}
}

func (s *stream) state() (chan<- observation.Request, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests, s.changed, s.lastError
}

// load says whether the stream takes requests, and how many are without an answer.
func (s *stream) load() (open bool, awaiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests != nil, len(s.waiting)
}

func (s *stream) expect(answer chan<- observation.Observation) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextID++
	s.waiting[s.nextID] = answer
	return s.nextID
}

func (s *stream) forget(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, id)
}

func (s *stream) explain(what string) string {
	return fmt.Sprintf("container %s of pod %s: %s", s.from.Container, s.from.Pod, what)
}

func whyClosed(err error) string {
	if err == nil {
		return "the exec stream did not open in time"
	}
	return "no exec stream: " + err.Error()
}
