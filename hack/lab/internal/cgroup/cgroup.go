// Package cgroup gives a lab a control group of its own in every hierarchy of
// the machine, and removes it again.
//
// Both layouts are known: version 1, a hierarchy for each controller or a few of
// them, and version 2, one for all.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Hierarchy is one mounted tree of control groups.
type Hierarchy struct {
	// MountPoint is where the machine has it.
	MountPoint string
	// Unified is true for version 2.
	Unified bool
	// Controllers are the controllers of a version 1 hierarchy.
	Controllers []string
}

// Hierarchies finds the machine's hierarchies in mountinfo, which reads like
// /proc/self/mountinfo. Where controllers sit in version 1 hierarchies, a
// version 2 tree beside them has none and is left out.
func Hierarchies(mountinfo io.Reader) ([]Hierarchy, error) {
	var split, unified []Hierarchy
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		mount, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(mount) < 5 || len(kind) < 3 {
			continue
		}
		switch kind[0] {
		case "cgroup":
			if controllers := controllersAmong(kind[2]); len(controllers) > 0 {
				split = append(split, Hierarchy{MountPoint: mount[4], Controllers: controllers})
			}
		case "cgroup2":
			unified = append(unified, Hierarchy{MountPoint: mount[4], Unified: true})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("cannot read the mounts of this machine: %w", err)
	}
	if len(split) > 0 {
		return split, nil
	}
	if len(unified) > 0 {
		return unified[:1], nil
	}
	return nil, errors.New("this machine has no control groups mounted under /sys/fs/cgroup; the kubelet needs them")
}

// known are the version 1 controllers; what else is among a mount's options are
// flags and names.
var known = map[string]bool{
	"cpu": true, "cpuacct": true, "cpuset": true, "memory": true, "devices": true, "freezer": true, "blkio": true,
	"pids": true, "hugetlb": true, "net_cls": true, "net_prio": true, "perf_event": true, "rdma": true, "misc": true,
}

func controllersAmong(options string) []string {
	var controllers []string
	for _, option := range strings.Split(options, ",") {
		if known[option] {
			controllers = append(controllers, option)
		}
	}
	return controllers
}

// Mounted finds the hierarchies of the running machine.
func Mounted() ([]Hierarchy, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot read the mounts of this machine: %w", err)
	}
	defer file.Close()
	return Hierarchies(file)
}

// Create makes the group in every hierarchy and puts the process into it.
func Create(hierarchies []Hierarchy, group string, pid int) error {
	for _, h := range hierarchies {
		dir := filepath.Join(h.MountPoint, group)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("cannot make the lab's control group: %w", err)
		}
		if err := h.passControllersOn(); err != nil {
			return err
		}
		if err := h.inheritCPUs(dir); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return fmt.Errorf("cannot put the node into the lab's control group: %w", err)
		}
	}
	return nil
}

// neededByPods are the version 2 controllers with which the kubelet limits pods.
var neededByPods = []string{"cpu", "cpuset", "io", "memory", "pids"}

// passControllersOn lets the groups at the top of a version 2 hierarchy have
// those controllers. An init system has mostly done so for most of them.
func (h Hierarchy) passControllersOn() error {
	if !h.Unified {
		return nil
	}
	available, err := os.ReadFile(filepath.Join(h.MountPoint, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("cannot read this machine's controllers: %w", err)
	}
	control := filepath.Join(h.MountPoint, "cgroup.subtree_control")
	passed, err := os.ReadFile(control)
	if err != nil {
		return fmt.Errorf("cannot read which controllers this machine's groups have: %w", err)
	}
	for _, controller := range neededByPods {
		if slices.Contains(strings.Fields(string(passed)), controller) {
			continue
		}
		if !slices.Contains(strings.Fields(string(available)), controller) {
			return fmt.Errorf("this machine has no control group controller %q, which the kubelet needs", controller)
		}
		if err := os.WriteFile(control, []byte("+"+controller), 0o644); err != nil {
			return fmt.Errorf("cannot let control groups have the controller %s: %w", controller, err)
		}
	}
	return nil
}

// inheritCPUs fills in what a new group of the version 1 cpuset controller
// lacks, and without which it takes no process.
func (h Hierarchy) inheritCPUs(dir string) error {
	for _, controller := range h.Controllers {
		if controller != "cpuset" {
			continue
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			parents, err := os.ReadFile(filepath.Join(h.MountPoint, file))
			if err != nil {
				return fmt.Errorf("cannot read the machine's processors: %w", err)
			}
			if err := os.WriteFile(filepath.Join(dir, file), parents, 0o644); err != nil {
				return fmt.Errorf("cannot give the lab's control group its processors: %w", err)
			}
		}
	}
	return nil
}

// Processes are those in the group or below it.
func Processes(hierarchies []Hierarchy, group string) []int {
	found := map[int]bool{}
	for _, h := range hierarchies {
		for _, dir := range groupsUnder(filepath.Join(h.MountPoint, group)) {
			// A group that has vanished meanwhile has no processes.
			content, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			for _, field := range strings.Fields(string(content)) {
				if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
					found[pid] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// Remove removes the group and all below it from every hierarchy. Processes in
// it must have been killed; it waits for them to be gone.
func Remove(hierarchies []Hierarchy, group string, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for _, h := range hierarchies {
		dir := filepath.Join(h.MountPoint, group)
		for {
			err := removeTree(dir)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("cannot remove the lab's control group: %w", err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	return nil
}

// removeTree removes a group's descendants before itself. The files in a group
// cannot be removed and need not be.
func removeTree(dir string) error {
	for _, group := range slices.Backward(groupsUnder(dir)) {
		if err := syscall.Rmdir(group); err != nil && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("%s: %w", group, err)
		}
	}
	return nil
}

// groupsUnder are a group and all its descendants, each after its parent. Groups
// that vanish meanwhile are left out.
func groupsUnder(dir string) []string {
	var groups []string
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir
		}
		if entry.IsDir() {
			groups = append(groups, path)
		}
		return nil
	})
	return groups
}
