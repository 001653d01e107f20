package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// runLogged runs a program with its output in the log. The program and all it
// starts end when ctx ends, and also when the lab itself is killed.
func runLogged(ctx context.Context, log *os.File, cmd *exec.Cmd) error {
	fmt.Fprintf(log, "$ %s\n", strings.Join(cmd.Args, " "))
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	if cmd.Stderr == nil {
		cmd.Stderr = log
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start %s: %w", cmd.Path, err)
	}
	ended := make(chan struct{})
	go stopGroup(ctx, cmd.Process.Pid, ended)
	err := cmd.Wait()
	close(ended)
	if ctx.Err() != nil {
		return stopped(ctx)
	}
	if err != nil {
		return explain(cmd.Args[0], err, log.Name())
	}
	return nil
}

// stopped says why a program was not let run to its end.
func stopped(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return errors.New("interrupted; the next run goes on from what is complete")
	}
	return errors.New("stopped, because another stage failed")
}

// stopGroup asks the process group to end once ctx ends, and then insists.
func stopGroup(ctx context.Context, pid int, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	// Whoever has ended already cannot be asked, and need not be.
	_ = syscall.Kill(-pid, syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
}

// causes maps what build programs print to what it means for the person.
var causes = []struct {
	marks []string
	means string
}{
	{[]string{"no space left on device"}, "the disk is full"},
	{[]string{"dial tcp", "Could not resolve", "Temporary failure resolving", "Failed to establish a new connection",
		"Connection timed out", "Name or service not known", "Could not connect to"},
		"a package registry could not be reached; check this machine's network and proxy settings"},
	{[]string{"DO NOT MATCH THE HASHES", "checksum mismatch", "Hash Sum mismatch"},
		"what was downloaded is not what was pinned; do not go on before you know why"},
	{[]string{"(running go "}, "this machine's Go is too old for what is to be compiled"},
	{[]string{"No module named pip"}, "Python has no pip; install python3-pip"},
	{[]string{"Can't locate ", "BEGIN failed"}, "Perl's standard modules are missing; install perl"},
}

// explain turns the failure of a program into one sentence: its cause where the
// log shows a known one, and always where to read on.
func explain(program string, err error, logPath string) error {
	end := tail(logPath, 16<<10)
	for _, cause := range causes {
		for _, mark := range cause.marks {
			if strings.Contains(end, mark) {
				return fmt.Errorf("%s failed: %s (log: %s)", program, cause.means, logPath)
			}
		}
	}
	return fmt.Errorf("%s failed: %w (log: %s)", program, err, logPath)
}

func tail(path string, size int64) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	if int64(len(content)) > size {
		content = content[int64(len(content))-size:]
	}
	return string(content)
}
