package oracle

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// serverPolicy is meshpolicy.ForServer, or something in its place.
type serverPolicy func(meshpolicy.Mesh, []meshpolicy.PeerAuthentication, meshpolicy.Pod, uint32) meshpolicy.Server

// servers are pods that differ in what policies apply to them.
var servers = []meshpolicy.Pod{
	{Namespace: "shop", Name: "web", Labels: map[string]string{"app": "web"}, Sidecar: true},
	{Namespace: "shop", Name: "web-tier", Labels: map[string]string{"app": "web", "tier": "web"}, Sidecar: true},
	{Namespace: "shop", Name: "empty-tier", Labels: map[string]string{"app": "ready", "tier": ""}, Sidecar: true},
	{Namespace: "other", Name: "web", Labels: map[string]string{"app": "web"}, Sidecar: true},
	{Namespace: root, Name: "web", Labels: map[string]string{"app": "web", "tier": "web"}, Sidecar: true},
	{Namespace: anotherRoot, Name: "unlabelled", Sidecar: true},
}

var serverPorts = []uint32{8443, 9090, 7070}

func serverSets(d dice) set { return set{Mesh: d.mesh(), Policies: d.policies(6), Pick: d.Int()} }

// TestServers asks what mode is in effect before pods and ports.
func TestServers(t *testing.T) {
	pilot := newIstio(t, world{})
	comparison{seed: 1, sets: 100_000, generate: serverSets, disagreement: func(s set) (string, int) {
		return pilot.serverDisagreement(s, meshpolicy.ForServer)
	}}.run(t)
}

func (i *istio) serverDisagreement(s set, policy serverPolicy) (string, int) {
	push := i.push(s)
	for _, pod := range servers {
		for _, port := range serverPorts {
			want, got := mode(push, pod, port), policy(s.Mesh, s.Policies, pod, port)
			if got.Mode != want {
				return fmt.Sprintf("%s %v port %d: Istio computes %s, meshpolicy %s (%s)", pod, pod.Labels, port, want, got.Mode, got), 1
			}
		}
	}
	return "", len(servers) * len(serverPorts)
}

// TestDecidersOfServers asks whether the object that is said to decide does, and whether those that are said to be
// overridden are: Istio has to follow every change of the first and no change of the others.
func TestDecidersOfServers(t *testing.T) {
	pilot := newIstio(t, world{})
	comparison{seed: 2, sets: 20_000, generate: serverSets, disagreement: func(s set) (string, int) {
		return pilot.deciderDisagreement(s, meshpolicy.ForServer)
	}}.run(t)
}

func (i *istio) deciderDisagreement(s set, policy serverPolicy) (string, int) {
	pod, port := servers[s.Pick%len(servers)], serverPorts[s.Pick/len(servers)%len(serverPorts)]
	server := policy(s.Mesh, s.Policies, pod, port)
	for _, changed := range []api.MTLSMode{api.MTLSDisable, api.MTLSPermissive, api.MTLSStrict} {
		if server.Decider != nil {
			if got := mode(i.push(s.withMode(*server.Decider, changed)), pod, port); got != changed {
				return fmt.Sprintf("%s port %d: %s, but when that sets %s, Istio computes %s", pod, port, server, changed, got), 1
			}
		}
		for _, overridden := range server.Overridden {
			if got := mode(i.push(s.withMode(overridden, changed)), pod, port); got != server.Mode {
				return fmt.Sprintf("%s port %d: %s, but when %s, which is overridden, sets %s, Istio computes %s",
					pod, port, server, overridden, changed, got), 1
			}
		}
	}
	return "", 3 * (1 + len(server.Overridden))
}

// withMode changes every mode that a policy sets.
func (s set) withMode(which meshpolicy.PeerAuthentication, to api.MTLSMode) set {
	s.Policies = slices.Clone(s.Policies)
	for i, policy := range s.Policies {
		if policy.Namespace != which.Namespace || policy.Name != which.Name {
			continue
		}
		if s.Policies[i].PortModes = maps.Clone(policy.PortModes); isSet(policy.Mode) {
			s.Policies[i].Mode = to
		}
		for port, mode := range policy.PortModes {
			if isSet(mode) {
				s.Policies[i].PortModes[port] = to
			}
		}
	}
	return s
}

func isSet(mode api.MTLSMode) bool { return mode != "" && mode != api.MTLSUnset }
