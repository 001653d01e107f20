package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

const (
	probeName       = "bench"
	exporterAddress = "127.0.0.1:19115"
	exporterConfig  = `modules:
  https:
    prober: http
    timeout: 5s
    http:
      fail_if_not_ssl: true
      preferred_ip_protocol: ip4
      tls_config: {insecure_skip_verify: true}
`
)

// bench is the lab with a server without sidecar and the client outsider: the shortest way there is, so that what is
// compared is the asking.
type bench struct {
	cluster   client.WithWatch
	config    *rest.Config
	namespace string
	from      agents.Vantage
	// meshed is the client with a sidecar.
	meshed agents.Vantage
	// address is the server's virtual address and port; name is the same by its Service's name.
	address, name string
	// host is the Service's name without port.
	host  string
	image string
}

func (b *bench) prepare(ctx context.Context) error {
	namespace := &corev1.Namespace{}
	namespace.GenerateName = "bench-"
	if err := b.cluster.Create(ctx, namespace); err != nil {
		return err
	}
	b.namespace = namespace.Name
	if err := b.cluster.Create(ctx, newProbe(b.namespace, probeName, api.SidecarDisabled, api.MTLSUnset)); err != nil {
		return err
	}
	if err := b.awaitReady(ctx, probeName); err != nil {
		return err
	}
	var service corev1.Service
	if err := b.cluster.Get(ctx, client.ObjectKey{Namespace: b.namespace, Name: fixture.ServerName(probeName)}, &service); err != nil {
		return err
	}
	pod, err := b.client(ctx, fixture.OutsiderName)
	if err != nil {
		return err
	}
	meshed, err := b.client(ctx, fixture.SleepName(""))
	if err != nil {
		return err
	}
	b.from = agents.Vantage{Namespace: b.namespace, Pod: pod.Name, UID: string(pod.UID), Container: fixture.ContainerSleep}
	b.meshed = agents.Vantage{Namespace: b.namespace, Pod: meshed.Name, UID: string(meshed.UID), Container: fixture.ContainerSleep}
	b.address = service.Spec.ClusterIP + ":443"
	names := fixture.HostNames(probeName, b.namespace, "cluster.local")
	b.host = names[len(names)-1]
	b.name = b.host + ".:443"
	b.image = pod.Spec.Containers[0].Image
	return nil
}

// client is the one pod of a client.
func (b *bench) client(ctx context.Context, name string) (corev1.Pod, error) {
	var pods corev1.PodList
	if err := b.cluster.List(ctx, &pods, client.InNamespace(b.namespace), client.MatchingLabels(fixture.ClientLabels(name))); err != nil {
		return corev1.Pod{}, err
	}
	if len(pods.Items) != 1 {
		return corev1.Pod{}, fmt.Errorf("%d pods of client %s, want 1", len(pods.Items), name)
	}
	return pods.Items[0], nil
}

func (b *bench) cleanUp() {
	if b.namespace == "" {
		return
	}
	namespace := &corev1.Namespace{}
	namespace.Name = b.namespace
	if err := b.cluster.Delete(context.Background(), namespace); err != nil {
		fmt.Fprintln(os.Stderr, "bench: delete the namespace:", err)
	}
}

func newProbe(namespace, name string, sidecar api.Sidecar, mode api.MTLSMode) *api.HTTPSMeshProbe {
	probe := &api.HTTPSMeshProbe{}
	probe.Namespace, probe.Name = namespace, name
	probe.Spec.Target.Sidecar, probe.Spec.MTLS.Mode = sidecar, mode
	probe.Spec.Interval = metav1.Duration{Duration: time.Hour}
	return probe
}

// way is one way of asking; it returns how long one probe took.
type way struct {
	name string
	once func() (time.Duration, error)
}

// compareWays prints one probe's time by every way of asking. The quick ones take turns, so that whatever else the
// machine does meets all of them alike.
func (b *bench) compareWays(ctx context.Context, exporter string, rounds, applies int) error {
	var open streams
	slow := []way{
		{"(a) exec curl", func() (time.Duration, error) {
			return b.exec(ctx, "curl", "-sk", "-o", "/dev/null", "https://"+b.address+"/")
		}},
		{"(b) exec the agent", func() (time.Duration, error) { return b.exec(ctx, fixture.AgentPath, "once", b.address) }},
	}
	quick := open.ways(b)
	base := streamRow
	if exporter == "" {
		fmt.Println("no prometheus-blackbox-exporter is given, so there is nothing to hold (c) against")
	} else {
		beside, stop, err := b.startExporter(ctx, exporter)
		if err != nil {
			return err
		}
		defer stop()
		quick = append(quick, beside...)
		base = exporterRow
	}
	pods, err := takeTurns(applies, []way{{"a pod for each check", func() (time.Duration, error) { return b.podCheck(ctx) }}})
	if err != nil {
		return err
	}
	execs, err := takeTurns(rounds, slow)
	if err != nil {
		return err
	}
	// Not before: an agent that hears nothing for a minute ends.
	if open.plain, err = b.openStream(ctx, b.from); err != nil {
		return err
	}
	defer open.plain.close()
	if open.meshed, err = b.openStream(ctx, b.meshed); err != nil {
		return err
	}
	defer open.meshed.close()
	byStream, err := takeTurns(rounds, quick)
	if err != nil {
		return err
	}
	printTable("One probe of an nginx with an RSA-2048 certificate", slices.Concat(pods, execs, byStream), base)
	return nil
}

// streams are the open streams to a client without sidecar and to one with.
type streams struct{ plain, meshed *openStream }

// ways are those of asking over an open stream.
func (s *streams) ways(b *bench) []way {
	var inAgent time.Duration
	return []way{
		{streamRow, func() (time.Duration, error) {
			took, seen, err := s.plain.askOK(b.address)
			inAgent = seen.Finished
			return took, err
		}},
		{"    of it inside the agent", func() (time.Duration, error) { return inAgent, nil }},
		{"    by name instead of address", func() (time.Duration, error) {
			took, _, err := s.plain.askOK(b.name)
			return took, err
		}},
		{"    a hello of the mesh, no request", func() (time.Duration, error) { return s.plain.greet(b.address, observation.HelloMesh) }},
		{"    a hello with a forged certificate", func() (time.Duration, error) { return s.plain.greet(b.address, observation.HelloForged) }},
		{"    through the client's sidecar", func() (time.Duration, error) {
			took, _, err := s.meshed.askOK(b.name)
			return took, err
		}},
		{"    and followed by Envoy's counters", func() (time.Duration, error) { return s.meshed.follow(b) }},
	}
}

// exec runs a command in the client by an exec of its own.
func (b *bench) exec(ctx context.Context, command ...string) (time.Duration, error) {
	opener, err := agents.NewExec(b.config, command...)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	err = opener.Open(ctx, b.from, bytes.NewReader(nil), io.Discard)
	if errors.Is(err, agents.ErrAgentEnded) {
		err = nil
	}
	return time.Since(begun), err
}

type openStream struct {
	requests *io.PipeWriter
	lines    *bufio.Scanner
	ended    chan struct{}
	id       uint64
}

func (b *bench) openStream(ctx context.Context, from agents.Vantage) (*openStream, error) {
	opener, err := agents.NewExec(b.config, fixture.AgentPath, "agent")
	if err != nil {
		return nil, err
	}
	stdin, requests := io.Pipe()
	observations, stdout := io.Pipe()
	s := &openStream{requests: requests, lines: bufio.NewScanner(observations), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		stdout.CloseWithError(opener.Open(ctx, from, stdin, stdout))
	}()
	_, _, err = s.ask(b.address)
	return s, err
}

func (s *openStream) close() {
	s.requests.Close()
	<-s.ended
}

// ask returns how long the answer took and what the agent saw, whatever that is.
func (s *openStream) ask(address string) (time.Duration, observation.Observation, error) {
	return s.send(observation.Request{Address: address})
}

// greet makes a hello after which no request follows.
func (s *openStream) greet(address string, hello observation.Hello) (time.Duration, error) {
	took, seen, err := s.send(observation.Request{Address: address, Hello: hello, Identity: "spiffe://cluster.local/ns/bench/sa/default"})
	if err == nil && seen.Handshaken == 0 && seen.Alert == "" {
		err = fmt.Errorf("the hello saw %+v", seen)
	}
	return took, err
}

// follow asks through the client's sidecar, and has the agent say where that sent the request and leads such requests.
func (s *openStream) follow(b *bench) (time.Duration, error) {
	took, seen, err := s.send(observation.Request{Address: b.name, Count: &observation.Count{Admin: "127.0.0.1:15000", Host: b.host, Port: 443}})
	if err == nil && (seen.Sent == nil || seen.Sent.Error != "" || seen.Delivered == nil || seen.Delivered.Error != "") {
		err = fmt.Errorf("the request was not followed: %+v, %+v", seen.Sent, seen.Delivered)
	}
	return took, err
}

// send completes a request and waits for what the agent saw.
func (s *openStream) send(request observation.Request) (time.Duration, observation.Observation, error) {
	s.id++
	request.ID, request.Path, request.Timeout = s.id, "/", 5*time.Second
	var seen observation.Observation
	begun := time.Now()
	if err := json.NewEncoder(s.requests).Encode(request); err != nil {
		return 0, seen, err
	}
	if !s.lines.Scan() {
		return 0, seen, fmt.Errorf("the stream ended: %w", s.lines.Err())
	}
	took := time.Since(begun)
	return took, seen, json.Unmarshal(s.lines.Bytes(), &seen)
}

// askOK expects the server to answer.
func (s *openStream) askOK(address string) (time.Duration, observation.Observation, error) {
	took, seen, err := s.ask(address)
	if err == nil && (seen.Class != observation.Answered || seen.HTTPCode != http.StatusOK) {
		err = fmt.Errorf("the probe saw %+v", seen)
	}
	return took, seen, err
}

// podCheck is how others do it: a pod that sends one request and ends.
func (b *bench) podCheck(ctx context.Context) (time.Duration, error) {
	pod := &corev1.Pod{}
	pod.Namespace, pod.GenerateName = b.namespace, "check-"
	pod.Labels = map[string]string{"sidecar.istio.io/inject": "false"}
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	pod.Spec.Containers = []corev1.Container{{Name: "check", Image: b.image, Command: []string{"curl", "-sk", "-o", "/dev/null", "https://" + b.address + "/"}}}
	begun := time.Now()
	if err := b.cluster.Create(ctx, pod); err != nil {
		return 0, err
	}
	err := poll(ctx, func() (bool, error) {
		if err := b.cluster.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
			return false, err
		}
		if pod.Status.Phase == corev1.PodFailed {
			return false, fmt.Errorf("the pod's check failed: %s", pod.Status.Message)
		}
		return pod.Status.Phase == corev1.PodSucceeded, nil
	})
	return time.Since(begun), err
}

const (
	streamRow   = "(c) the open stream"
	exporterRow = "blackbox-exporter, in-process"
)

// startExporter starts prometheus-blackbox-exporter and returns two ways to see it probe the same server: what it says
// it took, and what its caller waits. stop ends it.
func (b *bench) startExporter(ctx context.Context, exporter string) (ways []way, stop func(), err error) {
	folder, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, nil, err
	}
	config := filepath.Join(folder, "blackbox.yml")
	if err := os.WriteFile(config, []byte(exporterConfig), 0o600); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	command := exec.CommandContext(ctx, exporter, "--config.file="+config, "--web.listen-address="+exporterAddress, "--log.level=error")
	if err := command.Start(); err != nil {
		cancel()
		return nil, nil, err
	}
	stop = func() {
		cancel()
		_ = command.Wait() // killed by cancel, which is its way to end
		os.RemoveAll(folder)
	}
	if err := poll(ctx, func() (bool, error) { _, _, err := b.scrape(ctx); return err == nil, nil }); err != nil {
		stop()
		return nil, nil, err
	}
	var took time.Duration
	return []way{
		{exporterRow, func() (said time.Duration, err error) {
			took, said, err = b.scrape(ctx)
			return said, err
		}},
		{"    and with the HTTP request to it", func() (time.Duration, error) { return took, nil }},
	}, stop, nil
}

func (b *bench) scrape(ctx context.Context) (took, said time.Duration, err error) {
	query := url.Values{"module": {"https"}, "target": {"https://" + b.address + "/"}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+exporterAddress+"/probe?"+query.Encode(), nil)
	if err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	took = time.Since(begun)
	if err != nil {
		return 0, 0, err
	}
	if !strings.Contains(string(body), "\nprobe_success 1\n") {
		return 0, 0, errors.New("the exporter's probe failed")
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, "probe_duration_seconds "); ok {
			seconds, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return took, time.Duration(seconds * float64(time.Second)), err
		}
	}
	return 0, 0, errors.New("the exporter says no duration")
}
