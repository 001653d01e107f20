// Package page serves a read-only page about HTTPSMeshProbes to the person who started it, on the loopback interface of
// the person's own machine and with the person's own rights.
package page

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"sync"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/explain"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
)

// endTimeout is how long open connections get to end when the server does.
const endTimeout = 2 * time.Second

// explainTimeout is how long reading what policies are computed from may take.
const explainTimeout = 10 * time.Second

//go:embed assets
var assets embed.FS

// contentTypes are the assets' own: what a machine's registry says of .js is not always right.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
	".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

// Options say what to show, and whose rights to use.
type Options struct {
	// Client reads with the rights of the person who looks.
	Client client.WithWatch
	// Namespace is the one to show; empty for all.
	Namespace string
	// Cluster names the cluster to the person, for example the kubeconfig's context.
	Cluster string
	// Place is where Istio is.
	Place inventory.Place
	// Sentence says in one line what went wrong on the way to the cluster.
	Sentence func(error) string
	// Port is where to listen on 127.0.0.1; 0 for any free port.
	Port int
}

// Server serves the page. Make one with Listen.
type Server struct {
	options  Options
	board    *Board
	guard    *guard
	listener net.Listener
	ending   chan struct{}
}

// Listen takes the port. The page is served by Run.
func Listen(options Options) (*Server, error) {
	listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", options.Port))
	if err != nil {
		return nil, err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	return &Server{options: options, board: NewBoard(), guard: newGuard(port), listener: listener, ending: make(chan struct{})}, nil
}

// URL is the page's address with its token; who has it can look.
func (s *Server) URL() string {
	return fmt.Sprintf("http://%s/?token=%s", s.listener.Addr(), s.guard.token)
}

// URLOnce is an address that works one time within a minute from now, for the arguments of a browser.
func (s *Server) URLOnce() string {
	return fmt.Sprintf("http://%s/?once=%s", s.listener.Addr(), s.guard.newOnce(time.Now()))
}

// Run serves until ctx is done, and returns when all that it started has ended.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	server := &http.Server{
		Handler: s.guard.protect(s.routes()), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	server.RegisterOnShutdown(func() { close(s.ending) })
	var group sync.WaitGroup
	group.Go(func() {
		(&watcher{client: s.options.Client, namespace: s.options.Namespace, board: s.board, sentence: s.options.Sentence}).run(ctx)
	})
	group.Go(func() {
		<-ctx.Done()
		within, cancel := context.WithTimeout(context.Background(), endTimeout)
		defer cancel()
		if server.Shutdown(within) != nil {
			_ = server.Close()
		}
	})
	err := server.Serve(s.listener)
	cancel()
	group.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	document := func(w http.ResponseWriter, _ *http.Request) { serveAsset(w, "index.html") }
	mux.HandleFunc("GET /{$}", document)
	mux.HandleFunc("GET /probe/{namespace}/{name}", document)
	mux.HandleFunc("GET /assets/{name}", func(w http.ResponseWriter, r *http.Request) { serveAsset(w, r.PathValue("name")) })
	mux.HandleFunc("GET /api/about", s.about)
	mux.HandleFunc("GET /api/stream", s.stream)
	mux.HandleFunc("GET /api/probes/{namespace}/{name}", s.probe)
	mux.HandleFunc("GET /api/probes/{namespace}/{name}/explanation", s.explanation)
	return mux
}

func serveAsset(w http.ResponseWriter, name string) {
	content, err := assets.ReadFile(path.Join("assets", path.Base(name)))
	if err != nil {
		http.Error(w, "There is nothing here.", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", contentTypes[path.Ext(name)])
	_, _ = w.Write(content)
}

// About says what the page is about.
type About struct {
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace"`
}

func (s *Server) about(w http.ResponseWriter, _ *http.Request) {
	answer(w, About{Cluster: s.options.Cluster, Namespace: s.options.Namespace})
}

// ProbePage is all that the page shows of one probe.
type ProbePage struct {
	Detail  Detail       `json:"detail"`
	History []Transition `json:"history"`
	// EventsMissing says why there are no Events in History, where they could not be read.
	EventsMissing string `json:"eventsMissing"`
}

func (s *Server) probe(w http.ResponseWriter, r *http.Request) {
	probe, seen, ok := s.board.Detail(keyIn(r))
	if !ok {
		answer(w, noProbe(r))
		return
	}
	events, err := s.events(r.Context(), probe)
	page := ProbePage{Detail: DetailOf(probe, time.Now()), History: History(probe, seen, events)}
	if err != nil {
		page.EventsMissing = s.options.Sentence(err)
	}
	answer(w, page)
}

// events are the Events about a probe.
func (s *Server) events(ctx context.Context, probe *api.HTTPSMeshProbe) ([]eventsv1.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	list := &eventsv1.EventList{}
	err := s.options.Client.List(ctx, list, client.InNamespace(probe.Namespace),
		client.MatchingFieldsSelector{Selector: fields.Set{"regarding.kind": api.Kind, "regarding.name": probe.Name}.AsSelector()})
	return list.Items, err
}

// explanation holds declared, computed and observed of one probe side by side, as of now.
func (s *Server) explanation(w http.ResponseWriter, r *http.Request) {
	probe, _, ok := s.board.Detail(keyIn(r))
	if !ok {
		answer(w, noProbe(r))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), explainTimeout)
	defer cancel()
	found, err := inventory.GatherPolicies(ctx, s.options.Client, probe, s.options.Place)
	if err != nil {
		answer(w, problem{Problem: s.options.Sentence(err)})
		return
	}
	answer(w, explain.Of(found, time.Now()))
}

func keyIn(r *http.Request) types.NamespacedName {
	return types.NamespacedName{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
}

func noProbe(r *http.Request) problem {
	return problem{Problem: fmt.Sprintf("there is no HTTPSMeshProbe %s", keyIn(r)), Gone: true}
}

// problem is an answer too, and no fault of the page: the person lacks a right, or a probe is gone.
type problem struct {
	Problem string `json:"problem"`
	Gone    bool   `json:"gone,omitempty"`
}

func answer(w http.ResponseWriter, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(encoded)
}
