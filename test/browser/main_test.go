package browser_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/meshprobe/httpsmeshprobe/test/apiserver"
)

const (
	kubeconfig = "kubeconfig"
	// pluginVariable tells the process that runs the tests where the plugin's binary is.
	pluginVariable = "HTTPSMESHPROBE_TEST_PLUGIN"
)

// TestMain builds the plugin and starts an API server for the whole package. Both are gone afterwards, and all temporary
// files with them.
func TestMain(m *testing.M) {
	if os.Getenv(apiserver.Assets) == "" {
		fmt.Fprintf(os.Stderr, "%s is not set, so there is no kube-apiserver and no etcd to test against: make test provides them\n", apiserver.Assets)
		os.Exit(1)
	}
	logf.SetLogger(logr.Discard())
	if apiserver.Beside() {
		os.Exit(m.Run())
	}
	code, err := apiserver.Tests{
		Servers: map[string]*envtest.Environment{kubeconfig: {
			CRDDirectoryPaths:     []string{filepath.Join("..", "..", "config", "crd"), filepath.Join("..", "..", "controllers", "testdata")},
			ErrorIfCRDPathMissing: true,
		}},
		Prepare: buildPlugin,
	}.Run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildPlugin(ctx context.Context, folder string) (environment []string, err error) {
	plugin := filepath.Join(folder, "kubectl-meshprobe")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", plugin, "./cmd/kubectl-meshprobe")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the plugin: %w\n%s", err, output)
	}
	return []string{pluginVariable + "=" + plugin, "TMPDIR=" + folder}, nil
}
