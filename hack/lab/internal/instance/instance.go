// Package instance is a lab seen from the machine: starting its node, entering
// its namespaces, asking its API server, and removing all of it.
package instance

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cache"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/node"
)

// groupPrefix begins the name of every lab's control group.
const groupPrefix = "httpsmeshprobe-lab-"

// Instance is one lab, running or not.
type Instance struct {
	// Name is the lab's and its node's name.
	Name string
	// Dir holds everything of this lab.
	Dir string
}

// Named is the lab called name, whether or not there is anything of it yet.
func Named(store cache.Dir, name string) Instance {
	return Instance{Name: name, Dir: store.Instance(name)}
}

// All are the labs of which there is something on disk.
func All(store cache.Dir) ([]Instance, error) {
	entries, err := os.ReadDir(store.Instances())
	if err != nil {
		return nil, fmt.Errorf("cannot list the labs: %w", err)
	}
	var all []Instance
	for _, entry := range entries {
		if entry.IsDir() {
			all = append(all, Named(store, entry.Name()))
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all, nil
}

// Kubeconfig is the file with which an administrator reaches the cluster from
// inside the lab's network.
func (i Instance) Kubeconfig() string { return filepath.Join(i.Dir, "kubeconfig") }

// BinDir holds programs for people: they enter the lab's network by themselves.
func (i Instance) BinDir() string { return filepath.Join(i.Dir, "bin") }

// Lock keeps other lab commands from starting or stopping this lab at once.
func (i Instance) Lock(store cache.Dir, waiting func()) (unlock func(), err error) {
	return cache.Lock(filepath.Join(store.Instances(), i.Name+".lock"), waiting)
}

// Running reports the node's first process, or false if there is none.
func (i Instance) Running() (pid int, ok bool) {
	recorded, err := readIdentity(i.identityFile())
	if err != nil {
		return 0, false
	}
	return recorded.PID, recorded.alive()
}

// mustRun is Running for commands that make no sense without a node.
func (i Instance) mustRun() (int, error) {
	pid, ok := i.Running()
	if !ok {
		return 0, fmt.Errorf("the lab %q is not up: lab --name %s up starts it", i.Name, i.Name)
	}
	return pid, nil
}

func (i Instance) identityFile() string { return filepath.Join(i.Dir, "node.pid") }

func (i Instance) group() string { return groupPrefix + i.Name }

// Spec is what the running node was made of.
func (i Instance) Spec() (node.Spec, error) { return node.LoadSpec(node.SpecFile(i.Dir)) }

// Exists reports whether there is anything of this lab on disk.
func (i Instance) Exists() bool {
	_, err := os.Stat(i.Dir)
	return !errors.Is(err, os.ErrNotExist)
}
