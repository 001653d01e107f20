// Command manager is the HTTPSMeshProbe operator.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	goruntime "runtime"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/controllers"
	"github.com/meshprobe/httpsmeshprobe/internal/agents"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/metrics"
	"github.com/meshprobe/httpsmeshprobe/internal/schedule"
)

// version is set by the linker.
var version = "dev"

type options struct {
	settings           controllers.Settings
	healthAddress      string
	metricsAddress     string
	metricsCertificate string
	leaderElection     bool
	development        bool
}

func main() {
	opts := parseFlags()
	log, err := newLogger(opts.development)
	if err != nil {
		fmt.Fprintln(os.Stderr, "manager: build the logger:", err)
		os.Exit(1)
	}
	ctrl.SetLogger(log)
	klog.SetLogger(log)
	if err := run(ctrl.SetupSignalHandler(), opts, log); err != nil {
		log.Error(err, "the operator ends")
		os.Exit(1)
	}
}

func parseFlags() options {
	var o options
	images := &o.settings.Images
	flag.StringVar(&images.Server, "server-image", "nginx:1.29", "image of the probes' servers; must hold nginx")
	flag.StringVar(&images.Sleep, "sleep-image", "curlimages/curl:8.16.0", "image of the clients; must hold sleep")
	flag.StringVar(&images.Agent, "agent-image", "", "image that holds /probe; default: the image of the operator's own pod (POD_NAMESPACE, POD_NAME)")
	flag.StringVar(&o.settings.ClusterDomain, "cluster-domain", "cluster.local", "the cluster's DNS domain")
	flag.StringVar(&o.settings.IstioNamespace, "istio-namespace", "istio-system", "where istiod and its mesh config are; policies for the whole mesh are there too, unless the mesh config names another root namespace")
	flag.StringVar(&o.settings.WatchNamespace, "watch-namespace", "", "serve the probes of this namespace alone, with rights in it and in Istio's alone; default: all namespaces")
	flag.BoolVar(&o.settings.AllowCrossNamespace, "allow-cross-namespace", false, "let probes name Services of other namespaces than their own")
	flag.DurationVar(&o.settings.Heartbeat, "heartbeat", time.Minute, "how often a status is written while nothing changes")
	flag.StringVar(&o.healthAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz")
	flag.StringVar(&o.metricsAddress, "metrics-bind-address", ":8443", "address of /metrics, over HTTPS, for those who may get it; "+metrics.Off+" turns it off")
	flag.StringVar(&o.metricsCertificate, "metrics-cert-path", "", "directory with tls.crt and tls.key for /metrics; default: a certificate that the operator signs itself")
	flag.BoolVar(&o.leaderElection, "leader-elect", false, "let only one of several replicas work")
	flag.BoolVar(&o.development, "development", false, "log for people instead of machines, and more")
	showVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *showVersion {
		fmt.Printf("httpsmeshprobe manager %s %s/%s %s\n", version, goruntime.GOOS, goruntime.GOARCH, goruntime.Version())
		os.Exit(0)
	}
	return o
}

func newLogger(development bool) (logr.Logger, error) {
	config := zap.NewProductionConfig()
	if development {
		config = zap.NewDevelopmentConfig()
	}
	config.EncoderConfig.EncodeTime = zapcore.ISO8601TimeEncoder
	logger, err := config.Build()
	if err != nil {
		return logr.Discard(), err
	}
	return zapr.NewLogger(logger), nil
}

func run(ctx context.Context, opts options, log logr.Logger) error {
	if opts.settings.WatchNamespace != "" && opts.settings.AllowCrossNamespace {
		return errors.New("--allow-cross-namespace contradicts --watch-namespace: an operator for one namespace may read no other; leave one of them out")
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, securityv1.AddToScheme, networkingv1.AddToScheme, api.AddToScheme} {
		utilruntime.Must(add(scheme))
	}
	serveMetrics, err := metrics.Serve(opts.metricsAddress, opts.metricsCertificate)
	if err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("no cluster to talk to: %w", err)
	}
	asker, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("set up a client: %w", err)
	}
	if err := findReach(ctx, asker, &opts.settings, log); err != nil {
		return err
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        scheme,
		Cache:                         controllers.CacheOptions(opts.settings.Place()),
		Metrics:                       serveMetrics,
		HealthProbeBindAddress:        opts.healthAddress,
		LeaderElection:                opts.leaderElection,
		LeaderElectionID:              "httpsmeshprobe.meshprobe.dev",
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return fmt.Errorf("set up the manager: %w", err)
	}
	if opts.settings.Images.Agent == "" {
		if opts.settings.Images.Agent, err = ownImage(ctx, manager.GetAPIReader()); err != nil {
			return err
		}
	}
	if err := addController(manager, opts.settings, log); err != nil {
		return err
	}
	if err := watchRights(manager, asker, opts.settings, log, end); err != nil {
		return err
	}
	if err := manager.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	if err := manager.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	log.Info("starting", "version", version, "agentImage", opts.settings.Images.Agent)
	return manager.Start(ctx)
}

// findReach finds out what an operator for one namespace may read of Istio's.
func findReach(ctx context.Context, asker client.Client, settings *controllers.Settings, log logr.Logger) (err error) {
	if settings.WatchNamespace == "" || settings.WatchNamespace == settings.IstioNamespace {
		return nil
	}
	if settings.IstioUnreadable, err = controllers.IstioUnreadable(ctx, asker, settings.IstioNamespace); err != nil {
		return err
	}
	if settings.IstioUnreadable != "" {
		log.Info("no probe can be judged", "because", settings.IstioUnreadable)
	}
	return nil
}

// watchRights ends an operator for one namespace when its rights in Istio's change, so that it starts anew with them.
func watchRights(manager ctrl.Manager, asker client.Client, settings controllers.Settings, log logr.Logger, end func()) error {
	if settings.WatchNamespace == "" {
		return nil
	}
	return manager.Add(controllers.RightsWatch{
		Asker: asker, Namespace: settings.IstioNamespace, Began: settings.IstioUnreadable,
		Changed: func() {
			log.Info("the operator's rights in Istio's namespace have changed; it ends, to start anew with them", "namespace", settings.IstioNamespace)
			end()
		},
	})
}

func addController(manager ctrl.Manager, settings controllers.Settings, log logr.Logger) error {
	exec, err := agents.NewExec(manager.GetConfig(), fixture.AgentPath, "agent")
	if err != nil {
		return err
	}
	wakeups := make(controllers.Wakeups)
	counts := metrics.New(version)
	runs := schedule.New(log.WithName("runner"), exec, settings.Heartbeat, wakeups.Wake, counts)
	if err := counts.Register(ctrlmetrics.Registry, runs.Load); err != nil {
		return fmt.Errorf("register the metrics: %w", err)
	}
	if err := manager.Add(runs); err != nil {
		return err
	}
	return (&controllers.Reconciler{
		Client:   manager.GetClient(),
		Live:     manager.GetAPIReader(),
		Runner:   runs,
		Recorder: manager.GetEventRecorder("httpsmeshprobe"),
		Metrics:  counts,
		Settings: settings,
		Now:      time.Now,
	}).SetupWithManager(manager, wakeups)
}

// ownImage reads the image of the pod that this program runs in: the agent is in it too, and always of the same version.
func ownImage(ctx context.Context, reader client.Reader) (string, error) {
	key := client.ObjectKey{Namespace: os.Getenv("POD_NAMESPACE"), Name: os.Getenv("POD_NAME")}
	if key.Namespace == "" || key.Name == "" {
		return "", fmt.Errorf("set --agent-image, or POD_NAMESPACE and POD_NAME to the operator's own pod")
	}
	var pod corev1.Pod
	if err := reader.Get(ctx, key, &pod); err != nil {
		return "", fmt.Errorf("read the operator's own pod for --agent-image: %w", err)
	}
	for _, container := range pod.Spec.Containers {
		if container.Name == "manager" {
			return container.Image, nil
		}
	}
	return "", fmt.Errorf("pod %s has no container named manager: set --agent-image", key)
}
