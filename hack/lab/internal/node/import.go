package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ImportStep is the verb under which this program imports images.
const ImportStep = "node-import-images"

// importPatience is how long containerd may take to start.
const importPatience = 30 * time.Second

// ImportImages runs containerd on an empty directory, has it unpack the images
// of an archive there, and stops it. It must be the first process of PID, mount
// and network namespaces of its own. scratch is an empty place for mounts.
func ImportImages(rootFS, scratch, archive, into string) error {
	if err := keepMountsPrivate(); err != nil {
		return err
	}
	root, err := writableCopy(rootFS, scratch)
	if err != nil {
		return err
	}
	mounts := append(systemMounts(root),
		mount{into, filepath.Join(root, "/var/lib/containerd"), "", unix.MS_BIND, ""},
		mount{filepath.Dir(archive), filepath.Join(root, "/mnt"), "", unix.MS_BIND, ""})
	if err := mountAll(mounts); err != nil {
		return err
	}
	if err := lendDevices(root); err != nil {
		return err
	}
	if err := enterRoot(root); err != nil {
		return err
	}
	return importInRoot("/mnt/" + filepath.Base(archive))
}

func importInRoot(archive string) error {
	if err := os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"); err != nil {
		return err
	}
	// Without its Kubernetes part containerd needs no network and no control groups.
	config := "/run/containerd.toml"
	if err := os.WriteFile(config, []byte("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"), 0o644); err != nil {
		return fmt.Errorf("cannot configure containerd: %w", err)
	}
	containerd := exec.Command("containerd", "--config", config)
	containerd.Stdout, containerd.Stderr = os.Stdout, os.Stderr
	if err := containerd.Start(); err != nil {
		return fmt.Errorf("cannot start containerd: %w", err)
	}
	ready := listens("unix", containerdSocket)
	for deadline := time.Now().Add(importPatience); !ready(context.Background()); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("containerd does not answer")
		}
	}
	load := exec.Command("ctr", "--namespace", "k8s.io", "images", "import", archive)
	load.Stdout, load.Stderr = os.Stdout, os.Stderr
	if err := load.Run(); err != nil {
		return fmt.Errorf("containerd does not take the images: %w", err)
	}
	// Asked to stop, it closes its database.
	if err := containerd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("cannot stop containerd: %w", err)
	}
	if err := containerd.Wait(); err != nil {
		return fmt.Errorf("containerd did not stop well: %w", err)
	}
	return nil
}
