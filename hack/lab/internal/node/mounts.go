package node

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mount is one mount and the error it makes.
type mount struct {
	source, target, kind string
	flags                uintptr
	options              string
}

func (m mount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return fmt.Errorf("cannot make the mount point %s: %w", m.target, err)
	}
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.options); err != nil {
		return fmt.Errorf("cannot mount %s (%s) on %s: %w", m.source, m.kind, m.target, err)
	}
	return nil
}

func mountAll(mounts []mount) error {
	for _, m := range mounts {
		if err := m.do(); err != nil {
			return err
		}
	}
	return nil
}

// keepMountsPrivate cuts this mount namespace off from the machine's: nothing
// mounted from here on is seen there.
func keepMountsPrivate() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make the node's mounts its own: %w", err)
	}
	return nil
}

// writableCopy lays a writable layer in memory over lower and returns where both
// are seen as one. What the node writes outside the directories it is given is
// small, and gone with it.
func writableCopy(lower, at string) (string, error) {
	if err := (mount{"tmpfs", at, "tmpfs", 0, "mode=755"}).do(); err != nil {
		return "", err
	}
	upper, work, merged := filepath.Join(at, "upper"), filepath.Join(at, "work"), filepath.Join(at, "merged")
	for _, dir := range []string{upper, work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return "", fmt.Errorf("cannot make the node's writable layer: %w", err)
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work)
	return merged, mount{"overlay", merged, "overlay", 0, options}.do()
}

// systemMounts are those that every Linux root file system needs.
func systemMounts(root string) []mount {
	in := func(path string) string { return filepath.Join(root, path) }
	return []mount{
		{"proc", in("/proc"), "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", in("/sys"), "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"tmpfs", in("/dev"), "tmpfs", unix.MS_NOSUID, "mode=755"},
		{"devpts", in("/dev/pts"), "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"},
		{"tmpfs", in("/dev/shm"), "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, ""},
		{"mqueue", in("/dev/mqueue"), "mqueue", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"tmpfs", in("/run"), "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"tmpfs", in("/tmp"), "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	}
}

// devices are what the node sees of the machine's; none of them is a disk.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty", "kmsg", "fuse"}

// lendDevices shows the node a few of the machine's device files.
func lendDevices(root string) error {
	for _, name := range devices {
		from, to := filepath.Join("/dev", name), filepath.Join(root, "dev", name)
		if _, err := os.Stat(from); err != nil {
			continue
		}
		if err := bindFile(from, to); err != nil {
			return err
		}
	}
	if err := os.Symlink("pts/ptmx", filepath.Join(root, "dev", "ptmx")); err != nil {
		return fmt.Errorf("cannot make the node's terminal multiplexer: %w", err)
	}
	for link, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, filepath.Join(root, "dev", link)); err != nil {
			return fmt.Errorf("cannot make /dev/%s of the node: %w", link, err)
		}
	}
	return nil
}

// bindFile shows the file from at to as well, which is made if it is missing.
func bindFile(from, to string) error {
	if _, err := os.Lstat(to); err != nil {
		if err := os.WriteFile(to, nil, 0o644); err != nil {
			return fmt.Errorf("cannot make the mount point %s: %w", to, err)
		}
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot show %s at %s: %w", from, to, err)
	}
	return nil
}

// forbidWriting makes a bind mount read-only, which takes a second step.
func forbidWriting(target string) error {
	if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("cannot make %s read-only: %w", target, err)
	}
	return nil
}

// enterRoot makes root the file system of this process and forgets the old one.
func enterRoot(root string) error {
	if err := os.Chdir(root); err != nil {
		return fmt.Errorf("cannot enter the node's root file system: %w", err)
	}
	// With both places the same, the old root ends up under the new one's top and
	// is taken off from there.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("cannot make %s the node's root file system: %w", root, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("cannot let go of the machine's file system: %w", err)
	}
	return os.Chdir("/")
}
