package build

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cache"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/progress"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/versions"
)

//go:embed programs.go
var programsRecipe string

// kubernetesPrograms are the names under which the one Kubernetes binary runs.
var kubernetesPrograms = []string{
	"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl",
}

// packages are built in one go, so that what they share is compiled once and
// both cores always have something to do.
var packages = []string{
	"./kubernetes", "./coredns", "./pause",
	"istio.io/istio/istioctl/cmd/istioctl",
	"istio.io/istio/pilot/cmd/pilot-agent",
	"istio.io/istio/pilot/cmd/pilot-discovery",
}

// Programs returns the directory with the compiled programs and Istio's Envoy
// bootstrap template beside them.
func (b *Builder) Programs(ctx context.Context) (string, error) {
	product, err := programsProduct(b.Checkout)
	if err != nil {
		return "", err
	}
	return b.ensure(ctx, recipe{
		product: product,
		doing:   "compiling Kubernetes, Istio and CoreDNS; the longest stage",
		make: func(ctx context.Context, dir string, stage *progress.Stage, log *os.File) error {
			return compilePrograms(ctx, nodeModule(b.Checkout), dir, stage, log)
		},
	})
}

// nodeModule is the Go module that pins the node's programs.
func nodeModule(checkout string) string { return filepath.Join(checkout, "hack", "lab", "node") }

func programsProduct(checkout string) (cache.Product, error) {
	source := nodeModule(checkout)
	parts := []string{programsRecipe, runtime.Version(), runtime.GOARCH}
	for _, name := range []string{"go.mod", "go.sum", "kubernetes/main.go", "coredns/main.go", "pause/main.go"} {
		content, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return cache.Product{}, fmt.Errorf("cannot read the node's Go module: %w", err)
		}
		parts = append(parts, string(content))
	}
	return cache.Product{Name: "programs", Key: cache.Key(parts...)}, nil
}

func compilePrograms(ctx context.Context, source, dir string, stage *progress.Stage, log *os.File) error {
	// The flags that decide what the build cache can share are those of the
	// operator's own build: -trimpath and no cgo.
	arguments := append([]string{"build", "-v", "-trimpath", "-ldflags", linkerFlags(), "-o", dir + "/"}, packages...)
	compile := goCommand(source, arguments...)
	counter := &lineCounter{log: log}
	compile.Stderr = counter
	stage.DetailFrom(func() string { return fmt.Sprintf("%d packages compiled", counter.lines.Load()) })
	if err := runLogged(ctx, log, compile); err != nil {
		return err
	}
	for _, name := range kubernetesPrograms {
		if err := os.Symlink("kubernetes", filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("cannot name a Kubernetes program: %w", err)
		}
	}
	return copyBootstrap(ctx, source, dir, log)
}

func linkerFlags() string {
	return strings.Join([]string{
		"-s", "-w",
		"-X k8s.io/component-base/version.gitVersion=v" + versions.Kubernetes,
		"-X istio.io/istio/pkg/version.buildVersion=" + versions.Istio,
		"-X istio.io/istio/pkg/version.buildHub=" + versions.IstioHub,
		"-X istio.io/istio/pkg/version.buildTag=" + versions.Istio,
	}, " ")
}

// copyBootstrap takes the template from which the proxy's agent writes Envoy's
// configuration; it is part of Istio's module but of none of its programs.
func copyBootstrap(ctx context.Context, source, dir string, log *os.File) error {
	var module bytes.Buffer
	list := goCommand(source, "list", "-m", "-f", "{{.Dir}}", "istio.io/istio")
	list.Stdout = &module
	if err := runLogged(ctx, log, list); err != nil {
		return err
	}
	template := filepath.Join(strings.TrimSpace(module.String()), "tools", "packaging", "common", "envoy_bootstrap.json")
	content, err := os.ReadFile(template)
	if err != nil {
		return fmt.Errorf("cannot read Istio's Envoy bootstrap template: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, "envoy_bootstrap.json"), content, 0o644)
}

// goCommand runs the go tool free of settings that would change what is built.
func goCommand(dir string, arguments ...string) *exec.Cmd {
	cmd := exec.Command("go", arguments...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off", "GOOS=linux")
	return cmd
}

// lineCounter passes a compiler's output on and counts its lines: one each
// package.
type lineCounter struct {
	log   *os.File
	lines atomic.Int64
}

func (c *lineCounter) Write(p []byte) (int, error) {
	c.lines.Add(int64(bytes.Count(p, []byte("\n"))))
	return c.log.Write(p)
}
