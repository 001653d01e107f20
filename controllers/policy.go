package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
	"github.com/meshprobe/httpsmeshprobe/internal/podhealth"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// policies are what Istio computes for the target, and what is to be seen if it does as declared or as computed.
type policies struct {
	endpoints []verdict.EndpointPolicy
	declared  expectation.Expectations
	computed  verdict.Computed
	// words are the modes of all endpoints, and deciders the objects behind them.
	words, deciders string
	// cause is the object by whose change they have become what they are.
	cause string
}

// computePolicies works out what Istio computes for every endpoint, and holds it against what is declared.
func (r *Reconciler) computePolicies(_ context.Context, v *visit) (verdict.Standing, error) {
	spec := v.Probe.Spec
	p := &v.policies
	ids := r.endpointPolicies(v)
	declared := spec.MTLS.Mode
	if declared == "" || declared == api.MTLSUnset {
		declared = strictest(p.endpoints)
	}
	p.declared = expectation.Declared(spec.Target.Sidecar, declared, spec.MTLS.ClientMode).Expectations()
	p.declared.Override(spec.Expect)
	p.computed = computed(p.endpoints, ids)
	p.computed.Counted = counts(v.Probe.Status)
	p.words, p.deciders = inWords(p.endpoints)
	p.cause = r.memory.cause(v)
	v.policy = verdict.PolicyInEffect(spec.Target, spec.MTLS, p.endpoints)
	v.policy.Message += injectionWarning(v)
	return proceed, nil
}

// endpointPolicies computes the policy of every endpoint and returns their IDs. A server without endpoints is computed by
// what its pods will be.
func (r *Reconciler) endpointPolicies(v *visit) (ids []string) {
	client := meshpolicy.Client{Namespace: v.Probe.Namespace, Labels: v.clientLabels(), Sidecar: true}
	service := v.meshService()
	for _, endpoint := range v.Target.Endpoints {
		service.TargetPort = endpoint.Port
		v.policies.endpoints = append(v.policies.endpoints, v.endpointPolicy(endpoint.Name(), client, service, endpoint.Pod))
		ids = append(ids, endpointID(endpoint))
	}
	if len(ids) == 0 {
		service.TargetPort = fixture.ServerContainerPort
		pod := v.futurePod()
		v.policies.endpoints = append(v.policies.endpoints, v.endpointPolicy(pod.Name, client, service, pod))
		ids = append(ids, "")
	}
	return ids
}

func (v *visit) endpointPolicy(name string, client meshpolicy.Client, service meshpolicy.Service, pod meshpolicy.Pod) verdict.EndpointPolicy {
	return verdict.EndpointPolicy{
		Name:   name,
		Server: meshpolicy.ForServer(v.Mesh, v.PeerAuthentications, pod, service.TargetPort),
		Client: meshpolicy.ForClient(v.Mesh, v.DestinationRules, v.PeerAuthentications, client, service, pod),
	}
}

const annotationExportTo = "networking.istio.io/exportTo"

func (v *visit) meshService() meshpolicy.Service {
	service := meshpolicy.Service{Namespace: v.Target.Namespace, Name: v.Target.Name, Port: fixture.ServerPort}
	if v.Target.Port != nil {
		service.Port = uint32(v.Target.Port.Port)
	}
	if found := v.Target.Service; found != nil {
		service.Headless = found.Spec.ClusterIP == "None"
		if exports := found.Annotations[annotationExportTo]; exports != "" {
			for _, to := range strings.Split(exports, ",") {
				service.ExportTo = append(service.ExportTo, strings.TrimSpace(to))
			}
		}
	}
	service.Endpoints = v.Target.Pods
	return service
}

// futurePod is the operator's own server before there is a pod of it: with the labels that the injector will have put on.
func (v *visit) futurePod() meshpolicy.Pod {
	labels := fixture.ServerLabels(v.Probe.Name)
	if deployment := v.Deployments[fixture.ServerName(v.Probe.Name)]; deployment != nil {
		labels = deployment.Spec.Template.Labels
	}
	pod := meshpolicy.Pod{
		Namespace: v.Probe.Namespace, Name: fixture.ServerName(v.Probe.Name), Labels: map[string]string{},
		Sidecar: v.Probe.Spec.Target.Sidecar == api.SidecarEnabled,
	}
	for key, value := range labels {
		pod.Labels[key] = value
	}
	if pod.Sidecar {
		pod.Labels["security.istio.io/tlsMode"] = "istio"
	}
	return pod
}

func (v *visit) clientLabels() map[string]string {
	name := fixture.SleepName(v.Probe.Spec.Revision)
	if pods := podhealth.Living(v.PodsOf(fixture.ClientLabels(name))); len(pods) > 0 {
		return newest(pods).Labels
	}
	return fixture.ClientLabels(name)
}

func strictest(endpoints []verdict.EndpointPolicy) api.MTLSMode {
	order := []api.MTLSMode{"", api.MTLSDisable, api.MTLSPermissive, api.MTLSStrict}
	found := api.MTLSMode("")
	for _, endpoint := range endpoints {
		if enforced := endpoint.Server.Enforced(); slices.Index(order, enforced) > slices.Index(order, found) {
			found = enforced
		}
	}
	return found
}

// computed is what should be seen if the proxies do as computed. Of the Service's own address nothing is expected where
// its endpoints promise different things: it leads to any of them.
func computed(endpoints []verdict.EndpointPolicy, ids []string) verdict.Computed {
	result := verdict.Computed{Paths: expectation.Expectations{}, Endpoints: map[string]expectation.Expectation{}}
	promised := map[api.PathName]map[string]bool{}
	for i, endpoint := range endpoints {
		enforced := endpoint.Server.Enforced()
		if enforced == "" || endpoint.Client.Sends == "" {
			return verdict.Computed{}
		}
		promise := expectation.Promise{Sidecar: api.SidecarEnabled, Mode: enforced, Sends: endpoint.Client.Sends}
		result.Endpoints[ids[i]] = promise.Around()
		for path, expected := range promise.Expectations() {
			if promised[path] == nil {
				promised[path] = map[string]bool{}
			}
			promised[path][expected.String()+string(expected.Encryption)] = true
			result.Paths[path] = expected
		}
	}
	for path, different := range promised {
		if len(different) > 1 {
			delete(result.Paths, path)
		}
	}
	return result
}

// counts says whether the client's Envoy is to tell how it sent a request: unless it did not the last time.
func counts(status api.HTTPSMeshProbeStatus) bool {
	return !slices.ContainsFunc(status.Paths, func(path api.PathStatus) bool {
		return path.Name == api.PathSleep && path.Encryption == api.EncryptionUnknown
	})
}

// inWords sums up the modes of all endpoints, such as "STRICT, MutualTLS from the client", and names the objects that
// decide them.
func inWords(endpoints []verdict.EndpointPolicy) (modes, deciders string) {
	var servers, clients, behind []string
	for _, endpoint := range endpoints {
		mode := string(endpoint.Server.Enforced())
		if endpoint.Server.Capture != meshpolicy.Captured {
			mode = string(endpoint.Server.Capture)
		}
		servers = append(servers, mode)
		clients = append(clients, string(endpoint.Client.Sends))
		behind = append(behind, endpoint.Server.String(), endpoint.Client.Why)
	}
	return distinct(servers, "+") + ", " + distinct(clients, "+") + " from the client", distinct(behind, "; ")
}

func distinct(words []string, separator string) string {
	slices.Sort(words)
	return strings.Join(slices.Compact(words), separator)
}

// injectionWarning speaks of a namespace that has lost its injection label while its pods still have their sidecars: the
// next ones will have none.
func injectionWarning(v *visit) string {
	if v.Probe.Spec.Target.Service == nil || v.Probe.Spec.Target.Sidecar != api.SidecarEnabled || v.Target.NamespaceLabels == nil {
		return ""
	}
	labels := v.Target.NamespaceLabels
	if labels["istio-injection"] == "enabled" || labels["istio.io/rev"] != "" && labels["istio-injection"] != "disabled" {
		return ""
	}
	for _, endpoint := range v.Target.Endpoints {
		asked := endpoint.Pod.Labels["sidecar.istio.io/inject"] == "true" || endpoint.Pod.Labels["istio.io/rev"] != ""
		if endpoint.Pod.Sidecar && !asked {
			return fmt.Sprintf("; but namespace %s has no injection label (any more): pods that are made from now on, such as the next %s, will have no sidecar", v.Target.Namespace, endpoint.Pod.Name)
		}
	}
	return ""
}

func endpointID(endpoint inventory.Endpoint) string { return endpoint.UID + "/" + endpoint.Address() }
