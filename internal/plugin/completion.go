package plugin

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

const (
	// completionTime is how long a person at a prompt is kept waiting for names.
	completionTime = 3 * time.Second

	// forKubectl is a program that kubectl looks for in PATH, by the name kubectl_complete-meshprobe, to complete what
	// follows kubectl meshprobe (kubectl 1.26 and later).
	forKubectl = "#!/bin/sh\nexec kubectl-meshprobe __complete \"$@\"\n"
)

func (s *session) completionCommand() *cobra.Command {
	generate := map[string]func(*cobra.Command) error{
		"kubectl": func(*cobra.Command) error {
			_, err := fmt.Fprint(s.Out, forKubectl)
			return err
		},
		"bash":       func(root *cobra.Command) error { return root.GenBashCompletionV2(s.Out, true) },
		"zsh":        func(root *cobra.Command) error { return root.GenZshCompletion(s.Out) },
		"fish":       func(root *cobra.Command) error { return root.GenFishCompletion(s.Out, true) },
		"powershell": func(root *cobra.Command) error { return root.GenPowerShellCompletionWithDesc(s.Out) },
	}
	shells := []string{"kubectl", "bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion kubectl|bash|zsh|fish|powershell",
		Short: "Print what lets a shell complete commands, flags, and names of probes and namespaces",
		Long: `Print what lets a shell complete commands, flags, and names of probes and namespaces.

kubectl's own completion, if your shell has it, asks a program named kubectl_complete-meshprobe about kubectl meshprobe. Put it
anywhere in PATH:

  kubectl meshprobe completion kubectl > ~/bin/kubectl_complete-meshprobe
  chmod +x ~/bin/kubectl_complete-meshprobe

The others print a shell's script for the program's own name, kubectl-meshprobe.`,
		ValidArgs: shells,
		Args: func(command *cobra.Command, args []string) error {
			if len(args) == 1 && slices.Contains(shells, args[0]) {
				return nil
			}
			return failure("%s takes one of kubectl, bash, zsh, fish, powershell", command.CommandPath())
		},
		RunE: func(command *cobra.Command, args []string) error { return generate[args[0]](command.Root()) },
	}
}

// completeProbes offers the names of probes in the namespace that are not there yet.
func (s *session) completeProbes(command *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	namespace, err := s.namespace()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var probes api.HTTPSMeshProbeList
	if s.listForCompletion(command.Context(), &probes, client.InNamespace(namespace)) != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var offered []string
	for i := range probes.Items {
		if probe := &probes.Items[i]; !slices.Contains(args, probe.Name) {
			offered = append(offered, fmt.Sprintf("%s\tsidecar %s, mTLS %s", probe.Name, probe.Spec.Target.Sidecar, probe.Spec.MTLS.Mode))
		}
	}
	return offered, cobra.ShellCompDirectiveNoFileComp
}

func (s *session) completeNamespaces(command *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var namespaces corev1.NamespaceList
	if s.listForCompletion(command.Context(), &namespaces) != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for i := range namespaces.Items {
		names = append(names, namespaces.Items[i].Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (s *session) listForCompletion(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	cluster, err := s.client()
	if err != nil {
		return err
	}
	return cluster.List(ctx, list, options...)
}

func (s *session) completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	raw, err := s.flags.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return keys(raw.Contexts), cobra.ShellCompDirectiveNoFileComp
}
