package controllers_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/runner"
)

// mesh plays the exec streams and what the agents at their far ends see. Without a script they see what a mesh shows
// that follows the probe's own PeerAuthentication.
type mesh struct {
	cluster *cluster

	mu      sync.Mutex
	refusal error
	scripts map[route]observation.Observation
	modes   map[string]string
	open    map[runner.Vantage]int
	// answered counts the requests by probe.
	answered map[string]int
}

// route is one probe's request along one path.
type route struct {
	probe string
	path  api.PathName
}

func newMesh(cluster *cluster) *mesh {
	return &mesh{
		cluster: cluster, scripts: map[route]observation.Observation{}, modes: map[string]string{},
		open: map[runner.Vantage]int{}, answered: map[string]int{},
	}
}

// Open is an exec into one container, with an agent that answers every line.
func (m *mesh) Open(ctx context.Context, from runner.Vantage, stdin io.Reader, stdout io.Writer) error {
	m.mu.Lock()
	if m.refusal != nil {
		defer m.mu.Unlock()
		return m.refusal
	}
	m.open[from]++
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.open[from]--
	}()
	lines, answers := bufio.NewScanner(stdin), json.NewEncoder(stdout)
	for lines.Scan() {
		var request observation.Request
		if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
			return err
		}
		var seen observation.Observation
		if request.ID != 0 {
			seen = m.see(ctx, request, pathFrom(from))
		}
		seen.ID = request.ID
		if err := answers.Encode(seen); err != nil {
			return err
		}
	}
	return errors.New("the stream was closed")
}

func pathFrom(from runner.Vantage) api.PathName {
	switch {
	case from.Container == fixture.ContainerIstioProxy:
		return api.PathIstioProxy
	case strings.HasPrefix(from.Pod, fixture.OutsiderName+"-"):
		return api.PathOutsider
	default:
		return api.PathSleep
	}
}

func (m *mesh) see(ctx context.Context, request observation.Request, path api.PathName) observation.Observation {
	service, _, _ := strings.Cut(request.ServerName, ".")
	probe := strings.TrimSuffix(service, "-nginx")
	m.mu.Lock()
	m.answered[probe]++
	turn := m.answered[probe]
	scripted, ok := m.scripts[route{probe, path}]
	m.mu.Unlock()
	if ok {
		return scripted
	}
	fingerprints, sidecar := m.cluster.servers(ctx, probe)
	if len(fingerprints) == 0 {
		return observation.Observation{Class: observation.ConnectionRefused, Error: "connection refused"}
	}
	if sidecar && path != api.PathSleep && m.mode(ctx, probe) == "STRICT" {
		return refused(m.cluster.namespace, probe)
	}
	return answered(fingerprints[turn%len(fingerprints)])
}

// mode is what the server's sidecar enforces: what a test says, else what the probe's own policy says.
func (m *mesh) mode(ctx context.Context, probe string) string {
	m.mu.Lock()
	mode, ok := m.modes[probe]
	m.mu.Unlock()
	if ok {
		return mode
	}
	policy := &securityv1.PeerAuthentication{}
	key := client.ObjectKey{Namespace: m.cluster.namespace, Name: fixture.ServerName(probe)}
	if err := m.cluster.admin.Get(ctx, key, policy); err != nil {
		return "PERMISSIVE"
	}
	return policy.Spec.GetMtls().GetMode().String()
}

func answered(fingerprint string) observation.Observation {
	return observation.Observation{
		Class: observation.Answered, HTTPCode: 200, TLSVersion: "TLS 1.3", CipherSuite: "TLS_AES_256_GCM_SHA384",
		Leaf: &observation.Certificate{SHA256: fingerprint},
	}
}

func refused(namespace, probe string) observation.Observation {
	id := "spiffe://cluster.local/ns/" + namespace + "/sa/" + fixture.ServerName(probe)
	return observation.Observation{
		Class: observation.ClientCertificateRequired, TLSVersion: "TLS 1.3", CertificateRequested: true,
		Alert: "certificate_required", Leaf: &observation.Certificate{SHA256: strings.Repeat("5", 64), URIs: []string{id}},
	}
}

// script makes one path see something else than the mesh would show.
func (m *mesh) script(probe string, path api.PathName, seen observation.Observation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scripts[route{probe, path}] = seen
}

// unscript lets a path see the mesh again.
func (m *mesh) unscript(probe string, path api.PathName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.scripts, route{probe, path})
}

// enforce makes the server's sidecar follow another mode than its own policy's.
func (m *mesh) enforce(probe, mode string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.modes[probe] = mode
}

// refuse makes every exec from now on fail; nil allows it again.
func (m *mesh) refuse(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refusal = err
}

func (m *mesh) requests(probe string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.answered[probe]
}

func (m *mesh) openStreams() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	total := 0
	for _, count := range m.open {
		total += count
	}
	return total
}

// awaitRuns waits until a probe was run some more times, on each of its three paths.
func (o *operator) awaitRuns(t *testing.T, probe string, runs int) {
	t.Helper()
	want := o.mesh.requests(probe) + runs*len(api.PathNames())
	eventually(t, "more runs of "+probe, func() error {
		if got := o.mesh.requests(probe); got < want {
			return errors.New("requests are still to come")
		}
		return nil
	})
}
