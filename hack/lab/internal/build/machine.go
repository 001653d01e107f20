package build

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// neededBytes is the room that a build from nothing takes, compilers' temporary
// files and Go's build cache included.
const neededBytes = 12 << 30

// keptBytes is the room that a lab on finished products takes.
const keptBytes = 2 << 30

// checkMachine says at once, and in one sentence, what would fail later.
func (b *Builder) checkMachine() error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return fmt.Errorf("the lab runs on Linux on x86-64, and this is %s on %s", runtime.GOOS, runtime.GOARCH)
	}
	if os.Geteuid() != 0 {
		return errors.New("the lab needs root, to make namespaces and mounts: call it as root or with sudo")
	}
	var missing []string
	for _, program := range []string{"go", "python3", "perl", "apt-get", "dpkg-deb", "tar", "cp"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("this machine lacks %s, which the lab's build needs: install and try again", strings.Join(missing, ", "))
	}
	return b.checkDisk()
}

func (b *Builder) checkDisk() error {
	free, err := b.Cache.FreeBytes()
	if err != nil {
		return err
	}
	needed := uint64(keptBytes)
	if programs, err := programsProduct(b.Checkout); err != nil || !b.Cache.Has(programs) {
		needed = neededBytes
	}
	if free < needed {
		return fmt.Errorf("too little disk: %s has %.1f GB free and the lab needs %.0f GB", b.Cache.Path(), gigabytes(free), gigabytes(needed))
	}
	return nil
}

func gigabytes(bytes uint64) float64 { return float64(bytes) / (1 << 30) }
