package instance

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/node"
)

// Health is how a lab fares at one moment.
type Health struct {
	Running bool
	PID     int
	// Checks are what a user of the lab relies on.
	Checks []Check
	// Components are the node's programs.
	Components []node.ComponentState
}

// Check is one question to the lab; Err says why it is not ready.
type Check struct {
	Name string
	Err  error
}

// Ready reports whether the lab can be used.
func (h Health) Ready() bool {
	for _, check := range h.Checks {
		if check.Err != nil {
			return false
		}
	}
	return h.Running
}

// Health asks the lab how it fares, without waiting for anything to change.
func (i Instance) Health(ctx context.Context) Health {
	pid, ok := i.Running()
	if !ok {
		return Health{}
	}
	health := Health{Running: true, PID: pid, Components: i.componentStates()}
	client, err := i.api()
	if err != nil {
		health.Checks = []Check{{"api server", err}}
		return health
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	health.Checks = []Check{
		{"api server", client.get(ctx, "/readyz", nil)},
		{"node", i.nodeReady(ctx, client)},
		{"dns", i.dnsReady(ctx)},
		{"istiod", istiodReady(ctx, client)},
	}
	return health
}

func (i Instance) componentStates() []node.ComponentState {
	content, err := os.ReadFile(node.Spec{Dir: i.Dir}.ComponentsFile())
	if err != nil {
		return nil
	}
	var states []node.ComponentState
	if json.Unmarshal(content, &states) != nil {
		return nil
	}
	return states
}

// LogsDir is where the logs of the node's programs lie.
func (i Instance) LogsDir() string { return filepath.Dir(i.NodeLog()) }
