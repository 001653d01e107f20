package plugin

import (
	"errors"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	"golang.org/x/term"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// silenceLibraries keeps what libraries log off a person's terminal: every error is told once, in a sentence.
func silenceLibraries() {
	logf.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
}

// noCluster is where genericclioptions looks for a cluster if nobody says where it is.
const noCluster = "http://localhost:8080"

// config is how the kubeconfig and the flags say that the API server is reached.
func (s *session) config() (*rest.Config, error) {
	config, err := s.flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	if raw, err := s.flags.ToRawKubeConfigLoader().RawConfig(); err == nil && clientcmdapi.IsConfigEmpty(&raw) && config.Host == noCluster {
		return nil, failure("no cluster is configured: set KUBECONFIG or --kubeconfig, or log in to one")
	}
	config.UserAgent = "kubectl-meshprobe/" + s.Version
	// A person waits; the API server has limits of its own (API Priority and Fairness).
	config.QPS = -1
	config.WarningHandler = rest.NewWarningWriter(s.ErrOut, rest.WarningWriterOptions{Deduplicate: true})
	return config, nil
}

// client talks to the API server as the kubeconfig and the flags say.
func (s *session) client() (client.WithWatch, error) {
	config, err := s.config()
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, securityv1.AddToScheme, networkingv1.AddToScheme, api.AddToScheme} {
		utilruntime.Must(add(scheme))
	}
	return client.NewWithWatch(config, client.Options{Scheme: scheme})
}

// namespace is the one that the flags and the kubeconfig's context name.
func (s *session) namespace() (string, error) {
	namespace, _, err := s.flags.ToRawKubeConfigLoader().Namespace()
	return namespace, err
}

// isTerminal says whether what is written to w is seen by a person at once.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// colourful says whether what is written to w may be coloured (no-color.org, and terminals that cannot).
func colourful(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(w)
}

// forbidden are the API server's words for a right that RBAC does not grant.
var forbidden = regexp.MustCompile(`User "([^"]*)" cannot (\S+) resource "([^"]*)" in API group "([^"]*)"(?: in the namespace "([^"]*)")?`)

// sentence says in one line what went wrong on the way to the cluster and what to do about it.
func (s *session) sentence(err error) string {
	var network net.Error
	var request *url.Error
	switch {
	case clientcmd.IsContextNotFound(err):
		return s.unknownContext(err)
	case meta.IsNoMatchError(err):
		return "this cluster does not know " + api.Kind + " (" + api.GroupVersion.String() + "): install HTTPSMeshProbe there, from its checkout with kubectl apply -k config/default, or choose another cluster with --context"
	case apierrors.IsUnauthorized(err):
		return "the API server does not accept your credentials: log in again, or choose another user with --context"
	case apierrors.IsForbidden(err):
		return missingRight(err)
	case errors.As(err, &request) && errors.As(err, &network) && network.Timeout():
		return "the cluster at " + server(request) + " did not answer in time"
	case errors.As(err, &request):
		return "cannot reach the cluster at " + server(request) + ": " + oneLine(request.Err.Error()) + " (--context chooses another)"
	default:
		return oneLine(err.Error())
	}
}

func server(request *url.Error) string {
	parsed, err := url.Parse(request.URL)
	if err != nil {
		return request.URL
	}
	return parsed.Scheme + "://" + parsed.Host
}

func oneLine(text string) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, " ")
}

// unknownContext offers the contexts that are there.
func (s *session) unknownContext(err error) string {
	raw, rawErr := s.flags.ToRawKubeConfigLoader().RawConfig()
	if rawErr != nil || s.flags.Context == nil {
		return oneLine(err.Error())
	}
	return "the kubeconfig has no context \"" + *s.flags.Context + "\"" +
		didYouMean(*s.flags.Context, keys(raw.Contexts), "kubectl config get-contexts lists them")
}

func keys[T any](named map[string]T) []string {
	return slices.Sorted(maps.Keys(named))
}

// missingRight names the verb and the resource, and who can grant it. What admission forbids has words of its own.
func missingRight(err error) string {
	found := forbidden.FindStringSubmatch(err.Error())
	if found == nil {
		return oneLine(err.Error())
	}
	user, verb, resource, group, namespace := found[1], found[2], found[3], found[4], found[5]
	if group != "" {
		resource += "." + group
	}
	where := " in the whole cluster"
	if namespace != "" {
		where = " in namespace " + namespace
	}
	grant := "a role with that verb"
	if group == api.GroupVersion.Group {
		grant = "the ClusterRole httpsmeshprobe-editor"
		if slices.Contains([]string{"get", "list", "watch"}, verb) {
			grant = "the ClusterRole httpsmeshprobe-viewer"
		}
	}
	return "you (" + user + ") have no right to " + verb + " " + resource + where + ": ask the cluster's administrator to bind " + grant + " to you"
}
