package instance

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/nodeconfig"
)

// CommandInNetwork is a program of the machine, to be run inside the lab's
// network with KUBECONFIG set.
func (i Instance) CommandInNetwork(ctx context.Context, program string, arguments ...string) *exec.Cmd {
	return exec.CommandContext(ctx, i.labProgram(), append([]string{"exec", "--name", i.Name, "--", program}, arguments...)...)
}

// GrantPermissions gives the node's own programs the rights that Kubernetes has
// no built-in role for.
func (i Instance) GrantPermissions(ctx context.Context) error {
	spec, err := i.Spec()
	if err != nil {
		return err
	}
	kubectl := filepath.Join(spec.Programs, "kubectl")
	apply := i.CommandInNetwork(ctx, kubectl, "apply", "--filename", filepath.Join(spec.EtcDir(), nodeconfig.Permissions))
	output, err := apply.CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot apply %s: %w: %s", nodeconfig.Permissions, err, strings.TrimSpace(string(output)))
	}
	return nil
}
