package instance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cgroup"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/node"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/nodeconfig"
)

// Material is what a node is made of.
type Material struct {
	RootFS, Programs string
	// Images is a containerd directory that holds the lab's images, unpacked.
	Images string
	// Self is the lab program.
	Self string
}

// Start makes a new node and returns when its first process has built it; the
// cluster then comes up by itself.
func (i Instance) Start(m Material) error {
	if err := i.prepare(m); err != nil {
		return err
	}
	hierarchies, err := cgroup.Mounted()
	if err != nil {
		return err
	}
	process, begin, report, err := i.launch()
	if err != nil {
		return err
	}
	defer report.Close()
	err = i.admit(process.Pid, hierarchies)
	if err == nil {
		_, err = begin.Write([]byte{1})
	}
	// Without a byte the process ends by itself.
	begin.Close()
	if err == nil {
		err = i.awaitBuilt(report)
	}
	if err != nil {
		return errors.Join(err, endProcess(process))
	}
	return process.Release()
}

func endProcess(process *os.Process) error {
	if err := process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("cannot end the node's first process %d: %w", process.Pid, err)
	}
	// How it ended is known: it was killed.
	_, _ = process.Wait()
	return nil
}

// prepare makes the lab's directories and files anew.
func (i Instance) prepare(m Material) error {
	for _, sub := range node.Freshly {
		path := filepath.Join(i.Dir, sub)
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("cannot remove what the last run of the lab left: %w", err)
		}
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("cannot make the lab's directory: %w", err)
		}
	}
	spec := node.Spec{Name: i.Name, RootFS: m.RootFS, Programs: m.Programs, Dir: i.Dir}
	if err := spec.Save(); err != nil {
		return err
	}
	client, err := nodeconfig.Write(spec.EtcDir(), i.Name, time.Now())
	if err != nil {
		return err
	}
	if err := i.saveClient(client); err != nil {
		return err
	}
	if err := cloneImages(m.Images, spec.ContainerdDir()); err != nil {
		return err
	}
	return i.writePrograms(m)
}

func (i Instance) saveClient(client nodeconfig.Client) error {
	content, err := json.Marshal(client)
	if err != nil {
		return fmt.Errorf("cannot write down the administrator's certificate: %w", err)
	}
	if err := replaceFile(i.clientFile(), content, 0o600); err != nil {
		return err
	}
	return replaceFile(i.Kubeconfig(), client.Kubeconfig, 0o600)
}

func (i Instance) clientFile() string { return filepath.Join(i.Dir, "client.json") }

// cloneImages gives a lab the images without copying them: files that never
// change are linked, and only containerd's databases are copied.
func cloneImages(from, to string) error {
	if err := os.Remove(to); err != nil {
		return fmt.Errorf("cannot make room for the images: %w", err)
	}
	link := exec.Command("cp", "--archive", "--link", from, to)
	// Left alone, it would go on filling a directory that lab down removes.
	link.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	output, err := link.CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot link the images into the lab: %w: %s", err, strings.TrimSpace(string(output)))
	}
	return filepath.WalkDir(to, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == "fs" {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".db" {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("cannot copy containerd's database: %w", err)
		}
		return replaceFile(path, content, 0o600)
	})
}

// launch starts the node's first process, which waits for a byte on begin and
// then says on report how it went.
func (i Instance) launch() (process *os.Process, begin, report *os.File, err error) {
	log, err := os.Create(i.NodeLog())
	if err != nil {
		return nil, nil, nil, fmt.Errorf("cannot write the node's log: %w", err)
	}
	defer log.Close()
	beginRead, begin, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("cannot make a pipe to the node: %w", err)
	}
	defer beginRead.Close()
	report, reportWrite, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("cannot make a pipe from the node: %w", err)
	}
	defer reportWrite.Close()
	cmd := exec.Command(i.labProgram(), node.FirstStep, node.SpecFile(i.Dir))
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{beginRead, reportWrite}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET |
			syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, nil, fmt.Errorf("cannot start the node in namespaces of its own (%w): the lab needs root and a kernel with PID, mount, network, UTS and IPC namespaces", err)
	}
	return cmd.Process, begin, report, nil
}

// NodeLog is what the node's first process prints.
func (i Instance) NodeLog() string { return filepath.Join(i.Dir, "logs", "node.log") }

// admit writes down which process the node is and puts it into control groups
// of the lab's own. The order matters: a node that is not written down could
// not be found again if this program were killed now.
func (i Instance) admit(pid int, hierarchies []cgroup.Hierarchy) error {
	id, err := identify(pid)
	if err != nil {
		return err
	}
	if err := id.write(i.identityFile()); err != nil {
		return err
	}
	return cgroup.Create(hierarchies, i.group(), pid)
}

func (i Instance) awaitBuilt(report *os.File) error {
	said, err := io.ReadAll(report)
	switch {
	case err != nil:
		return fmt.Errorf("cannot hear from the node: %w", err)
	case string(said) == node.Built:
		return nil
	case len(said) == 0:
		return fmt.Errorf("the node ended without a word (log: %s)", i.NodeLog())
	}
	return errors.New(string(said))
}
