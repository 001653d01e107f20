package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// machine is what no lab may change of the machine it runs on, as text.
type machine map[string]string

// unchangeable are files that read the same with and without labs.
var unchangeable = map[string]string{
	"mounts":     "/proc/mounts",
	"routes":     "/proc/net/route",
	"host name":  "/proc/sys/kernel/hostname",
	"forwarding": "/proc/sys/net/ipv4/ip_forward",
	"overcommit": "/proc/sys/vm/overcommit_memory",
	"oom panic":  "/proc/sys/vm/panic_on_oom",
	"panic":      "/proc/sys/kernel/panic",
	"oops panic": "/proc/sys/kernel/panic_on_oops",
	"key limit":  "/proc/sys/kernel/keys/root_maxkeys",
	"key bytes":  "/proc/sys/kernel/keys/root_maxbytes",
	"firewall":   "/proc/net/ip_tables_names",
}

func machineNow() machine {
	m := machine{}
	for name, path := range unchangeable {
		// What this kernel does not have is the same nothing before and after.
		content, _ := os.ReadFile(path)
		m[name] = string(content)
	}
	for name, pattern := range map[string]string{"interfaces": "/sys/class/net/*", "named networks": "/run/netns/*"} {
		found, _ := filepath.Glob(pattern)
		m[name] = strings.Join(found, "\n")
	}
	m["listeners"] = strings.Join(listeners(), "\n")
	return m
}

func (m machine) compare(t *testing.T, when string) {
	t.Helper()
	for name, now := range machineNow() {
		if now != m[name] {
			t.Errorf("%s the machine's %s are\n%s\nand were\n%s", when, name, now, m[name])
		}
	}
}

// labPorts are those that programs of the lab listen on, in its own network.
var labPorts = []int{53, 2379, 2380, 6443, 8181, 10248, 10249, 10250, 10256, 10257, 10259}

// listeners are the machine's own sockets that wait on one of those ports.
func listeners() []string {
	const listening, unconnected = "0A", "07"
	var found []string
	for table, state := range map[string]string{"tcp": listening, "tcp6": listening, "udp": unconnected, "udp6": unconnected} {
		content, _ := os.ReadFile("/proc/net/" + table)
		for line := range strings.Lines(string(content)) {
			fields := strings.Fields(line)
			if len(fields) < 4 || fields[3] != state {
				continue
			}
			for _, port := range labPorts {
				if strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) {
					found = append(found, fmt.Sprintf("%s port %d", table, port))
				}
			}
		}
	}
	slices.Sort(found)
	return found
}

// controlGroups are the lab's, in either layout.
func controlGroups(name string) []string {
	split, _ := filepath.Glob("/sys/fs/cgroup/*/httpsmeshprobe-lab-" + name)
	unified, _ := filepath.Glob("/sys/fs/cgroup/httpsmeshprobe-lab-" + name)
	return append(split, unified...)
}

func inotifyLimit(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("/proc/sys/fs/inotify/max_user_instances")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}
