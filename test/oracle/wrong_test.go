package oracle

import (
	"slices"
	"strings"
	"testing"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// TestTheComparisonNoticesWrongServers gives rules that somebody could take for Istio's: each has to be found out.
func TestTheComparisonNoticesWrongServers(t *testing.T) {
	pilot := newIstio(t, world{})
	for name, bend := range wrongServers {
		t.Run(name, func(t *testing.T) {
			wrong := func(mesh meshpolicy.Mesh, policies []meshpolicy.PeerAuthentication, pod meshpolicy.Pod, port uint32) meshpolicy.Server {
				var bent []meshpolicy.PeerAuthentication
				for _, policy := range policies {
					if bend(&policy, pod, port) {
						bent = append(bent, policy)
					}
				}
				return meshpolicy.ForServer(mesh, bent, pod, port)
			}
			comparison{seed: 6, sets: 2_000, generate: serverSets, disagreement: func(s set) (string, int) {
				return pilot.serverDisagreement(s, wrong)
			}}.notices(t)
		})
	}
}

// wrongServers change a policy before it is looked at, or leave it out.
var wrongServers = map[string]func(policy *meshpolicy.PeerAuthentication, pod meshpolicy.Pod, port uint32) bool{
	"the youngest counts": func(policy *meshpolicy.PeerAuthentication, _ meshpolicy.Pod, _ uint32) bool {
		policy.Created = now.Add(now.Sub(policy.Created))
		return true
	},
	"of the same age the last by name counts": func(policy *meshpolicy.PeerAuthentication, _ meshpolicy.Pod, _ uint32) bool {
		policy.Name = backwards(policy.Name)
		return true
	},
	"age is not looked at": func(policy *meshpolicy.PeerAuthentication, _ meshpolicy.Pod, _ uint32) bool {
		policy.Created = now
		return true
	},
	"an older one that is UNSET gives way": func(policy *meshpolicy.PeerAuthentication, _ meshpolicy.Pod, port uint32) bool {
		return isSet(policy.Mode) || isSet(policy.PortModes[port])
	},
	"ports count without a selector": func(policy *meshpolicy.PeerAuthentication, _ meshpolicy.Pod, port uint32) bool {
		if mode := policy.PortModes[port]; len(policy.Selector) == 0 && isSet(mode) {
			policy.Mode = mode
		}
		return true
	},
	"ports do not count": func(policy *meshpolicy.PeerAuthentication, _ meshpolicy.Pod, _ uint32) bool {
		policy.PortModes = nil
		return true
	},
	"a selector in the root namespace counts": func(policy *meshpolicy.PeerAuthentication, pod meshpolicy.Pod, _ uint32) bool {
		if policy.Namespace == root && len(policy.Selector) > 0 && pod.Namespace != anotherRoot {
			policy.Namespace = pod.Namespace
		}
		return true
	},
	"a label that is not there is as good as an empty one": func(policy *meshpolicy.PeerAuthentication, pod meshpolicy.Pod, _ uint32) bool {
		if tier, ok := policy.Selector["tier"]; ok && tier == "" && pod.Labels["tier"] == "" {
			policy.Selector = map[string]string{"app": pod.Labels["app"]}
		}
		return true
	},
}

// TestTheComparisonNoticesWrongClients does the same for what clients send.
func TestTheComparisonNoticesWrongClients(t *testing.T) {
	pilot := newIstio(t, theWorld)
	for name, bend := range wrongClients {
		t.Run(name, func(t *testing.T) {
			wrong := func(mesh meshpolicy.Mesh, rules []meshpolicy.DestinationRule, policies []meshpolicy.PeerAuthentication,
				client meshpolicy.Client, service meshpolicy.Service, pod meshpolicy.Pod,
			) meshpolicy.ClientPolicy {
				bent := input{mesh: mesh, rules: slices.Clone(rules), policies: slices.Clone(policies), client: client, service: service, pod: pod}
				bend(&bent)
				return meshpolicy.ForClient(bent.mesh, bent.rules, bent.policies, bent.client, bent.service, bent.pod)
			}
			comparison{seed: 7, sets: 600, generate: clientSets, disagreement: func(s set) (string, int) {
				return pilot.clientDisagreement(t, s, wrong, map[string]int{})
			}}.notices(t)
		})
	}
}

// input is what ForClient is given.
type input struct {
	mesh     meshpolicy.Mesh
	rules    []meshpolicy.DestinationRule
	policies []meshpolicy.PeerAuthentication
	client   meshpolicy.Client
	service  meshpolicy.Service
	pod      meshpolicy.Pod
}

func (i *input) eachRule(bend func(*meshpolicy.DestinationRule)) {
	for at := range i.rules {
		bend(&i.rules[at])
	}
}

var wrongClients = map[string]func(*input){
	"the service's namespace goes first": func(i *input) { i.client.Namespace = i.service.Namespace },
	"the youngest rule counts": func(i *input) {
		i.eachRule(func(rule *meshpolicy.DestinationRule) { rule.Created = now.Add(now.Sub(rule.Created)) })
	},
	"of the same age the last by name counts": func(i *input) {
		i.eachRule(func(rule *meshpolicy.DestinationRule) { rule.Name = backwards(rule.Name) })
	},
	"exportTo is not looked at": func(i *input) {
		i.eachRule(func(rule *meshpolicy.DestinationRule) { rule.ExportTo = nil })
	},
	"the mesh's exportTo is not looked at": func(i *input) { i.mesh.DestinationRuleExportTo = nil },
	"selectors are not looked at": func(i *input) {
		i.eachRule(func(rule *meshpolicy.DestinationRule) { rule.WorkloadSelector = nil })
	},
	"an empty selector is none": func(i *input) {
		i.eachRule(func(rule *meshpolicy.DestinationRule) {
			if len(rule.WorkloadSelector) == 0 {
				rule.WorkloadSelector = nil
			}
		})
	},
	"a name with a namespace is completed": func(i *input) {
		i.eachRule(func(rule *meshpolicy.DestinationRule) {
			if name, namespace, ok := strings.Cut(rule.Host, "."); ok && !strings.Contains(namespace, ".") {
				rule.Host = name + "." + namespace + ".svc.cluster.local"
			}
		})
	},
	"wildcards end at a dot": func(i *input) {
		i.rules = slices.DeleteFunc(i.rules, func(rule meshpolicy.DestinationRule) bool {
			return strings.HasPrefix(rule.Host, "*") && rule.Host != "*" && !strings.HasPrefix(rule.Host, "*.")
		})
	},
	"a trafficPolicy without tls leaves room": func(i *input) {
		i.eachRule(func(rule *meshpolicy.DestinationRule) {
			rule.HasTrafficPolicy = rule.TLS != nil || rule.Passthrough || len(rule.PortTLS) > 0
		})
	},
	"a port without tls inherits it": func(i *input) {
		i.eachRule(func(rule *meshpolicy.DestinationRule) {
			if tls, ok := rule.PortTLS[i.service.Port]; ok && tls == nil {
				rule.PortTLS = map[uint32]*meshpolicy.ClientTLS{i.service.Port: rule.TLS}
			}
		})
	},
	"a credentialName counts": func(i *input) {
		i.eachRule(func(rule *meshpolicy.DestinationRule) {
			if rule.TLS != nil && rule.TLS.CredentialName != "" {
				rule.TLS = &meshpolicy.ClientTLS{Mode: rule.TLS.Mode, CredentialName: "configmap://" + rule.TLS.CredentialName}
			}
		})
	},
	"PASSTHROUGH makes no difference": func(i *input) {
		i.eachRule(func(rule *meshpolicy.DestinationRule) {
			rule.HasTrafficPolicy = rule.HasTrafficPolicy || rule.Passthrough
			rule.Passthrough, rule.PortPassthrough = false, nil
		})
	},
	"auto mTLS is always on":               func(i *input) { i.mesh.AutoMTLS = true },
	"auto mTLS follows the workload alone": func(i *input) { i.policies = withoutNamespaceLevel(i) },
	"auto mTLS follows the namespace alone": func(i *input) {
		i.policies = slices.DeleteFunc(i.policies, func(policy meshpolicy.PeerAuthentication) bool { return len(policy.Selector) > 0 })
	},
	"a headless service is like any other": func(i *input) { i.service.Headless = false },
	"a headless service has one endpoint":  func(i *input) { i.service.Endpoints = nil },
	"every pod is ready for mutual TLS": func(i *input) {
		i.pod.Labels = map[string]string{"app": i.pod.Labels["app"], "tier": i.pod.Labels["tier"], tlsMode: injected}
	},
	"every value of the label will do": func(i *input) {
		if i.pod.Labels[tlsMode] != bare && i.pod.Labels[tlsMode] != off {
			i.pod.Labels = map[string]string{"app": i.pod.Labels["app"], tlsMode: injected}
		}
	},
	"Services are exported everywhere": func(i *input) { i.service.ExportTo, i.mesh.ServiceExportTo = nil, nil },
	"the target port is the port":      func(i *input) { i.service.TargetPort = i.service.Port },
}

// withoutNamespaceLevel leaves out the namespace's policies where one selects the pod, which is what would be sensible.
func withoutNamespaceLevel(i *input) []meshpolicy.PeerAuthentication {
	server := meshpolicy.ForServer(i.mesh, i.policies, i.pod, i.service.TargetPort)
	if server.Scope != meshpolicy.ScopeWorkload && server.Scope != meshpolicy.ScopePort {
		return i.policies
	}
	return []meshpolicy.PeerAuthentication{*server.Decider}
}

func backwards(name string) string { return string('a' + 'z' - name[0]) }

// TestShrink shows that a disagreement is shown with no more than it takes.
func TestShrink(t *testing.T) {
	essential := meshpolicy.PeerAuthentication{Namespace: "shop", Name: "essential", Mode: api.MTLSStrict, PortModes: map[uint32]api.MTLSMode{443: api.MTLSDisable}}
	whole := serverSets(roll(8, 1))
	whole.Policies = append(whole.Policies, essential)
	whole.Rules = clientSets(roll(8, 2)).Rules
	smallest := shrink(whole, func(s set) bool {
		return slices.ContainsFunc(s.Policies, func(policy meshpolicy.PeerAuthentication) bool { return policy.Name == essential.Name })
	})
	if len(whole.Policies) < 2 || len(smallest.Policies) != 1 || len(smallest.Rules) != 0 || smallest.Policies[0].PortModes != nil {
		t.Errorf("shrunk to:\n%s", smallest)
	}
}

// TestSetsAreReproducible holds the numbers that a disagreement is reported with to their promise.
func TestSetsAreReproducible(t *testing.T) {
	again, first := clientSets(roll(3, 17)), clientSets(roll(3, 17))
	if again.String() != first.String() || first.String() == clientSets(roll(3, 18)).String() {
		t.Errorf("the same seed and number gave\n%s\nand then\n%s", first, again)
	}
}
