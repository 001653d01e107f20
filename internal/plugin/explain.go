package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/explain"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
)

type explainOptions struct {
	place  inventory.Place
	output string
	files  fileOptions
}

const explainLong = `Say why a probe says what it says: what is declared, what Istio computes and what was observed, side by side, and the
object to change where they disagree.

With -f or -k: say what the paths would see if the files were applied. Over the cluster, every probe and HTTPS Service of
the files' namespaces is looked at, and what changes is shown; with --local, the files alone. Nothing is applied.

The exit code is 0 where all is as declared, 1 where something is not, and 2 where that cannot be told.`

const explainExamples = `  # why does this probe say what it says?
  kubectl meshprobe explain mtls-strict

  # what would a merge request change, path by path?
  kubectl meshprobe explain -f policies/
  kubectl meshprobe explain -k overlays/production --without peerauthentication/shop/legacy

  # from the files alone, without a cluster
  kubectl meshprobe explain -f policies/ --local`

func (s *session) explainCommand() *cobra.Command {
	o := explainOptions{}
	command := &cobra.Command{
		Use:               "explain NAME | explain -f FILE",
		Short:             "Say why a probe says what it says, or what files would change",
		Long:              explainLong,
		Example:           explainExamples,
		ValidArgsFunction: s.completeProbes,
		RunE: func(command *cobra.Command, args []string) error {
			if err := o.validate(args); err != nil {
				return err
			}
			if o.files.given() {
				return s.explainFiles(command.Context(), o)
			}
			return s.explainProbe(command.Context(), o, args[0])
		},
	}
	addPlaceFlags(command, &o.place)
	addChoice(command, &o.output, "output", "o", "text", "output format", "text", "json")
	o.files.addTo(command)
	return command
}

// addPlaceFlags lets the person say where Istio is.
func addPlaceFlags(command *cobra.Command, place *inventory.Place) {
	command.Flags().StringVar(&place.IstioNamespace, "istio-namespace", "istio-system", "where istiod and its mesh config are")
	command.Flags().StringVar(&place.ClusterDomain, "cluster-domain", "cluster.local", "the cluster's DNS domain")
}

func (o explainOptions) validate(args []string) error {
	switch {
	case o.files.given() && len(args) > 0:
		return fmt.Errorf("explain takes the name of a probe or files (-f, -k), not both")
	case !o.files.given() && (o.files.local || len(o.files.without) > 0):
		return fmt.Errorf("--local and --without go with files: give -f or -k")
	case !o.files.given() && len(args) != 1:
		return fmt.Errorf("explain takes the name of one probe, or files with -f or -k: kubectl meshprobe get lists the probes")
	default:
		return nil
	}
}

func (s *session) explainProbe(ctx context.Context, o explainOptions, name string) error {
	reader, err := s.client()
	if err != nil {
		return err
	}
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	probe, err := findProbe(ctx, reader, namespace, name)
	if err != nil {
		return err
	}
	found, err := inventory.GatherPolicies(ctx, reader, probe, o.place)
	if err != nil {
		return err
	}
	now := time.Now()
	explanation := explain.Of(found, now)
	if o.output == "json" {
		err = s.printJSON(explanation)
	} else {
		err = explanation.Write(s.Out, now)
	}
	if err != nil {
		return err
	}
	return exitFor(explanation.Outcome())
}

func (s *session) printJSON(what any) error {
	encoder := json.NewEncoder(s.Out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(what)
}

// exitFor is the exit code of an outcome, without a message: what there is to say has been printed.
func exitFor(outcome api.Outcome) error {
	switch outcome {
	case api.OutcomeMatch:
		return nil
	case api.OutcomeMismatch:
		return exit{code: ExitRefuted}
	default:
		return exit{code: ExitUnknown}
	}
}
