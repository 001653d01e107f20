// Package paths is the table of the ways along which a probe asks. Everything that is done or said path by path goes
// through it, so that another path is another row, and the client that it starts from.
package paths

import (
	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// Client is a kind of client pod.
type Client int

const (
	// ClientMeshed is the client with a sidecar, of the revision that the probe asks for.
	ClientMeshed Client = iota
	// ClientOutside is the client without one.
	ClientOutside
)

// Path is one way along which a probe asks.
type Path struct {
	Name api.PathName
	// Condition is the type of the condition that judges the path.
	Condition string
	// Client is the pod from which requests start, and Container the container in it.
	Client    Client
	Container string
	// ThroughMesh says that requests go through the client's sidecar, which says how it sent them on. The others go around
	// it: they carry no certificate of the mesh, and dial every endpoint behind the Service on its own as well.
	ThroughMesh bool
	// Greets says that the path also makes the hellos to the endpoints after which no request follows. One path does: what
	// stands before an endpoint answers them alike, wherever they come from.
	Greets bool
}

// Containers of the client pods.
const (
	ContainerSleep      = "sleep"
	ContainerIstioProxy = "istio-proxy"
)

// All lists the paths in the order in which the status shows them.
func All() []Path {
	return []Path{
		{Name: api.PathSleep, Condition: api.ConditionSleepVerified, Client: ClientMeshed, Container: ContainerSleep, ThroughMesh: true},
		{Name: api.PathIstioProxy, Condition: api.ConditionIstioProxyVerified, Client: ClientMeshed, Container: ContainerIstioProxy, Greets: true},
		{Name: api.PathOutsider, Condition: api.ConditionOutsiderVerified, Client: ClientOutside, Container: ContainerSleep},
	}
}

// Mesh is the path that goes through the client's sidecar.
func Mesh() Path {
	for _, path := range All() {
		if path.ThroughMesh {
			return path
		}
	}
	panic("no path goes through the mesh")
}

// Named returns the path of a name; ok is false where there is none.
func Named(name api.PathName) (path Path, ok bool) {
	for _, path := range All() {
		if path.Name == name {
			return path, true
		}
	}
	return Path{}, false
}

// Names lists the paths' names in the order in which the status shows them.
func Names() []api.PathName {
	names := make([]api.PathName, 0, len(All()))
	for _, path := range All() {
		names = append(names, path.Name)
	}
	return names
}

// Condition is the type of the condition that judges a path.
func Condition(name api.PathName) string {
	path, _ := Named(name)
	return path.Condition
}
