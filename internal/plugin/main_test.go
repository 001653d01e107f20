package plugin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
	"github.com/meshprobe/httpsmeshprobe/test/apiserver"
)

// withCRD and bare are the kubeconfigs of an API server that knows HTTPSMeshProbe, and of one that does not.
const (
	withCRD = "with-crd"
	bare    = "bare"
)

// admin may do everything on the API server that knows HTTPSMeshProbe; nil where there is none on this machine.
var admin client.WithWatch

// TestMain starts two API servers for the package.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(apiserver.Assets) == "":
		os.Exit(m.Run())
	case !apiserver.Beside():
		code, err := apiserver.Tests{
			Servers: map[string]*envtest.Environment{withCRD: server(filepath.Join("..", "..", "config", "crd")), bare: server()},
			// The tests wait far more than they work.
			Arguments: []string{"-test.parallel=8"},
		}.Run()
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

func server(crds ...string) *envtest.Environment {
	environment := &envtest.Environment{CRDDirectoryPaths: crds, ErrorIfCRDPathMissing: true}
	environment.ControlPlane.GetAPIServer().Configure().Set("authorization-mode", "RBAC")
	return environment
}

func connect() error {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), api.AddToScheme(scheme)); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", apiserver.Kubeconfig(withCRD))
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
	if os.Getenv(apiserver.Assets) == "" {
		t.Skipf("%s is not set, so there is no kube-apiserver and no etcd to test against: make test provides them", apiserver.Assets)
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
	return callWith(t.Context(), "", append([]string{"--kubeconfig", apiserver.Kubeconfig(withCRD)}, arguments...)...)
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
