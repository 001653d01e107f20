package controllers_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

const (
	systemNamespace = "httpsmeshprobe-system"
	serviceAccount  = "system:serviceaccount:" + systemNamespace + ":httpsmeshprobe-manager"

	probeCRD = "../config/crd/meshprobe.dev_httpsmeshprobes.yaml"
	istioCRD = "testdata/peerauthentication.yaml"
	rulesCRD = "testdata/destinationrule.yaml"
)

// apiServer is a real etcd and kube-apiserver, and nothing else: no controller manager, no scheduler, no kubelet and no
// Istio. What these would do is played by cluster and mesh.
type apiServer struct {
	env    *envtest.Environment
	scheme *runtime.Scheme
	admin  client.WithWatch
	// operator is the operator's own service account, with the rights of config/rbac and no others, and held by
	// config/admission.
	operator *rest.Config
}

// shared is the API server of all tests but those that need one without Istio's kinds. Every test has a namespace of
// its own in it.
var shared = sync.OnceValues(func() (*apiServer, error) { return startAPIServer(probeCRD, istioCRD, rulesCRD) })

var running struct {
	sync.Mutex
	environments []*envtest.Environment
}

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests wait far more than they work: for intervals of seconds, the shortest that the API allows.
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		_ = flag.Set("test.parallel", "8")
	}
	ctrl.SetLogger(logged.logger())
	klog.SetLogger(logged.logger())
	code := m.Run()
	running.Lock()
	defer running.Unlock()
	for _, environment := range running.environments {
		if err := environment.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop an API server:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// theAPIServer returns the shared API server, or skips the test where it cannot be had.
func theAPIServer(t *testing.T) *apiServer {
	t.Helper()
	requireAssets(t)
	server, err := shared()
	if err != nil {
		t.Fatalf("start the API server: %v", err)
	}
	return server
}

func requireAssets(t *testing.T) {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("KUBEBUILDER_ASSETS names no folder with etcd and kube-apiserver; make test sets it")
	}
}

func startAPIServer(crds ...string) (*apiServer, error) {
	env := &envtest.Environment{
		CRDDirectoryPaths: crds, ErrorIfCRDPathMissing: true, ControlPlaneStartTimeout: time.Minute,
	}
	env.ControlPlane.GetAPIServer().Configure().Set("authorization-mode", "RBAC")
	running.Lock()
	running.environments = append(running.environments, env)
	running.Unlock()
	config, err := env.Start()
	if err != nil {
		return nil, err
	}
	server := &apiServer{env: env, scheme: runtime.NewScheme()}
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, securityv1.AddToScheme, networkingv1.AddToScheme, api.AddToScheme} {
		if err := add(server.scheme); err != nil {
			return nil, err
		}
	}
	if server.admin, err = client.NewWithWatch(config, client.Options{Scheme: server.scheme}); err != nil {
		return nil, err
	}
	user, err := env.AddUser(envtest.User{
		Name: serviceAccount, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + systemNamespace},
	}, nil)
	if err != nil {
		return nil, err
	}
	server.operator = user.Config()
	return server, server.grantRights()
}

func (s *apiServer) grantRights() error {
	system := &corev1.Namespace{}
	system.Name = systemNamespace
	if err := s.admin.Create(context.Background(), system); err != nil {
		return err
	}
	for _, folder := range []string{"../config/rbac", "../config/admission"} {
		if err := s.createAll(folder); err != nil {
			return err
		}
	}
	return nil
}

// createAll creates what a folder holds, file by file as its kustomization lists them.
func (s *apiServer) createAll(folder string) error {
	list, err := objectsIn(filepath.Join(folder, "kustomization.yaml"))
	if err != nil {
		return err
	}
	files, _, err := unstructured.NestedStringSlice(list[0].Object, "resources")
	if err != nil {
		return err
	}
	for _, file := range files {
		objects, err := objectsIn(filepath.Join(folder, file))
		if err != nil {
			return err
		}
		for _, object := range objects {
			if err := s.admin.Create(context.Background(), object); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		}
	}
	return nil
}

// objectsIn reads the documents of a YAML file.
func objectsIn(path string) ([]*unstructured.Unstructured, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(file, 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

const (
	// limit is how long anything may take that ought to happen; tick is how often it is looked for.
	limit = 30 * time.Second
	tick  = 50 * time.Millisecond
)

// eventually waits for what is to happen, and fails with what still stands in its way when it does not in time.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var err error
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); <-ticker.C {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("waited %v for %s: %v", limit, what, err)
}

// throughout fails as soon as something does not hold any more.
func throughout(t *testing.T, period time.Duration, what string, check func() error) {
	t.Helper()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for end := time.Now().Add(period); time.Now().Before(end); <-ticker.C {
		if err := check(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}
