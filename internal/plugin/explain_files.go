package plugin

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	cliresource "k8s.io/cli-runtime/pkg/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/whatif"
)

type fileOptions struct {
	cliresource.FilenameOptions
	local   bool
	without []string
}

func (o *fileOptions) addTo(command *cobra.Command) {
	flags := command.Flags()
	flags.StringSliceVarP(&o.Filenames, "filename", "f", nil, "files or directories whose objects are to be reckoned with; - reads standard input")
	flags.BoolVarP(&o.Recursive, "recursive", "R", false, "look into the directories of -f all the way down")
	flags.StringVarP(&o.Kustomize, "kustomize", "k", "", "a kustomization whose objects are to be reckoned with")
	flags.BoolVar(&o.local, "local", false, "reckon with the files alone and ask no cluster")
	flags.StringSliceVar(&o.without, "without", nil, "an object of the cluster that would be gone, as kind/namespace/name (repeatable)")
}

func (o *fileOptions) given() bool { return len(o.Filenames) > 0 || o.Kustomize != "" }

// explainFiles forecasts what the paths would see if the files were applied.
func (s *session) explainFiles(ctx context.Context, o explainOptions) error {
	namespace, err := s.fileNamespace(o.files.local)
	if err != nil {
		return err
	}
	question := whatif.Question{Place: o.place, Now: time.Now()}
	if question.Files, err = readFiles(o.files, namespace); err != nil {
		return err
	}
	if question.Removed, err = references(o.files.without); err != nil {
		return err
	}
	if !o.files.local {
		if question.Below, err = s.client(); err != nil {
			return err
		}
	}
	forecasts, err := whatif.Answer(ctx, question)
	if err != nil {
		return err
	}
	if len(forecasts) == 0 {
		return exit{ExitUnknown, "nothing to forecast: neither the files nor the cluster's namespaces of the files hold a probe or a Service with a TLS port"}
	}
	if o.output == "json" {
		err = s.printJSON(forecasts)
	} else {
		err = whatif.Write(s.Out, forecasts, question.Below != nil)
	}
	if err != nil {
		return err
	}
	return exitFor(worst(forecasts))
}

// fileNamespace is the namespace of objects whose files name none. Without a cluster there need be no kubeconfig.
func (s *session) fileNamespace(local bool) (string, error) {
	if local {
		if given := *s.flags.Namespace; given != "" {
			return given, nil
		}
		return "default", nil
	}
	return s.namespace()
}

func worst(forecasts []whatif.Forecast) api.Outcome {
	outcome := api.OutcomeMatch
	for _, forecast := range forecasts {
		switch forecast.Outcome() {
		case api.OutcomeMismatch:
			return api.OutcomeMismatch
		case api.OutcomeUnknown:
			outcome = api.OutcomeUnknown
		}
	}
	return outcome
}

// readFiles reads the objects that policies are computed from, each with its file in the error.
func readFiles(o fileOptions, namespace string) ([]client.Object, error) {
	infos, err := cliresource.NewLocalBuilder().Unstructured().Local().
		NamespaceParam(namespace).DefaultNamespace().
		FilenameParam(false, &o.FilenameOptions).
		Flatten().Do().Infos()
	if err != nil && strings.Contains(err.Error(), "kustomization.yaml") {
		return nil, fmt.Errorf("%w: a folder with a kustomization goes with -k", err)
	}
	if err != nil {
		return nil, err
	}
	var objects []client.Object
	for _, info := range infos {
		content, ok := info.Object.(*unstructured.Unstructured)
		if !ok {
			continue
		}
		object, err := whatif.Decode(content)
		if err != nil {
			return nil, fmt.Errorf("%s: %s %s: %w", info.Source, content.GetKind(), content.GetName(), err)
		}
		if object == nil {
			continue
		}
		if object.GetNamespace() == "" && content.GetKind() != "Namespace" {
			object.SetNamespace(namespace)
		}
		objects = append(objects, object)
	}
	return objects, nil
}

func references(texts []string) ([]whatif.Reference, error) {
	var found []whatif.Reference
	for _, text := range texts {
		reference, err := whatif.ParseReference(text)
		if err != nil {
			return nil, fmt.Errorf("--without %s: %w", text, err)
		}
		found = append(found, reference)
	}
	return found, nil
}
