package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// coveredSettings are kernel settings of the whole machine that the kubelet
// insists on. It finds the values it wants in plain files laid over the real
// ones, and the machine's stay as they are.
var coveredSettings = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// shieldMachineSettings covers those settings and makes all others that are not
// the network's read-only for the node: those of the network belong to the
// node's own network namespace.
func shieldMachineSettings() error {
	for _, group := range []string{"kernel", "vm", "fs"} {
		dir := filepath.Join("/proc/sys", group)
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cannot shield the machine's settings under %s: %w", dir, err)
		}
		if err := forbidWriting(dir); err != nil {
			return err
		}
	}
	const covers = "/run/lab/settings"
	if err := os.MkdirAll(covers, 0o755); err != nil {
		return fmt.Errorf("cannot make room for the kubelet's settings: %w", err)
	}
	for name, value := range coveredSettings {
		setting := filepath.Join("/proc/sys", name)
		if _, err := os.Stat(setting); err != nil {
			continue
		}
		cover := filepath.Join(covers, strings.ReplaceAll(name, "/", "."))
		if err := os.WriteFile(cover, []byte(value+"\n"), 0o644); err != nil {
			return fmt.Errorf("cannot write the kubelet's setting %s: %w", name, err)
		}
		if err := unix.Mount(cover, setting, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cannot cover the machine's setting %s: %w", name, err)
		}
	}
	return nil
}
