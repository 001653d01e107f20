package prober

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// lane is the one way by which an agent's requests get to Envoy while their connection is being counted. Whoever is on it
// is alone, from the reading of the counters before the connection to the one after it, and leaves as soon as it is known
// where the connection went: the rest of the request goes on beside the next one's beginning.
//
// Two sorts of request may still be counted after they have left it. A straggler's connection has been counted, but its
// handshake has not ended: only who lands on the same cluster has to mind it. A stray may be counted anywhere at any
// moment: as long as one is under way, nobody's counting tells.
type lane struct {
	turn chan struct{}

	mu         sync.Mutex
	stragglers map[string]int
	strays     int
	// begun counts the strays that there ever were.
	begun uint64
	// last are the counters that the latest user read before it left, which serve the next one if it comes at once.
	last *handover
	// broken is why the counters could not be read; nobody tries again before mended.
	broken error
	mended time.Time
}

const (
	// followTime is how much longer than its own time-out a request that is followed may take, with everything. It must fit
	// into what the operator allows (Slack in internal/agents).
	followTime = 4500 * time.Millisecond
	// laneWait is how long of that a request waits for the lane, and readTime for one reading of the counters.
	laneWait = 2 * time.Second
	readTime = time.Second
	// mendTime is how long nobody asks an admin interface that did not answer well.
	mendTime = 500 * time.Millisecond
)

func newLane() *lane {
	return &lane{turn: make(chan struct{}, 1), stragglers: map[string]int{}}
}

// handover is what one user of the lane leaves to the next: what it read, when, and how many strays there had been.
type handover struct {
	read  reading
	at    time.Time
	begun uint64
}

// handoverTime is how old the counters may be that are taken over.
const handoverTime = 10 * time.Millisecond

var errNoTurn = errors.New("other requests were counted all the time")

// enter waits until nobody else is on the lane.
func (l *lane) enter(ctx context.Context) error {
	l.mu.Lock()
	if l.broken != nil && time.Now().Before(l.mended) {
		err := l.broken
		l.mu.Unlock()
		return err
	}
	l.mu.Unlock()
	patience := time.NewTimer(laneWait)
	defer patience.Stop()
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-patience.C:
		return errNoTurn
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leave makes room, with what the next one may take over.
func (l *lane) leave(last *handover) {
	l.mu.Lock()
	l.last = last
	l.mu.Unlock()
	<-l.turn
}

// fail remembers that the counters could not be read.
func (l *lane) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken, l.mended = err, time.Now().Add(mendTime)
}

// inherited are the counters of whoever was on the lane until a moment ago.
func (l *lane) inherited() (reading, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil || l.last.begun != l.begun || time.Since(l.last.at) > handoverTime {
		return reading{}, false
	}
	return l.last.read, true
}

// stray carries out a request that may be counted in anybody's window.
func (l *lane) stray(request func()) {
	l.goAstray()
	defer l.returned()
	request()
}

func (l *lane) goAstray() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.strays++
	l.begun++
}

func (l *lane) returned() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.strays--
}

// traffic is who else may be counted.
type traffic struct {
	stragglers map[string]int
	strays     int
	begun      uint64
}

func (l *lane) traffic() traffic {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := traffic{stragglers: map[string]int{}, strays: l.strays, begun: l.begun}
	for cluster, number := range l.stragglers {
		now.stragglers[cluster] = number
	}
	return now
}

// alone says whether no stray was under way since earlier.
func (l *lane) alone(earlier traffic) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return earlier.strays == 0 && l.begun == earlier.begun
}

func (l *lane) straggle(cluster string, by int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stragglers[cluster] += by; l.stragglers[cluster] == 0 {
		delete(l.stragglers, cluster)
	}
}

var errStrays = errors.New("another request was under way that may have been counted too")

// errNoConnection is said of a request that came to no connection, so that nothing was there to count.
var errNoConnection = errors.New("there was no connection to count")

func unsent() *observation.Sent {
	sent := sentError(errNoConnection)
	return &sent
}
