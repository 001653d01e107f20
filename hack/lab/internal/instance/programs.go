package instance

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cache"
)

// peoplesPrograms are the cluster's programs that people call by hand.
var peoplesPrograms = []string{"kubectl", "istioctl"}

// labProgram is this program as it was when the lab was started: a later build
// of it must not pull the ground away from a lab that runs.
func (i Instance) labProgram() string { return filepath.Join(i.BinDir(), "lab") }

// cachePath is the cache that this lab is in, whatever HOME is later.
func (i Instance) cachePath() string { return filepath.Dir(filepath.Dir(i.Dir)) }

// writePrograms fills BinDir.
func (i Instance) writePrograms(m Material) error {
	if err := os.MkdirAll(i.BinDir(), 0o755); err != nil {
		return fmt.Errorf("cannot make the directory of the lab's programs: %w", err)
	}
	if err := copyProgram(m.Self, i.labProgram()); err != nil {
		return err
	}
	for _, name := range peoplesPrograms {
		script := fmt.Sprintf("#!/bin/sh\n# %s inside the network of the lab %q.\nexport %s='%s'\nexec '%s' exec --name %s -- '%s' \"$@\"\n",
			name, i.Name, cache.Place, i.cachePath(), i.labProgram(), i.Name, filepath.Join(m.Programs, name))
		if err := replaceFile(filepath.Join(i.BinDir(), name), []byte(script), 0o755); err != nil {
			return err
		}
	}
	return nil
}

func copyProgram(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("cannot read this program's own file: %w", err)
	}
	defer source.Close()
	target, err := os.OpenFile(to+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return fmt.Errorf("cannot copy this program: %w", err)
	}
	if _, err := io.Copy(target, source); err != nil {
		target.Close()
		return fmt.Errorf("cannot copy this program: %w", err)
	}
	if err := target.Close(); err != nil {
		return fmt.Errorf("cannot copy this program: %w", err)
	}
	return os.Rename(to+".new", to)
}
