package v1alpha1_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/test/apiserver"
)

// The API server of this package's tests; nil where there is none on this machine.
var (
	apiServer *rest.Config
	asClient  client.Client
)

const kubeconfig = "kubeconfig"

// TestMain starts one API server for the whole package, with the resource definition that is deployed.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(apiserver.Assets) == "":
		os.Exit(m.Run())
	case !apiserver.Beside():
		code, err := apiserver.Tests{Servers: map[string]*envtest.Environment{kubeconfig: {
			CRDDirectoryPaths:     []string{filepath.Join("..", "..", "config", "crd")},
			ErrorIfCRDPathMissing: true,
		}}}.Run()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	default:
		if err := connect(apiserver.Kubeconfig(kubeconfig)); err != nil {
			fmt.Fprintln(os.Stderr, "connect to the API server:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
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
	if os.Getenv(apiserver.Assets) == "" {
		t.Skipf("%s is not set, so there is no kube-apiserver and no etcd to test against: make test provides them", apiserver.Assets)
	}
	return t.Context()
}
