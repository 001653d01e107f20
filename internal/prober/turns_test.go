package prober

import (
	"context"
	"crypto/tls"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// heldPeer is a server that has each connection counted when it comes, and answers when it is let.
type heldPeer struct {
	address string
	arrived chan struct{}
	open    chan struct{}
}

func startHeldPeer(t *testing.T, e *envoy, names ...string) heldPeer {
	t.Helper()
	p := heldPeer{arrived: make(chan struct{}, maxConcurrent), open: make(chan struct{})}
	p.address = startTLSPeer(t, newIdentity(t).config(tls.VersionTLS13, tls.NoClientCert), func(conn *tls.Conn, err error) {
		e.add(names...)
		p.arrived <- struct{}{}
		<-p.open
		answer(ok)(conn, err)
	})
	return p
}

// startPatientAgent starts an agent that a loaded machine does not keep from counting.
func startPatientAgent(t *testing.T, turnWait time.Duration) *agent {
	t.Helper()
	return startServe(t, func(in io.Reader, out io.Writer) error {
		return serve(context.Background(), in, out, ample, newTurns(turnWait, ample))
	})
}

func TestProbesOfOneServiceCountOnlyTheirOwn(t *testing.T) {
	const probes = 4
	e := startEnvoy(t, map[string]uint64{nginxStats + members: 1})
	address := startCountedPeer(t, e, nginxStats+taken, nginxStats+wrapped)
	a := startPatientAgent(t, ample)
	for range 5 {
		for id := range uint64(probes) {
			request := countedRequest(address, e.admin)
			request.ID = id + 1
			a.ask(request)
		}
		for range probes {
			wantCounted(t, a.next(), observation.Counted{Connections: 1, Handshakes: 1})
		}
	}
	a.stdin.Close()
	a.wantEnd(nil)
}

// A server that hangs must not cost the probes of others their counts.
func TestProbesOfOtherServicesAreNotHeldUp(t *testing.T) {
	e := startEnvoy(t, map[string]uint64{nginxStats + members: 1})
	held := startHeldPeer(t, e, nginxStats+taken)
	a := startPatientAgent(t, ample)
	a.ask(countedRequest(held.address, e.admin))
	<-held.arrived
	for name, service := range map[string]observation.Count{
		"cluster.outbound|443||httpd.probes.svc.cluster.local;.":  {Host: "httpd.probes.svc.cluster.local", Port: 443},
		"cluster.outbound|8443||nginx.probes.svc.cluster.local;.": {Host: countedHost, Port: 8443},
	} {
		e.add(name + members)
		other := countedRequest(startCountedPeer(t, e, name+taken, name+wrapped), e.admin)
		other.ID, other.Count.Host, other.Count.Port = 8, service.Host, service.Port
		a.ask(other)
		seen := a.next()
		if seen.ID != other.ID {
			t.Fatalf("probe %d ended first, want %d", seen.ID, other.ID)
		}
		wantCounted(t, seen, observation.Counted{Connections: 1, Handshakes: 1})
	}
	close(held.open)
	wantCounted(t, a.next(), observation.Counted{Connections: 1})
}

// PassthroughCluster is common to all Services: what it took may be anybody's who was under way.
func TestPassthroughIsSharedWithWhoeverIsUnderWay(t *testing.T) {
	const other = "cluster.outbound|443||httpd.probes.svc.cluster.local;."
	e := startEnvoy(t, map[string]uint64{nginxStats + members: 1, other + members: 1})
	request := func(address string) observation.Request {
		request := countedRequest(address, e.admin)
		request.ID, request.Count.Host = 8, "httpd.probes.svc.cluster.local"
		return request
	}
	held := startHeldPeer(t, e, nginxStats+taken)
	a := startPatientAgent(t, ample)
	a.ask(countedRequest(held.address, e.admin))
	<-held.arrived
	a.ask(request(startCountedPeer(t, e, passthrough+taken)))
	wantCounted(t, a.next(), observation.Counted{Passthrough: 1, PassthroughShared: true})
	close(held.open)
	wantCounted(t, a.next(), observation.Counted{Connections: 1, Passthrough: 1, PassthroughShared: true})

	a.ask(request(startCountedPeer(t, e, passthrough+taken)))
	wantCounted(t, a.next(), observation.Counted{Passthrough: 1})
}

// Where the Service has no counters, what PassthroughCluster took tells where the connection went only if it is known whose it is.
func TestSharedPassthroughOfAServiceWithoutCounters(t *testing.T) {
	e := startEnvoy(t, map[string]uint64{nginxStats + members: 1})
	held := startHeldPeer(t, e, nginxStats+taken)
	a := startPatientAgent(t, ample)
	a.ask(countedRequest(held.address, e.admin))
	<-held.arrived
	unknown := countedRequest(startCountedPeer(t, e, passthrough+taken), e.admin)
	unknown.Count.Host = "unknown.example"
	a.ask(unknown)
	wantUncounted(t, a.next(), "no counters of the Service")
	close(held.open)
	a.next()
}

// A probe that does not say to what Service it goes may go to any.
func TestProbesThatDoNotCountSpoilTheCountsOfOthers(t *testing.T) {
	for name, change := range map[string]func(*observation.Request){
		"no count":         func(r *observation.Request) { r.Count = nil },
		"count of nothing": func(r *observation.Request) { r.Count.Host = "" },
	} {
		t.Run(name+", later", func(t *testing.T) {
			e := startEnvoy(t, map[string]uint64{nginxStats + members: 1})
			held := startHeldPeer(t, e, nginxStats+taken)
			a := startPatientAgent(t, ample)
			a.ask(countedRequest(held.address, e.admin))
			<-held.arrived
			uncounted := countedRequest(startCountedPeer(t, e), e.admin)
			change(&uncounted)
			a.ask(uncounted)
			a.next()
			close(held.open)
			wantUncounted(t, a.next(), "another probe was under way")
		})
		t.Run(name+", earlier", func(t *testing.T) {
			e := startEnvoy(t, map[string]uint64{nginxStats + members: 1})
			held := startHeldPeer(t, e)
			a := startPatientAgent(t, ample)
			uncounted := countedRequest(held.address, e.admin)
			change(&uncounted)
			a.ask(uncounted)
			<-held.arrived
			a.ask(countedRequest(startCountedPeer(t, e, nginxStats+taken), e.admin))
			wantUncounted(t, a.next(), "another probe was under way")
			close(held.open)
			a.next()
			a.ask(countedRequest(startCountedPeer(t, e, nginxStats+taken), e.admin))
			wantCounted(t, a.next(), observation.Counted{Connections: 1})
		})
	}
}

// A probe that gave up waiting for its turn is under way beside the one that has it, and adds to what that one counts.
func TestProbesWhoseTurnDoesNotCome(t *testing.T) {
	e := startEnvoy(t, map[string]uint64{nginxStats + members: 1})
	held := startHeldPeer(t, e, nginxStats+taken)
	a := startPatientAgent(t, time.Millisecond)
	first := countedRequest(held.address, e.admin)
	a.ask(first)
	<-held.arrived
	second := countedRequest(startCountedPeer(t, e, nginxStats+taken), e.admin)
	second.ID = first.ID + 1
	a.ask(second)
	seen := a.next()
	if seen.ID != second.ID {
		t.Fatalf("probe %d ended first, want %d", seen.ID, second.ID)
	}
	wantClass(t, seen, observation.Answered)
	wantUncounted(t, seen, "other probes of the Service")
	close(held.open)
	seen = a.next()
	wantClass(t, seen, observation.Answered)
	wantUncounted(t, seen, "another probe was under way")
}

func TestAnAgentWaitsForTurns(t *testing.T) {
	e := startEnvoy(t, map[string]uint64{nginxStats + members: 1})
	held := startHeldPeer(t, e)
	a := startAgent(t, ample)
	a.ask(countedRequest(held.address, e.admin))
	<-held.arrived
	asked := time.Now()
	a.ask(countedRequest(startCountedPeer(t, e), e.admin))
	if seen := a.next(); seen.Started.Sub(asked) < turnWait {
		t.Errorf("the probe began %v after it was asked for, want %v or more", seen.Started.Sub(asked), turnWait)
	}
	close(held.open)
	a.next()
}

// The clock in a bubble is its own.
func TestWaitingForATurn(t *testing.T) {
	for name, c := range map[string]struct {
		patience, want time.Duration
	}{
		"in vain":     {ample, turnWait},
		"interrupted": {turnWait / 2, turnWait / 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), c.patience)
				defer cancel()
				turns := newTurns(turnWait, readTime)
				turns.enter(service{countedHost, 443}).turn <- struct{}{}
				// A request without a time-out makes no connection.
				request := observation.Request{Count: &observation.Count{Host: countedHost, Port: 443}}
				began := time.Now()
				wantUncounted(t, turns.probe(ctx, request), "other probes of the Service")
				if waited := time.Since(began); waited != c.want {
					t.Errorf("waited for %v, want %v", waited, c.want)
				}
			})
		})
	}
}

func TestCountingFitsIntoWhatTheOperatorWaits(t *testing.T) {
	// agentSlack in internal/runner, less something for the way.
	const patience = 2*time.Second - 300*time.Millisecond
	if longest := turnWait + 2*readTime; longest > patience {
		t.Errorf("counting takes up to %v, want %v or less", longest, patience)
	}
}

func TestLanesAreForgotten(t *testing.T) {
	e := startEnvoy(t, map[string]uint64{nginxStats + members: 1})
	turns := newTurns(ample, ample)
	turns.probe(t.Context(), countedRequest(startCountedPeer(t, e, nginxStats+taken), e.admin))
	if len(turns.lanes) > 0 {
		t.Errorf("%d lanes are left", len(turns.lanes))
	}
}
