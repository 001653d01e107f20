package browser_test

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

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

const (
	// assetsVariable names the folder with kube-apiserver and etcd.
	assetsVariable = "KUBEBUILDER_ASSETS"
	// kubeconfigVariable tells the process that runs the tests where the API server is.
	kubeconfigVariable = "HTTPSMESHPROBE_TEST_KUBECONFIG"
	// pluginVariable tells it where the plugin's binary is.
	pluginVariable = "HTTPSMESHPROBE_TEST_PLUGIN"
)

// TestMain builds the plugin and starts an API server for the whole package. The tests run in a process of their own
// beside it, so that both are gone afterwards whatever becomes of them, and all temporary files with them.
func TestMain(m *testing.M) {
	if os.Getenv(assetsVariable) == "" {
		fmt.Fprintf(os.Stderr, "%s is not set, so there is no kube-apiserver and no etcd to test against: make test provides them\n", assetsVariable)
		os.Exit(1)
	}
	logf.SetLogger(logr.Discard())
	if os.Getenv(kubeconfigVariable) != "" {
		os.Exit(m.Run())
	}
	code, err := runBesideAPIServer()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// runBesideAPIServer runs this program again with an API server beside it, and returns how it ended.
func runBesideAPIServer() (code int, err error) {
	ctx, ignore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer ignore()
	folder, err := os.MkdirTemp("", "browser-tests-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(folder)
	plugin := filepath.Join(folder, "kubectl-meshprobe")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", plugin, "./cmd/kubectl-meshprobe")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build the plugin: %w\n%s", err, output)
	}
	environment := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join("..", "..", "config", "crd"), filepath.Join("..", "..", "controllers", "testdata")},
		ErrorIfCRDPathMissing: true,
	}
	// A start that failed half-way leaves something to stop too.
	defer func() { err = errors.Join(err, environment.Stop()) }()
	if _, err := environment.Start(); err != nil {
		return 0, fmt.Errorf("start the API server: %w", err)
	}
	kubeconfig := filepath.Join(folder, "kubeconfig")
	if err := os.WriteFile(kubeconfig, environment.KubeConfig, 0o600); err != nil {
		return 0, err
	}
	tests := exec.CommandContext(ctx, os.Args[0], os.Args[1:]...)
	tests.Env = append(os.Environ(), kubeconfigVariable+"="+kubeconfig, pluginVariable+"="+plugin, "TMPDIR="+folder)
	tests.Stdout, tests.Stderr = os.Stdout, os.Stderr
	// The tests end their plugins and their browser themselves.
	tests.Cancel = func() error { return tests.Process.Signal(os.Interrupt) }
	err = tests.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return max(1, ended.ExitCode()), nil
	}
	return 0, err
}
