// Package nodeconfig writes the configuration of one lab's node: keys,
// certificates, kubeconfigs, and the files of the kubelet, containerd, the pod
// network and CoreDNS.
package nodeconfig

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
	"time"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/pki"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/versions"
)

// The addresses are from the ranges reserved for benchmarks, 198.18.0.0/15,
// which no network uses. They exist only in the lab's network namespace.
const (
	NodeAddress    = "198.18.255.1"
	NodePrefix     = NodeAddress + "/24"
	NodeGateway    = "198.18.255.254"
	PodRange       = "198.18.0.0/22"
	ServiceRange   = "198.19.0.0/16"
	ServiceAddress = "198.19.0.1"
	ClusterDomain  = "cluster.local"
	APIServer      = "https://" + NodeAddress + ":6443"
)

// Etc is where the node sees the directory that Write fills.
const Etc = "/etc/lab"

// Permissions names the manifest in that directory that the cluster needs first.
const Permissions = "permissions.yaml"

//go:embed files
var files embed.FS

// targets says where each template goes.
var targets = map[string]string{
	"kubelet.yaml":     "kubelet.yaml",
	"containerd.toml":  "containerd.toml",
	"bridge.conflist":  "cni/10-lab.conflist",
	"Corefile":         "Corefile",
	"permissions.yaml": Permissions,
}

// Write makes everything new in dir, which must not exist yet, for a node called
// name. It returns what a client of the cluster needs.
func Write(dir, name string, now time.Time) (Client, error) {
	for _, sub := range []string{"pki", "cni"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return Client{}, fmt.Errorf("cannot make the node's configuration directory: %w", err)
		}
	}
	for source, target := range targets {
		if err := fill(source, filepath.Join(dir, target)); err != nil {
			return Client{}, err
		}
	}
	return writeIdentities(dir, name, now)
}

func fill(source, target string) error {
	parsed, err := template.ParseFS(files, "files/"+source)
	if err != nil {
		return fmt.Errorf("the template %s is broken: %w", source, err)
	}
	file, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write the node's configuration: %w", err)
	}
	values := map[string]string{
		"Etc": Etc, "NodeAddress": NodeAddress, "ClusterDomain": ClusterDomain,
		"PodRange": PodRange, "PauseImage": versions.PauseImage,
	}
	if err := parsed.Execute(file, values); err != nil {
		file.Close()
		return fmt.Errorf("cannot fill in the template %s: %w", source, err)
	}
	return file.Close()
}

// writeIdentities makes the authority, and a certificate for everybody who
// speaks to somebody else.
func writeIdentities(dir, name string, now time.Time) (Client, error) {
	authority, err := pki.NewAuthority("lab-"+name, now)
	if err != nil {
		return Client{}, err
	}
	private, public, err := pki.NewSigningKey()
	if err != nil {
		return Client{}, err
	}
	keep := map[string][]byte{
		"ca.crt": authority.CertificatePEM, "ca.key": authority.KeyPEM,
		"service-accounts.key": private, "service-accounts.pub": public,
	}
	for file, subject := range serverSubjects(name) {
		pair, err := authority.Issue(subject, now)
		if err != nil {
			return Client{}, err
		}
		keep[file+".crt"], keep[file+".key"] = pair.CertificatePEM, pair.KeyPEM
	}
	for file, content := range keep {
		if err := os.WriteFile(filepath.Join(dir, "pki", file), content, 0o600); err != nil {
			return Client{}, fmt.Errorf("cannot write the node's keys: %w", err)
		}
	}
	return writeKubeconfigs(dir, name, authority, now)
}

func serverSubjects(name string) map[string]pki.Subject {
	return map[string]pki.Subject{
		"apiserver": {
			Name:      "kube-apiserver",
			Addresses: []string{"127.0.0.1", NodeAddress, ServiceAddress},
			Hosts: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc." + ClusterDomain, "localhost"},
		},
		"kubelet":        {Name: "system:node:" + name, Groups: []string{"system:nodes"}, Addresses: []string{NodeAddress, "127.0.0.1"}, Hosts: []string{name}},
		"kubelet-client": {Name: "kubelet-client"},
		"front-proxy":    {Name: "front-proxy-client"},
	}
}
