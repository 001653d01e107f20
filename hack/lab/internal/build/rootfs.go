package build

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cache"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/progress"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/versions"
)

//go:embed rootfs.go
var rootfsRecipe string

// Root file systems in the product that RootFS makes.
const (
	imageRootTar = "image-root.tar"
	nodeRootDir  = "node-root"
)

// RootFS returns the directory with two root file systems of one Debian: the
// images' as a tar archive, and the node's as a directory, which is the images'
// plus the packages of a Kubernetes node.
func (b *Builder) RootFS(ctx context.Context) (string, error) {
	return b.ensure(ctx, recipe{
		product: rootfsProduct(),
		doing:   "installing Debian " + versions.DebianSuite + " for the node and the images",
		make:    installDebian,
	})
}

func rootfsProduct() cache.Product {
	return cache.Product{Name: "rootfs", Key: cache.Key(rootfsRecipe, runtime.GOARCH, versions.DebianSuite,
		strings.Join(versions.ImagePackages, ","), strings.Join(versions.NodePackages, ","))}
}

// NodeRoot is where the node's root file system lies.
func NodeRoot(p Products) string { return filepath.Join(p.RootFS, nodeRootDir) }

func installDebian(ctx context.Context, dir string, stage *progress.Stage, log *os.File) error {
	release, err := debianRelease("/etc/os-release")
	if err != nil {
		return err
	}
	sources, err := debianSources("/etc/apt", release)
	if err != nil {
		return err
	}
	list := filepath.Join(dir, "debian.list")
	if err := os.WriteFile(list, []byte(sources), 0o644); err != nil {
		return fmt.Errorf("cannot write apt's source list: %w", err)
	}
	mmdebstrap, err := fetchMmdebstrap(ctx, dir, list, log)
	if err != nil {
		return err
	}
	stage.Say("mmdebstrap is here; installing packages")
	install := exec.Command(mmdebstrap, mmdebstrapArguments(dir, list)...)
	// Its mounts and all processes that it starts go away with it, however it ends.
	install.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS}
	// mmdebstrap looks for its own mmtarfilter on the PATH.
	path := filepath.Dir(mmdebstrap) + string(os.PathListSeparator) + os.Getenv("PATH")
	install.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "SOURCE_DATE_EPOCH=0", "PATH="+path)
	if err := runLogged(ctx, log, install); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, "apt"))
}

// fetchMmdebstrap downloads and unpacks mmdebstrap beside the product instead of
// installing it. apt works in directories of its own meanwhile, so that the
// machine's package state stays as it is.
func fetchMmdebstrap(ctx context.Context, dir, list string, log *os.File) (string, error) {
	apt := filepath.Join(dir, "apt")
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial", "unpacked"} {
		if err := os.MkdirAll(filepath.Join(apt, sub), 0o755); err != nil {
			return "", fmt.Errorf("cannot make apt's directories: %w", err)
		}
	}
	private := []string{
		"-o", "Dir::State=" + filepath.Join(apt, "state"),
		"-o", "Dir::State::status=/var/lib/dpkg/status",
		"-o", "Dir::Cache=" + filepath.Join(apt, "cache"),
		"-o", "Dir::Etc::sourcelist=" + list,
		"-o", "Dir::Etc::sourceparts=-",
		"-o", "APT::Sandbox::User=root",
		"-o", "APT::Update::Error-Mode=any",
	}
	for _, action := range [][]string{{"update"}, {"download", "mmdebstrap"}} {
		step := exec.Command("apt-get", append(append([]string{"-q"}, private...), action...)...)
		step.Dir = apt
		if err := runLogged(ctx, log, step); err != nil {
			return "", err
		}
	}
	packages, _ := filepath.Glob(filepath.Join(apt, "mmdebstrap_*.deb"))
	if len(packages) != 1 {
		return "", fmt.Errorf("apt-get left %d packages of mmdebstrap in %s where one was expected (log: %s)", len(packages), apt, log.Name())
	}
	unpacked := filepath.Join(apt, "unpacked")
	unpack := exec.Command("dpkg-deb", "--extract", packages[0], unpacked)
	return filepath.Join(unpacked, "usr", "bin", "mmdebstrap"), runLogged(ctx, log, unpack)
}

// mmdebstrapArguments asks for the images' packages first, packs them, and then
// adds the node's to the same tree: the packages they share are installed once.
func mmdebstrapArguments(dir, list string) []string {
	packImageRoot := `tar --create --numeric-owner --sort=name --one-file-system ` +
		`--exclude=./dev/* --exclude=./proc/* --exclude=./sys/* --exclude=./run/* --exclude=./tmp/* ` +
		`--exclude=./var/lib/apt/lists/* --exclude=./var/cache/* --exclude=./var/log/* ` +
		`--exclude=./etc/hostname --exclude=./etc/resolv.conf --exclude=./etc/apt/* ` +
		`--file='` + filepath.Join(dir, imageRootTar) + `' --directory="$1" .`
	// Nothing may start a service on the machine while packages configure themselves.
	forbidServices := `printf '#!/bin/sh\nexit 101\n' > "$1/usr/sbin/policy-rc.d" && chmod 755 "$1/usr/sbin/policy-rc.d"`
	addNodePackages := `APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes --no-install-recommends ` +
		`-o Dir::Bin::dpkg=env -o DPkg::Options::=--unset=TMPDIR -o DPkg::Options::=dpkg ` +
		`-o DPkg::Chroot-Directory="$1" install ` + strings.Join(versions.NodePackages, " ")
	allowServices := `rm "$1/usr/sbin/policy-rc.d"`
	return []string{
		"--mode=root", "--format=directory", "--variant=essential",
		"--include=" + strings.Join(versions.ImagePackages, ","),
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/info/*",
		"--customize-hook=" + packImageRoot,
		"--customize-hook=" + forbidServices,
		"--customize-hook=" + addNodePackages,
		"--customize-hook=" + allowServices,
		versions.DebianSuite, filepath.Join(dir, nodeRootDir), list,
	}
}
