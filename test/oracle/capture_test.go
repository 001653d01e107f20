package oracle

import (
	"strconv"
	"strings"
	"testing"

	"istio.io/istio/tools/common/config"
	"istio.io/istio/tools/istio-iptables/pkg/capture"
	"istio.io/istio/tools/istio-iptables/pkg/constants"
	"istio.io/istio/tools/istio-iptables/pkg/dependencies"

	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// missing stands for an annotation that the pod does not have.
const missing = "missing"

// TestCapture asks, for all that annotations can say of the inbound ports, whether the packet filter rules that Istio
// makes of it lead a connection into the sidecar.
func TestCapture(t *testing.T) {
	questions := 0
	for _, mode := range []string{missing, "REDIRECT", "TPROXY", "NONE"} {
		for _, include := range []string{missing, "*", "", "8443", "9090,8443", "9090, 8443", "84,43", "9090"} {
			for _, exclude := range []string{missing, "", "8443", "9090,8443", "9090, 8443", "84,43", "9090", "8443,"} {
				pod := meshpolicy.Pod{Sidecar: true, Annotations: annotations(mode, include, exclude)}
				for _, port := range []uint32{8443, 9090, 84} {
					questions++
					want, got := meshpolicy.PortExcluded, meshpolicy.ForServer(meshpolicy.Mesh{}, nil, pod, port).Capture
					if redirected(t, pod.Annotations, port) {
						want = meshpolicy.Captured
					}
					if got != want {
						t.Errorf("%v port %d: Istio's rules make it %s, meshpolicy %s", pod.Annotations, port, want, got)
					}
					if made := podInjectedBy(pod.Annotations); meshpolicy.ForServer(meshpolicy.Mesh{}, nil, made, port).Capture != captureAfter(want, made) {
						t.Errorf("%v port %d: as it was injected, Istio's rules make it %s", pod.Annotations, port, want)
					}
				}
			}
		}
	}
	t.Logf("%d questions", questions)
}

// podInjectedBy is a pod as the injection template makes it of annotations, which have been taken off since.
func podInjectedBy(annotations map[string]string) meshpolicy.Pod {
	mode := annotations["sidecar.istio.io/interceptionMode"]
	if mode == "NONE" {
		return meshpolicy.Pod{Sidecar: true, Redirection: meshpolicy.Redirection{Absent: true}}
	}
	settings := configured(annotations)
	return meshpolicy.Pod{Sidecar: true, Redirection: meshpolicy.Redirection{Container: "istio-init", Arguments: []string{
		"istio-iptables", "-p", "15001", "-z", "15006", "-u", "1337", "-m", mode, "-i", "*", "-x", "",
		"-b", settings.InboundPortsInclude, "-d", settings.InboundPortsExclude, "--log_output_level=default:info",
	}}}
}

// captureAfter is what a pod without any redirection has instead of an excluded port.
func captureAfter(want meshpolicy.Capture, made meshpolicy.Pod) meshpolicy.Capture {
	if made.Redirection.Absent {
		return meshpolicy.NoRedirection
	}
	return want
}

func annotations(mode, include, exclude string) map[string]string {
	made := map[string]string{}
	for key, value := range map[string]string{
		"sidecar.istio.io/interceptionMode":            mode,
		"traffic.sidecar.istio.io/includeInboundPorts": include,
		"traffic.sidecar.istio.io/excludeInboundPorts": exclude,
	} {
		if value != missing {
			made[key] = value
		}
	}
	return made
}

// redirected follows the annotations to the arguments of istio-iptables, and a packet through the rules that these make.
func redirected(t *testing.T, annotations map[string]string, port uint32) bool {
	t.Helper()
	mode := annotations["sidecar.istio.io/interceptionMode"]
	if mode == "NONE" {
		// The template leaves istio-init out.
		return false
	}
	table, target := "nat", constants.ISTIOINREDIRECT
	if mode == "TPROXY" {
		table, target = "mangle", constants.ISTIOTPROXY
	}
	settings := configured(annotations)
	recorded := &dependencies.DependenciesStub{}
	configurator, err := capture.NewIptablesConfigurator(settings, recorded)
	if err != nil {
		t.Fatal(err)
	}
	if err := configurator.Run(); err != nil {
		t.Fatal(err)
	}
	return follow(recorded.ExecutedStdin, table, "PREROUTING", port) == target
}

// configured follows the injection template from the annotations to the arguments of istio-iptables.
func configured(annotations map[string]string) *config.Config {
	include, ok := annotations["traffic.sidecar.istio.io/includeInboundPorts"]
	if !ok {
		include = "*"
	}
	return &config.Config{
		ProxyPort: "15001", InboundCapturePort: "15006", InboundTunnelPort: "15008", ProxyUID: "1337", ProxyGID: "1337",
		InboundTProxyMark: "1337", InboundTProxyRouteTable: "133", HostIPv4LoopbackCidr: "127.0.0.1/32",
		InboundInterceptionMode: annotations["sidecar.istio.io/interceptionMode"], InboundPortsInclude: include,
		InboundPortsExclude: "15090,15021,15020," + annotations["traffic.sidecar.istio.io/excludeInboundPorts"],
	}
}

// follow returns where a new connection to a port ends up in iptables-restore's rules: at a chain that redirects, or
// nowhere.
func follow(rules []string, table, chain string, port uint32) string {
	current := ""
	for _, rule := range rules {
		if name, ok := strings.CutPrefix(rule, "* "); ok {
			current = name
			continue
		}
		fields := strings.Fields(rule)
		if current != table || len(fields) < 2 || fields[0] != "-A" || fields[1] != chain || !matches(fields, port) {
			continue
		}
		switch target := fields[len(fields)-1]; target {
		case "RETURN":
			return ""
		case constants.ISTIOINBOUND:
			if end := follow(rules, table, target, port); end != "" {
				return end
			}
		default:
			return target
		}
	}
	return ""
}

func matches(fields []string, port uint32) bool {
	for i, field := range fields[:len(fields)-1] {
		switch {
		case field == "--dport" && fields[i+1] != strconv.FormatUint(uint64(port), 10):
			return false
		case field == "--ctstate" && !strings.Contains(fields[i+1], "NEW"):
			return false
		}
	}
	return true
}
