package prober

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

const (
	// turnWait is how long a probe waits for others that count the connections of the same Service, and readTime how long
	// for one reading of the counters, of which there are two. Together they must fit into what the operator allows beyond
	// the request's own time-out (agentSlack in internal/runner).
	turnWait = time.Second
	readTime = 300 * time.Millisecond
)

// turns keeps apart the probes of one agent whose connections Envoy's counters do not tell apart.
//
// Those of the same Service take turns. Those of different Services do not, although PassthroughCluster is common to
// all: behind a server that hangs, every other probe of the pod would otherwise wait in vain and go uncounted. What
// PassthroughCluster took is marked as shared where another probe was under way. It is then no more than an upper bound,
// which is enough: whether the connection was wrapped is told by the Service's own counters.
type turns struct {
	turnWait, readTime time.Duration

	mu    sync.Mutex
	lanes map[service]*lane
	// all are the agent's probes, and uncounted those among them of which it is unknown to what Service they go.
	all, uncounted traffic
}

func newTurns(turnWait, readTime time.Duration) *turns {
	return &turns{turnWait: turnWait, readTime: readTime, lanes: map[service]*lane{}}
}

// service is what Envoy counts as one.
type service struct {
	host string
	port uint32
}

// lane is the way to one Service.
type lane struct {
	traffic traffic
	// turn holds a value while a probe counts.
	turn chan struct{}
	// users are the probes that hold the lane or wait for it; without any, it is forgotten.
	users int
}

// traffic is how many probes have begun and ended.
type traffic struct{ begun, ended uint64 }

// besides says whether any probe but the own ones, which began and ended in between, was under way since earlier.
func (t traffic) besides(own uint64, earlier traffic) bool {
	return earlier.begun != earlier.ended || t.begun-earlier.begun != own
}

// probe carries out one request, and counts where it is asked to.
func (t *turns) probe(ctx context.Context, request observation.Request) observation.Observation {
	count := request.Count
	if count == nil {
		return t.travel(ctx, request, &t.uncounted)
	}
	var seen observation.Observation
	var counted observation.Counted
	var err error
	if count.Host == "" || count.Port == 0 {
		seen, err = t.travel(ctx, request, &t.uncounted), errors.New("the request names no Service to count")
	} else {
		seen, counted, err = t.probeInTurn(ctx, request, service{count.Host, count.Port})
	}
	if err != nil {
		counted = observation.Counted{Error: shorten(err.Error())}
	}
	seen.Counted = &counted
	return seen
}

func (t *turns) probeInTurn(ctx context.Context, request observation.Request, to service) (observation.Observation, observation.Counted, error) {
	l := t.enter(to)
	defer t.leave(to, l)
	waited := time.NewTimer(t.turnWait)
	defer waited.Stop()
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
		return t.count(ctx, request, l)
	case <-waited.C:
	case <-ctx.Done():
	}
	return t.travel(ctx, request, &l.traffic), observation.Counted{}, errors.New("other probes of the Service were counted all the time")
}

// count probes between two readings of the counters.
func (t *turns) count(ctx context.Context, request observation.Request, l *lane) (observation.Observation, observation.Counted, error) {
	const own = 1
	laneBefore, allBefore, uncountedBefore := t.traffic(l)
	before, err := t.read(ctx, *request.Count)
	seen := t.travel(ctx, request, &l.traffic)
	if err != nil {
		return seen, observation.Counted{}, err
	}
	after, err := t.read(ctx, *request.Count)
	if err != nil {
		return seen, observation.Counted{}, err
	}
	laneAfter, allAfter, uncountedAfter := t.traffic(l)
	if laneAfter.besides(own, laneBefore) || uncountedAfter.besides(0, uncountedBefore) {
		return seen, observation.Counted{}, errors.New("another probe was under way that may have been counted too")
	}
	counted, err := after.since(before, allAfter.besides(own, allBefore))
	return seen, counted, err
}

func (t *turns) read(ctx context.Context, count observation.Count) (counters, error) {
	ctx, cancel := context.WithTimeout(ctx, t.readTime)
	defer cancel()
	return readCounters(ctx, count)
}

// travel probes, and lets those who count know of it.
func (t *turns) travel(ctx context.Context, request observation.Request, among *traffic) observation.Observation {
	t.mu.Lock()
	among.begun++
	t.all.begun++
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		among.ended++
		t.all.ended++
	}()
	return Probe(ctx, request)
}

func (t *turns) traffic(l *lane) (inLane, all, uncounted traffic) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return l.traffic, t.all, t.uncounted
}

func (t *turns) enter(to service) *lane {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, ok := t.lanes[to]
	if !ok {
		l = &lane{turn: make(chan struct{}, 1)}
		t.lanes[to] = l
	}
	l.users++
	return l
}

func (t *turns) leave(to service, l *lane) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.users--
	if l.users == 0 {
		delete(t.lanes, to)
	}
}
