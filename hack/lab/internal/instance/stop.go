package instance

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cgroup"
)

const (
	// guestPatience is how long programs that people run in the lab's network may
	// take to end when asked.
	guestPatience = 2 * time.Second
	// burialPatience is how long the machine's first process may take to bury the
	// node's.
	burialPatience = 2 * time.Second
	// groupPatience is how long the kernel may take to bury a whole node.
	groupPatience = 20 * time.Second
)

// Stop removes all of the lab except what is on disk. The kernel does most of
// it: with the first process of its namespaces go all other processes, the
// mounts and the network.
func (i Instance) Stop() error {
	if pid, ok := i.Running(); ok {
		endGuests(pid)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			return fmt.Errorf("cannot end the node's first process %d: %w", pid, err)
		}
		awaitGone(pid)
	}
	return i.Sweep()
}

// awaitGone waits until the process's parent has taken note of its end. Where
// that parent never does, the process is dead all the same.
func awaitGone(pid int) {
	for deadline := time.Now().Add(burialPatience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if syscall.Kill(pid, 0) == syscall.ESRCH {
			return
		}
	}
}

// Sweep removes what a lab that is not running left in the machine: its control
// groups, and processes in them if what was written down of the node got lost.
// Everything else went with its first process.
func (i Instance) Sweep() error {
	hierarchies, err := cgroup.Mounted()
	if err != nil {
		return err
	}
	kill(cgroup.Processes(hierarchies, i.group()), syscall.SIGKILL)
	if err := cgroup.Remove(hierarchies, i.group(), groupPatience); err != nil {
		return err
	}
	if err := os.Remove(i.identityFile()); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("cannot forget the node's process: %w", err)
	}
	return nil
}

// Forget removes what is on disk of a stopped lab.
func (i Instance) Forget() error {
	if err := os.RemoveAll(i.Dir); err != nil {
		return fmt.Errorf("cannot remove the directory of the lab: %w", err)
	}
	return nil
}

// endGuests ends the programs that entered the lab's network from outside: what
// they speak to is about to vanish, and they would keep the network alive.
func endGuests(pid int) {
	guests := guestsOf(pid)
	kill(guests, syscall.SIGTERM)
	deadline := time.Now().Add(guestPatience)
	for len(guests) > 0 && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
		guests = guestsOf(pid)
	}
	kill(guests, syscall.SIGKILL)
}

// kill signals processes; those that have ended meanwhile are what is wanted.
func kill(pids []int, signal syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, signal)
	}
}

// guestsOf finds the processes that share the node's network but not its PID
// namespace.
func guestsOf(pid int) []int {
	network, processes := namespaceOf(pid, "net"), namespaceOf(pid, "pid")
	if network == "" {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var guests []int
	for _, entry := range entries {
		other, err := strconv.Atoi(entry.Name())
		if err != nil || other == os.Getpid() {
			continue
		}
		if namespaceOf(other, "net") == network && namespaceOf(other, "pid") != processes {
			guests = append(guests, other)
		}
	}
	return guests
}

func namespaceOf(pid int, kind string) string {
	target, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	if err != nil {
		return ""
	}
	return target
}
