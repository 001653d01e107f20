package e2e

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// pluginCommand is the built plugin, as hack/e2e.sh has made it, called as kubectl calls it.
func pluginCommand(t *testing.T, arguments ...string) *exec.Cmd {
	t.Helper()
	program := os.Getenv("MESHPROBE_PLUGIN")
	if program == "" {
		t.Fatal("MESHPROBE_PLUGIN names no program; hack/e2e.sh builds one")
	}
	return exec.CommandContext(t.Context(), program, arguments...)
}

// callPlugin runs it to its end.
func callPlugin(t *testing.T, arguments ...string) (code int, out, complaint string) {
	t.Helper()
	command := pluginCommand(t, arguments...)
	var printed, complained bytes.Buffer
	command.Stdout, command.Stderr = &printed, &complained
	err := command.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), printed.String(), complained.String()
}

// awaitEmpty expects that nothing of the plugin's probes stays in the namespace: neither they nor what was made for them.
func awaitEmpty(t *testing.T, namespace string) {
	t.Helper()
	var probes api.HTTPSMeshProbeList
	if err := lab.List(t.Context(), &probes, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	if len(probes.Items) > 0 {
		t.Errorf("probe %s is left behind", probes.Items[0].Name)
	}
	await(t, "the probes' pods to go", func() error {
		if pods := podsWith(t, namespace, "app.kubernetes.io/managed-by=httpsmeshprobe"); len(pods) > 0 {
			return fmt.Errorf("pod %s is there", pods[0].Name)
		}
		return nil
	})
}

// The three cases of Istio's task, at one command.
func TestPluginRunsTheTask(t *testing.T) {
	ns := namespace(t)
	code, out, complaint := callPlugin(t, "run", "--task", "-n", ns)
	if code != 0 {
		t.Fatalf("exit code %d, want 0: %s%s", code, out, complaint)
	}
	wantMention(t, out, "VERIFIED  "+ns+"/no-sidecar", "VERIFIED  "+ns+"/mtls-disabled", "VERIFIED  "+ns+"/mtls-strict", ": 3 verified")
	_, strict, _ := strings.Cut(out, "/mtls-strict")
	for path, word := range map[string]string{"sleep": "200", "istio-proxy": "refused", "outsider": "refused"} {
		if !strings.Contains(strict, fmt.Sprintf("  %-11s   Verified   %s ", path, word)) {
			t.Errorf("%s of mtls-strict is not %s: %s", path, word, strict)
		}
	}
	if strings.Count(out, "refused by ") != 2 {
		t.Errorf("want two refusals among the nine paths: %s", out)
	}
	wantMention(t, complaint, ns+"/mtls-strict: Progressing", ns+"/mtls-strict: Verified")
	awaitEmpty(t, ns)
}

// Files, a claim that is wrong, and what cannot be asked: the exit codes 0, 1 and 2, and reports that machines can read.
func TestPluginExitCodes(t *testing.T) {
	ns := namespace(t)
	code, out, complaint := callPlugin(t, "run", "-f", filepath.Join("..", "..", "config", "samples"), "-n", ns, "-o", "tap", "--keep")
	if code != 0 || !strings.HasPrefix(out, "TAP version 14\n1..4\n") || strings.Contains(out, "not ok") {
		t.Fatalf("the samples: exit code %d: %s%s", code, out, complaint)
	}
	wantMention(t, complaint, "kustomization.yaml is left out")
	service := ""
	var kept api.HTTPSMeshProbeList
	if err := lab.List(t.Context(), &kept, client.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	for _, hmp := range kept.Items {
		if hmp.Spec.MTLS.Mode == api.MTLSPermissive {
			service = hmp.Name + "-nginx"
		}
	}

	code, out, complaint = callPlugin(t, "run", "-n", ns, "--service", service, "--port", "https", "--mtls", "STRICT", "-o", "junit")
	if code != 1 {
		t.Errorf("a claim that is wrong: exit code %d, want 1: %s%s", code, out, complaint)
	}
	failures := wantXML(t, out)["failure"]
	if failures != 3 {
		t.Errorf("a claim that is wrong: %d failures, want 3 (istio-proxy, outsider, policy): %s", failures, out)
	}
	wantMention(t, out, "MTLSNotEnforced", "200, not refused")

	code, out, _ = callPlugin(t, "run", "-n", ns, "--service", "nonesuch", "--mtls", "STRICT", "-o", "junit")
	if code != 2 || wantXML(t, out)["error"] != 4 {
		t.Errorf("a Service that does not exist: exit code %d, want 2, and four errors: %s", code, out)
	}
	code, out, _ = callPlugin(t, "trigger", "-n", ns, "--all")
	if code != 0 || !strings.Contains(out, ": 4 verified") {
		t.Errorf("a run of all that are there: exit code %d: %s", code, out)
	}
}

// wantXML counts the elements of a document.
func wantXML(t *testing.T, text string) map[string]int {
	t.Helper()
	counted := map[string]int{}
	for decoder := xml.NewDecoder(strings.NewReader(text)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return counted
		}
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if element, ok := token.(xml.StartElement); ok {
			counted[element.Name.Local]++
		}
	}
}

// A signal, or a reader that goes away, ends a run early, and nothing stays.
func TestPluginCleansUp(t *testing.T) {
	// Whoever runs the tests under nohup has them ignore SIGHUP, and programs inherit that, unless it is caught here.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	for name, sent := range map[string]os.Signal{"SIGINT": os.Interrupt, "SIGTERM": syscall.SIGTERM, "SIGHUP": syscall.SIGHUP} {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t)
			command := pluginCommand(t, "run", "--task", "-n", ns)
			progress := &firstWrite{seen: make(chan struct{})}
			var out bytes.Buffer
			command.Stdout, command.Stderr = &out, progress
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			<-progress.seen
			if err := command.Process.Signal(sent); err != nil {
				t.Error(err)
			}
			_ = command.Wait()
			if code := command.ProcessState.ExitCode(); code != 2 {
				t.Errorf("exit code %d, want 2: %s", code, out.String())
			}
			wantMention(t, out.String(), "Interrupted", "3 unknown")
			awaitEmpty(t, ns)
		})
	}
	t.Run("closed pipe", func(t *testing.T) {
		ns := namespace(t)
		reading, writing, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		command := pluginCommand(t, "run", "--mtls", "DISABLE", "-n", ns)
		command.Stdout, command.Stderr = writing, writing
		reading.Close()
		err = command.Run()
		writing.Close()
		var ended *exec.ExitError
		if !errors.As(err, &ended) || ended.ExitCode() != 2 {
			t.Errorf("it ended with %v, want exit code 2: nobody has read the verdict", err)
		}
		awaitEmpty(t, ns)
	})
}

// firstWrite tells when something is written for the first time.
type firstWrite struct{ seen chan struct{} }

func (f *firstWrite) Write(p []byte) (int, error) {
	select {
	case <-f.seen:
	default:
		close(f.seen)
	}
	return len(p), nil
}
