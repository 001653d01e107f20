package observation

import (
	"math"
	"testing"
	"time"
)

const workload = "spiffe://cluster.local/ns/probes/sa/nginx"

// refusedAndServed is a run along two paths, of which one was refused by a sidecar and one answered by nginx.
func refusedAndServed() Run {
	return Run{Started: noon, Results: map[string]Result{
		"refused": {Seen: Observation{
			ID: 1, Class: ClientCertificateRequired, Started: noon, Connected: 1, Handshaken: 2, Finished: 3, Remote: "10.0.0.1:443",
			TLSVersion: "TLS 1.3", CertificateRequested: true, Alert: "certificate_required", Error: "refused",
			Leaf: &Certificate{SHA256: "aa", URIs: []string{workload}, NotAfter: noon},
		}},
		"served": {Seen: Observation{
			ID: 2, Class: Answered, Started: noon, Connected: 1, Handshaken: 2, Finished: 3, Remote: "10.0.0.1:443",
			TLSVersion: "TLS 1.3", HTTPCode: 200, Leaf: &Certificate{SHA256: "bb", NotAfter: noon}, Counted: &Counted{Connections: 1, Handshakes: 1},
		}, Endpoints: []EndpointResult{refusing("10.1.0.1:8443"), {Endpoint: Endpoint{ID: "b", Name: "nginx-b", Address: "10.1.0.2:8443"}}}},
		"unsent": {Failed: &Failure{Kind: NoVantage, Message: "no pod"}},
	}}
}

// refusing is an endpoint that refused in this run.
func refusing(address string) EndpointResult {
	return EndpointResult{
		Endpoint: Endpoint{ID: "a", Name: "nginx-a", Address: address}, Asked: noon,
		Result: Result{Seen: Observation{Class: ClientCertificateRequired, Leaf: &Certificate{SHA256: "aa", URIs: []string{workload}}, Alert: "certificate_required"}},
	}
}

func TestSignature(t *testing.T) {
	seen := func(path string, change func(*Observation)) func(Run) {
		return func(run Run) {
			result := run.Results[path]
			change(&result.Seen)
			run.Results[path] = result
		}
	}
	endpoint := func(change func(*EndpointResult)) func(Run) {
		return func(run Run) { change(&run.Results["served"].Endpoints[0]) }
	}
	for name, c := range map[string]struct {
		change func(Run)
		same   bool
	}{
		"nothing": {func(Run) {}, true},
		"clock":   {seen("served", func(o *Observation) { o.Started = o.Started.Add(time.Hour) }), true},
		"latency": {seen("served", func(o *Observation) { o.Connected, o.Handshaken, o.Finished = 4, 5, 6 }), true},
		"number":  {seen("served", func(o *Observation) { o.ID = 99 }), true},
		"rotated certificate of a workload": {seen("refused", func(o *Observation) {
			o.Leaf.SHA256, o.Leaf.NotAfter, o.Leaf.Chain = "cc", noon.Add(time.Hour), [][]byte{{1}}
		}), true},
		"words of a failure": {func(run Run) { run.Results["unsent"].Failed.Message = "no pod yet" }, true},

		// How the request was sent is a finding; the numbers that say so are not.
		"more connections than one": {seen("served", func(o *Observation) { o.Counted.Connections, o.Counted.Passthrough = 2, 1 }), false},
		"counters of no difference": {seen("served", func(o *Observation) { o.Counted.PassthroughShared = true }), true},
		"no longer wrapped in TLS":  {seen("served", func(o *Observation) { o.Counted.Handshakes = 0 }), false},
		"no longer counted":         {seen("served", func(o *Observation) { o.Counted = nil }), false},
		"counters not read":         {seen("served", func(o *Observation) { o.Counted.Error = "no answer in time" }), false},

		"class":                      {seen("served", func(o *Observation) { o.Class = ResponseReset }), false},
		"code":                       {seen("served", func(o *Observation) { o.HTTPCode = 503 }), false},
		"alert":                      {seen("refused", func(o *Observation) { o.Alert = "handshake_failure" }), false},
		"certificate of no workload": {seen("served", func(o *Observation) { o.Leaf.SHA256 = "cc" }), false},
		"no certificate":             {seen("served", func(o *Observation) { o.Leaf = nil }), false},
		"another workload":           {seen("refused", func(o *Observation) { o.Leaf.URIs = []string{workload + "-2"} }), false},
		"workload to no workload":    {seen("refused", func(o *Observation) { o.Leaf.URIs = nil }), false},
		"kind of a failure":          {func(run Run) { run.Results["unsent"].Failed.Kind = ExecFailed }, false},
		"failure in place of an end": {func(run Run) { run.Results["served"] = Result{Failed: &Failure{Kind: AgentSilent}} }, false},
		"an endpoint asked again":    {endpoint(func(e *EndpointResult) { e.Asked = e.Asked.Add(time.Hour) }), true},
		"an endpoint's control":      {endpoint(func(e *EndpointResult) { e.Control.Seen.Class = Answered }), true},
		"an endpoint's answer":       {endpoint(func(e *EndpointResult) { e.Seen.Class, e.Seen.HTTPCode = Answered, 200 }), false},
		"an endpoint's failure":      {endpoint(func(e *EndpointResult) { e.Failed = &Failure{Kind: AgentSilent} }), false},
		"another endpoint":           {endpoint(func(e *EndpointResult) { e.Endpoint.ID = "c" }), false},
		"an endpoint less":           {func(run Run) { result := run.Results["served"]; result.Endpoints = nil; run.Results["served"] = result }, false},

		"one path less":               {func(run Run) { delete(run.Results, "served") }, false},
		"one path more":               {func(run Run) { run.Results["other"] = run.Results["served"] }, false},
		"the same along another path": {func(run Run) { run.Results["other"] = run.Results["served"]; delete(run.Results, "served") }, false},
		"paths exchanged": {func(run Run) {
			run.Results["served"], run.Results["refused"] = run.Results["refused"], run.Results["served"]
		}, false},
	} {
		changed := refusedAndServed()
		c.change(changed)
		before, after := refusedAndServed().Signature(), changed.Signature()
		if (before == after) != c.same {
			t.Errorf("%s: from %q to %q, want them the same: %t", name, before, after, c.same)
		}
	}
	later := refusedAndServed()
	later.Started = later.Started.Add(time.Minute)
	if got, want := later.Signature(), refusedAndServed().Signature(); got != want {
		t.Errorf("a minute later: %q, want %q", got, want)
	}
}

// The order of a map is another one each time.
func TestSignatureIsStable(t *testing.T) {
	want := refusedAndServed().Signature()
	for range 100 {
		if got := refusedAndServed().Signature(); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	}
}

// An endpoint that has not been asked is told from one that was asked in vain.
func TestSignatureOfAnEndpointThatIsAskedForTheFirstTime(t *testing.T) {
	asked := refusedAndServed()
	asked.Results["served"].Endpoints[1] = refusing("10.1.0.2:8443")
	asked.Results["served"].Endpoints[1].Endpoint.ID = "b"
	if asked.Signature() == refusedAndServed().Signature() {
		t.Error("the signature is the same")
	}
}

// Whatever the counters say, only one connection that can be no other request's tells how this one was sent.
func TestWrapping(t *testing.T) {
	for name, c := range map[string]struct {
		counted *Counted
		want    Wrapping
	}{
		"not asked":                        {nil, NotCounted},
		"not read":                         {&Counted{Connections: 1, Handshakes: 1, Error: "no answer in time"}, NotCounted},
		"nothing":                          {&Counted{}, NotCounted},
		"one in TLS":                       {&Counted{Connections: 1, Handshakes: 1}, WrappedInTLS},
		"one as it is":                     {&Counted{Connections: 1}, PassedOn},
		"one past all Services":            {&Counted{Passthrough: 1}, PassedOn},
		"one past all Services, of many's": {&Counted{Passthrough: 1, PassthroughShared: true}, NotCounted},
		"sums that overflow":               {&Counted{Connections: 2, Passthrough: math.MaxUint64}, NotCounted},
	} {
		if got := (Observation{Counted: c.counted}).Wrapping(); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestOtherRequestsMakeCountersWorthless(t *testing.T) {
	for i := range 3 * 3 * 3 * 2 {
		counted := &Counted{Connections: uint64(i % 3), Handshakes: uint64(i / 3 % 3), Passthrough: uint64(i / 9 % 3), PassthroughShared: i >= 27}
		want := NotCounted
		own := *counted
		if own.PassthroughShared && own.Connections == 1 {
			own.Passthrough, own.PassthroughShared = 0, false // what went past all Services is another probe's
		}
		switch own {
		case Counted{Connections: 1, Handshakes: 1}:
			want = WrappedInTLS
		case Counted{Connections: 1}, Counted{Passthrough: 1}:
			want = PassedOn
		}
		if got := (Observation{Counted: counted}).Wrapping(); got != want {
			t.Errorf("%+v: %s, want %s", *counted, got, want)
		}
	}
}
