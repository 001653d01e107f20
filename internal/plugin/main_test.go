package plugin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/plugin"
)

const (
	// assetsVariable names the folder with kube-apiserver and etcd.
	assetsVariable = "KUBEBUILDER_ASSETS"
	// folderVariable tells the process that runs the tests where the kubeconfigs are.
	folderVariable = "HTTPSMESHPROBE_TEST_KUBECONFIGS"

	// withCRD and bare are the kubeconfigs of an API server that knows HTTPSMeshProbe, and of one that does not.
	withCRD = "with-crd"
	bare    = "bare"
)

// admin may do everything on the API server that knows HTTPSMeshProbe; nil where there is none on this machine.
var admin client.WithWatch

// TestMain starts two API servers for the package. The tests run in a process of their own beside them, so that they are
// stopped whatever becomes of it.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(assetsVariable) == "":
		os.Exit(m.Run())
	case os.Getenv(folderVariable) == "":
		code, err := runBesideAPIServers()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	default:
		if err := connect(); err != nil {
			fmt.Fprintln(os.Stderr, "connect to the API server:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
}

// runBesideAPIServers runs this program again with the API servers beside it, and returns how it ended.
func runBesideAPIServers() (code int, err error) {
	ctx, ignore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer ignore()
	folder, err := os.MkdirTemp("", "plugin-tests-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(folder)
	for name, crds := range map[string][]string{withCRD: {filepath.Join("..", "..", "config", "crd")}, bare: nil} {
		environment := &envtest.Environment{CRDDirectoryPaths: crds, ErrorIfCRDPathMissing: true}
		environment.ControlPlane.GetAPIServer().Configure().Set("authorization-mode", "RBAC")
		// A start that failed half-way leaves something to stop too.
		defer func() { err = errors.Join(err, environment.Stop()) }()
		if _, err := environment.Start(); err != nil {
			return 0, fmt.Errorf("start the API server: %w", err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), environment.KubeConfig, 0o600); err != nil {
			return 0, err
		}
	}
	// The tests wait far more than they work.
	arguments := append([]string{"-test.parallel=8"}, os.Args[1:]...)
	tests := exec.CommandContext(ctx, os.Args[0], arguments...)
	tests.Env = append(os.Environ(), folderVariable+"="+folder)
	tests.Stdout, tests.Stderr = os.Stdout, os.Stderr
	err = tests.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return max(1, ended.ExitCode()), nil
	}
	return 0, err
}

func kubeconfig(name string) string { return filepath.Join(os.Getenv(folderVariable), name) }

func connect() error {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), api.AddToScheme(scheme)); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig(withCRD))
	if err != nil {
		return err
	}
	// The tests wait for nobody else.
	config.QPS = -1
	admin, err = client.NewWithWatch(config, client.Options{Scheme: scheme})
	return err
}

// needAPIServer skips a test on a machine without kube-apiserver and etcd. It asks for the variable again, because go
// test notes for its cache only what is asked during the tests.
func needAPIServer(t *testing.T) {
	t.Helper()
	if os.Getenv(assetsVariable) == "" {
		t.Skipf("%s is not set, so there is no kube-apiserver and no etcd to test against: make test provides them", assetsVariable)
	}
}

// namespace makes a namespace for one test. There is nobody here who would take it away again.
func namespace(t *testing.T) string {
	t.Helper()
	needAPIServer(t)
	ns := &corev1.Namespace{}
	ns.GenerateName = "plugin-"
	if err := admin.Create(t.Context(), ns); err != nil {
		t.Fatalf("create a namespace: %v", err)
	}
	return ns.Name
}

// result is how a call of the program ended.
type result struct {
	code     int
	out, err string
}

// call calls the program as a person would, with the kubeconfig of the API server that knows HTTPSMeshProbe.
func call(t *testing.T, arguments ...string) result {
	t.Helper()
	needAPIServer(t)
	return callWith(t.Context(), "", append([]string{"--kubeconfig", kubeconfig(withCRD)}, arguments...)...)
}

func callWith(ctx context.Context, input string, arguments ...string) result {
	var out, complaint bytes.Buffer
	code := plugin.Run(ctx, plugin.Program{
		IOStreams: genericiooptions.IOStreams{In: strings.NewReader(input), Out: &out, ErrOut: &complaint},
		Version:   "test",
		Arguments: arguments,
	})
	return result{code, out.String(), complaint.String()}
}

// wantFailure expects that nothing was judged, and one line that says why.
func wantFailure(t *testing.T, got result, parts ...string) {
	t.Helper()
	if got.code != plugin.ExitUnknown {
		t.Errorf("exit code %d, want %d", got.code, plugin.ExitUnknown)
	}
	if got.out != "" {
		t.Errorf("printed on standard output: %s", got.out)
	}
	var told []string
	for line := range strings.Lines(got.err) {
		if strings.HasPrefix(line, "error: ") {
			told = append(told, line)
		}
	}
	if len(told) != 1 {
		t.Fatalf("want one line that begins with error:, got:\n%s", got.err)
	}
	for _, part := range parts {
		if !strings.Contains(told[0], part) {
			t.Errorf("the line does not hold %q: %s", part, told[0])
		}
	}
}

// wantNothingLeft expects that no probe is in the namespace.
func wantNothingLeft(t *testing.T, namespace string) {
	t.Helper()
	var left api.HTTPSMeshProbeList
	if err := admin.List(context.Background(), &left, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	for _, probe := range left.Items {
		t.Errorf("probe %s is left behind", probe.Name)
	}
}
