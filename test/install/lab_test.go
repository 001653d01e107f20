// Package install tests the ways to install the operator, with the real kubectl and helm, on a lab without an operator.
// hack/install-test.sh brings it up and runs these tests inside the lab's network.
package install

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	root  = "../.."
	chart = root + "/charts/httpsmeshprobe"
)

func TestMain(m *testing.M) {
	if os.Getenv("MESHPROBE_LAB") == "" {
		fmt.Println("the tests of installing need a lab: make test-install brings one up and runs them")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// try runs a program and returns what it wrote, on standard error too where it failed.
func try(ctx context.Context, stdin, program string, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, program, arguments...)
	command.Stdin = strings.NewReader(stdin)
	var out, complaint bytes.Buffer
	command.Stdout, command.Stderr = &out, &complaint
	if err := command.Run(); err != nil {
		return out.String() + complaint.String(), fmt.Errorf("%s %s: %w: %s%s", filepath.Base(program), strings.Join(arguments, " "), err, out.String(), complaint.String())
	}
	return out.String(), nil
}

func kubectlTry(ctx context.Context, arguments ...string) (string, error) {
	return try(ctx, "", os.Getenv("KUBECTL"), arguments...)
}

func kubectl(t *testing.T, arguments ...string) string {
	t.Helper()
	out, err := kubectlTry(t.Context(), arguments...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func apply(t *testing.T, manifest string) {
	t.Helper()
	if _, err := try(t.Context(), manifest, os.Getenv("KUBECTL"), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

func helmTry(ctx context.Context, arguments ...string) (string, error) {
	return try(ctx, "", root+"/bin/helm", arguments...)
}

func helm(t *testing.T, arguments ...string) string {
	t.Helper()
	out, err := helmTry(t.Context(), arguments...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// afterwards runs kubectl at a test's end, when the test's own context is over.
func afterwards(t *testing.T, arguments ...string) {
	t.Helper()
	t.Cleanup(func() {
		if _, err := kubectlTry(context.Background(), arguments...); err != nil {
			t.Error(err)
		}
	})
}

const patience = 2 * time.Minute

func await(t *testing.T, what string, check func() error) {
	t.Helper()
	again := time.NewTicker(300 * time.Millisecond)
	defer again.Stop()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-again.C {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("waited %v for %s: %v", patience, what, err)
}

// awaitReady waits until a probe's condition Ready has a status and a reason, and returns its message.
func awaitReady(t *testing.T, namespace, probe, want string) string {
	t.Helper()
	var message string
	await(t, fmt.Sprintf("probe %s/%s to be %s", namespace, probe, want), func() error {
		said := kubectl(t, "-n", namespace, "get", "hmp", probe, "-o",
			`jsonpath={.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].reason} {.status.conditions[?(@.type=="Ready")].message}`)
		if !strings.HasPrefix(said, want+" ") {
			return fmt.Errorf("it is %s", said)
		}
		message = strings.TrimPrefix(said, want+" ")
		return nil
	})
	return message
}

// checkHeld expects the admission policies to keep an operator from anything but its agent; they take some seconds.
func checkHeld(t *testing.T, operator, namespace string) {
	t.Helper()
	await(t, operator+" to be held to its agent", func() error {
		out, err := kubectlTry(t.Context(), "--as="+operator, "-n", namespace, "exec", "deployment/meshprobe-sleep", "-c", "sleep", "--", "id")
		if err == nil {
			return fmt.Errorf("id in the client was let through: %q", out)
		}
		if !strings.Contains(err.Error(), "the operator may run its agent and nothing else") {
			return fmt.Errorf("id in the client failed otherwise: %w", err)
		}
		return nil
	})
}

func strictProbe(namespace, name string) string {
	return fmt.Sprintf(`
apiVersion: meshprobe.dev/v1alpha1
kind: HTTPSMeshProbe
metadata: {namespace: %s, name: %s}
spec: {target: {sidecar: Enabled}, mtls: {mode: STRICT}, interval: 5s, timeout: 2s}
`, namespace, name)
}
