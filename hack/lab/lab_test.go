package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cache"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/versions"
)

// gate is the environment variable that lets the test with a real lab run: it
// needs root and takes a minute on finished products, a quarter of an hour else.
const gate = "HTTPSMESHPROBE_LAB_TEST"

// trial is a real lab under test.
type trial struct {
	*testing.T
	program, name string
}

func newTrial(t *testing.T) trial {
	t.Helper()
	if os.Getenv(gate) == "" {
		t.Skipf("starts a real lab; set %s=1 and be root to run it", gate)
	}
	program := filepath.Join(t.TempDir(), "lab")
	if output, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("cannot build lab: %v\n%s", err, output)
	}
	l := trial{t, program, "selftest"}
	l.lab("down")
	t.Cleanup(func() { l.lab("down") })
	return l
}

// lab runs a lab command that must succeed, and returns what it prints.
func (l trial) lab(arguments ...string) string {
	l.Helper()
	output, err := exec.Command(l.program, append([]string{"--name", l.name}, arguments...)...).CombinedOutput()
	if err != nil {
		l.Fatalf("lab %s: %v\n%s", strings.Join(arguments, " "), err, output)
	}
	return string(output)
}

func (l trial) kubectl(arguments ...string) string {
	l.Helper()
	return l.lab(append([]string{"exec", "--", filepath.Join(l.dir(), "bin", "kubectl")}, arguments...)...)
}

func (l trial) dir() string {
	l.Helper()
	store, err := cache.Open()
	if err != nil {
		l.Fatal(err)
	}
	return store.Instance(l.name)
}

func TestLab(t *testing.T) {
	l := newTrial(t)
	before, limit := machineNow(), inotifyLimit(t)
	l.lab("up")
	before.compare(t, "while the lab is up")
	l.lab("status")
	l.runsAMesh()

	t.Log("the node is killed, and brought up again")
	l.killNode()
	if err := exec.Command(l.program, "status", "--name", l.name).Run(); err == nil {
		t.Error("lab status calls a killed lab ready")
	}
	l.lab("up")
	l.runsAMesh()

	l.lab("down")
	before.compare(t, "after the lab went down")
	if left := controlGroups(l.name); len(left) > 0 {
		t.Errorf("after the lab went down these control groups are left: %q", left)
	}
	if now := inotifyLimit(t); now != limit {
		t.Errorf("after the lab went down fs.inotify.max_user_instances is %s and was %s", now, limit)
	}
	if _, err := os.Stat(l.dir()); !os.IsNotExist(err) {
		t.Errorf("the lab's directory is still there (%v)", err)
	}
}

// runsAMesh starts a pod with a proxy that has no shell, one without a proxy,
// and demands mutual TLS between them.
func (l trial) runsAMesh() {
	l.Helper()
	manifest := filepath.Join(l.TempDir(), "mesh.yaml")
	if err := os.WriteFile(manifest, []byte(meshManifest), 0o644); err != nil {
		l.Fatal(err)
	}
	l.kubectl("apply", "--filename", manifest)
	l.kubectl("wait", "--namespace", "trial", "--for", "condition=Ready", "pod", "--all", "--timeout", "90s")
	l.eventually("the meshed client's request to pass", func() bool { return l.answers("client") })
	l.eventually("the outsider's request to be refused", func() bool { return !l.answers("outsider") })
	shell := exec.Command(l.program, "--name", l.name, "exec", "--", filepath.Join(l.dir(), "bin", "kubectl"),
		"exec", "--namespace", "trial", "client", "--container", "istio-proxy", "--", "sh", "-c", "true")
	if shell.Run() == nil {
		l.Error("the bare proxy image has a shell")
	}
}

// answers reports whether a pod's request to the server gets through.
func (l trial) answers(pod string) bool {
	request := exec.Command(l.program, "--name", l.name, "exec", "--", filepath.Join(l.dir(), "bin", "kubectl"),
		"exec", "--namespace", "trial", pod, "--container", "curl", "--", "curl", "--silent", "--fail", "--max-time", "3", "http://server")
	return request.Run() == nil
}

func (l trial) eventually(what string, is func() bool) {
	l.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if is() {
			return
		}
	}
	l.Errorf("waited in vain for %s", what)
}

func (l trial) killNode() {
	l.Helper()
	content, err := os.ReadFile(filepath.Join(l.dir(), "node.pid"))
	if err != nil {
		l.Fatal(err)
	}
	var id struct{ PID int }
	if err := json.Unmarshal(content, &id); err != nil || id.PID <= 1 {
		l.Fatalf("node.pid names no process: %s (%v)", content, err)
	}
	if err := syscall.Kill(id.PID, syscall.SIGKILL); err != nil {
		l.Fatal(err)
	}
	l.eventually("the killed node to be gone", func() bool { return syscall.Kill(id.PID, 0) != nil })
}

var meshManifest = strings.NewReplacer("CURL", versions.CurlImage, "NGINX", versions.NginxImage).Replace(`
apiVersion: v1
kind: Namespace
metadata: {name: trial, labels: {istio-injection: enabled}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: trial}
spec: {mtls: {mode: STRICT}}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: trial}
spec: {selector: {app: server}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: trial, labels: {app: server}}
spec:
  containers: [{name: nginx, image: "NGINX"}]
---
apiVersion: v1
kind: Pod
metadata:
  name: client
  namespace: trial
  annotations: {proxy.istio.io/config: "image: {imageType: distroless}"}
spec:
  containers: [{name: curl, image: "CURL", command: [sleep, infinity]}]
---
apiVersion: v1
kind: Pod
metadata: {name: outsider, namespace: trial, labels: {sidecar.istio.io/inject: "false"}}
spec:
  containers: [{name: curl, image: "CURL", command: [sleep, infinity]}]
`)
