package node

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/nodeconfig"
)

const nodeAddress = nodeconfig.NodeAddress

// buildNetwork gives the node its one address. It sits on a bridge of the
// node's own, because not every kernel has dummy devices, and leads nowhere:
// the default route is there for programs that look for one.
func buildNetwork() error {
	steps := []string{
		"link set lo up",
		"link add node0 type bridge",
		"addr add " + nodeconfig.NodePrefix + " dev node0",
		"link set node0 up",
		"route add default via " + nodeconfig.NodeGateway + " dev node0",
	}
	for _, step := range steps {
		output, err := exec.Command("ip", strings.Fields(step)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("cannot build the node's network: ip %s: %w: %s", step, err, strings.TrimSpace(string(output)))
		}
	}
	for _, setting := range []string{"net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"} {
		if err := os.WriteFile("/proc/sys/"+setting, []byte("1"), 0o644); err != nil {
			return fmt.Errorf("cannot set %s in the node's network: %w", setting, err)
		}
	}
	return nil
}
