package schedule

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/agents/played"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// dialing is a book of endpoints that is asked run by run, as the runner asks it, on one path.
type dialing struct {
	book endpointBook
	plan Plan
	// bad are the IDs of the endpoints that do not show what is computed.
	bad map[string]bool
	now time.Time
	// asked are the IDs that each run dialed, run by run.
	asked [][]string
}

const dialed = "istio-proxy"

func newDialing(endpoints int) *dialing {
	d := &dialing{book: newEndpointBook(), bad: map[string]bool{}, now: time.Unix(1_800_000_000, 0)}
	d.plan = planOf(func(p *Plan) { p.Requests[dialed] = Request{Endpoints: endpointsFrom(0, endpoints)} }, sleepPod)
	return d
}

func endpointsFrom(first, count int) []observation.Endpoint {
	endpoints := make([]observation.Endpoint, count)
	for i := range endpoints {
		number := first + i
		endpoints[i] = observation.Endpoint{ID: fmt.Sprint("uid-", number), Name: fmt.Sprint("pod-", number), Address: fmt.Sprintf("10.0.%d.%d:8443", number/256, number%256)}
	}
	return endpoints
}

// run makes one run a minute after the one before and returns what it came to.
func (d *dialing) run() observation.Run {
	d.now = d.now.Add(time.Minute)
	run := observation.Run{Started: d.now, Results: map[string]observation.Result{}}
	var asked []string
	for path, endpoints := range d.book.turns(d.plan) {
		result := observation.Result{Seen: observation.Observation{Class: observation.Answered, HTTPCode: 200}}
		for _, turn := range endpoints {
			endpoint := turn.Endpoint
			seen := played.Code(200)
			if d.bad[endpoint.ID] {
				seen = played.Code(503)
			}
			if path == dialed {
				asked = append(asked, endpoint.ID)
			}
			result.Endpoints = append(result.Endpoints, observation.EndpointResult{Endpoint: endpoint, Asked: d.now, Result: observation.Result{Seen: seen}})
		}
		run.Results[path] = result
	}
	d.asked = append(d.asked, asked)
	d.book.record(d.plan, &run)
	return run
}

func (d *dialing) runs(count int) {
	for range count {
		d.run()
	}
}

// timesAsked counts how often every endpoint was dialed in some runs.
func timesAsked(runs [][]string) map[string]int {
	times := map[string]int{}
	for _, ids := range runs {
		for _, id := range ids {
			times[id]++
		}
	}
	return times
}

func TestEveryEndpointGetsItsTurn(t *testing.T) {
	for _, endpoints := range []int{1, 15, 16, 17, 31, 32, 33, 100, 300, 1000} {
		t.Run(fmt.Sprint(endpoints), func(t *testing.T) {
			d := newDialing(endpoints)
			round := roundsFor(endpoints, EndpointsPerRun)
			d.runs(4*round + 1)
			for i, ids := range d.asked {
				if want := min(endpoints, 16); len(ids) != want || len(timesAsked([][]string{ids})) != want {
					t.Fatalf("run %d dialed %v, want %d endpoints, each once", i, ids, want)
				}
			}
			// Whatever run one begins to count at, a full round reaches everybody.
			for first := range len(d.asked) - round {
				if got := len(timesAsked(d.asked[first : first+round])); got != endpoints {
					t.Errorf("%d runs from run %d: %d endpoints were dialed, want all %d", round, first, got, endpoints)
				}
			}
		})
	}
}

func roundsFor(endpoints, places int) int { return (endpoints + places - 1) / places }

func TestEndpointThatShowsSomethingElseIsAskedAgainInTheNextRun(t *testing.T) {
	const endpoints, bad = 300, "uid-222"
	d := newDialing(endpoints)
	d.bad[bad] = true
	for !slices.ContainsFunc(d.asked, func(ids []string) bool { return slices.Contains(ids, bad) }) {
		d.run()
	}
	found := len(d.asked)
	// Whatever is left to be asked for the first time goes first; the check waits no longer than that.
	for len(timesAsked(d.asked)) < endpoints {
		d.run()
	}
	first := len(d.asked)
	d.runs(40)
	for i, ids := range d.asked[first:] {
		if !slices.Contains(ids, bad) {
			t.Fatalf("run %d after all were asked does not dial the endpoint that was found to be wrong in run %d: %v", i, found-1, ids)
		}
	}
	// One place is taken by it in every run; the rest goes round in the others.
	round := roundsFor(endpoints-1, EndpointsPerRun-1)
	for start := range 40 - round {
		if got := len(timesAsked(d.asked[first+start : first+start+round])); got != endpoints {
			t.Fatalf("%d runs dialed %d endpoints, want all %d although one is asked every time", round, got, endpoints)
		}
	}
	d.bad = nil
	d.run()
	before := len(d.asked)
	d.runs(3)
	if times := timesAsked(d.asked[before:])[bad]; times != 0 {
		t.Errorf("the endpoint that is right again was dialed %d times in the next three runs, want it to wait for its turn", times)
	}
}

func TestOneBadEndpointAmongFewIsAskedAgainAtOnce(t *testing.T) {
	d := newDialing(17)
	d.runs(2)
	d.bad["uid-3"] = true
	for !slices.Contains(d.asked[len(d.asked)-1], "uid-3") {
		d.run()
	}
	for range 10 {
		if d.run(); !slices.Contains(d.asked[len(d.asked)-1], "uid-3") {
			t.Fatalf("the next run dials %v, want the one that has just shown something else among them", d.asked[len(d.asked)-1])
		}
	}
}

// Where more endpoints are wrong than a run has places, they take turns among themselves, and one that was never asked
// still goes before them.
func TestManyBadEndpointsTakeTurns(t *testing.T) {
	d := newDialing(100)
	for i := range 40 {
		d.bad[fmt.Sprint("uid-", i)] = true
	}
	d.runs(roundsFor(100, EndpointsPerRun))
	if got := len(timesAsked(d.asked)); got != 100 {
		t.Fatalf("first round: dialed %d endpoints, want all 100 before any is dialed twice", got)
	}
	before := len(d.asked)
	d.runs(roundsFor(40, EndpointsPerRun))
	again := timesAsked(d.asked[before:])
	for id := range d.bad {
		if again[id] == 0 {
			t.Errorf("%s shows something else and was not asked again in the next %d runs: %v", id, len(d.asked)-before, again)
		}
	}
	request := d.plan.Requests[dialed]
	request.Endpoints = append(slices.Clone(request.Endpoints), endpointsFrom(500, 3)...)
	d.plan.Requests[dialed] = request
	d.run()
	for _, id := range []string{"uid-500", "uid-501", "uid-502"} {
		if !slices.Contains(d.asked[len(d.asked)-1], id) {
			t.Errorf("the run after %s appeared dialed %v", id, d.asked[len(d.asked)-1])
		}
	}
}

func TestRunIsCompletedWithWhatEarlierRunsSaw(t *testing.T) {
	const endpoints = 40
	d := newDialing(endpoints)
	d.bad["uid-3"] = true
	first := d.run()
	if got := len(first.Results[dialed].Endpoints); got != endpoints {
		t.Fatalf("endpoints in the first run: got %d, want all %d", got, endpoints)
	}
	for i, result := range first.Results[dialed].Endpoints {
		if asked := slices.Contains(d.asked[0], result.Endpoint.ID); result.Asked.IsZero() == asked || asked && !result.Asked.Equal(first.Started) {
			t.Errorf("endpoint %d, dialed %v, has Asked %v; the run began at %v", i, asked, result.Asked, first.Started)
		}
	}
	d.run()
	third := d.run()
	for i, result := range third.Results[dialed].Endpoints {
		if want := d.plan.Requests[dialed].Endpoints[i]; result.Endpoint != want {
			t.Fatalf("endpoint %d is %v, want the plan's %v", i, result.Endpoint, want)
		}
		last := lastAsked(d.asked, result.Endpoint.ID)
		began := first.Started.Add(time.Duration(last) * time.Minute)
		if !result.Asked.Equal(began) {
			t.Errorf("%s: got Asked %v; want that of run %d", result.Endpoint.Name, result.Asked, last)
		}
		if want := map[bool]int{true: 503, false: 200}[d.bad[result.Endpoint.ID]]; result.Seen.HTTPCode != want {
			t.Errorf("%s: got %d, want the %d of its latest request", result.Endpoint.Name, result.Seen.HTTPCode, want)
		}
	}
}

func lastAsked(runs [][]string, id string) int {
	for i := len(runs) - 1; i >= 0; i-- {
		if slices.Contains(runs[i], id) {
			return i
		}
	}
	return -1
}

func TestReplacedEndpointIsAskedAnew(t *testing.T) {
	d := newDialing(40)
	d.bad["uid-3"] = true
	d.runs(5)
	request := d.plan.Requests[dialed]
	request.Endpoints = slices.Clone(request.Endpoints)
	request.Endpoints[3] = observation.Endpoint{ID: "uid-3-anew", Name: "pod-3", Address: request.Endpoints[3].Address}
	request.Endpoints = slices.Delete(request.Endpoints, 10, 20)
	d.plan.Requests[dialed] = request
	run := d.run()
	if !slices.Contains(d.asked[len(d.asked)-1], "uid-3-anew") {
		t.Errorf("the run after the replacement dialed %v", d.asked[len(d.asked)-1])
	}
	results := run.Results[dialed].Endpoints
	if len(results) != 30 {
		t.Errorf("endpoints in the run: got %d, want the 30 that are left", len(results))
	}
	for _, result := range results {
		if result.Endpoint.ID == "uid-3" || result.Endpoint.ID == "uid-3-anew" && result.Seen.HTTPCode != 200 {
			t.Errorf("got %+v: what was seen of the endpoint before is no result of the one that replaced it", result)
		}
	}
	if got := len(d.book.entries[dialed]); got != 30 {
		t.Errorf("endpoints in the book: got %d, want those of the plan alone", got)
	}
}

func TestPathsTakeTheirTurnsApart(t *testing.T) {
	d := newDialing(40)
	d.bad["uid-39"] = true
	d.runs(3)
	d.plan.Requests["outsider"] = Request{Endpoints: endpointsFrom(0, 40)}
	picked := d.book.turns(d.plan)
	var got []observation.Endpoint
	for _, turn := range picked["outsider"] {
		got = append(got, turn.Endpoint)
	}
	if want := endpointsFrom(0, EndpointsPerRun); !slices.Equal(got, want) {
		t.Errorf("the path that asked nobody yet dials %v, want %v", got, want)
	}
	if picked[dialed][0].ID != "uid-39" {
		t.Errorf("the other path dials %v, want the one that showed something else there first", picked[dialed])
	}
}

// byAddress plays agents that answer each address as told, 200 where nothing is told, and counts the requests.
type byAddress struct {
	*played.Agents

	mu      sync.Mutex
	answers map[string]observation.Observation
	counted []observation.Request
}

func newByAddress() *byAddress {
	b := &byAddress{answers: map[string]observation.Observation{}}
	b.Agents = played.New(func(a *played.Agent) error {
		return a.AnswerAll(func(request observation.Request) observation.Observation {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.counted = append(b.counted, request)
			if seen, told := b.answers[request.Address]; told {
				return seen
			}
			return played.Code(200)
		})
	})
	return b
}

// dials are the addresses that were asked for since the last call, and how often.
func (b *byAddress) dials() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	times := map[string]int{}
	for _, request := range b.counted {
		times[request.Address]++
	}
	b.counted = nil
	return times
}

const serviceAddress = "strict-nginx.shop:443"

// withEndpoints has the outsider dial endpoints beside the Service's address.
func withEndpoints(endpoints []observation.Endpoint) func(*Plan) {
	return func(p *Plan) {
		request := p.Requests[outsiderPod.Pod]
		request.Endpoints = endpoints
		p.Requests[outsiderPod.Pod] = request
	}
}

func TestRunDialsTheServiceAndItsEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endpoints := endpointsFrom(0, 3)
		plays := newByAddress()
		plays.answers[endpoints[1].Address] = played.Code(503)
		b := newBench(plays.Agents, time.Hour)
		b.startFor(t)
		b.Set(shop, planOf(func(p *Plan) {
			request := p.Requests[outsiderPod.Pod]
			request.Endpoints, request.Ask.ServerName, request.Ask.Path, request.Ask.Chain = endpoints, "strict-nginx.shop", "/healthy", true
			p.Requests[outsiderPod.Pod] = request
		}, sleepPod, outsiderPod))
		synctest.Wait()
		for _, request := range plays.counted {
			if request.Timeout != 5*time.Second || request.Address != serviceAddress && (request.ServerName != "strict-nginx.shop" || request.Path != "/healthy" || !request.Chain) {
				t.Errorf("an endpoint is asked otherwise than the Service: %+v", request)
			}
		}
		want := map[string]int{serviceAddress: 2}
		for _, endpoint := range endpoints {
			want[endpoint.Address] = 1
		}
		if got := plays.dials(); !maps.Equal(got, want) {
			t.Errorf("dialed %v, want %v", got, want)
		}
		result := b.latest(t, shop, outsiderPod)
		if result.Seen.HTTPCode != 200 || len(result.Endpoints) != 3 || result.Endpoints[1].Seen.HTTPCode != 503 || result.Endpoints[2].Seen.HTTPCode != 200 {
			t.Errorf("result: got %+v, want 200 from the Service and 200, 503, 200 from its endpoints", result)
		}
		if got := b.latest(t, shop, sleepPod).Endpoints; len(got) != 0 {
			t.Errorf("the path without endpoints has results of some: %v", got)
		}
	})
}

// A path with many endpoints must not take longer than one request may.
func TestEndpointsAreAskedSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var arrived []time.Time
		b := startBench(t, func(a *played.Agent) error {
			for {
				request, ok := a.Next()
				if !ok {
					return a.Hang()
				}
				if request.ID == 0 {
					a.Say(observation.Observation{})
					continue
				}
				arrived = append(arrived, time.Now())
				time.AfterFunc(4*time.Second, func() { a.Say(observation.Observation{ID: request.ID, Class: observation.Answered, HTTPCode: 200}) })
			}
		})
		b.Set(shop, planOf(withEndpoints(endpointsFrom(0, 300)), outsiderPod))
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if len(arrived) != 1+EndpointsPerRun || arrived[EndpointsPerRun].Sub(b.begun) != 0 {
			t.Errorf("requests in the first 4 s: got them at %v, want the Service's and %d endpoints' at once", b.since(arrived), EndpointsPerRun)
		}
		if got := len(b.runs(shop, MarkOf("epoch"))); got != 1 {
			t.Errorf("runs after 4 s: got %d, want 1", got)
		}
	})
}

func TestEndpointsOfAPathWithoutContainerSaySo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, nil)
		b.Set(shop, planOf(func(p *Plan) {
			p.Requests["gone"] = Request{Missing: "no pod is ready", Endpoints: endpointsFrom(0, 2)}
		}, sleepPod))
		synctest.Wait()
		for _, result := range b.latest(t, shop, agents.Vantage{Pod: "gone"}).Endpoints {
			wantFailure(t, result.Result, observation.NoVantage)
		}
	})
}

func TestManyEndpointsAreAllAskedInTheQuickSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endpoints := endpointsFrom(0, 300)
		plays := newByAddress()
		b := newBench(plays.Agents, time.Hour)
		b.startFor(t)
		b.Set(shop, planOf(withEndpoints(endpoints), sleepPod, outsiderPod))
		time.Sleep(SettleTime)
		dials := plays.dials()
		for _, endpoint := range endpoints {
			if dials[endpoint.Address] == 0 {
				t.Errorf("%s was not dialed within %v", endpoint.Name, SettleTime)
			}
		}
		runs := roundsFor(len(endpoints), EndpointsPerRun) + 1
		if got := dials[serviceAddress]; got != 2*runs {
			t.Errorf("requests to the Service: got %d, want 2 in each of %d runs: a first round of all endpoints, and the second run that shows what is computed", got, runs)
		}
		time.Sleep(time.Hour)
		delete(dials, serviceAddress)
		later := plays.dials()
		if got, want := later[serviceAddress], 2*60; got != want {
			t.Errorf("requests to the Service in the next hour: got %d, want %d", got, want)
		}
		for _, endpoint := range endpoints {
			if times := later[endpoint.Address]; times < 60/roundsFor(300, EndpointsPerRun) {
				t.Errorf("%s was dialed %d times in 60 runs, want at least %d", endpoint.Name, times, 60/roundsFor(300, EndpointsPerRun))
			}
		}
	})
}

// What was seen of an endpoint under another policy, or another expectation, is no finding under the present one.
func TestEarlierResultsOfEndpointsAreForgotten(t *testing.T) {
	for name, test := range map[string]struct {
		edit    func(*Plan)
		forgets bool
	}{
		"with another policy":   {func(p *Plan) { p.Policy, p.Occasion = "another", MarkOf("another") }, true},
		"with another epoch":    {func(p *Plan) { p.Epoch = MarkOf("another") }, true},
		"not with an occasion":  {func(p *Plan) { p.Occasion = MarkOf("another") }, false},
		"not with a request":    {func(p *Plan) { p.Requested, p.Occasion = "now", MarkOf("another") }, false},
		"not with the interval": {func(p *Plan) { p.Interval = time.Hour }, false},
	} {
		t.Run(name, func(t *testing.T) {
			one := newTask(planOf(withEndpoints(endpointsFrom(0, 40)), outsiderPod))
			defer one.stop()
			keepRun(t, one)
			plan := planOf(withEndpoints(endpointsFrom(0, 40)), outsiderPod)
			test.edit(&plan)
			one.replan(plan)
			run, _ := keepRun(t, one)
			asked := 0
			for _, result := range run.Results[outsiderPod.Pod].Endpoints {
				if !result.Asked.IsZero() {
					asked++
				}
			}
			if want := map[bool]int{true: EndpointsPerRun, false: 2 * EndpointsPerRun}[test.forgets]; asked != want {
				t.Errorf("endpoints with a result after the run that followed: got %d, want %d", asked, want)
			}
		})
	}
}

// keepRun has a task make a run in which every request is answered 200, and returns it as it was kept, and whether the
// controller is woken for it.
func keepRun(t *testing.T, one *task) (observation.Run, bool) {
	t.Helper()
	plan, turns, ctx := one.begin(t.Context())
	run := observation.Run{Started: time.Now(), Results: map[string]observation.Result{}}
	for path := range plan.Requests {
		result := observation.Result{Seen: played.Code(200)}
		for _, turn := range turns[path] {
			endpoint := turn.Endpoint
			result.Endpoints = append(result.Endpoints, observation.EndpointResult{Endpoint: endpoint, Asked: run.Started, Result: observation.Result{Seen: played.Code(200)}})
		}
		run.Results[path] = result
	}
	found := one.keep(ctx, plan, run, time.Hour)
	if !found.stored {
		t.Fatal("the run was not kept")
	}
	return one.report(plan.Epoch).Latest, found.look
}
