package controllers_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

// mesh plays the exec streams and what the agents at their far ends see. Without a script they see what a mesh shows
// whose proxies follow the policies that the API server holds.
type mesh struct {
	cluster *cluster

	mu sync.Mutex
	// root is the root namespace that the played proxies go by, and noAutoMTLS turns auto mTLS off.
	root       string
	noAutoMTLS bool
	refusal    error
	scripts    map[route]observation.Observation
	// addresses are scripts for single endpoints, along every path.
	addresses map[string]observation.Observation
	modes     map[string]string
	// certificates are what Services of users present, by target.
	certificates map[string]observation.Certificate
	open         map[agents.Vantage]int
	requested    []asked
}

// route is a target's requests along one path. A target is a probe of the operator's own server, by its name, or a Service,
// by its.
type route struct {
	target string
	path   api.PathName
}

// asked is one request that arrived.
type asked struct {
	route
	observation.Request
	// endpoint is the address of the endpoint that was dialed by itself, "" where the Service was.
	endpoint string
}

func newMesh(cluster *cluster, root string) *mesh {
	return &mesh{
		cluster: cluster, root: root, scripts: map[route]observation.Observation{}, addresses: map[string]observation.Observation{},
		modes: map[string]string{}, certificates: map[string]observation.Certificate{}, open: map[agents.Vantage]int{},
	}
}

// Open is an exec into one container, with an agent that answers every line.
func (m *mesh) Open(_ context.Context, from agents.Vantage, stdin io.Reader, stdout io.Writer) error {
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
			seen = m.see(request, from)
		}
		seen.ID = request.ID
		if err := answers.Encode(seen); err != nil {
			return err
		}
	}
	return errors.New("the stream was closed")
}

func pathFrom(from agents.Vantage) api.PathName {
	switch {
	case from.Container == fixture.ContainerIstioProxy:
		return api.PathIstioProxy
	case strings.HasPrefix(from.Pod, fixture.OutsiderName+"-"):
		return api.PathOutsider
	default:
		return api.PathSleep
	}
}

func (m *mesh) see(request observation.Request, from agents.Vantage) observation.Observation {
	present, path := m.cluster.state(), pathFrom(from)
	host, _, err := net.SplitHostPort(request.Address)
	if err != nil {
		return observation.Observation{Class: observation.InvalidRequest, Error: err.Error()}
	}
	service, endpoints, single := present.find(host)
	target := targetOf(service.Name)
	m.mu.Lock()
	defer m.mu.Unlock()
	one := asked{route: route{target, path}, Request: request}
	turn := len(m.requested)
	if single {
		one.endpoint = host
	}
	m.requested = append(m.requested, one)
	if len(endpoints) == 0 {
		return observation.Observation{Class: observation.ConnectionRefused, Error: "connection refused"}
	}
	met := endpoints[turn%len(endpoints)]
	if request.Hello != observation.HelloHTTPS {
		return m.greet(present, request, service, met)
	}
	seen, scripted := m.scripts[one.route]
	if !scripted {
		seen, scripted = m.addresses[met.address]
	}
	if !scripted {
		seen = m.meet(present, from, request, service, met)
	}
	if request.Count != nil && seen.Sent == nil {
		m.tellRoute(&seen, present, from, request.Count.Port, service, endpoints, met)
	}
	return seen
}

// tellRoute says what the client's sidecar did with a request, and where it leads such requests.
func (m *mesh) tellRoute(seen *observation.Observation, present state, from agents.Vantage, port uint32, service types.NamespacedName, endpoints []endpoint, met endpoint) {
	cluster := fmt.Sprintf("outbound|%d||%s.%s.svc.cluster.local", port, service.Name, service.Namespace)
	seen.Sent = &observation.Sent{Cluster: cluster, Host: present.dialed(service, port, met)}
	if seen.Class == observation.Answered && present.sends(from.Namespace, service, met, m.root, !m.noAutoMTLS) == "ISTIO_MUTUAL" {
		seen.Sent.Handshakes = 1
	}
	leg := observation.Leg{Cluster: cluster, Weight: 1, TLS: observation.TLSByEndpoint}
	for _, one := range endpoints {
		tls := observation.TLSOther
		switch present.sends(from.Namespace, service, one, m.root, !m.noAutoMTLS) {
		case "ISTIO_MUTUAL":
			tls = observation.TLSMutual
		case "DISABLE":
			tls = observation.TLSNone
		}
		leg.Endpoints = append(leg.Endpoints, observation.LegEndpoint{Address: present.dialed(service, port, one), TLS: tls})
	}
	seen.Delivered = &observation.Delivered{Listener: "listener", Legs: []observation.Leg{leg}}
}

// greet is what becomes of a hello after which no request follows.
func (m *mesh) greet(present state, request observation.Request, service types.NamespacedName, met endpoint) observation.Observation {
	target := targetOf(service.Name)
	enforced := m.enforcedFor(present, target, met)
	scripted, ok := m.addresses[met.address]
	if !ok {
		scripted, ok = m.scripts[route{target, api.PathIstioProxy}]
	}
	if ok && scripted.Class != observation.Answered {
		return scripted
	}
	if enforced == "DISABLE" {
		own := m.certificate(target, met)
		return observation.Observation{Class: observation.Handshaken, TLSVersion: "TLS 1.3", Leaf: &own}
	}
	seen := refused(met.pod.Namespace, met.pod.Spec.ServiceAccountName)
	if request.Hello == observation.HelloForged {
		seen.Class, seen.Alert = observation.Alerted, "unknown_ca"
	}
	return seen
}

func (m *mesh) enforcedFor(present state, target string, met endpoint) string {
	if mode, told := m.modes[target]; told {
		return mode
	}
	return present.enforced(met, m.root)
}

// find tells which Service an address belongs to, and what stands behind it; single says that it is an endpoint's own.
func (s state) find(host string) (service types.NamespacedName, endpoints []endpoint, single bool) {
	if one, ok := s.byAddress(host); ok {
		return one.service, []endpoint{one.endpoint}, true
	}
	if net.ParseIP(host) != nil {
		return types.NamespacedName{}, nil, true
	}
	labels := strings.Split(host, ".")
	service = types.NamespacedName{Namespace: labels[1], Name: labels[0]}
	return service, s.services[service], false
}

func targetOf(service string) string { return strings.TrimSuffix(service, "-nginx") }

// meet is what becomes of a request, given what the client's sidecar makes of it and what the server's takes.
func (m *mesh) meet(present state, from agents.Vantage, request observation.Request, service types.NamespacedName, met endpoint) observation.Observation {
	target := targetOf(service.Name)
	enforced, sends := m.enforcedFor(present, target, met), "DISABLE"
	if pathFrom(from) == api.PathSleep {
		sends = present.sends(from.Namespace, service, met, m.root, !m.noAutoMTLS)
	}
	var seen observation.Observation
	switch {
	case sends == "DISABLE" && enforced == "STRICT":
		seen = refused(met.pod.Namespace, met.pod.Spec.ServiceAccountName)
	case sends == "ISTIO_MUTUAL" && enforced == "DISABLE", sends != "DISABLE" && sends != "ISTIO_MUTUAL":
		seen = observation.Observation{Class: observation.HandshakeClosed, Error: "EOF"}
	default:
		seen = answeredWith(m.certificate(target, met))
	}
	if !request.Chain && seen.Leaf != nil {
		seen.Leaf.Chain = nil
	}
	return seen
}

func (m *mesh) certificate(target string, met endpoint) observation.Certificate {
	if certificate, told := m.certificates[target]; told {
		return certificate
	}
	if met.certificate.SHA256 != "" {
		return met.certificate
	}
	return usersCertificate
}

// usersCertificate is what servers of users present, unless a test says something else.
var usersCertificate = observation.Certificate{SHA256: strings.Repeat("a", 64), NotAfter: time.Now().Add(90 * 24 * time.Hour).Truncate(time.Second)}

func answered(fingerprint string) observation.Observation {
	return answeredWith(observation.Certificate{SHA256: fingerprint})
}

func answeredWith(certificate observation.Certificate) observation.Observation {
	return observation.Observation{
		Class: observation.Answered, HTTPCode: 200, TLSVersion: "TLS 1.3", CipherSuite: "TLS_AES_256_GCM_SHA384", Leaf: &certificate,
	}
}

func refused(namespace, serviceAccount string) observation.Observation {
	id := "spiffe://cluster.local/ns/" + namespace + "/sa/" + serviceAccount
	return observation.Observation{
		Class: observation.ClientCertificateRequired, TLSVersion: "TLS 1.3", CertificateRequested: true,
		Alert: "certificate_required", Leaf: &observation.Certificate{SHA256: strings.Repeat("5", 64), URIs: []string{id}},
	}
}

// set changes how the mesh plays.
func (m *mesh) set(change func(*mesh)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

// script makes one path see something else than the mesh would show.
func (m *mesh) script(target string, path api.PathName, seen observation.Observation) {
	m.set(func(m *mesh) { m.scripts[route{target, path}] = seen })
}

// unscript lets a path see the mesh again.
func (m *mesh) unscript(target string, path api.PathName) {
	m.set(func(m *mesh) { delete(m.scripts, route{target, path}) })
}

// enforce makes the server's sidecars follow another mode than the policies'; "" lets them follow these again.
func (m *mesh) enforce(target, mode string) {
	m.set(func(m *mesh) {
		if m.modes[target] = mode; mode == "" {
			delete(m.modes, target)
		}
	})
}

// refuse makes every exec from now on fail; nil allows it again.
func (m *mesh) refuse(err error) { m.set(func(m *mesh) { m.refusal = err }) }

// arrived are the requests so far that are as asked for.
func (m *mesh) arrived(as func(asked) bool) []asked {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.requested), func(one asked) bool { return !as(one) })
}

// requests counts all requests to a target.
func (m *mesh) requests(target string) int {
	return len(m.arrived(func(one asked) bool { return one.target == target }))
}

// runs counts the requests to the Service of a target along one path: one in every run of a probe.
func (m *mesh) runs(target string, path api.PathName) int {
	return len(m.arrived(func(one asked) bool {
		return one.route == route{target, path} && one.endpoint == "" && one.Hello == observation.HelloHTTPS
	}))
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

// awaitRuns waits until a target was asked some more times, on each of the three paths.
func (o *operator) awaitRuns(t *testing.T, target string, runs int) {
	t.Helper()
	want := map[api.PathName]int{}
	for _, path := range paths.Names() {
		want[path] = o.mesh.runs(target, path) + runs
	}
	eventually(t, fmt.Sprintf("%d more runs of %s", runs, target), func() error {
		for path, count := range want {
			if got := o.mesh.runs(target, path); got < count {
				return fmt.Errorf("%d requests on the path %s are still to come", count-got, path)
			}
		}
		return nil
	})
}
