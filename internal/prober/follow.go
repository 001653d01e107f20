package prober

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"regexp"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

const (
	// patience is how long a request keeps the lane while its handshake has not come to an end; then it is seen whether
	// its connection has been counted, every pollTime, and given up after laneHold.
	patience = 30 * time.Millisecond
	pollTime = 15 * time.Millisecond
	laneHold = 300 * time.Millisecond
)

// follower finds out where Envoy sends the requests of one agent.
type follower struct {
	admin     *admin
	lane      *lane
	delivered *deliveries
	// capture asks the kernel whether Envoy has a connection.
	capture func(local, remote netip.AddrPort) capture
}

func newFollower() *follower {
	admin := newAdmin()
	return &follower{admin: admin, lane: newLane(), delivered: newDeliveries(admin), capture: captureOf}
}

// probe carries out one request, and follows it where it asks for that.
func (f *follower) probe(ctx context.Context, request observation.Request) observation.Observation {
	p := newProbe(request)
	count := request.Count
	switch {
	case !p.prepare(ctx):
		if count != nil {
			p.seen.Sent = unsent()
		}
		return p.seen
	case count == nil:
		f.lane.stray(func() { p.carryOut(ctx) })
		return p.seen
	case count.Host == "" || count.Port == 0:
		f.lane.stray(func() { p.carryOut(ctx) })
		sent := sentError(errors.New("the request names no Service to count"))
		p.seen.Sent = &sent
		return p.seen
	}
	ctx, cancel := context.WithTimeout(ctx, request.Timeout+followTime)
	defer cancel()
	v := view{count: *count, legs: f.delivered.legs(p.hello())}
	sent, mark := f.follow(ctx, p, v)
	p.seen.Sent = &sent
	if p.seen.Remote != "" {
		p.seen.Delivered = f.delivered.of(ctx, count.Admin, p.hello(), mark)
	}
	return p.seen
}

// follow carries out one request between two readings. mark is that of the latter; "" where there is none.
func (f *follower) follow(ctx context.Context, p *probe, v view) (sent observation.Sent, mark string) {
	if err := f.lane.enter(ctx); err != nil {
		f.lane.stray(func() { p.carryOut(ctx) })
		return sentError(err), ""
	}
	others := f.lane.traffic()
	before, err := f.read(ctx, v, true)
	if err != nil {
		f.lane.fail(err)
		f.lane.leave(nil)
		f.lane.stray(func() { p.carryOut(ctx) })
		return sentError(err), ""
	}
	p.seenOff = make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.carryOut(ctx)
	}()
	t := &trail{follower: f, probe: p, view: v, others: others, window: window{before: before, stragglers: others.stragglers}}
	found := t.watch(ctx)
	close(p.seenOff)
	if found.state == lost {
		f.lane.goAstray()
		defer f.lane.returned()
	}
	f.lane.leave(t.last)
	defer func() { <-ended }()
	switch found.state {
	case straggling:
		defer f.lane.straggle(found.sent.Cluster, -1)
		<-p.settled
		found.sent = t.handshakeOf(ctx, found.sent)
	case sharing:
		found.sent = t.handshakeOf(ctx, found.sent)
	case dialing:
		found.sent = t.dialed(ended)
	}
	return found.sent, t.window.after.mark
}

// read reads the counters, or takes over those that were just read by whoever was on the lane before.
func (f *follower) read(ctx context.Context, v view, first bool) (reading, error) {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	hosts := make(chan hostsRead, 1)
	go func() {
		read, err := f.admin.readHosts(ctx, v.count.Admin, v.hosts())
		hosts <- hostsRead{read, err}
	}()
	read, inherited := f.lane.inherited()
	var err error
	if !first || !inherited {
		read, err = f.admin.readCounters(ctx, v)
	}
	beside := <-hosts
	read.hosts = beside.hosts
	return read, cmp.Or(err, beside.err)
}

// hostsRead is what was counted by host, or why that is not known.
type hostsRead struct {
	hosts map[string]map[string]uint64
	err   error
}

// state is how far a request has come when it leaves the lane.
type state int

const (
	// settled: all is known that will be.
	settled state = iota
	// straggling: the connection is known, and its handshake may still be counted.
	straggling
	// sharing: all has been counted, and some of it may be a straggler's.
	sharing
	// lost: it may still be counted anywhere.
	lost
	// dialing: the connection does not stand. One that Envoy takes stands at once.
	dialing
)

type finding struct {
	state state
	sent  observation.Sent
}

// trail is one request being followed.
type trail struct {
	*follower
	probe  *probe
	view   view
	others traffic
	window window
	last   *handover
}

// watch waits for the first sign of the handshake's end, which nothing of Envoy's own comes after. Without one it looks
// now and then whether the connection was counted.
func (t *trail) watch(ctx context.Context) finding {
	ends := time.NewTimer(laneHold)
	defer ends.Stop()
	next := time.NewTimer(patience)
	defer next.Stop()
	for {
		over := false
		select {
		case <-t.probe.settled:
			return t.look(ctx, true)
		case <-ends.C:
			over = true
		case <-next.C:
		}
		switch found := t.look(ctx, false); {
		case found.state != lost || found.sent.Error != "":
			return found
		case over:
			return finding{lost, sentError(errHanging)}
		}
		next.Reset(pollTime)
	}
}

// look reads the counters once more. Before the handshake's end, no connection says nothing yet.
func (t *trail) look(ctx context.Context, ended bool) finding {
	unclear := lost
	if ended {
		unclear = settled
	}
	after, err := t.read(ctx, t.view, false)
	if err != nil {
		t.lane.fail(err)
		return finding{unclear, sentError(err)}
	}
	t.window.after = after
	t.last = &handover{read: after, at: time.Now(), begun: t.others.begun}
	cluster, err := t.window.took()
	switch {
	case err == nil && !t.lane.alone(t.others):
		return finding{unclear, sentError(errStrays)}
	case err != nil:
		return finding{unclear, sentError(err)}
	case cluster != "" && t.captured():
		return t.taken(ctx, cluster, ended)
	case ended:
		return finding{settled, t.untaken()}
	}
	return t.undecided()
}

// captured says that Envoy may have this request's connection. If it has not, what was counted is somebody else's in the pod.
func (t *trail) captured() bool {
	progress := &t.probe.progress
	select {
	case <-progress.connected:
		return t.capture(progress.local, progress.remote) != uncaptured
	default:
		return false
	}
}

// taken describes the connection that was counted.
func (t *trail) taken(ctx context.Context, cluster string, ended bool) finding {
	sent := observation.Sent{Cluster: cluster, Host: t.window.host(cluster)}
	if _, asked := t.window.before.hosts[cluster]; !asked && t.window.before.hosts != nil {
		ctx, cancel := context.WithTimeout(ctx, readTime)
		defer cancel()
		if hosts, err := t.admin.readHosts(ctx, t.view.count.Admin, hostsOf(regexp.QuoteMeta(cluster))); err == nil {
			sent.Host = onlyHost(hosts[cluster])
		}
	}
	if !ended {
		t.lane.straggle(cluster, 1)
		return finding{straggling, sent}
	}
	handshakes, err := t.window.handshakes(cluster)
	if err != nil {
		return finding{sharing, sent}
	}
	sent.Handshakes = handshakes
	return finding{settled, sent}
}

var (
	errNotKept   = errors.New("no counters of the Service: Envoy does not know it, or is not told to count (sidecar.istio.io/statsInclusionPrefixes)")
	errUncounted = errors.New("the connection was taken by Envoy and counted to no cluster")
	errUntraced  = errors.New("no connection was counted by Envoy, and it was gone before it was seen where it went")
	errDialing   = errors.New("the connection did not stand in time to follow it")
	errHanging   = errors.New("the connection was taken by Envoy and not counted in time")
)

// untaken describes a request that was counted nowhere, at its handshake's end. That counters stand still says nothing by
// itself; the kernel knows whether Envoy had the connection.
func (t *trail) untaken() observation.Sent {
	progress := &t.probe.progress
	if !progress.local.IsValid() {
		return sentError(errNoConnection)
	}
	switch at := t.capture(progress.local, progress.remote); {
	case at == uncaptured:
		return observation.Sent{Past: true}
	case at == captureUnknown:
		return sentError(errUntraced)
	case !t.window.after.kept:
		return sentError(errNotKept)
	}
	return sentError(errUncounted)
}

// undecided says what is so while the handshake is under way and no connection was counted.
func (t *trail) undecided() finding {
	progress := &t.probe.progress
	select {
	case <-progress.connected:
	default:
		return finding{dialing, sentError(errDialing)}
	}
	if t.capture(progress.local, progress.remote) == uncaptured {
		return finding{settled, observation.Sent{Past: true}}
	}
	return finding{lost, observation.Sent{}}
}

// dialed waits for a connection that did not stand at once. One that Envoy takes after all is a stray from then on.
func (t *trail) dialed(ended <-chan struct{}) observation.Sent {
	progress := &t.probe.progress
	select {
	case <-progress.connected:
	case <-ended:
		return sentError(errNoConnection)
	}
	if t.capture(progress.local, progress.remote) == uncaptured {
		return observation.Sent{Past: true}
	}
	t.lane.stray(func() { <-ended })
	return sentError(errDialing)
}

// handshakeOf reads what the handshake of a request came to that has ended. What others to the same cluster add is known
// as soon as theirs have ended too, if either all of them were wrapped or none.
func (t *trail) handshakeOf(ctx context.Context, sent observation.Sent) observation.Sent {
	for wait := pollTime; wait <= 8*pollTime; wait *= 2 {
		after, err := t.readAlone(ctx)
		if err != nil {
			return sentError(err)
		}
		handshakes, err := window{before: t.window.before, after: after, stragglers: t.window.stragglers}.handshakes(sent.Cluster)
		switch {
		case !t.lane.alone(t.others):
			return sentError(errStrays)
		case err == nil:
			sent.Handshakes = handshakes
			return sent
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	sent.Error = errShared.Error()
	return sent
}

// readAlone reads the counters while nobody begins a connection.
func (t *trail) readAlone(ctx context.Context) (reading, error) {
	if err := t.lane.enter(ctx); err != nil {
		return reading{}, err
	}
	defer t.lane.leave(nil)
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	after, err := t.admin.readCounters(ctx, t.view)
	if err != nil {
		t.lane.fail(err)
	}
	return after, err
}
