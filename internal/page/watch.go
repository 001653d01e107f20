package page

import (
	"context"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

const (
	// beat is the time between two questions whether the API server is still there. A watch alone says nothing while
	// nothing changes, and a connection that is cut somewhere shows only after most of a minute.
	beat = 5 * time.Second
	// beatTimeout is how long the answer may take.
	beatTimeout = 4 * time.Second
)

// comeBack is how a lost watch is tried again: after a second at first, every five at the longest.
var comeBack = wait.Backoff{Duration: time.Second, Factor: 1.5, Jitter: 0.2, Steps: 10, Cap: 5 * time.Second}

// watcher keeps the board as the cluster is. client-go's Reflector lists, watches, and lists again when a watch is lost
// or expired; the watcher notes besides how the connection is.
type watcher struct {
	client    client.WithWatch
	namespace string
	board     *Board
	sentence  func(error) string

	mu sync.Mutex
	// watching and answering: the watch stands, and the API server answered the latest question.
	watching, answering bool
	seen                time.Time
	trouble             string
}

// run returns when ctx is done and all it started has ended.
func (w *watcher) run(ctx context.Context) {
	w.answering = true
	// What the Reflector has to say, the page says.
	ctx = klog.NewContext(ctx, logr.Discard())
	silence := logr.Discard()
	reflector := cache.NewReflectorWithOptions(&cache.ListWatch{ListWithContextFunc: w.list, WatchFuncWithContext: w.watch},
		&api.HTTPSMeshProbe{}, boardStore{w}, cache.ReflectorOptions{Name: "page", Backoff: &comeBack, Logger: &silence})
	var group sync.WaitGroup
	group.Go(func() { reflector.RunWithContext(ctx) })
	group.Go(func() { wait.UntilWithContext(ctx, w.ask, beat) })
	group.Wait()
}

func (w *watcher) list(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	list := &api.HTTPSMeshProbeList{}
	err := w.client.List(ctx, list, &client.ListOptions{Namespace: w.namespace, Raw: &options})
	if err != nil {
		w.note(func() { w.watching, w.trouble = false, w.sentence(err) })
		return nil, err
	}
	w.note(func() { w.seen = time.Now() })
	return list, nil
}

func (w *watcher) watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	stream, err := w.client.Watch(ctx, &api.HTTPSMeshProbeList{}, &client.ListOptions{Namespace: w.namespace, Raw: &options})
	if err != nil {
		// An expired resource version is no trouble: the Reflector lists again.
		if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			w.note(func() { w.watching, w.trouble = false, w.sentence(err) })
		}
		return nil, err
	}
	w.note(func() { w.watching, w.seen = true, time.Now() })
	return stream, nil
}

// ask sends the smallest question that only the API server itself can answer.
func (w *watcher) ask(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	err := w.client.List(within, &api.HTTPSMeshProbeList{}, &client.ListOptions{Namespace: w.namespace, Limit: 1})
	w.board.Age(time.Now())
	switch {
	case ctx.Err() != nil:
	case err != nil:
		w.note(func() { w.answering, w.trouble = false, w.sentence(err) })
	default:
		w.note(func() { w.answering, w.seen = true, time.Now() })
	}
}

// note changes what is known of the connection and passes it on.
func (w *watcher) note(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	connection := Connection{Live: w.watching && w.answering, Seen: w.seen.UTC(), Trouble: w.trouble}
	if connection.Live {
		w.trouble, connection.Trouble = "", ""
	}
	w.board.Connect(connection)
}

// boardStore lets the Reflector write on the board.
type boardStore struct{ *watcher }

func (s boardStore) Add(object any) error { return s.Update(object) }

func (s boardStore) Update(object any) error {
	s.board.Put(object.(*api.HTTPSMeshProbe), time.Now())
	s.note(func() { s.seen = time.Now() })
	return nil
}

func (s boardStore) Delete(object any) error {
	probe := object.(*api.HTTPSMeshProbe)
	s.board.Drop(types.NamespacedName{Namespace: probe.Namespace, Name: probe.Name})
	s.note(func() { s.seen = time.Now() })
	return nil
}

func (s boardStore) Replace(objects []any, _ string) error {
	probes := make([]*api.HTTPSMeshProbe, 0, len(objects))
	for _, object := range objects {
		probes = append(probes, object.(*api.HTTPSMeshProbe))
	}
	s.board.Replace(probes, time.Now())
	s.note(func() { s.seen = time.Now() })
	return nil
}

func (s boardStore) Resync() error { return nil }
