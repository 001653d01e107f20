package browser_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/test/apiserver"
)

// statuses are probes as a lab handed them out.
const statuses = "../gitops/testdata"

// admin is a client that may do everything.
func admin(t *testing.T) client.Client {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", apiserver.Kubeconfig(kubeconfig))
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := api.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	admin, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return admin
}

// namespace makes one and removes its probes when the test ends; no API server alone removes a namespace.
func namespace(t *testing.T, admin client.Client, name string) {
	t.Helper()
	if err := admin.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := admin.DeleteAllOf(context.Background(), &api.HTTPSMeshProbe{}, client.InNamespace(name)); err != nil {
			t.Error(err)
		}
	})
}

// put makes a probe in a state that a lab has seen, as if it had been seen just now, or turns an existing one into it.
// change may alter it before.
func put(t *testing.T, admin client.Client, namespace, name, state string, change func(*api.HTTPSMeshProbe)) *api.HTTPSMeshProbe {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(statuses, state+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	probe := &api.HTTPSMeshProbe{}
	if err := yaml.UnmarshalStrict(text, probe); err != nil {
		t.Fatal(err)
	}
	status := probe.Status
	moveToNow(&status)
	probe.ObjectMeta = metav1.ObjectMeta{Namespace: namespace, Name: name}
	if change != nil {
		probe.Status = status
		change(probe)
		status = probe.Status
	}
	if err := admin.Create(t.Context(), probe); client.IgnoreAlreadyExists(err) != nil {
		t.Fatal(err)
	}
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(probe), probe); err != nil {
		t.Fatal(err)
	}
	probe.Status = status
	probe.Status.ObservedGeneration = probe.Generation
	if err := admin.Status().Update(t.Context(), probe); err != nil {
		t.Fatal(err)
	}
	return probe
}

// moveToNow moves all times so that the latest run is now.
func moveToNow(status *api.HTTPSMeshProbeStatus) {
	if status.LastProbeTime == nil {
		return
	}
	by := time.Since(status.LastProbeTime.Time)
	move := func(at *metav1.Time) {
		if !at.IsZero() {
			*at = metav1.NewTime(at.Add(by))
		}
	}
	move(status.LastProbeTime)
	for i := range status.Conditions {
		move(&status.Conditions[i].LastTransitionTime)
	}
	for i := range status.Paths {
		move(status.Paths[i].LastProbeTime)
		move(status.Paths[i].LastTransitionTime)
	}
}

// wire passes bytes on to the API server, and can be cut.
type wire struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	cut   bool
	ends  map[net.Conn]bool
	group sync.WaitGroup
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: listener, to: to, ends: map[net.Conn]bool{}}
	w.group.Go(w.accept)
	t.Cleanup(func() {
		listener.Close()
		w.setCut(true)
		w.group.Wait()
	})
	return w
}

func (w *wire) accept() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", w.to)
		if err != nil || !w.add(near, far) {
			near.Close()
			if err == nil {
				far.Close()
			}
			continue
		}
		for _, ends := range [][2]net.Conn{{near, far}, {far, near}} {
			w.group.Go(func() {
				_, _ = io.Copy(ends[0], ends[1])
				ends[0].Close()
				ends[1].Close()
			})
		}
	}
}

func (w *wire) add(ends ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, end := range ends {
		w.ends[end] = true
	}
	return !w.cut
}

// setCut breaks all connections and accepts no more, or mends the wire.
func (w *wire) setCut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	if cut {
		for end := range w.ends {
			end.Close()
		}
		clear(w.ends)
	}
}

// plugin is kubectl-meshprobe ui, running.
type plugin struct {
	command *exec.Cmd
	address string
	said    func() string
}

// startUI starts it over a wire to the API server. When the test ends it is ended, and has to end well.
func startUI(t *testing.T, arguments ...string) (*plugin, *wire) {
	t.Helper()
	raw, err := clientcmd.LoadFromFile(apiserver.Kubeconfig(kubeconfig))
	if err != nil {
		t.Fatal(err)
	}
	var cable *wire
	for _, cluster := range raw.Clusters {
		cable = newWire(t, strings.TrimPrefix(cluster.Server, "https://"))
		cluster.Server = "https://" + cable.listener.Addr().String()
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*raw, kubeconfig); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(os.Getenv(pluginVariable), append([]string{"ui", "--kubeconfig", kubeconfig}, arguments...)...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errors strings.Builder
	command.Stderr = &errors
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		_ = command.Wait()
		t.Fatalf("no address: %v; %s", err, errors.String())
	}
	running := &plugin{command: command, address: strings.TrimSpace(line), said: errors.String}
	t.Cleanup(func() { running.end(t) })
	return running, cable
}

// end is Ctrl-C. Afterwards it does nothing.
func (p *plugin) end(t *testing.T) {
	t.Helper()
	if p.command.ProcessState != nil {
		return
	}
	if err := p.command.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	if err := p.command.Wait(); err != nil {
		t.Errorf("kubectl meshprobe ui ended with %v: %s", err, p.said())
	}
}

// base is the address without token.
func (p *plugin) base() string {
	base, _, _ := strings.Cut(p.address, "/?")
	return base
}
