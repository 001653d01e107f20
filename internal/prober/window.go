package prober

import (
	"errors"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// window is the time between two readings in which one request was sent and, as far as this agent goes, no other.
type window struct {
	before, after reading
	// stragglers are, by cluster, earlier requests whose connection was counted before the window and whose handshake may
	// be counted in it.
	stragglers map[string]int
}

var (
	errSetBack = errors.New("the counters of Envoy were set back meanwhile")
	errSeveral = errors.New("more than one connection was counted by Envoy meanwhile")
	errShared  = errors.New("a TLS handshake was counted that may be that of another request to the same cluster")
)

// took is the cluster that took exactly one connection; "" where none took any.
func (w window) took() (string, error) {
	one := ""
	for name, before := range w.before.clusters {
		after := w.after.clusters[name]
		if after.connections < before.connections || after.handshakes < before.handshakes || after.unplaced < before.unplaced {
			return "", errSetBack
		}
	}
	for name, after := range w.after.clusters {
		switch grown := after.all() - w.before.clusters[name].all(); {
		case grown == 0:
		case grown > 1 || one != "":
			return "", errSeveral
		default:
			one = name
		}
	}
	return one, nil
}

// handshakes are those of this request's connection in the cluster that took it. Every other connection that was begun
// since, or whose handshake was under way, adds one at most.
func (w window) handshakes(cluster string) (uint64, error) {
	before, after := w.before.clusters[cluster], w.after.clusters[cluster]
	if after.handshakes < before.handshakes || after.all() <= before.all() {
		return 0, errSetBack
	}
	grown := after.handshakes - before.handshakes
	others := uint64(w.stragglers[cluster]) + after.all() - before.all() - 1
	switch grown {
	case 0:
		return 0, nil
	case others + 1:
		return 1, nil
	default:
		return 0, errShared
	}
}

// host is the one host of the cluster that took a connection; "" where that is not plain. A host that came back counts
// from 0: those of PassthroughCluster go when nothing is connected to them.
func (w window) host(cluster string) string {
	before, asked := w.before.hosts[cluster]
	if !asked {
		return ""
	}
	one := ""
	for host, after := range w.after.hosts[cluster] {
		switch had := before[host]; {
		case after == had || after == 0:
		case one != "" || after != had+1 && after != 1:
			return ""
		default:
			one = host
		}
	}
	return one
}

// onlyHost is the host of a cluster that was asked for afterwards: the one that it has, or the one that ever had a
// connection.
func onlyHost(hosts map[string]uint64) string {
	one, used := "", 0
	for host, connections := range hosts {
		if len(hosts) == 1 {
			return host
		}
		if connections > 0 {
			one, used = host, used+1
		}
	}
	if used == 1 {
		return one
	}
	return ""
}

func sentError(err error) observation.Sent { return observation.Sent{Error: shorten(err.Error())} }
