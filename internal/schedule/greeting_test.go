package schedule

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/agents/played"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

const forged = "spiffe://cluster.local/ns/shop/sa/nobody"

// doorman plays agents behind which every endpoint answers hellos as told, and writes down what they are asked.
type doorman struct {
	*played.Agents

	mu      sync.Mutex
	answers map[observation.Hello]observation.Class
	asked   []observation.Request
}

func newDoorman() *doorman {
	d := &doorman{answers: map[observation.Hello]observation.Class{
		observation.HelloMesh: observation.ClientCertificateRequired, observation.HelloForged: observation.Alerted,
	}}
	d.Agents = played.New(func(a *played.Agent) error {
		return a.AnswerAll(func(request observation.Request) observation.Observation {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.asked = append(d.asked, request)
			if request.Hello == observation.HelloHTTPS {
				return played.Code(200)
			}
			return observation.Observation{Class: d.answers[request.Hello]}
		})
	})
	return d
}

func (d *doorman) answer(hello observation.Hello, class observation.Class) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answers[hello] = class
}

// greets has the path of outsiderPod dial endpoints and greet them; what is computed is that the forged hello is refused.
func greets(endpoints int) func(*Plan) {
	return func(p *Plan) {
		request := p.Requests[outsiderPod.Pod]
		request.Endpoints, request.Greets, request.Identity = endpointsFrom(0, endpoints), true, forged
		request.Ask.Count = &observation.Count{Admin: "127.0.0.1:15000"}
		p.Requests[outsiderPod.Pod] = request
		p.Greeted = func(_ string, result observation.EndpointResult) bool {
			return result.Forged.Seen.Class == observation.Alerted
		}
	}
}

func TestEndpointsAreGreeted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		door := newDoorman()
		b := newBench(door.Agents, time.Hour)
		b.startFor(t)
		b.Set(shop, planOf(greets(2), outsiderPod))
		synctest.Wait()
		hellos := 0
		for _, request := range door.asked {
			switch {
			case request.Hello == observation.HelloHTTPS:
				if request.Identity != "" {
					t.Errorf("a request with an identity: %+v", request)
				}
				continue
			case request.Address == serviceAddress || request.Count != nil || request.Timeout != 5*time.Second:
				t.Errorf("hello %+v: want it to an endpoint, without counting", request)
			case (request.Identity == forged) != (request.Hello == observation.HelloForged):
				t.Errorf("hello %s names %q", request.Hello, request.Identity)
			}
			hellos++
		}
		if hellos != 4 || len(door.asked) != 3+4 {
			t.Errorf("first run: got %d hellos among %d requests, want 2 for each of the 2 endpoints and 3 requests", hellos, len(door.asked))
		}
		report := b.Report(shop, MarkOf("epoch"))
		for _, result := range report.Latest.Results[outsiderPod.Pod].Endpoints {
			if result.Seen.HTTPCode != 200 || result.Mesh.Seen.Class != observation.ClientCertificateRequired ||
				result.Forged.Seen.Class != observation.Alerted || !result.Mesh.Asked.Equal(b.begun) || !result.Forged.Asked.Equal(b.begun) {
				t.Errorf("%s: got %+v", result.Endpoint.Name, result)
			}
		}
		if got := b.notes.count("shop/strict " + outsiderPod.Pod + "Forged Alerted"); got != 2 {
			t.Errorf("forged hellos told: got %d, want 2; told: %v", got, b.notes.asked)
		}
	})
}

// greetedIn makes runs and returns which of them, from 0, made hellos to an endpoint.
func greetedIn(t *testing.T, one *task, runs int, class func(run int) observation.Class, before func(run int)) (made []int) {
	t.Helper()
	for number := range runs {
		before(number)
		plan, turns, ctx := one.begin(t.Context())
		started := at(float64(60 * number))
		run := observation.Run{Started: started, Results: map[string]observation.Result{}}
		for path := range plan.Requests {
			result := observation.Result{Seen: played.Code(200)}
			for _, turn := range turns[path] {
				answered := observation.EndpointResult{Endpoint: turn.Endpoint, Asked: started, Result: observation.Result{Seen: played.Code(200)}}
				if turn.greet {
					made = append(made, number)
					answered.Mesh.Asked, answered.Forged.Asked = started, started
					answered.Forged.Seen.Class = class(number)
				}
				result.Endpoints = append(result.Endpoints, answered)
			}
			run.Results[path] = result
		}
		if !one.keep(ctx, plan, run, time.Hour).stored {
			t.Fatal("the run was not kept")
		}
		for _, result := range one.report(plan.Epoch).Latest.Results[outsiderPod.Pod].Endpoints {
			if result.Forged.Asked.IsZero() || result.Forged.Seen.Class != class(made[len(made)-1]) {
				t.Errorf("run %d: got the hello %+v, want that of run %d", number, result.Forged, made[len(made)-1])
			}
		}
	}
	return made
}

func TestHellosAreMadeWhenTheyAreDue(t *testing.T) {
	refused := func(int) observation.Class { return observation.Alerted }
	nothing := func(*Plan) {}
	for name, test := range map[string]struct {
		class func(run int) observation.Class
		// change changes the plan before run 4.
		change func(*Plan)
		want   []int
	}{
		"every few runs": {refused, nothing, []int{0, 3, 6, 9}},
		"in every run while it got in": {func(run int) observation.Class {
			return map[bool]observation.Class{true: observation.Handshaken, false: observation.Alerted}[run < 6]
		}, nothing, []int{0, 1, 2, 3, 4, 5, 6, 9}},
		"at an occasion":          {refused, func(p *Plan) { p.Occasion = MarkOf("another") }, []int{0, 3, 4, 7}},
		"after a policy":          {refused, func(p *Plan) { p.Policy = "another" }, []int{0, 3, 4, 7}},
		"in a new epoch":          {refused, func(p *Plan) { p.Epoch = MarkOf("another") }, []int{0, 3, 4, 7}},
		"not at another interval": {refused, func(p *Plan) { p.Interval = time.Hour }, []int{0, 3, 6, 9}},
	} {
		t.Run(name, func(t *testing.T) {
			one := newTask(planOf(greets(1), outsiderPod))
			defer one.stop()
			got := greetedIn(t, one, 10, test.class, func(run int) {
				if run == 4 {
					plan := planOf(greets(1), outsiderPod)
					test.change(&plan)
					one.replan(plan)
				}
			})
			if !slices.Equal(got, test.want) {
				t.Errorf("runs with hellos: got %v, want %v", got, test.want)
			}
		})
	}
}

// A run that an occasion did not interrupt says nothing of what came with the occasion.
func TestRunFromBeforeAnOccasionLeavesHellosDue(t *testing.T) {
	one := newTask(planOf(greets(1), outsiderPod))
	defer one.stop()
	plan, _, _ := one.begin(t.Context())
	one.replan(planOf(func(p *Plan) { greets(1)(p); p.Occasion = MarkOf("another") }, outsiderPod))
	run := observation.Run{Started: at(0), Results: map[string]observation.Result{outsiderPod.Pod: {Endpoints: []observation.EndpointResult{{
		Endpoint: endpointsFrom(0, 1)[0], Asked: at(0), Mesh: observation.Handshake{Asked: at(0)},
		Forged: observation.Handshake{Asked: at(0), Result: observation.Result{Seen: observation.Observation{Class: observation.Alerted}}},
	}}}}}
	if !one.keep(t.Context(), plan, run, time.Hour).stored {
		t.Fatal("the run was not kept")
	}
	if _, turns, _ := one.begin(t.Context()); !turns[outsiderPod.Pod][0].greet {
		t.Error("the run after the occasion makes no hellos")
	}
}

func TestEndpointThatLetTheForgedInIsAskedAgainInTheNextRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		door := newDoorman()
		door.answer(observation.HelloForged, observation.Handshaken)
		b := newBench(door.Agents, time.Hour)
		b.startFor(t)
		b.Set(shop, planOf(greets(40), outsiderPod))
		time.Sleep(time.Minute)
		door.answer(observation.HelloForged, observation.Alerted)
		time.Sleep(20 * time.Minute)
		for _, result := range b.Report(shop, MarkOf("epoch")).Latest.Results[outsiderPod.Pod].Endpoints {
			if result.Forged.Seen.Class != observation.Alerted {
				t.Errorf("%s: got the hello %+v, want the later one", result.Endpoint.Name, result.Forged)
			}
		}
	})
}

// What breaks in one probe's run must not end the operator, and is told as a run that failed.
func TestPanicFailsTheRunAndNothingElse(t *testing.T) {
	broken := errors.New("index out of range")
	for name, edit := range map[string]func(*bench, *Plan){
		"in a request":    func(b *bench, _ *Plan) { b.notes.panics = true },
		"in the recorder": func(_ *bench, p *Plan) { p.Recorder = &choosy{journal: &journal{}} },
		"in AsComputed":   func(_ *bench, p *Plan) { p.AsComputed = func(observation.Run) bool { panic(broken) } },
		"in Greeted": func(_ *bench, p *Plan) {
			p.Greeted = func(string, observation.EndpointResult) bool { panic(broken) }
		},
		"in Matches": func(_ *bench, p *Plan) {
			greets(40)(p)
			p.Matches = func(string, observation.EndpointResult) bool { panic(broken) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(newDoorman().Agents, time.Hour)
				b.startFor(t)
				b.Set(other, planOf(nil, sleepPod))
				plan := planOf(greets(2), outsiderPod)
				plan.Recorder = b.journal(shop, plan.Epoch)
				edit(b, &plan)
				b.Runner.Set(shop, plan)
				time.Sleep(10*time.Minute + time.Second)
				got := b.Report(shop, plan.Epoch)
				if got.Runs < 10 || time.Since(got.LastKept) > time.Minute || len(b.wakeUps()) == 0 {
					t.Errorf("after ten minutes: got %d runs, the latest %v ago", got.Runs, time.Since(got.LastKept))
				}
				if name == "in a request" || name == "in the recorder" {
					wantFailure(t, got.Latest.Results[outsiderPod.Pod], observation.ExecFailed)
				}
				if got := b.Report(other, plan.Epoch); got.Runs < 10 || name != "in a request" && got.Latest.Results[sleepPod.Pod].Seen.HTTPCode != 200 {
					t.Errorf("the other probe: got %+v", got)
				}
			})
		})
	}
}

// choosy is a journal that cannot take down what agents have seen.
type choosy struct{ *journal }

func (c *choosy) Record(run observation.Run) {
	for _, result := range run.Results {
		if result.Failed == nil {
			panic("cannot take that down")
		}
	}
	c.journal.Record(run)
}
