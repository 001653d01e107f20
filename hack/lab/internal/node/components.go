package node

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/nodeconfig"
)

// component is one program that the node keeps running.
type component struct {
	name    string
	command []string
	// ready reports whether those that come after may start; nil means at once.
	ready func(ctx context.Context) bool
}

// Components are the names of the node's programs, in the order of their start.
func Components() []string {
	var names []string
	for _, c := range components("") {
		names = append(names, c.name)
	}
	return names
}

const containerdSocket = "/run/containerd/containerd.sock"

func components(nodeName string) []component {
	return []component{
		{name: "etcd", command: etcdCommand(), ready: listens("tcp", "127.0.0.1:2379")},
		{name: "containerd", command: containerdCommand(), ready: listens("unix", containerdSocket)},
		{name: "kube-apiserver", command: apiServerCommand(), ready: apiServerReady},
		{name: "kube-controller-manager", command: controllerManagerCommand()},
		{name: "kube-scheduler", command: []string{
			"kube-scheduler", "--kubeconfig=" + inEtc("scheduler.kubeconfig"), "--leader-elect=false",
		}},
		{name: "kubelet", command: []string{
			"kubelet", "--config=" + inEtc("kubelet.yaml"), "--kubeconfig=" + inEtc("kubelet.kubeconfig"),
			"--node-ip=" + nodeAddress, "--hostname-override=" + nodeName,
		}},
		{name: "kube-proxy", command: []string{
			"kube-proxy", "--kubeconfig=" + inEtc("proxy.kubeconfig"), "--hostname-override=" + nodeName,
			"--proxy-mode=iptables", "--cluster-cidr=" + nodeconfig.PodRange,
			// The size of the connection table is the machine's to choose.
			"--conntrack-max-per-core=0",
		}},
		{name: "coredns", command: []string{"coredns", "-conf", inEtc("Corefile")}},
	}
}

func etcdCommand() []string {
	return []string{
		"etcd", "--name=lab", "--data-dir=/var/lib/etcd",
		"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380",
		"--initial-advertise-peer-urls=http://127.0.0.1:2380", "--initial-cluster=lab=http://127.0.0.1:2380",
		// A lab's data does not outlive the lab.
		"--unsafe-no-fsync",
	}
}

func containerdCommand() []string {
	return []string{"containerd", "--config", inEtc("containerd.toml")}
}

func apiServerCommand() []string {
	key := func(name string) string { return inEtc("pki/" + name) }
	return []string{
		"kube-apiserver",
		"--etcd-servers=http://127.0.0.1:2379",
		"--advertise-address=" + nodeAddress, "--secure-port=6443",
		"--tls-cert-file=" + key("apiserver.crt"), "--tls-private-key-file=" + key("apiserver.key"),
		"--client-ca-file=" + key("ca.crt"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--service-cluster-ip-range=" + nodeconfig.ServiceRange,
		"--service-account-issuer=https://kubernetes.default.svc." + nodeconfig.ClusterDomain,
		"--service-account-key-file=" + key("service-accounts.pub"),
		"--service-account-signing-key-file=" + key("service-accounts.key"),
		// Without this it looks for the kubelet by a host name that nobody resolves.
		"--kubelet-preferred-address-types=InternalIP",
		"--kubelet-certificate-authority=" + key("ca.crt"),
		"--kubelet-client-certificate=" + key("kubelet-client.crt"), "--kubelet-client-key=" + key("kubelet-client.key"),
		// Aggregated APIs, such as metrics, are asked under the front proxy's name.
		"--requestheader-client-ca-file=" + key("ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + key("front-proxy.crt"), "--proxy-client-key-file=" + key("front-proxy.key"),
	}
}

func controllerManagerCommand() []string {
	return []string{
		"kube-controller-manager", "--kubeconfig=" + inEtc("controller-manager.kubeconfig"), "--leader-elect=false",
		"--service-account-private-key-file=" + inEtc("pki/service-accounts.key"), "--root-ca-file=" + inEtc("pki/ca.crt"),
		"--use-service-account-credentials",
		"--cluster-signing-cert-file=" + inEtc("pki/ca.crt"), "--cluster-signing-key-file=" + inEtc("pki/ca.key"),
	}
}

func inEtc(name string) string { return filepath.Join(etcInNode, name) }

// listens is ready once something accepts connections at the address.
func listens(network, address string) func(context.Context) bool {
	return func(ctx context.Context) bool {
		dialer := net.Dialer{Timeout: time.Second}
		connection, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return false
		}
		connection.Close()
		return true
	}
}

// apiServerReady asks as nobody in particular, which every API server allows for
// its health.
func apiServerReady(ctx context.Context) bool {
	client := http.Client{
		Timeout: 2 * time.Second,
		// Only whether it answers is asked here; nothing is believed or sent.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://127.0.0.1:6443/readyz", nil)
	if err != nil {
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// searchPath is where programs of the node are looked for, the lab's own first.
var searchPath = []string{programsInNode, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// Environment is all that the node's programs know of the world.
func Environment() []string {
	return []string{"PATH=" + strings.Join(searchPath, ":"), "HOME=/root", "LANG=C.UTF-8"}
}

// FindProgram looks a program up, from within the node's file system.
func FindProgram(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	for _, dir := range searchPath {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", &os.PathError{Op: "find the program", Path: name, Err: os.ErrNotExist}
}
