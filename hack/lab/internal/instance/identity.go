package instance

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// identity tells one process from any other that ever has its number: by when
// it started and in which run of the machine.
type identity struct {
	PID     int
	Started uint64
	Boot    string
}

func identify(pid int) (identity, error) {
	started, err := startTime(pid)
	if err != nil {
		return identity{}, err
	}
	boot, err := bootID()
	return identity{PID: pid, Started: started, Boot: boot}, err
}

// alive reports whether this very process still runs.
func (id identity) alive() bool {
	now, err := identify(id.PID)
	return err == nil && now == id
}

func bootID() (string, error) {
	content, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot tell this run of the machine from others: %w", err)
	}
	return strings.TrimSpace(string(content)), nil
}

// startTime is when the process started, in the kernel's clock ticks. A process
// that has ended and only waits for its parent counts as gone.
func startTime(pid int) (uint64, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("there is no process %d: %w", pid, err)
	}
	return parseStartTime(string(content))
}

// parseStartTime reads field 22 of a process's stat line. The second field is a
// name in parentheses that may hold anything, so counting begins after it.
func parseStartTime(stat string) (uint64, error) {
	end := strings.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, fmt.Errorf("cannot understand the process state %q", stat)
	}
	fields := strings.Fields(stat[end+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("cannot understand the process state %q", stat)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return 0, fmt.Errorf("the process has ended")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

func readIdentity(path string) (identity, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return identity{}, err
	}
	var id identity
	return id, json.Unmarshal(content, &id)
}

func (id identity) write(path string) error {
	content, err := json.Marshal(id)
	if err != nil {
		return fmt.Errorf("cannot write down the node's process: %w", err)
	}
	return replaceFile(path, content, 0o644)
}

// replaceFile writes a file so that others see either the old one or the new.
func replaceFile(path string, content []byte, mode os.FileMode) error {
	fresh := path + ".new"
	if err := os.WriteFile(fresh, content, mode); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("cannot put %s in its place: %w", path, err)
	}
	return nil
}
