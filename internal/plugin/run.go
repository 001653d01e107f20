package plugin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/report"
)

// runOptions are the flags of run.
type runOptions struct {
	files []string
	task  bool
	keep  bool
	// timeout is for all probes together.
	timeout time.Duration
	output  string

	sidecar, mode, clientMode string
	service, port, path       string
	serverName, revision      string
}

// describing are the flags that describe one probe.
var describing = []string{"sidecar", "mtls", "client-mode", "service", "port", "path", "server-name", "revision"}

func (s *session) runCommand() *cobra.Command {
	o := &runOptions{}
	command := &cobra.Command{
		Use:   "run",
		Short: "Probe once: create probes, wait for their verdicts, print them, and remove the probes",
		Long: `Probe once: create probes, wait for their verdicts, print them, and remove the probes, also when interrupted.

Exit code 0: everything is verified. 1: something is refuted. 2: it could not be found out, for example because there was no
verdict within --timeout.`,
		Example: `  kubectl meshprobe run --task
  kubectl meshprobe run --mtls STRICT
  kubectl meshprobe run -n shop --service web --port https --mtls STRICT
  kubectl meshprobe run -f probes/ -o junit > meshprobe.xml`,
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error { return s.run(command, o) },
	}
	flags := command.Flags()
	flags.StringArrayVarP(&o.files, "filename", "f", nil, "a file with probes, a folder, or - for standard input; may be given several times")
	flags.BoolVar(&o.task, "task", false, "the three cases of Istio's task \"Mutual TLS over HTTPS\": no sidecar, a sidecar with mutual TLS off, and with mutual TLS on")
	flags.BoolVar(&o.keep, "keep", false, "leave the probes in the cluster")
	flags.DurationVar(&o.timeout, "timeout", 2*time.Minute, "how long to wait for all verdicts together")
	addOutput(command, &o.output)
	addChoice(command, &o.sidecar, "sidecar", "", string(api.SidecarEnabled), "whether a sidecar stands before the server", string(api.SidecarEnabled), string(api.SidecarDisabled))
	addChoice(command, &o.mode, "mtls", "", string(api.MTLSUnset), "the mode that is to hold", string(api.MTLSUnset), string(api.MTLSDisable), string(api.MTLSPermissive), string(api.MTLSStrict))
	addChoice(command, &o.clientMode, "client-mode", "", string(api.ClientTLSUnset), "what the client's sidecar does",
		string(api.ClientTLSUnset), string(api.ClientTLSDisable), string(api.ClientTLSIstioMutual), string(api.ClientTLSSimple))
	flags.StringVar(&o.service, "service", "", "a Service that is already there; without it the operator runs a server")
	flags.StringVar(&o.port, "port", "", "the Service's port, by number or name (default 443)")
	flags.StringVar(&o.path, "path", "", "the path of the HTTP request (default /)")
	flags.StringVar(&o.serverName, "server-name", "", "the server's name in TLS and the Host header (default the Service's DNS name)")
	flags.StringVar(&o.revision, "revision", "", "the Istio revision, as in the label istio.io/rev")
	return command
}

// addOutput adds the flag that says how a report is printed.
func addOutput(command *cobra.Command, output *string) {
	addChoice(command, output, "output", "o", "text", "how the verdicts are printed", "text", "json", "junit", "tap")
}

func (s *session) run(command *cobra.Command, o *runOptions) error {
	if o.timeout <= 0 {
		return failure("--timeout must be more than 0, and is %v", o.timeout)
	}
	documents, err := s.documents(command, o)
	if err != nil {
		return err
	}
	cluster, err := s.client()
	if err != nil {
		return err
	}
	shot := &oneShot{session: s, cluster: cluster}
	if err := shot.prepare(command, documents); err != nil {
		return err
	}
	ended, err := shot.run(command.Context(), o)
	if err != nil {
		return err
	}
	return s.print(ended, o.output)
}

// run creates the probes and waits for them. They are removed whatever happens.
func (o *oneShot) run(ctx context.Context, options *runOptions) (ended report.Report, err error) {
	if !options.keep {
		defer func() { err = errors.Join(err, o.remove(ctx)) }()
	}
	if err := o.create(ctx); err != nil {
		return report.Report{}, err
	}
	if options.keep {
		defer o.tellKept()
	}
	return o.session.awaitAll(ctx, o.cluster, o.awaited(), options.timeout), nil
}

// documents are the probes that the flags ask for.
func (s *session) documents(command *cobra.Command, o *runOptions) ([]document, error) {
	described := slices.DeleteFunc(slices.Clone(describing), func(name string) bool { return !command.Flag(name).Changed })
	ways := 0
	for _, way := range []bool{len(described) > 0, o.task, len(o.files) > 0} {
		if way {
			ways++
		}
	}
	switch {
	case ways == 0:
		return nil, failure("say what to probe: by flags such as --mtls STRICT, by -f FILE, or --task for the three cases of Istio's task")
	case ways > 1 && len(described) > 0:
		return nil, failure("--%s describes a probe: give either such flags, or -f, or --task", described[0])
	case ways > 1:
		return nil, failure("give either -f or --task")
	case o.task:
		return taskCases(), nil
	case len(described) > 0:
		probe, err := o.described()
		return []document{{"the flags", probe}}, err
	}
	from := &reader{stdin: s.In}
	documents, err := from.read(command.Context(), o.files)
	for _, note := range from.notes {
		fmt.Fprintln(s.ErrOut, note)
	}
	return documents, err
}

// taskCases are the three servers of Istio's task "Mutual TLS over HTTPS".
func taskCases() []document {
	var cases []document
	for _, one := range []struct {
		name    string
		sidecar api.Sidecar
		mode    api.MTLSMode
	}{
		{"no-sidecar", api.SidecarDisabled, api.MTLSUnset},
		{"mtls-disabled", api.SidecarEnabled, api.MTLSDisable},
		{"mtls-strict", api.SidecarEnabled, api.MTLSStrict},
	} {
		probe := &api.HTTPSMeshProbe{}
		probe.Name, probe.Spec.Target.Sidecar, probe.Spec.MTLS.Mode = one.name, one.sidecar, one.mode
		cases = append(cases, document{"case " + one.name, probe})
	}
	return cases
}

// described is the probe that the flags describe.
func (o *runOptions) described() (*api.HTTPSMeshProbe, error) {
	probe := &api.HTTPSMeshProbe{}
	spec := &probe.Spec
	spec.Target.Sidecar, spec.MTLS.Mode, spec.MTLS.ClientMode = api.Sidecar(o.sidecar), api.MTLSMode(o.mode), api.ClientTLSMode(o.clientMode)
	spec.Target.Path, spec.Target.ServerName, spec.Revision = o.path, o.serverName, o.revision
	switch {
	case o.service != "":
		spec.Target.Service = &api.TargetService{Name: o.service}
		if o.port != "" {
			spec.Target.Service.Port = intstr.Parse(o.port)
		}
		probe.Name = "service"
		if len(validation.IsDNS1035Label(o.service)) == 0 {
			probe.Name = o.service
		}
	case o.port != "":
		return nil, failure("--port is of a Service that is already there: add --service NAME")
	case spec.Target.Sidecar == api.SidecarDisabled:
		probe.Name = "no-sidecar"
	default:
		probe.Name = "mtls-" + strings.ToLower(o.mode)
	}
	return probe, nil
}

// print prints a report and turns it into the exit code.
func (s *session) print(ended report.Report, output string) error {
	write := map[string]func(report.Report) error{
		"text":  func(r report.Report) error { return r.Text(s.Out, colourful(s.Out)) },
		"json":  func(r report.Report) error { return r.JSON(s.Out) },
		"junit": func(r report.Report) error { return r.JUnit(s.Out) },
		"tap":   func(r report.Report) error { return r.TAP(s.Out) },
	}[output]
	if err := write(ended); err != nil {
		return fmt.Errorf("print the verdicts: %w", err)
	}
	if code := ended.ExitCode(); code != ExitVerified {
		return exit{code: code}
	}
	return nil
}
