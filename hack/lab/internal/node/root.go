package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cgroup"
)

// buildRoot makes the node's file system and enters it.
func buildRoot(s Spec) error {
	hierarchies, err := cgroup.Mounted()
	if err != nil {
		return err
	}
	if err := keepMountsPrivate(); err != nil {
		return err
	}
	root, err := writableCopy(s.RootFS, filepath.Join(s.Dir, rootDir))
	if err != nil {
		return err
	}
	if err := mountAll(append(systemMounts(root), lentDirectories(s, root)...)); err != nil {
		return err
	}
	if err := mountCgroups(hierarchies, filepath.Join(root, "sys/fs/cgroup")); err != nil {
		return err
	}
	if err := lendDevices(root); err != nil {
		return err
	}
	if err := enterRoot(root); err != nil {
		return err
	}
	if err := forbidWriting(programsInNode); err != nil {
		return err
	}
	return writeHostFiles(s.Name)
}

// shareMounts lets pods ask for mounts that travel between them and the node.
func shareMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("cannot share mounts between the node and its pods: %w", err)
	}
	return nil
}

// lentDirectories are the directories of the machine that the node works in.
func lentDirectories(s Spec, root string) []mount {
	lend := func(from, to string) mount {
		return mount{from, filepath.Join(root, to), "", unix.MS_BIND, ""}
	}
	return []mount{
		lend(s.Programs, programsInNode),
		lend(filepath.Join(s.Dir, etcDir), etcInNode),
		lend(filepath.Join(s.Dir, containerdDir), "/var/lib/containerd"),
		lend(filepath.Join(s.Dir, kubeletDir), "/var/lib/kubelet"),
		lend(filepath.Join(s.Dir, etcdDir), "/var/lib/etcd"),
		lend(filepath.Join(s.Dir, logsDir), logsInNode),
		lend(filepath.Join(s.Dir, stateDir), stateInNode),
	}
}

// mountCgroups shows the node its own control groups as if they were all there
// are: the control group namespace hides what is above them.
func mountCgroups(hierarchies []cgroup.Hierarchy, at string) error {
	if hierarchies[0].Unified {
		return mount{"cgroup2", at, "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""}.do()
	}
	if err := (mount{"tmpfs", at, "tmpfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "mode=755"}).do(); err != nil {
		return err
	}
	for _, h := range hierarchies {
		together := strings.Join(h.Controllers, ",")
		m := mount{"cgroup", filepath.Join(at, together), "cgroup", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, together}
		if err := m.do(); err != nil {
			return err
		}
		if len(h.Controllers) == 1 {
			continue
		}
		for _, controller := range h.Controllers {
			if err := os.Symlink(together, filepath.Join(at, controller)); err != nil {
				return fmt.Errorf("cannot name the control group hierarchy of %s: %w", controller, err)
			}
		}
	}
	return nil
}

// delegateControllers lets the version 2 groups below the node's own have
// controllers, which takes that no process sits in the node's own group itself.
func delegateControllers() error {
	const top = "/sys/fs/cgroup"
	available, err := os.ReadFile(filepath.Join(top, "cgroup.controllers"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the node's controllers: %w", err)
	}
	leaf := filepath.Join(top, "node")
	if err := os.MkdirAll(leaf, 0o755); err != nil {
		return fmt.Errorf("cannot make the control group of the node's programs: %w", err)
	}
	if err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte("0"), 0o644); err != nil {
		return fmt.Errorf("cannot move the node into its leaf control group: %w", err)
	}
	for _, controller := range strings.Fields(string(available)) {
		if err := os.WriteFile(filepath.Join(top, "cgroup.subtree_control"), []byte("+"+controller), 0o644); err != nil {
			return fmt.Errorf("cannot pass the controller %s on to pods: %w", controller, err)
		}
	}
	return nil
}

func writeHostFiles(name string) error {
	files := map[string]string{
		"/etc/hostname":    name + "\n",
		"/etc/hosts":       "127.0.0.1 localhost\n::1 localhost\n" + nodeAddress + " " + name + "\n",
		"/etc/resolv.conf": "nameserver " + nodeAddress + "\n",
	}
	for path, content := range files {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return fmt.Errorf("cannot write the node's %s: %w", path, err)
		}
	}
	return nil
}
