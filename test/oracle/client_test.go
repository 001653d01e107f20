package oracle

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"istio.io/istio/pilot/pkg/features"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// clientPolicy is meshpolicy.ForClient, or something in its place.
type clientPolicy func(meshpolicy.Mesh, []meshpolicy.DestinationRule, []meshpolicy.PeerAuthentication,
	meshpolicy.Client, meshpolicy.Service, meshpolicy.Pod) meshpolicy.ClientPolicy

func clientSets(d dice) set {
	return set{Mesh: d.mesh(), Policies: d.policies(3), Rules: d.rules(6), Pick: d.Int()}
}

// TestClients asks what every client of the world sends to every endpoint of it.
func TestClients(t *testing.T) {
	pilot, tally := newIstio(t, theWorld), map[string]int{}
	comparison{seed: 3, sets: 5_000, generate: clientSets, tally: tally, disagreement: func(s set) (string, int) {
		return pilot.clientDisagreement(t, s, meshpolicy.ForClient, tally)
	}}.run(t)
}

// TestClientsWhereAmbientIsInstalled asks the same where sidecars may tunnel to ambient pods, for which pilot makes the
// clusters in another way. None of the world's pods is ambient.
func TestClientsWhereAmbientIsInstalled(t *testing.T) {
	sending := features.EnableHBONESend
	features.EnableHBONESend = true
	t.Cleanup(func() { features.EnableHBONESend = sending })
	pilot := newIstio(t, theWorld)
	comparison{seed: 9, sets: 500, generate: clientSets, disagreement: func(s set) (string, int) {
		return pilot.clientDisagreement(t, s, meshpolicy.ForClient, map[string]int{})
	}}.run(t)
}

func (i *istio) clientDisagreement(t testing.TB, s set, policy clientPolicy, tally map[string]int) (string, int) {
	t.Helper()
	push := i.push(s)
	asked := 0
	for _, client := range theWorld.clients {
		sidecar := i.sidecar(push, client)
		for _, q := range theWorld.questions(client) {
			want, got := sidecar.sends(t, q.service, q.pod), q.put(s, policy)
			tally[answer(got)]++
			if asked++; got.Sends != want {
				return fmt.Sprintf("%s: Istio sends %s, meshpolicy %s, as %s", q, want, got.Sends, got.Why), asked
			}
		}
	}
	return "", asked
}

// answer is the kind of an answer, for the tally.
func answer(policy meshpolicy.ClientPolicy) string {
	kind := string(policy.Sends)
	if policy.Auto {
		kind += " by auto mTLS"
	}
	if policy.Rule != nil {
		kind += " by a rule"
	}
	if policy.Policy != nil {
		kind += " for a PeerAuthentication"
	}
	if len(policy.Overridden) > 0 {
		kind += ", rules overridden"
	}
	return kind
}

func (q question) put(s set, policy clientPolicy) meshpolicy.ClientPolicy {
	return policy(s.Mesh, s.Rules, s.Policies, q.client, q.service, q.pod)
}

// TestDecidersOfClients asks, about one endpoint a set, whether the rule and the policy that are said to decide do, and
// whether the overridden rules are: what Istio sends has to follow every change of the first and no change of the others.
func TestDecidersOfClients(t *testing.T) {
	pilot := newIstio(t, theWorld)
	comparison{seed: 4, sets: 15_000, generate: clientSets, disagreement: func(s set) (string, int) {
		return pilot.clientDeciderDisagreement(t, s, meshpolicy.ForClient)
	}}.run(t)
}

func (i *istio) clientDeciderDisagreement(t testing.TB, s set, policy clientPolicy) (string, int) {
	t.Helper()
	q := theWorld.pick(s.Pick)
	sends := func(s set) meshpolicy.Sends { return i.sidecar(i.push(s), q.client).sends(t, q.service, q.pod) }
	got := q.put(s, policy)
	asked := 0
	for _, tls := range []meshpolicy.ClientTLS{{Mode: meshpolicy.ClientTLSDisable}, {Mode: meshpolicy.ClientTLSIstioMutual}} {
		want := meshpolicy.Plaintext
		if tls.Mode == meshpolicy.ClientTLSIstioMutual {
			want = meshpolicy.MutualTLS
		}
		if got.Rule != nil {
			if asked++; sends(s.withTLS(*got.Rule, q.service.Port, tls)) != want {
				return fmt.Sprintf("%s: %s, but Istio does not follow when that sets %s", q, got.Why, tls.Mode), asked
			}
		}
		for _, overridden := range got.Overridden {
			if asked++; sends(s.withTLS(overridden, q.service.Port, tls)) != got.Sends {
				return fmt.Sprintf("%s: %s, but when %s, which is overridden, sets %s, Istio sends something else", q, got.Why, overridden, tls.Mode), asked
			}
		}
	}
	if got.Policy != nil {
		changed := s.withMode(*got.Policy, api.MTLSStrict)
		after := q.put(changed, policy)
		if asked++; after.Policy != nil && after.Policy.Name == got.Policy.Name && after.Policy.Namespace == got.Policy.Namespace {
			return fmt.Sprintf("%s: %s, even when that sets STRICT", q, after.Why), asked
		}
		if sends(changed) != after.Sends {
			return fmt.Sprintf("%s: when %s sets STRICT, Istio does not send %s", q, got.Policy, after.Sends), asked
		}
	}
	return "", asked
}

// withTLS changes the TLS settings that a rule has for a port.
func (s set) withTLS(which meshpolicy.DestinationRule, port uint32, to meshpolicy.ClientTLS) set {
	s.Rules = slices.Clone(s.Rules)
	for i, rule := range s.Rules {
		if rule.Namespace != which.Namespace || rule.Name != which.Name {
			continue
		}
		if rule.PortTLS[port] == nil {
			s.Rules[i].TLS = &to
			continue
		}
		s.Rules[i].PortTLS = maps.Clone(rule.PortTLS)
		s.Rules[i].PortTLS[port] = &to
	}
	return s
}
