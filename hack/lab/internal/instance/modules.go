package instance

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// kernelModules are what a node needs of the kernel and does not get loaded on
// its own, with a way to tell that each is there.
var kernelModules = []struct {
	name    string
	present func() bool
}{
	{"overlay", func() bool {
		content, err := os.ReadFile("/proc/filesystems")
		return err == nil && strings.Contains(string(content), "\toverlay\n")
	}},
	{"br_netfilter", func() bool {
		_, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables")
		return err == nil
	}},
}

// LoadKernelModules loads what the kernel has as a module and does not run yet,
// and says so.
func LoadKernelModules(say func(string)) error {
	for _, module := range kernelModules {
		if module.present() {
			continue
		}
		say("loading the kernel module " + module.name)
		output, err := exec.Command("modprobe", module.name).CombinedOutput()
		if err != nil || !module.present() {
			return fmt.Errorf("this kernel lacks %s, which the lab needs (modprobe %s: %v %s)",
				module.name, module.name, err, strings.TrimSpace(string(output)))
		}
	}
	return nil
}
