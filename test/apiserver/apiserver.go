// Package apiserver runs a package's tests beside real API servers, each a kube-apiserver with an etcd of its own.
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

const (
	// Assets names the folder with kube-apiserver and etcd; where it is not set, there are none to test against.
	Assets = "KUBEBUILDER_ASSETS"
	// folder tells the process that runs the tests where the kubeconfigs are.
	folder = "HTTPSMESHPROBE_TEST_FOLDER"
	// endTime is how long the tests may take to end when they are asked to.
	endTime = 10 * time.Second
)

// Tests are a package's tests, with what is to be there while they run.
type Tests struct {
	// Servers are the API servers, by the names of their kubeconfigs.
	Servers map[string]*envtest.Environment
	// Prepare makes whatever else the tests need in a folder that is removed after them, and returns what is to be added
	// to their environment; nil where they need nothing.
	Prepare func(ctx context.Context, folder string) (environment []string, err error)
	// Arguments go before those of the command line.
	Arguments []string
}

// Beside says whether this process is the one that runs the tests.
func Beside() bool { return os.Getenv(folder) != "" }

// Kubeconfig is the file that leads to the API server of a name.
func Kubeconfig(name string) string { return filepath.Join(os.Getenv(folder), name) }

// Run starts the API servers, runs this program again beside them, stops them, and returns how the tests ended. Because the
// tests run in a process of their own, that happens whatever becomes of them: a panic or a time-out ends a process without
// asking anybody.
func (t Tests) Run() (code int, err error) {
	ctx, ignore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer ignore()
	place, err := os.MkdirTemp("", "tests-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(place)
	for name, server := range t.Servers {
		// A start that failed half-way leaves something to stop too.
		defer func() { err = errors.Join(err, server.Stop()) }()
		if _, err := server.Start(); err != nil {
			return 0, fmt.Errorf("start the API server: %w", err)
		}
		if err := os.WriteFile(filepath.Join(place, name), server.KubeConfig, 0o600); err != nil {
			return 0, err
		}
	}
	environment := append(os.Environ(), folder+"="+place)
	if t.Prepare != nil {
		prepared, err := t.Prepare(ctx, place)
		if err != nil {
			return 0, err
		}
		environment = append(environment, prepared...)
	}
	return run(ctx, environment, append(t.Arguments, os.Args[1:]...))
}

func run(ctx context.Context, environment, arguments []string) (code int, err error) {
	tests := exec.CommandContext(ctx, os.Args[0], arguments...)
	tests.Env, tests.Stdout, tests.Stderr = environment, os.Stdout, os.Stderr
	// Tests end what they have started themselves.
	tests.Cancel, tests.WaitDelay = func() error { return tests.Process.Signal(os.Interrupt) }, endTime
	err = tests.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return max(1, ended.ExitCode()), nil
	}
	return 0, err
}
