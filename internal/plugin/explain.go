package plugin

import (
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshprobe/httpsmeshprobe/internal/explain"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
)

type explainOptions struct {
	place  inventory.Place
	output string
}

func (s *session) explainCommand() *cobra.Command {
	o := explainOptions{}
	command := &cobra.Command{
		Use:   "explain NAME",
		Short: "Say why a probe says what it says",
		Long: `Say why a probe says what it says: what is declared, what Istio computes and what was observed, side by side, and the
object to change where they disagree.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: s.completeProbes,
		RunE:              func(command *cobra.Command, args []string) error { return s.explain(command, o, args[0]) },
	}
	command.Flags().StringVar(&o.place.IstioNamespace, "istio-namespace", "istio-system", "where istiod and its mesh config are")
	command.Flags().StringVar(&o.place.ClusterDomain, "cluster-domain", "cluster.local", "the cluster's DNS domain")
	addChoice(command, &o.output, "output", "o", "text", "output format", "text", "json")
	return command
}

func (s *session) explain(command *cobra.Command, o explainOptions, name string) error {
	reader, err := s.client()
	if err != nil {
		return err
	}
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	probe, err := findProbe(command.Context(), reader, namespace, name)
	if err != nil {
		return err
	}
	found, err := inventory.GatherPolicies(command.Context(), reader, probe, o.place)
	if err != nil {
		return err
	}
	explanation := explain.Of(found, time.Now())
	if o.output == "json" {
		encoder := json.NewEncoder(s.Out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(explanation)
	}
	return explanation.Write(s.Out, time.Now())
}
