package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// The node's first process is this program again, under these verbs. It takes
// two steps because a control group namespace belongs to a thread, and only by
// replacing itself can a Go program put all its threads into one.
const (
	FirstStep  = "node-first-step"
	SecondStep = "node-second-step"
)

// Built is what the node's first process reports when the node stands; anything
// else it reports is an error.
const Built = "built"

// Files that the node's first process finds open: it reads from the one to know
// when to begin, and says on the other how it went.
const (
	beginFile  = 3
	reportFile = 4
)

// TakeFirstStep waits until this process is in the lab's control groups and
// makes them the top of what it and its children see. It returns only on error.
func TakeFirstStep(specPath string) error {
	runtime.LockOSThread()
	begin := os.NewFile(beginFile, "begin")
	if _, err := begin.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("the lab command ended before the node began: %w", err)
	}
	begin.Close()
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("cannot make a control group namespace: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find this program's own file: %w", err)
	}
	return syscall.Exec(self, []string{"lab", SecondStep, specPath}, os.Environ())
}

// TakeSecondStep builds the node and runs it until the process is killed. It
// returns only when the node cannot be built.
func TakeSecondStep(specPath string) error {
	report := os.NewFile(reportFile, "report")
	unix.CloseOnExec(reportFile)
	spec, err := LoadSpec(specPath)
	if err == nil {
		err = buildNode(spec)
	}
	if err != nil {
		_, unsaid := io.WriteString(report, err.Error())
		return errors.Join(err, unsaid)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	s := newSupervisor()
	go s.bury()
	if _, err := io.WriteString(report, Built); err != nil {
		return fmt.Errorf("the lab command ended before the node stood: %w", err)
	}
	report.Close()
	go s.run(context.Background(), components(spec.Name))
	// The kernel ends everything else in the namespaces with this process.
	<-stop
	return nil
}

func buildNode(spec Spec) error {
	if err := unix.Sethostname([]byte(spec.Name)); err != nil {
		return fmt.Errorf("cannot name the node: %w", err)
	}
	if err := buildRoot(spec); err != nil {
		return err
	}
	if err := os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"); err != nil {
		return err
	}
	for _, step := range []func() error{delegateControllers, shieldMachineSettings, shareMounts, buildNetwork} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
