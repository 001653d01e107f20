package schedule

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/prober"
)

// realAgents is an Opener at whose far end the real agent serves.
type realAgents struct{}

func (realAgents) Open(ctx context.Context, _ agents.Vantage, stdin io.Reader, stdout io.Writer) error {
	return prober.Serve(ctx, stdin, stdout, time.Minute)
}

func TestRealAgentAndRealServer(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "strict-nginx.shop" || r.URL.Path != "/healthy" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	closed := httptest.NewTLSServer(nil)
	closed.Close()

	ask := func(address string) Request {
		from := sleepPod
		address = strings.TrimPrefix(address, "https://")
		return Request{From: &from, Ask: observation.Request{Address: address, ServerName: "strict-nginx.shop", Path: "/healthy"}}
	}
	woken := make(chan struct{}, 100)
	runs := New(logr.Discard(), realAgents{}, time.Hour, func(context.Context, Key) { woken <- struct{}{} }, &notes{})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	ended := make(chan error, 1)
	go func() { ended <- runs.Start(ctx) }()
	runs.Set(shop, planOf(func(p *Plan) {
		p.Requests = map[string]Request{"answered": ask(server.URL), "closed": ask(closed.URL)}
	}))
	select {
	case <-woken:
	case <-ctx.Done():
		t.Error("no run within 30 s")
	}
	report := runs.Report(shop, MarkOf("epoch"))
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Start returned %v", err)
	}
	if report.Runs == 0 {
		t.Fatal("no run was reported")
	}
	results := report.Latest.Results
	if got := results["answered"]; got.Failed != nil || got.Seen.HTTPCode != 200 || got.Seen.TLSVersion != "TLS 1.3" || got.Seen.Leaf == nil {
		t.Errorf("server: got %+v, failure %+v; want 200 over TLS 1.3 with a certificate", got.Seen, got.Failed)
	}
	if got := results["closed"]; got.Failed != nil || got.Seen.Class != observation.ConnectionRefused {
		t.Errorf("closed port: got %+v, failure %+v; want %s", got.Seen, got.Failed, observation.ConnectionRefused)
	}
}
