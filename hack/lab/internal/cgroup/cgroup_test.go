package cgroup

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const (
	split = `24 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 24 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
	unified = `24 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
34 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate
`
)

func TestHierarchies(t *testing.T) {
	for _, c := range []struct {
		name, mountinfo string
		want            []Hierarchy
	}{
		{"version 1, and a version 2 tree without controllers", split, []Hierarchy{
			{MountPoint: "/sys/fs/cgroup/cpu,cpuacct", Controllers: []string{"cpu", "cpuacct"}},
			{MountPoint: "/sys/fs/cgroup/memory", Controllers: []string{"memory"}},
		}},
		{"version 2", unified, []Hierarchy{{MountPoint: "/sys/fs/cgroup", Unified: true}}},
	} {
		got, err := Hierarchies(strings.NewReader(c.mountinfo))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: found %+v (%v), expected %+v", c.name, got, err, c.want)
		}
	}
	if _, err := Hierarchies(strings.NewReader("24 1 253:0 / / rw - ext4 /dev/vda rw\n")); err == nil {
		t.Error("a machine without control groups passed")
	}
}

func TestVersion2PassesOnWhatPodsNeed(t *testing.T) {
	for _, c := range []struct{ available, passed, writes string }{
		{"cpuset cpu io memory hugetlb pids", "cpu io memory pids", "+cpuset"},
		{"cpuset cpu io memory pids", "cpuset cpu io memory pids", "cpuset cpu io memory pids"},
		{"cpuset io memory pids", "cpuset io memory pids", ""},
	} {
		top := t.TempDir()
		control := filepath.Join(top, "cgroup.subtree_control")
		for file, content := range map[string]string{filepath.Join(top, "cgroup.controllers"): c.available, control: c.passed} {
			if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		err := Create([]Hierarchy{{MountPoint: top, Unified: true}}, "lab", 42)
		if c.writes == "" {
			if err == nil || !strings.Contains(err.Error(), `"cpu"`) {
				t.Errorf("without the controller cpu: %v", err)
			}
			continue
		}
		if got, _ := os.ReadFile(control); err != nil || string(got) != c.writes {
			t.Errorf("with %q passed on it wrote %q (%v), expected %q", c.passed, got, err, c.writes)
		}
	}
}

func TestCreateAndRemove(t *testing.T) {
	top := t.TempDir()
	for file, content := range map[string]string{"cpuset.cpus": "0-1\n", "cpuset.mems": "0\n"} {
		if err := os.WriteFile(filepath.Join(top, file), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	hierarchies := []Hierarchy{{MountPoint: top, Controllers: []string{"cpuset"}}}
	if err := Create(hierarchies, "lab", 42); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"cpuset.cpus": "0-1\n", "cpuset.mems": "0\n", "cgroup.procs": "42"} {
		if got, err := os.ReadFile(filepath.Join(top, "lab", file)); err != nil || string(got) != want {
			t.Errorf("%s holds %q (%v), expected %q", file, got, err, want)
		}
	}
	if got := Processes(hierarchies, "lab"); !reflect.DeepEqual(got, []int{42}) {
		t.Errorf("the group holds the processes %v, expected 42", got)
	}
	// Files vanish with a real group; in a plain directory they stand for a group
	// that is still busy.
	if err := Remove(hierarchies, "lab", 0); err == nil {
		t.Error("a busy group was removed")
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems", "cgroup.procs"} {
		if err := os.Remove(filepath.Join(top, "lab", file)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(top, "lab", "kubepods", "pod1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Remove(hierarchies, "lab", time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(top, "lab")); !os.IsNotExist(err) {
		t.Errorf("the group is still there (%v)", err)
	}
	if err := Remove(hierarchies, "lab", 0); err != nil {
		t.Errorf("removing what is not there: %v", err)
	}
}
