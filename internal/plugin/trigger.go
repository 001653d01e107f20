package plugin

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/report"
)

// stalledSilence is how long a probe that was stalled before may take to notice that it is not any more.
const stalledSilence = 5 * time.Second

// triggerOptions are the flags of trigger.
type triggerOptions struct {
	selection selection
	all       bool
	wait      bool
	timeout   time.Duration
	output    string
}

func (s *session) triggerCommand() *cobra.Command {
	o := &triggerOptions{}
	command := &cobra.Command{
		Use:   "trigger [NAME...]",
		Short: "Ask for a run now, and wait for its verdict",
		Long: `Ask for a run now, and wait for its verdict. It sets the annotation ` + api.AnnotationRequestedAt + `, which
status.lastHandledRequest repeats when a run has answered it.

Exit code 0: everything is verified. 1: something is refuted. 2: it could not be found out.`,
		Example: `  kubectl meshprobe trigger mtls-strict
  kubectl meshprobe trigger --all -n shop --wait=false`,
		ValidArgsFunction: s.completeProbes,
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) == 0 && !o.all && !o.selection.allNamespaces && o.selection.labels == "" {
				return failure("say which probes are to run: by name, --all, --selector or --all-namespaces")
			}
			if err := o.selection.complete(s, args); err != nil {
				return err
			}
			return s.trigger(command.Context(), o)
		},
	}
	o.selection.addFlags(command)
	command.Flags().BoolVar(&o.all, "all", false, "all probes of the namespace")
	command.Flags().BoolVar(&o.wait, "wait", true, "wait for the verdicts")
	command.Flags().DurationVar(&o.timeout, "timeout", time.Minute, "how long to wait for all verdicts together")
	addOutput(command, &o.output)
	return command
}

func (s *session) trigger(ctx context.Context, o *triggerOptions) error {
	if o.timeout <= 0 {
		return failure("--timeout must be more than 0, and is %v", o.timeout)
	}
	cluster, err := s.client()
	if err != nil {
		return err
	}
	found, err := o.selection.read(ctx, cluster)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return failure("%s", nothingFound(o.selection.namespace))
	}
	var all []*awaited
	for i := range found {
		probe := &api.HTTPSMeshProbe{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(found[i].Object, probe); err != nil {
			return fmt.Errorf("read %s %s/%s: %w", resource, found[i].GetNamespace(), found[i].GetName(), err)
		}
		asked, err := ask(ctx, cluster, probe)
		if err != nil {
			return err
		}
		all = append(all, asked)
		if !o.wait {
			fmt.Fprintf(s.Out, "%s/%s %s\n", resource, probe.Name, cmp.Or(asked.ending.Message, "asked for a run"))
		}
	}
	if !o.wait {
		return nil
	}
	return s.print(s.awaitAll(ctx, cluster, all, o.timeout), o.output)
}

var suspended = report.Ending{Reason: api.ReasonSuspended, Message: "spec.suspend is true, so it was not asked for a run"}

// ask asks one probe for a run.
func ask(ctx context.Context, cluster client.Client, probe *api.HTTPSMeshProbe) (*awaited, error) {
	if probe.Spec.Suspend {
		no := func(*api.HTTPSMeshProbe) bool { return false }
		return &awaited{name: probe.Name, probe: probe, settled: no, asked: no, heard: no, ending: suspended}, nil
	}
	// A value that was never there before, to whatever clock the one before was set.
	request := time.Now().UTC().Format(time.RFC3339Nano)
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{api.AnnotationRequestedAt: request}}})
	if err != nil {
		return nil, err
	}
	if err := cluster.Patch(ctx, probe, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldOwner)); err != nil {
		return nil, err
	}
	before := *probe.Status.DeepCopy()
	asked := &awaited{
		name: probe.Name, probe: probe,
		settled: func(probe *api.HTTPSMeshProbe) bool {
			heard := !equality.Semantic.DeepEqual(before, probe.Status)
			stalled := meta.IsStatusConditionTrue(probe.Status.Conditions, api.ConditionStalled)
			return report.Settle(probe).Final && (answered(probe, request) || stalled && heard)
		},
		asked:   func(probe *api.HTTPSMeshProbe) bool { return answered(probe, request) },
		heard:   func(probe *api.HTTPSMeshProbe) bool { return !equality.Semantic.DeepEqual(before, probe.Status) },
		silence: operatorSilence + probe.Spec.Timeout.Duration,
	}
	asked.silent = noOperator(asked.silence)
	if meta.IsStatusConditionTrue(before.Conditions, api.ConditionStalled) {
		// A status that stays as it was is not written again.
		asked.silence, asked.silent = stalledSilence, report.Ending{}
	}
	return asked, nil
}

// answered says whether a run has been made for the request, or for one that somebody made after it.
func answered(probe *api.HTTPSMeshProbe, request string) bool {
	handled := probe.Status.LastHandledRequest
	return handled == request || handled != "" && handled == probe.Annotations[api.AnnotationRequestedAt]
}
