package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// asProbe makes the test's binary, and every copy of it, behave as the program that is tested.
const asProbe = "TEST_AS_PROBE=1"

func TestMain(m *testing.M) {
	if name, value, _ := strings.Cut(asProbe, "="); os.Getenv(name) == value {
		main()
		return
	}
	os.Exit(m.Run())
}

func probe(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), program, args...)
	command.Env = append(os.Environ(), asProbe)
	return command
}

func self(t *testing.T) string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// outcome is what a program left when it ended.
type outcome struct {
	stdout, stderr string
	code           int
}

func ran(t *testing.T, args ...string) outcome {
	t.Helper()
	command := probe(t, self(t), args...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := command.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{stdout.String(), stderr.String(), command.ProcessState.ExitCode()}
}

func TestCommandLine(t *testing.T) {
	for name, c := range map[string]struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		"nothing":                {nil, 1, "", "no command given"},
		"unknown command":        {[]string{"agnet"}, 1, "", `unknown command "agnet"`},
		"unknown, with usage":    {[]string{"agnet"}, 1, "", "usage: probe COMMAND"},
		"help":                   {[]string{"help"}, 0, "usage: probe COMMAND", ""},
		"-h":                     {[]string{"-h"}, 0, "usage: probe COMMAND", ""},
		"--help":                 {[]string{"--help"}, 0, "usage: probe COMMAND", ""},
		"install to nowhere":     {[]string{"install"}, 1, "", "install takes one argument"},
		"install to two places":  {[]string{"install", "a", "b"}, 1, "", "install takes one argument"},
		"once without address":   {[]string{"once"}, 1, "", "once takes one address"},
		"once with two":          {[]string{"once", "a:1", "b:1"}, 1, "", "once takes one address"},
		"flags of once":          {[]string{"once", "-h"}, 0, "", "-server-name"},
		"flags, after address":   {[]string{"once", "a:1", "-h"}, 0, "", "-server-name"},
		"unknown flag of once":   {[]string{"once", "a:1", "-nonsense"}, 1, "", "-nonsense"},
		"malformed time-out":     {[]string{"once", "-timeout", "soon", "a:1"}, 1, "", "soon"},
		"address that is no one": {[]string{"once", "nowhere"}, 0, `"class":"InvalidRequest"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ran(t, c.args...)
			if got.code != c.code || !holds(got.stdout, c.stdout) || !holds(got.stderr, c.stderr) {
				t.Errorf("got %+v, want exit code %d, %q on stdout and %q on stderr", got, c.code, c.stdout, c.stderr)
			}
		})
	}
}

// holds says whether text contains part, and whether it is empty where part is.
func holds(text, part string) bool {
	return strings.Contains(text, part) && (text == "") == (part == "")
}

func TestOnce(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "nginx.probes.svc" || r.URL.Path != "/healthy" {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	defer server.Close()
	address := server.Listener.Addr().String()
	for name, c := range map[string]struct {
		args []string
		code int
	}{
		"flags after the address":  {[]string{address, "-server-name", "nginx.probes.svc", "-path", "/healthy"}, http.StatusOK},
		"flags before the address": {[]string{"-server-name", "nginx.probes.svc", "-path", "/healthy", address}, http.StatusOK},
		"flags on either side":     {[]string{"-path", "/healthy", address, "-server-name", "nginx.probes.svc"}, http.StatusOK},
		"no flags":                 {[]string{address}, http.StatusTeapot},
	} {
		t.Run(name, func(t *testing.T) {
			got := ran(t, append([]string{"once", "-timeout", "1m"}, c.args...)...)
			var seen observation.Observation
			if err := json.Unmarshal([]byte(got.stdout), &seen); err != nil {
				t.Fatalf("%+v: %v", got, err)
			}
			if got.code != 0 || seen.Class != observation.Answered || seen.HTTPCode != c.code || seen.Remote != address {
				t.Errorf("exit code %d, observation %+v; want 0, %s by %s with %d", got.code, seen, observation.Answered, address, c.code)
			}
		})
	}
}

func TestInstall(t *testing.T) {
	folder := t.TempDir()
	target := filepath.Join(folder, "probe")
	if got := ran(t, "install", target); got != (outcome{}) {
		t.Fatalf("install: %+v, want silence and exit code 0", got)
	}
	wantInstalled(t, folder, target)
	help, err := probe(t, target, "help").Output()
	if err != nil || string(help) != usage {
		t.Errorf("the copy says %q, %v; want %q", help, err, usage)
	}
}

func wantInstalled(t *testing.T, folder, target string) {
	t.Helper()
	info, err := os.Stat(target)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o555 {
		t.Errorf("mode %v, want %v", info.Mode(), fs.FileMode(0o555))
	}
	copied, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	original, err := os.ReadFile(self(t))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(copied, original) {
		t.Errorf("the copy has %d bytes, which are not the %d of the original", len(copied), len(original))
	}
	wantFiles(t, folder, filepath.Base(target))
}

func wantFiles(t *testing.T, folder string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the folder holds %q, want %q", got, want)
	}
}

// A container that restarts installs anew while the agents of other containers run from the file.
func TestInstallReplacesAProgramThatRuns(t *testing.T) {
	folder := t.TempDir()
	target := filepath.Join(folder, "probe")
	if got := ran(t, "install", target); got.code != 0 {
		t.Fatalf("install: %+v", got)
	}
	before, err := os.Stat(target)
	if err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, target)
	a.wantPong()
	if got := ran(t, "install", target); got.code != 0 {
		t.Errorf("install over a running program: %+v", got)
	}
	a.wantPong()
	after, err := os.Stat(target)
	if err != nil {
		t.Fatal(err)
	}
	if os.SameFile(before, after) {
		t.Error("the file was written over and not replaced: for a moment it was half a program")
	}
	wantInstalled(t, folder, target)
}

func TestInstallThatFailsLeavesNothing(t *testing.T) {
	folder := t.TempDir()
	taken := filepath.Join(folder, "taken")
	if err := os.Mkdir(taken, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"a folder of that name": taken,
		"no such folder":        filepath.Join(folder, "missing", "probe"),
	} {
		if got := ran(t, "install", target); got.code != 1 || got.stderr == "" {
			t.Errorf("%s: %+v, want exit code 1 and an error", name, got)
		}
		wantFiles(t, folder, "taken")
	}
}

// agent is a running "probe agent".
type agent struct {
	t       *testing.T
	command *exec.Cmd
	stdin   io.WriteCloser
	stdout  *bufio.Reader
}

func startAgent(t *testing.T, program string) *agent {
	t.Helper()
	command := probe(t, program, "agent")
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = command.Wait()
	})
	return &agent{t, command, stdin, bufio.NewReader(stdout)}
}

func (a *agent) wantPong() {
	a.t.Helper()
	if _, err := io.WriteString(a.stdin, "{\"id\":0}\n"); err != nil {
		a.t.Fatal(err)
	}
	if line, err := a.stdout.ReadString('\n'); err != nil || line != "{\"id\":0}\n" {
		a.t.Fatalf("the agent answered %q, %v to a ping", line, err)
	}
}

// wantExit waits for the end of the agent for less than the time after which silence ends it.
func (a *agent) wantExit(code int) {
	a.t.Helper()
	late := time.AfterFunc(silence/2, func() { _ = a.command.Process.Kill() })
	defer late.Stop()
	_ = a.command.Wait()
	if got := a.command.ProcessState; got.ExitCode() != code {
		a.t.Errorf("the agent ended with %v, want exit code %d", got, code)
	}
}

func TestAgentEndsWithItsInput(t *testing.T) {
	a := startAgent(t, self(t))
	a.wantPong()
	a.stdin.Close()
	a.wantExit(0)
}

func TestAgentEndsWhenToldTo(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			a := startAgent(t, self(t))
			a.wantPong()
			if err := a.command.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			a.wantExit(1)
		})
	}
}
