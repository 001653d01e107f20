// Package node is what runs inside a lab's namespaces: the node's first process,
// which builds the node's file system and network and then starts and watches
// the programs of the cluster.
package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Spec says what the node is made of. All paths are the machine's.
type Spec struct {
	// Name is the node's host name and its name in the cluster.
	Name string
	// RootFS is the node's root file system, which stays as it is.
	RootFS string
	// Programs holds the compiled programs.
	Programs string
	// Dir is the lab's own directory.
	Dir string
}

// Directories in Spec.Dir, and where the node sees them.
const (
	etcDir        = "etc"
	containerdDir = "containerd"
	kubeletDir    = "kubelet"
	etcdDir       = "etcd"
	logsDir       = "logs"
	stateDir      = "state"
	rootDir       = "root"

	programsInNode = "/opt/lab/bin"
	etcInNode      = "/etc/lab"
	logsInNode     = "/var/log"
	stateInNode    = "/var/lib/lab"
)

// Freshly are the directories in Spec.Dir that every start makes anew.
var Freshly = []string{etcDir, containerdDir, kubeletDir, etcdDir, logsDir, stateDir, rootDir}

// EtcDir is the directory with the node's configuration.
func (s Spec) EtcDir() string { return filepath.Join(s.Dir, etcDir) }

// RootFSProduct is the product that RootFS is part of.
func (s Spec) RootFSProduct() string { return filepath.Dir(s.RootFS) }

// ContainerdDir is where containerd keeps images and containers.
func (s Spec) ContainerdDir() string { return filepath.Join(s.Dir, containerdDir) }

// LogsDir is the node's /var/log.
func (s Spec) LogsDir() string { return filepath.Join(s.Dir, logsDir) }

// ComponentsFile is where the node tells how its programs fare.
func (s Spec) ComponentsFile() string { return filepath.Join(s.Dir, stateDir, componentsFile) }

// SpecFile is where a spec is kept for the node's first process to read.
func SpecFile(dir string) string { return filepath.Join(dir, "node.json") }

// Save writes the spec to its file.
func (s Spec) Save() error {
	content, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("cannot write down what the node is made of: %w", err)
	}
	return os.WriteFile(SpecFile(s.Dir), content, 0o644)
}

// LoadSpec reads a saved spec.
func LoadSpec(path string) (Spec, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return Spec{}, fmt.Errorf("cannot read what the node is made of: %w", err)
	}
	var s Spec
	if err := json.Unmarshal(content, &s); err != nil {
		return Spec{}, fmt.Errorf("%s is broken (%w): lab down and lab up make it anew", path, err)
	}
	return s, nil
}
