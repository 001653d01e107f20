package observation

import (
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
			TLSVersion: "TLS 1.3", HTTPCode: 200, Leaf: &Certificate{SHA256: "bb", NotAfter: noon},
		}},
		"unsent": {Failed: &Failure{Kind: NoVantage, Message: "no pod"}},
	}}
}

func TestSignature(t *testing.T) {
	seen := func(path string, change func(*Observation)) func(Run) {
		return func(run Run) {
			result := run.Results[path]
			change(&result.Seen)
			run.Results[path] = result
		}
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

		"class":                       {seen("served", func(o *Observation) { o.Class = ResponseReset }), false},
		"code":                        {seen("served", func(o *Observation) { o.HTTPCode = 503 }), false},
		"alert":                       {seen("refused", func(o *Observation) { o.Alert = "handshake_failure" }), false},
		"certificate of no workload":  {seen("served", func(o *Observation) { o.Leaf.SHA256 = "cc" }), false},
		"no certificate":              {seen("served", func(o *Observation) { o.Leaf = nil }), false},
		"another workload":            {seen("refused", func(o *Observation) { o.Leaf.URIs = []string{workload + "-2"} }), false},
		"workload to no workload":     {seen("refused", func(o *Observation) { o.Leaf.URIs = nil }), false},
		"kind of a failure":           {func(run Run) { run.Results["unsent"].Failed.Kind = ExecFailed }, false},
		"failure in place of an end":  {func(run Run) { run.Results["served"] = Result{Failed: &Failure{Kind: AgentSilent}} }, false},
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
