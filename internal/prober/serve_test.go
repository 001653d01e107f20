package prober

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// agent is a Serve under test, seen from the operator's end.
type agent struct {
	t      *testing.T
	stdin  *io.PipeWriter
	stdout *bufio.Reader
	ended  chan error
}

func startAgent(t *testing.T, silence time.Duration) *agent {
	t.Helper()
	return startAgentWith(context.Background(), t, silence)
}

func startAgentWith(ctx context.Context, t *testing.T, silence time.Duration) *agent {
	t.Helper()
	return startServe(t, func(in io.Reader, out io.Writer) error { return Serve(ctx, in, out, silence) })
}

func startServe(t *testing.T, serve func(in io.Reader, out io.Writer) error) *agent {
	t.Helper()
	requests, stdin := io.Pipe()
	stdout, observations := io.Pipe()
	a := &agent{t: t, stdin: stdin, stdout: bufio.NewReader(stdout), ended: make(chan error, 1)}
	go func() { a.ended <- serve(requests, observations) }()
	t.Cleanup(func() {
		stdin.Close()
		stdout.Close()
	})
	return a
}

func (a *agent) send(line string) {
	a.t.Helper()
	if _, err := io.WriteString(a.stdin, line+"\n"); err != nil {
		a.t.Fatal(err)
	}
}

func (a *agent) ask(request observation.Request) {
	a.t.Helper()
	line, err := json.Marshal(request)
	if err != nil {
		a.t.Fatal(err)
	}
	a.send(string(line))
}

func (a *agent) next() observation.Observation {
	a.t.Helper()
	line, err := a.stdout.ReadBytes('\n')
	if err != nil {
		a.t.Fatal(err)
	}
	var seen observation.Observation
	if err := json.Unmarshal(line, &seen); err != nil {
		a.t.Fatalf("%q: %v", line, err)
	}
	return seen
}

func (a *agent) wantEnd(want error) {
	a.t.Helper()
	select {
	case err := <-a.ended:
		if !errors.Is(err, want) {
			a.t.Errorf("Serve returned %v, want %v", err, want)
		}
	case <-time.After(slack):
		a.t.Errorf("Serve did not return, want %v", want)
	}
}

// gate is a server that answers nobody before it is opened.
type gate struct {
	address string
	arrived chan struct{}
	open    chan struct{}
}

func startGate(t *testing.T) gate {
	t.Helper()
	g := gate{arrived: make(chan struct{}, maxConcurrent), open: make(chan struct{})}
	g.address = startTLSPeer(t, newIdentity(t).config(tls.VersionTLS13, tls.NoClientCert), func(conn *tls.Conn, err error) {
		g.arrived <- struct{}{}
		<-g.open
		answer("HTTP/1.1 200 OK\r\n\r\n")(conn, err)
	})
	return g
}

func TestPings(t *testing.T) {
	a := startAgent(t, ample)
	for range 3 {
		a.ask(observation.Request{})
		if seen := a.next(); seen.ID != 0 || seen.Class != "" || !seen.Started.IsZero() {
			t.Errorf("a ping was answered by %+v, want nothing but the ID 0", seen)
		}
	}
	a.stdin.Close()
	a.wantEnd(nil)
}

func TestObservationsComeInTheOrderInWhichProbesEnd(t *testing.T) {
	first, second := startGate(t), startGate(t)
	a := startAgent(t, ample)
	for id, g := range map[uint64]gate{1: first, 2: second} {
		request := requestTo(g.address)
		request.ID = id
		a.ask(request)
	}
	<-first.arrived
	<-second.arrived
	a.ask(observation.Request{})
	if seen := a.next(); seen.ID != 0 {
		t.Errorf("probe %d was heard of before the ping, want the ping", seen.ID)
	}
	for _, step := range []struct {
		gate gate
		id   uint64
	}{{second, 2}, {first, 1}} {
		close(step.gate.open)
		if seen := a.next(); seen.ID != step.id || seen.Class != observation.Answered {
			t.Errorf("probe %d ended with %s (%s), want probe %d, %s", seen.ID, seen.Class, seen.Error, step.id, observation.Answered)
		}
	}
}

func TestNoMoreProbesThanThereAreSlots(t *testing.T) {
	const beyond = maxConcurrent + 1
	g := startGate(t)
	a := startAgent(t, ample)
	for id := range uint64(maxConcurrent) {
		request := requestTo(g.address)
		request.ID = id + 1
		a.ask(request)
	}
	for range maxConcurrent {
		<-g.arrived
	}
	// It would end at once if it could begin.
	a.ask(observation.Request{ID: beyond})
	close(g.open)
	left := map[uint64]bool{}
	for id := range uint64(beyond) {
		left[id+1] = true
	}
	for i := range beyond {
		seen := a.next()
		if i == 0 && seen.ID == beyond {
			t.Errorf("probe %d ended first: more than %d were under way", beyond, maxConcurrent)
		}
		if want := observation.Answered; seen.Class != want && seen.ID != beyond {
			t.Errorf("probe %d ended with %s (%s), want %s", seen.ID, seen.Class, seen.Error, want)
		}
		delete(left, seen.ID)
	}
	if len(left) > 0 {
		t.Errorf("of the probes %v nothing was heard", left)
	}
}

func TestLinesThatAreNoRequest(t *testing.T) {
	for name, line := range map[string]string{
		"empty":       "",
		"no JSON":     "GET / HTTP/1.1",
		"no object":   `[1]`,
		"wrong type":  `{"id":"seven"}`,
		"negative ID": `{"id":-1}`,
		"half":        `{"id":7,`,
		"two":         `{"id":7}{"id":8}`,
		"error too long to report": fmt.Sprintf(`{"id":1,"address":{%q:1},"path":%q}`,
			strings.Repeat("a", 1000), strings.Repeat("b", 1000)),
	} {
		t.Run(name, func(t *testing.T) {
			a := startAgent(t, ample)
			a.send(line)
			if seen := a.next(); seen.Class != observation.InvalidRequest || seen.Error == "" || len(seen.Error) > maxErrorBytes {
				t.Errorf("%+v, want %s with an error", seen, observation.InvalidRequest)
			}
			a.ask(observation.Request{})
			if seen := a.next(); seen.Class != "" {
				t.Errorf("the ping afterwards was answered by %+v", seen)
			}
		})
	}
}

func TestFieldsOfANewerOperatorAreNoError(t *testing.T) {
	a := startAgent(t, ample)
	a.send(`{"id":0,"address":"","mood":"good"}`)
	if seen := a.next(); seen.Class != "" {
		t.Errorf("%+v, want the answer to a ping", seen)
	}
}

func TestLineTooLong(t *testing.T) {
	a := startAgent(t, ample)
	written := make(chan struct{})
	go func() {
		defer close(written)
		// The agent stops reading somewhere in the line.
		_, _ = io.WriteString(a.stdin, `{"id":0,"path":"`+strings.Repeat("/", maxRequestBytes)+"\"}\n")
	}()
	a.wantEnd(bufio.ErrTooLong)
	a.stdin.Close()
	<-written
}

func TestLineAsLongAsAllowed(t *testing.T) {
	a := startAgent(t, ample)
	const frame = `{"id":0,"path":""}`
	a.send(`{"id":0,"path":"` + strings.Repeat("/", maxRequestBytes-1-len(frame)) + `"}`)
	if seen := a.next(); seen.Class != "" {
		t.Errorf("%+v, want the answer to a ping", seen)
	}
}

func TestTheEndOfTheInputEndsTheAgent(t *testing.T) {
	for name, cause := range map[string]error{"closed": nil, "broken": errors.New("stream broke")} {
		t.Run(name, func(t *testing.T) {
			g := startGate(t)
			defer close(g.open)
			a := startAgent(t, ample)
			a.ask(requestTo(g.address))
			<-g.arrived
			_ = a.stdin.CloseWithError(cause)
			a.wantEnd(cause)
		})
	}
}

// What a probe saw that was given up must not be taken for a time-out of its server.
func TestProbesUnderWayAreGivenUp(t *testing.T) {
	for name, end := range map[string]func(*io.PipeWriter, context.CancelFunc){
		"end of the input":   func(stdin *io.PipeWriter, _ context.CancelFunc) { _ = stdin.Close() },
		"end of the context": func(_ *io.PipeWriter, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			arrived := make(chan struct{})
			address := startFault(t, nil, atClientHello, func(conn *net.TCPConn) {
				close(arrived)
				stall(conn)
			})
			requests, stdin := io.Pipe()
			written := &countingWriter{}
			a := &agent{t: t, stdin: stdin, ended: make(chan error, 1)}
			go func() { a.ended <- Serve(ctx, requests, written, ample) }()
			a.ask(requestTo(address))
			<-arrived
			end(stdin, cancel)
			select {
			case err := <-a.ended:
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("Serve returned %v", err)
				}
			case <-time.After(slack):
				t.Fatal("Serve did not return")
			}
			_ = stdin.Close()
			if !polled(func() bool { return !serving() }) {
				t.Error("goroutines of the agent go on although it ended")
			}
			if count := written.count.Load(); count != 0 {
				t.Errorf("%d observations were written of a probe that was given up", count)
			}
		})
	}
}

// serving says whether a goroutine of Serve is left.
func serving() bool {
	stacks := make([]byte, 1<<20)
	return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "prober.(*server)")
}

type countingWriter struct{ count atomic.Int64 }

func (w *countingWriter) Write(line []byte) (int, error) {
	w.count.Add(1)
	return len(line), nil
}

func TestTheEndOfTheContextEndsTheAgent(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	a := startAgentWith(ctx, t, ample)
	a.ask(observation.Request{})
	a.next()
	cancel()
	a.wantEnd(context.Canceled)
}

// The clock in a bubble is its own: nobody waits, and a loaded machine changes nothing.
func TestSilence(t *testing.T) {
	const silence = 10 * time.Second
	for name, before := range map[string]func(*agent){
		"from the start": func(*agent) {},
		"after a ping":   func(a *agent) { a.ask(observation.Request{}); a.next() },
		// A peer that is gone does not read either, and the agent must not wait for it.
		"with an answer that nobody reads": func(a *agent) { a.ask(observation.Request{}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := startAgent(t, silence)
				before(a)
				began := time.Now()
				a.wantEnd(ErrSilence)
				if took := time.Since(began); took != silence {
					t.Errorf("the agent ended after %v, want %v", took, silence)
				}
			})
		})
	}
}

func TestPingsKeepTheAgentAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const silence = 10 * time.Second
		a := startAgent(t, silence)
		for range 10 {
			time.Sleep(silence - 1)
			a.ask(observation.Request{})
			a.next()
		}
		select {
		case err := <-a.ended:
			t.Errorf("the agent ended with %v in spite of the pings", err)
		default:
		}
	})
}

func TestBrokenWriter(t *testing.T) {
	broken := errors.New("nobody reads this")
	requests, stdin := io.Pipe()
	defer stdin.Close()
	a := &agent{t: t, stdin: stdin, ended: make(chan error, 1)}
	go func() { a.ended <- Serve(context.Background(), requests, brokenWriter{broken}, ample) }()
	a.ask(observation.Request{})
	a.wantEnd(broken)
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }
