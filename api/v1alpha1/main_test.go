package v1alpha1_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

const (
	// assetsVariable names the folder with kube-apiserver and etcd.
	assetsVariable = "KUBEBUILDER_ASSETS"
	// kubeconfigVariable tells the process that runs the tests where the API server is.
	kubeconfigVariable = "HTTPSMESHPROBE_TEST_KUBECONFIG"
)

// The API server of this package's tests; nil where there is none on this machine.
var (
	apiServer *rest.Config
	asClient  client.Client
)

// TestMain starts one API server for the whole package, with the resource definition that is deployed. The tests run in
// a process of their own beside it, so that it is stopped whatever becomes of them: a panic or a time-out ends a process
// without asking anybody.
func TestMain(m *testing.M) {
	kubeconfig := os.Getenv(kubeconfigVariable)
	switch {
	case os.Getenv(assetsVariable) == "":
		os.Exit(m.Run())
	case kubeconfig == "":
		code, err := runBesideAPIServer()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	default:
		if err := connect(kubeconfig); err != nil {
			fmt.Fprintln(os.Stderr, "connect to the API server:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
}

// runBesideAPIServer runs this program again with an API server beside it, and returns how it ended.
func runBesideAPIServer() (code int, err error) {
	ctx, ignore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer ignore()
	environment := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join("..", "..", "config", "crd")},
		ErrorIfCRDPathMissing: true,
	}
	// A start that failed half-way leaves something to stop too.
	defer func() { err = errors.Join(err, environment.Stop()) }()
	if _, err := environment.Start(); err != nil {
		return 0, fmt.Errorf("start the API server: %w", err)
	}
	folder, err := os.MkdirTemp("", "api-tests-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(folder)
	kubeconfig := filepath.Join(folder, "kubeconfig")
	if err := os.WriteFile(kubeconfig, environment.KubeConfig, 0o600); err != nil {
		return 0, err
	}
	tests := exec.CommandContext(ctx, os.Args[0], os.Args[1:]...)
	tests.Env = append(os.Environ(), kubeconfigVariable+"="+kubeconfig)
	tests.Stdout, tests.Stderr = os.Stdout, os.Stderr
	err = tests.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return max(1, ended.ExitCode()), nil
	}
	return 0, err
}

func connect(kubeconfig string) error {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), api.AddToScheme(scheme)); err != nil {
		return err
	}
	var err error
	if apiServer, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
		return err
	}
	// The tests wait for nobody else.
	apiServer.QPS = -1
	asClient, err = client.New(apiServer, client.Options{Scheme: scheme})
	return err
}

// needAPIServer skips a test on a machine without kube-apiserver and etcd. It asks for the variable again, because go
// test notes for its cache only what is asked during the tests: skipped tests must not pass for tests that ran.
func needAPIServer(t *testing.T) context.Context {
	t.Helper()
	if os.Getenv(assetsVariable) == "" {
		t.Skipf("%s is not set, so there is no kube-apiserver and no etcd to test against: make test provides them", assetsVariable)
	}
	return t.Context()
}
