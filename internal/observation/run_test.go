package observation

import (
	"testing"
	"time"
)

const (
	workload = "spiffe://cluster.local/ns/probes/sa/nginx"
	cluster  = "outbound|443||nginx.probes.svc.cluster.local"
)

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
			TLSVersion: "TLS 1.3", HTTPCode: 200, Leaf: &Certificate{SHA256: "bb", NotAfter: noon},
			Sent:      &Sent{Cluster: cluster, Host: "10.1.0.1:8443", Handshakes: 1},
			Delivered: &Delivered{Listener: "10.0.0.1_443", Legs: []Leg{{Cluster: cluster, Weight: 1, TLS: TLSByEndpoint}}},
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

		// How the request was sent is a finding; which of several endpoints it came to is none.
		"another host":             {seen("served", func(o *Observation) { o.Sent.Host = "10.1.0.2:8443" }), true},
		"another cluster":          {seen("served", func(o *Observation) { o.Sent.Cluster = ClusterPassthrough }), false},
		"no longer wrapped in TLS": {seen("served", func(o *Observation) { o.Sent.Handshakes = 0 }), false},
		"past Envoy":               {seen("served", func(o *Observation) { *o.Sent = Sent{Past: true} }), false},
		"no longer followed":       {seen("served", func(o *Observation) { o.Sent = nil }), false},
		"counters not read":        {seen("served", func(o *Observation) { o.Sent.Error = "no answer in time" }), false},
		"led by an object":         {seen("served", func(o *Observation) { o.Delivered.Config = "/apis/x" }), false},
		"another weight":           {seen("served", func(o *Observation) { o.Delivered.Legs[0].Weight = 2 }), false},
		"delivered not read":       {seen("served", func(o *Observation) { o.Delivered = nil }), false},

		"a hello to an endpoint": {endpoint(func(e *EndpointResult) {
			e.Mesh = Handshake{Asked: noon, Result: Result{Seen: Observation{Class: Alerted}}}
		}), false},
		"an endpoint's hello without answer so far": {endpoint(func(e *EndpointResult) { e.Forged.Seen.Class = Alerted }), true},

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

// What is not known is never taken for plaintext, nor for TLS.
func TestWrapping(t *testing.T) {
	for name, c := range map[string]struct {
		sent *Sent
		want Wrapping
	}{
		"not asked":             {nil, NotCounted},
		"not known":             {&Sent{Error: "no answer in time"}, NotCounted},
		"not known, after all":  {&Sent{Cluster: cluster, Handshakes: 1, Error: "shared"}, NotCounted},
		"one in TLS":            {&Sent{Cluster: cluster, Handshakes: 1}, WrappedInTLS},
		"one as it is":          {&Sent{Cluster: cluster}, PassedOn},
		"one past all Services": {&Sent{Cluster: ClusterPassthrough}, PassedOn},
		"one past Envoy":        {&Sent{Past: true}, PassedOn},
	} {
		if got := (Observation{Sent: c.sent}).Wrapping(); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestParseCluster(t *testing.T) {
	for name, want := range map[string]Cluster{
		"outbound|443||web.shop.svc.cluster.local":    {443, "", "web.shop.svc.cluster.local"},
		"outbound|443|v1|web.shop.svc.cluster.local;": {443, "v1", "web.shop.svc.cluster.local"},
		"PassthroughCluster":                          {},
		"inbound|443||":                               {},
		"outbound|443|web.shop.svc.cluster.local":     {},
		"outbound|443||a|b":                           {},
		"outbound|70000||web":                         {},
		"outbound|https||web":                         {},
		"":                                            {},
	} {
		if got, ok := ParseCluster(name); got != want || ok != (want != Cluster{}) {
			t.Errorf("%q: %+v, %t; want %+v", name, got, ok, want)
		}
	}
}
