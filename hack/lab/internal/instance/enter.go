package instance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/node"
)

// ExecInNetwork replaces this program by another one of the machine that has the
// lab's network and nothing else of the lab. Signals and the exit code are then
// the other program's own affair. It returns only on error.
func (i Instance) ExecInNetwork(command []string) error {
	pid, err := i.mustRun()
	if err != nil {
		return err
	}
	program, err := exec.LookPath(command[0])
	if err != nil {
		return fmt.Errorf("cannot find the program to run in the lab's network: %w", err)
	}
	runtime.LockOSThread()
	if err := joinNamespace(pid, "net", unix.CLONE_NEWNET); err != nil {
		return err
	}
	// All labs have the same address: what kubectl remembers of one must not be
	// taken for another's.
	for name, value := range map[string]string{"KUBECONFIG": i.Kubeconfig(), "KUBECACHEDIR": filepath.Join(i.Dir, "kubectl-cache")} {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("cannot point the program at the lab: %w", err)
		}
	}
	return syscall.Exec(program, command, os.Environ())
}

// RunInNode runs one of the node's programs, with all of the node around it, and
// returns its exit code. It asks the program to stop when ctx ends.
func (i Instance) RunInNode(ctx context.Context, command []string, input *os.File) (int, error) {
	pid, err := i.mustRun()
	if err != nil {
		return 0, err
	}
	// Only this thread enters the node; it stays locked, because there is no way
	// back for it.
	runtime.LockOSThread()
	// A thread that shares its root directory with others may not change its
	// mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return 0, fmt.Errorf("cannot prepare to enter the node: %w", err)
	}
	namespaces, err := openNamespaces(pid, "net", "uts", "ipc", "pid", "mnt")
	if err != nil {
		return 0, err
	}
	for _, namespace := range namespaces {
		if err := unix.Setns(int(namespace.Fd()), 0); err != nil {
			return 0, fmt.Errorf("cannot enter the node (%s): %w", namespace.Name(), err)
		}
		namespace.Close()
	}
	return runNodeProgram(ctx, command, input)
}

// openNamespaces opens all first: from inside the node's mounts the machine's
// process numbers mean nothing.
func openNamespaces(pid int, kinds ...string) ([]*os.File, error) {
	var namespaces []*os.File
	for _, kind := range kinds {
		namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
		if err != nil {
			return nil, fmt.Errorf("cannot find the lab's %s namespace: %w", kind, err)
		}
		namespaces = append(namespaces, namespace)
	}
	return namespaces, nil
}

// runNodeProgram starts a child, because only a new process gets into a PID
// namespace.
func runNodeProgram(ctx context.Context, command []string, input *os.File) (int, error) {
	path, err := node.FindProgram(command[0])
	if err != nil {
		return 0, fmt.Errorf("the node has no such program: %w", err)
	}
	program := exec.CommandContext(ctx, path, command[1:]...)
	program.Cancel = func() error { return program.Process.Signal(syscall.SIGTERM) }
	program.Dir = "/"
	program.Env = append(node.Environment(), "TERM="+os.Getenv("TERM"))
	program.Stdin, program.Stdout, program.Stderr = input, os.Stdout, os.Stderr
	err = program.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("cannot run %s in the node: %w", path, err)
	}
	return 0, nil
}

func joinNamespace(pid int, kind string, flag int) error {
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	if err != nil {
		return fmt.Errorf("cannot find the lab's %s namespace: %w", kind, err)
	}
	defer namespace.Close()
	if err := unix.Setns(int(namespace.Fd()), flag); err != nil {
		return fmt.Errorf("cannot enter the lab's %s namespace (%w): lab needs root", kind, err)
	}
	return nil
}

// dial connects from inside the lab's network.
func (i Instance) dial(ctx context.Context, network, address string) (net.Conn, error) {
	pid, err := i.mustRun()
	if err != nil {
		return nil, err
	}
	type result struct {
		connection net.Conn
		err        error
	}
	results := make(chan result, 1)
	go func() {
		// The thread is never unlocked and ends with the goroutine: no other
		// goroutine may find itself in the lab's network.
		runtime.LockOSThread()
		if err := joinNamespace(pid, "net", unix.CLONE_NEWNET); err != nil {
			results <- result{err: err}
			return
		}
		connection, err := (&net.Dialer{}).DialContext(ctx, network, address)
		results <- result{connection, err}
	}()
	r := <-results
	return r.connection, r.err
}
