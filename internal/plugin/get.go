package plugin

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/report"
)

// wide is the value of --output that adds columns.
const wide = "wide"

// getOptions are the flags of get.
type getOptions struct {
	selection selection
	print     *genericclioptions.PrintFlags
	watch     bool
	noHeaders bool
}

func (s *session) getCommand() *cobra.Command {
	options := &getOptions{print: genericclioptions.NewPrintFlags("")}
	command := &cobra.Command{
		Use:   "get [NAME...]",
		Short: "Show probes and what they found, path by path",
		Example: `  kubectl meshprobe get
  kubectl meshprobe get -A --watch
  kubectl meshprobe get mtls-strict -o wide`,
		ValidArgsFunction: s.completeProbes,
		RunE: func(command *cobra.Command, args []string) error {
			if err := options.selection.complete(s, args); err != nil {
				return err
			}
			return s.get(command.Context(), options)
		},
	}
	options.selection.addFlags(command)
	options.print.AddFlags(command)
	command.Flag("output").Usage = "Output format. One of: (" + wide + ", json, yaml, name, jsonpath, go-template and the others of kubectl)."
	_ = command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(
		append([]string{wide}, options.print.AllowedFormats()...), cobra.ShellCompDirectiveNoFileComp))
	command.Flags().BoolVarP(&options.watch, "watch", "w", false, "go on and print every change, until interrupted")
	command.Flags().BoolVar(&options.noHeaders, "no-headers", false, "print no headers")
	return command
}

func (s *session) get(ctx context.Context, options *getOptions) error {
	shows, err := s.lister(options)
	if err != nil {
		return err
	}
	cluster, err := s.client()
	if err != nil {
		return err
	}
	probes, err := options.selection.read(ctx, cluster)
	if err != nil {
		return err
	}
	if len(probes) == 0 && shows.table {
		fmt.Fprintln(s.ErrOut, nothingFound(options.selection.namespace))
	}
	if !options.watch {
		return shows.all(probes, len(options.selection.names) == 1)
	}
	// A watch ends when the person has seen enough; that is no failure.
	if err := follow(ctx, cluster, &options.selection, shows); ctx.Err() == nil {
		return err
	}
	return nil
}

// nothingFound is kubectl's sentence.
func nothingFound(namespace string) string {
	if namespace == "" {
		return "No resources found"
	}
	return "No resources found in " + namespace + " namespace."
}

// lister prints probes as the flags say.
type lister struct {
	out     io.Writer
	printer printers.ResourcePrinter
	// table says that there is no printer, but a table with these properties.
	table   bool
	row     report.RowOptions
	columns report.Columns
	headed  bool
	// printed is what was printed last of each probe.
	printed map[types.UID]string
}

func (s *session) lister(options *getOptions) (*lister, error) {
	l := &lister{out: s.Out, headed: options.noHeaders, printed: map[types.UID]string{}}
	format := *options.print.OutputFormat
	if (format != "" && format != wide) || *options.print.TemplatePrinterFlags.TemplateArgument != "" {
		var err error
		l.printer, err = options.print.ToPrinter()
		if genericclioptions.IsNoCompatiblePrinterError(err) {
			allowed := append([]string{wide}, options.print.AllowedFormats()...)
			return nil, failure("there is no output format %q%s", format, didYouMean(format, allowed, "kubectl meshprobe get --help lists them"))
		}
		return l, err
	}
	l.table = true
	l.row = report.RowOptions{Wide: format == wide, Namespace: options.selection.allNamespaces}
	l.columns.Colour = colourful(s.Out)
	if file, ok := s.Out.(*os.File); ok && format != wide {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil {
			l.columns.Limit = width
		}
	}
	return l, nil
}

// all prints the probes, as one where one was named.
func (l *lister) all(probes []unstructured.Unstructured, single bool) error {
	if !l.table {
		if single {
			return l.printer.PrintObj(&probes[0], l.out)
		}
		return l.printer.PrintObj(asList(probes), l.out)
	}
	rows := make([][]report.Cell, 0, len(probes))
	for i := range probes {
		row, err := l.rowOf(&probes[i])
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	l.lines(rows)
	return nil
}

// asList is the list that kubectl prints.
func asList(probes []unstructured.Unstructured) *unstructured.UnstructuredList {
	list := &unstructured.UnstructuredList{Items: probes}
	list.SetAPIVersion("v1")
	list.SetKind("List")
	list.SetResourceVersion("")
	return list
}

func (l *lister) rowOf(object *unstructured.Unstructured) ([]report.Cell, error) {
	probe := &api.HTTPSMeshProbe{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, probe); err != nil {
		return nil, fmt.Errorf("read %s %s/%s: %w", resource, object.GetNamespace(), object.GetName(), err)
	}
	return report.Row(probe, l.row, time.Now()), nil
}

func (l *lister) lines(rows [][]report.Cell) {
	if len(rows) == 0 {
		return
	}
	header := report.Header(l.row)
	l.columns.Fit(header)
	l.columns.Fit(rows...)
	if !l.headed {
		fmt.Fprintln(l.out, l.columns.Line(header))
		l.headed = true
	}
	for _, row := range rows {
		fmt.Fprintln(l.out, l.columns.Line(row))
	}
}

// changed prints a probe, unless the table would show what it showed before but for times.
func (l *lister) changed(probe *unstructured.Unstructured) error {
	if !l.table {
		if l.printed[probe.GetUID()] == probe.GetResourceVersion() {
			return nil
		}
		l.printed[probe.GetUID()] = probe.GetResourceVersion()
		return l.printer.PrintObj(probe, l.out)
	}
	row, err := l.rowOf(probe)
	if err != nil {
		return err
	}
	if content := report.Content(row, l.row); l.printed[probe.GetUID()] != content {
		l.printed[probe.GetUID()] = content
		l.lines([][]report.Cell{row})
	}
	return nil
}

// gone prints that a probe has been deleted.
func (l *lister) gone(probe *unstructured.Unstructured) error {
	delete(l.printed, probe.GetUID())
	if !l.table {
		return l.printer.PrintObj(probe, l.out)
	}
	row, err := l.rowOf(probe)
	if err != nil {
		return err
	}
	l.lines([][]report.Cell{report.Deleted(row)})
	return nil
}

// follow prints every change from now on. The API server ends a watch now and then; what happened until the next one
// begins is found by listing.
func follow(ctx context.Context, cluster client.WithWatch, selection *selection, shows *lister) error {
	known := map[types.UID]unstructured.Unstructured{}
	for {
		list, err := selection.list(ctx, cluster)
		if err != nil {
			return err
		}
		if err := reconcileShown(known, list.Items, shows); err != nil {
			return err
		}
		options := selection.options()
		options.Raw = &metav1.ListOptions{ResourceVersion: list.GetResourceVersion()}
		watcher, err := cluster.Watch(ctx, emptyList(), options)
		if err != nil {
			return err
		}
		err = followOne(watcher, selection, known, shows)
		watcher.Stop()
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(clusterRetry):
		}
	}
}

// reconcileShown prints what is new in listed, and what is gone from it.
func reconcileShown(known map[types.UID]unstructured.Unstructured, listed []unstructured.Unstructured, shows *lister) error {
	for uid, probe := range known {
		if !slices.ContainsFunc(listed, func(l unstructured.Unstructured) bool { return l.GetUID() == uid }) {
			delete(known, uid)
			if err := shows.gone(&probe); err != nil {
				return err
			}
		}
	}
	rows := make([][]report.Cell, 0, len(listed))
	for i := range listed {
		if row, err := shows.rowOf(&listed[i]); err == nil {
			rows = append(rows, row)
		}
	}
	shows.columns.Fit(rows...)
	for i := range listed {
		known[listed[i].GetUID()] = listed[i]
		if err := shows.changed(&listed[i]); err != nil {
			return err
		}
	}
	return nil
}

// followOne prints what one watch brings until it ends.
func followOne(watcher watch.Interface, selection *selection, known map[types.UID]unstructured.Unstructured, shows *lister) error {
	for event := range watcher.ResultChan() {
		probe, ok := event.Object.(*unstructured.Unstructured)
		if event.Type == watch.Error || !ok {
			return nil // the next list is right again, or says what is wrong
		}
		if event.Type == watch.Bookmark || !selection.has(probe.GetName()) {
			continue
		}
		var err error
		if event.Type == watch.Deleted {
			delete(known, probe.GetUID())
			err = shows.gone(probe)
		} else {
			known[probe.GetUID()] = *probe
			err = shows.changed(probe)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
