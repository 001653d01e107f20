package page

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// Connection says how well the page knows the cluster.
type Connection struct {
	// Live says that what the board holds is what the cluster holds.
	Live bool `json:"live"`
	// Seen is when the API server last answered; what is shown is as of then.
	Seen time.Time `json:"seen"`
	// Trouble says why it is not live.
	Trouble string `json:"trouble"`
}

// Update is what a subscriber has not been told yet.
type Update struct {
	// All says that Rows are all the probes there are; otherwise they are those that changed.
	All        bool       `json:"all"`
	Rows       []Row      `json:"rows"`
	Gone       []string   `json:"gone"`
	Connection Connection `json:"connection"`
}

// Board holds the probes as last seen, and tells its subscribers what changes. It is safe for concurrent use.
type Board struct {
	mu          sync.Mutex
	probes      map[types.NamespacedName]*entry
	connection  Connection
	filled      bool
	subscribers map[*Subscriber]struct{}
}

type entry struct {
	probe *api.HTTPSMeshProbe
	row   Row
	seen  []Transition
}

// Subscriber gathers what changed since it was last asked, so that a slow reader costs no more than a quick one.
type Subscriber struct {
	// Wake receives when there is something to take.
	Wake    chan struct{}
	board   *Board
	all     bool
	changed map[types.NamespacedName]struct{}
}

// NewBoard returns an empty board that is not connected yet.
func NewBoard() *Board {
	return &Board{
		probes: map[types.NamespacedName]*entry{}, subscribers: map[*Subscriber]struct{}{},
		connection: Connection{Trouble: "not connected yet"},
	}
}

func keyOf(probe *api.HTTPSMeshProbe) types.NamespacedName {
	return types.NamespacedName{Namespace: probe.Namespace, Name: probe.Name}
}

// Put notes a probe as of now.
func (b *Board) Put(probe *api.HTTPSMeshProbe, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.put(probe, now)
	b.tell(keyOf(probe))
}

func (b *Board) put(probe *api.HTTPSMeshProbe, now time.Time) {
	next := &entry{probe: probe, row: RowOf(probe, now)}
	if last := b.probes[keyOf(probe)]; last != nil && last.probe.UID == probe.UID {
		next.seen = append(slices.Clone(last.seen), changesOf(last.probe, probe)...)
		next.seen = next.seen[max(0, len(next.seen)-maxTransitions):]
	}
	b.probes[keyOf(probe)] = next
}

// Drop notes that a probe is gone.
func (b *Board) Drop(key types.NamespacedName) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.probes, key)
	b.tell(key)
}

// Replace notes all the probes there are.
func (b *Board) Replace(probes []*api.HTTPSMeshProbe, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	there := map[types.NamespacedName]bool{}
	for _, probe := range probes {
		there[keyOf(probe)] = true
		b.put(probe, now)
	}
	maps.DeleteFunc(b.probes, func(key types.NamespacedName, _ *entry) bool { return !there[key] })
	b.filled = true
	for subscriber := range b.subscribers {
		subscriber.all = true
		subscriber.wake()
	}
}

// Connect notes how the connection is. Subscribers are told even if that is as before: they see that we are alive.
func (b *Board) Connect(connection Connection) {
	b.mu.Lock()
	defer b.mu.Unlock()
	connection.Live = connection.Live && b.filled
	b.connection = connection
	for subscriber := range b.subscribers {
		subscriber.wake()
	}
}

// Age judges anew which rows are too old.
func (b *Board) Age(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, entry := range b.probes {
		if row := RowOf(entry.probe, now); row.Ready.Reason != entry.row.Ready.Reason {
			entry.row = row
			b.tell(key)
		}
	}
}

func (b *Board) tell(key types.NamespacedName) {
	for subscriber := range b.subscribers {
		subscriber.changed[key] = struct{}{}
		subscriber.wake()
	}
}

// Detail is one probe in full, with what was seen to happen to it; ok is false where there is no such probe.
func (b *Board) Detail(key types.NamespacedName) (probe *api.HTTPSMeshProbe, seen []Transition, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	entry, ok := b.probes[key]
	if !ok {
		return nil, nil, false
	}
	return entry.probe, slices.Clone(entry.seen), true
}

// Subscribe returns a subscriber that is told everything first. Close it when it is done.
func (b *Board) Subscribe() *Subscriber {
	b.mu.Lock()
	defer b.mu.Unlock()
	subscriber := &Subscriber{Wake: make(chan struct{}, 1), board: b, all: true, changed: map[types.NamespacedName]struct{}{}}
	b.subscribers[subscriber] = struct{}{}
	subscriber.wake()
	return subscriber
}

// Close ends the subscription.
func (s *Subscriber) Close() {
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	delete(s.board.subscribers, s)
}

func (s *Subscriber) wake() {
	select {
	case s.Wake <- struct{}{}:
	default:
	}
}

// Take returns what has changed since the last call, rows in the order of namespace and name.
func (s *Subscriber) Take() Update {
	b := s.board
	b.mu.Lock()
	defer b.mu.Unlock()
	update := Update{All: s.all && b.filled, Rows: []Row{}, Gone: []string{}, Connection: b.connection}
	if update.All {
		s.changed = b.everything()
	}
	for key := range s.changed {
		if entry, ok := b.probes[key]; ok {
			update.Rows = append(update.Rows, entry.row)
		} else {
			update.Gone = append(update.Gone, key.String())
		}
	}
	slices.SortFunc(update.Rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.Sort(update.Gone)
	s.all = s.all && !update.All
	clear(s.changed)
	return update
}

func (b *Board) everything() map[types.NamespacedName]struct{} {
	keys := map[types.NamespacedName]struct{}{}
	for key := range b.probes {
		keys[key] = struct{}{}
	}
	return keys
}
