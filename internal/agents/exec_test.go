package agents

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // RFC 6455, section 4.2.2, demands it
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// patience is what a loaded machine may take for something that is over in a moment.
const patience = 20 * time.Second

// sleepPod is a container to exec into.
var sleepPod = Vantage{Namespace: "shop", Pod: "meshprobe-sleep-1", UID: "1", Container: "sleep"}

// open runs Open until it returns, which it must do in time.
func open(t *testing.T, ctx context.Context, config *rest.Config, from Vantage, stdin io.Reader, stdout io.Writer) error {
	t.Helper()
	exec, err := NewExec(config, "/meshprobe/probe", "agent")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- exec.Open(ctx, from, stdin, stdout) }()
	select {
	case err := <-ended:
		if err == nil {
			t.Fatal("Open returned no error")
		}
		return err
	case <-time.After(patience):
		t.Fatalf("Open did not return within %v", patience)
		return nil
	}
}

// TestExecAtTheAPIServer asks a real API server. There is no kubelet behind it, so no stream comes about; what is tested
// is what is made of the refusals.
func TestExecAtTheAPIServer(t *testing.T) {
	server := startAPIServer(t)
	admin := kubernetes.NewForConfigOrDie(server.Config)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "meshprobe-sleep-1", Namespace: "default"}}
	pod.Spec.Containers = []corev1.Container{{Name: "sleep", Image: "curl"}}
	if _, err := admin.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	here := Vantage{Namespace: "default", Pod: "meshprobe-sleep-1", Container: "sleep"}
	gone := Vantage{Namespace: "default", Pod: "meshprobe-sleep-0", Container: "sleep"}
	for name, test := range map[string]struct {
		verbs []string
		from  Vantage
		want  string
	}{
		"no right":              {nil, here, "unless a policy forbids it, grant the operator's service account create and get on pods/exec in namespace default"},
		"get alone":             {[]string{"get"}, here, "unless a policy forbids it, grant the operator's service account create and get on pods/exec in namespace default"},
		"create alone":          {[]string{"create"}, here, "unless a policy forbids it, grant the operator's service account create and get on pods/exec in namespace default"},
		"no right, missing pod": {nil, gone, "unless a policy forbids it, grant the operator's service account create and get on pods/exec in namespace default"},
		"missing pod":           {[]string{"get", "create"}, gone, `pods "meshprobe-sleep-0" not found`},
		"pod on no node":        {[]string{"get", "create"}, here, "does not have a host assigned"},
	} {
		t.Run(name, func(t *testing.T) {
			config := userWith(t, server, admin, test.verbs)
			err := open(t, t.Context(), config, test.from, strings.NewReader(""), io.Discard)
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error: got %q, want it to say %q", err, test.want)
			}
			if got, want := errors.Is(err, ErrForbidden), len(test.verbs) < 2; got != want {
				t.Errorf("ErrForbidden: got %v, want %v, in %q", got, want, err)
			}
		})
	}
}

// startAPIServer starts etcd and kube-apiserver, or skips the test where they are not at hand.
func startAPIServer(t *testing.T) *envtest.Environment {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("KUBEBUILDER_ASSETS names no folder with etcd and kube-apiserver; make test sets it")
	}
	server := &envtest.Environment{ControlPlaneStartTimeout: time.Minute}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("stop the API server: %v", err)
		}
	})
	if _, err := server.Start(); err != nil {
		t.Fatalf("start the API server: %v", err)
	}
	return server
}

// userWith makes a user who may do verbs on pods/exec, and nothing else.
func userWith(t *testing.T, server *envtest.Environment, admin kubernetes.Interface, verbs []string) *rest.Config {
	t.Helper()
	name := "exec-" + strings.Join(verbs, "-") + strings.ToLower(base64.RawURLEncoding.EncodeToString([]byte(t.Name()))[:8]) + "x"
	user, err := server.AddUser(envtest.User{Name: name}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(verbs) == 0 {
		return user.Config()
	}
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{GenerateName: "exec-"}}
	role.Rules = []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods/exec"}, Verbs: verbs}}
	role, err = admin.RbacV1().Roles("default").Create(t.Context(), role, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}
	if _, err := admin.RbacV1().RoleBindings("default").Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return user.Config()
}

// An API server behind a network that swallows everything, or one that is frozen, must not hold a stream for ever.
func TestCancelEndsOpenAtAServerThatSaysNothing(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 1)) // the request for an upgrade is on its way, and stays without an answer
		cancel()
		<-t.Context().Done()
	}()
	config := &rest.Config{Host: "http://" + listener.Addr().String()}
	if err := open(t, ctx, config, sleepPod, strings.NewReader(""), io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("error: got %v, want %v", err, context.Canceled)
	}
}

func TestCancelEndsAStreamThatStands(t *testing.T) {
	held := make(chan struct{})
	defer close(held)
	server := startExecServer(t, func(conn io.Writer) {
		sendFrame(conn, 1, "{\"id\":0}\n")
		<-held
	})
	ctx, cancel := context.WithCancel(t.Context())
	stdin, stdout := io.Pipe()
	defer stdout.Close()
	heard := writerFunc(func(p []byte) (int, error) {
		cancel()
		return len(p), nil
	})
	err := open(t, ctx, &rest.Config{Host: server}, sleepPod, stdin, heard)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error: got %v, want %v", err, context.Canceled)
	}
}

func TestOpenCarriesTheStreamAndTellsTheAgentsLastWords(t *testing.T) {
	server := startExecServer(t, func(conn io.Writer) {
		sendFrame(conn, 1, "{\"id\":")
		sendFrame(conn, 1, "7}\n")
		sendFrame(conn, 2, "exec /meshprobe/probe: exec format error"+strings.Repeat(" and so on", 9))
		sendFrame(conn, 2, strings.Repeat("x", 100))
		sendFrame(conn, 2, strings.Repeat("y", 100))
		defer closeFrame(conn)
		sendFrame(conn, 3, `{"status":"Failure","reason":"NonZeroExitCode","message":"exited","details":{"causes":[{"reason":"ExitCode","message":"126"}]}}`)
	})
	var out lockedBuffer
	err := open(t, t.Context(), &rest.Config{Host: server}, sleepPod, strings.NewReader(""), &out)
	if got := out.String(); got != "{\"id\":7}\n" {
		t.Errorf("standard output: got %q", got)
	}
	if !strings.Contains(err.Error(), "126") || !strings.Contains(err.Error(), "exec format error") {
		t.Errorf("error: got %q, want the exit code and what the agent said", err)
	}
	if got := strings.Count(err.Error(), "x") + strings.Count(err.Error(), "y"); got > maxComplaint {
		t.Errorf("error: got %d bytes, want it bounded", len(err.Error()))
	}
}

// Some proxies before an API server pass no WebSocket on; SPDY is tried then.
func TestRefusedWebSocketFallsBackToSPDY(t *testing.T) {
	for name, test := range map[string]struct {
		code      int
		message   string
		forbidden bool
	}{
		"missing pod": {http.StatusNotFound, `pods \"meshprobe-sleep-1\" not found`, false},
		"forbidden":   {http.StatusForbidden, `pods \"meshprobe-sleep-1\" is forbidden: User \"x\" cannot create resource \"pods/exec\"`, true},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Upgrade") == "websocket" {
					http.Error(w, "no WebSocket here", http.StatusBadRequest)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(test.code)
				fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"%s","code":%d}`, test.message, test.code)
			}))
			defer server.Close()
			err := open(t, t.Context(), &rest.Config{Host: server.URL}, sleepPod, strings.NewReader(""), io.Discard)
			if got := errors.Is(err, ErrForbidden); got != test.forbidden {
				t.Errorf("ErrForbidden: got %v, want %v, in %q", got, test.forbidden, err)
			}
			if !test.forbidden && !strings.Contains(err.Error(), "not found") {
				t.Errorf("error: got %q, want what SPDY met", err)
			}
		})
	}
}

// startExecServer stands in for an API server and kubelet that let everybody in: it accepts the WebSocket (RFC 6455) of
// an exec and hands over its connection.
func startExecServer(t *testing.T, serve func(io.Writer)) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		accept := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n", base64.StdEncoding.EncodeToString(accept[:]))
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		serve(conn)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// sendFrame writes a binary message on one of the channels of v5.channel.k8s.io: 1 is standard output, 2 standard error,
// 3 the exit status.
func sendFrame(conn io.Writer, channel byte, text string) {
	payload := append([]byte{channel}, text...)
	header := []byte{0x82, byte(len(payload))}
	if len(payload) > 125 {
		header = []byte{0x82, 126, byte(len(payload) >> 8), byte(len(payload))}
	}
	_, _ = conn.Write(append(header, payload...))
}

// closeFrame says that all is over (status code 1000).
func closeFrame(conn io.Writer) { _, _ = conn.Write([]byte{0x88, 2, 0x03, 0xe8}) }

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
