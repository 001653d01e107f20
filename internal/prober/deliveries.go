package prober

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/delivered"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

const (
	// deliveredTime is how long reading what is delivered may take.
	deliveredTime = time.Second
	// arrivalTime is how long a change may take from being counted to being in force: a listener is warmed up first.
	arrivalTime = time.Second
	// deliveredAge is after how long it is read again, whatever the counters say.
	deliveredAge = 30 * time.Second
	// maxDeliveries bounds for how many addresses it is remembered.
	maxDeliveries = 256
)

// deliveries remembers what Envoy was told of the addresses that are asked for.
type deliveries struct {
	admin *admin

	mu    sync.Mutex
	known map[destination]delivery
}

// destination is an address and a server name: all that differs between the hellos of requests that are followed.
type destination struct {
	address    netip.AddrPort
	serverName string
}

type delivery struct {
	told *observation.Delivered
	// mark is that of the configuration, which was first seen at since; read is when it was asked.
	mark        string
	since, read time.Time
}

func newDeliveries(admin *admin) *deliveries {
	return &deliveries{admin: admin, known: map[destination]delivery{}}
}

func to(hello delivered.Hello) destination { return destination{hello.Address, hello.ServerName} }

// legs are the clusters to which the address led when it was last read, each ended by a line feed.
func (d *deliveries) legs(hello delivered.Hello) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, ok := d.known[to(hello)]
	if !ok {
		return ""
	}
	var names []string
	for _, leg := range known.told.Legs {
		names = append(names, leg.Cluster+"\n")
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), "")
}

// of is what is delivered now. mark tells whether that may have changed; without one it is read anew.
func (d *deliveries) of(ctx context.Context, adminAddress string, hello delivered.Hello, mark string) *observation.Delivered {
	now := time.Now()
	d.mu.Lock()
	known, ok := d.known[to(hello)]
	d.mu.Unlock()
	same := ok && mark != "" && known.mark == mark
	if same && known.read.Sub(known.since) >= arrivalTime && now.Sub(known.read) < deliveredAge {
		return known.told
	}
	if !same {
		known.since = now
	}
	ctx, cancel := context.WithTimeout(ctx, deliveredTime)
	defer cancel()
	var failed error
	told := delivered.Read(ctx, func(ctx context.Context, path string) ([]byte, error) {
		body, err := d.admin.askBeside(ctx, adminAddress, path)
		if err != nil {
			failed = err
		}
		return body, err
	}, hello)
	d.mu.Lock()
	defer d.mu.Unlock()
	if failed != nil {
		delete(d.known, to(hello))
		return &told
	}
	if len(d.known) >= maxDeliveries {
		clear(d.known)
	}
	d.known[to(hello)] = delivery{&told, mark, known.since, now}
	return &told
}
