// Package effective works out from an inventory what Istio computes for a probe's target, and holds it against what the
// probe declares. The operator plans and judges by it, and the plugin explains by it. It knows of no run: whether the
// proxies do as computed is for others to judge.
package effective

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
	"github.com/meshprobe/httpsmeshprobe/internal/podhealth"
)

// Policies are what Istio computes for a target, and what is to be seen if it does as declared or as computed.
type Policies struct {
	// Endpoints are the policies of the target's endpoints, in their order; of a server without endpoints, those of what
	// its pod will be.
	Endpoints []EndpointPolicy
	// Declared is what the spec promises. A mode that is inherited is the strictest of those of the endpoints.
	Declared expectation.Expectations
	// Computed is what should be seen if the proxies do as computed. It has no entry for a path of which the endpoints
	// promise different things, and none at all where something is not judged.
	Computed expectation.Expectations
	// ComputedEndpoints is what should be seen at each endpoint around the client's sidecar, by the endpoint's ID.
	ComputedEndpoints map[string]expectation.Expectation
	// Agreement holds the declared modes against the computed ones.
	Agreement Agreement
	// Modes are the modes of all endpoints, in words. Deciders are the objects behind them, each once and in their order.
	Modes    string
	Deciders []meshpolicy.Object
}

// Of computes the policies of the target of an inventory's probe.
func Of(i *inventory.Inventory) Policies {
	spec := i.Probe.Spec
	endpoints, ids := endpointPolicies(i)
	p := Policies{Endpoints: endpoints, Modes: inWords(endpoints), Deciders: deciders(endpoints)}
	p.Computed, p.ComputedEndpoints = computed(endpoints, ids)
	declared := spec.MTLS.Mode
	if !declared.IsSet() {
		declared = strictest(endpoints)
	}
	p.Declared = expectation.Declared(spec.Target.Sidecar, declared, spec.MTLS.ClientMode).Expectations()
	if spec.Target.Service != nil {
		p.Declared.OfAnyCode()
		p.Computed.OfAnyCode()
	}
	p.Declared.Override(spec.Expect)
	p.Agreement = PolicyInEffect(spec.Target, spec.MTLS, endpoints)
	p.Agreement.Message += injectionWarning(i)
	return p
}

// endpointPolicies computes the policy of every endpoint, and returns the endpoints' IDs beside them.
func endpointPolicies(i *inventory.Inventory) (policies []EndpointPolicy, ids []string) {
	client := meshpolicy.Client{Namespace: i.Probe.Namespace, Labels: clientLabels(i), Sidecar: true}
	service := Service(i)
	for _, endpoint := range i.Target.Endpoints {
		service.TargetPort = endpoint.Port
		policies = append(policies, endpointPolicy(i, endpoint.Name(), client, service, endpoint.Pod))
		ids = append(ids, endpoint.ID())
	}
	if len(ids) == 0 {
		service.TargetPort = fixture.ServerContainerPort
		pod := futurePod(i)
		policies = append(policies, endpointPolicy(i, pod.Name, client, service, pod))
		ids = append(ids, "")
	}
	return policies, ids
}

func endpointPolicy(i *inventory.Inventory, name string, client meshpolicy.Client, service meshpolicy.Service, pod meshpolicy.Pod) EndpointPolicy {
	return EndpointPolicy{
		Name:   name,
		Server: meshpolicy.ForServer(i.Mesh, i.PeerAuthentications, pod, service.TargetPort),
		Client: meshpolicy.ForClient(i.Mesh, i.DestinationRules, i.PeerAuthentications, client, service, pod),
	}
}

const annotationExportTo = "networking.istio.io/exportTo"

// Service is the target as policies see it, with the pods behind all its endpoints.
func Service(i *inventory.Inventory) meshpolicy.Service {
	service := meshpolicy.Service{Namespace: i.Target.Namespace, Name: i.Target.Name, Port: fixture.ServerPort}
	if i.Target.Port != nil {
		service.Port = uint32(i.Target.Port.Port)
	}
	if found := i.Target.Service; found != nil {
		service.Headless = found.Spec.ClusterIP == "None"
		if exports := found.Annotations[annotationExportTo]; exports != "" {
			for _, to := range strings.Split(exports, ",") {
				service.ExportTo = append(service.ExportTo, strings.TrimSpace(to))
			}
		}
	}
	service.Endpoints = i.Target.Pods
	return service
}

// futurePod is the operator's own server before there is a pod of it: with the labels that the injector will have put on.
func futurePod(i *inventory.Inventory) meshpolicy.Pod {
	labels := fixture.ServerPodLabels(fixture.Of(i.Probe))
	if deployment := i.Deployments[fixture.ServerName(i.Probe.Name)]; deployment != nil {
		labels = deployment.Spec.Template.Labels
	}
	pod := meshpolicy.Pod{
		Namespace: i.Probe.Namespace, Name: fixture.ServerName(i.Probe.Name), Labels: map[string]string{},
		Sidecar: i.Probe.Spec.Target.Sidecar == api.SidecarEnabled,
	}
	for key, value := range labels {
		pod.Labels[key] = value
	}
	if pod.Sidecar {
		pod.Labels[meshpolicy.LabelTLSMode] = meshpolicy.TLSModeIstio
	}
	return pod
}

func clientLabels(i *inventory.Inventory) map[string]string {
	name := fixture.SleepName(i.Probe.Spec.Revision)
	if pods := podhealth.Living(i.PodsOf(fixture.ClientLabels(name))); len(pods) > 0 {
		return newest(pods).Labels
	}
	return fixture.ClientLabels(name)
}

func strictest(endpoints []EndpointPolicy) api.MTLSMode {
	order := []api.MTLSMode{"", api.MTLSDisable, api.MTLSPermissive, api.MTLSStrict}
	found := api.MTLSMode("")
	for _, endpoint := range endpoints {
		if enforced := endpoint.Server.Enforced(); slices.Index(order, enforced) > slices.Index(order, found) {
			found = enforced
		}
	}
	return found
}

// computed is what should be seen if the proxies do as computed, on the paths and at the endpoints. Of the Service's own
// address nothing is expected where its endpoints promise different things: it leads to any of them.
func computed(endpoints []EndpointPolicy, ids []string) (expectation.Expectations, map[string]expectation.Expectation) {
	paths, byID := expectation.Expectations{}, map[string]expectation.Expectation{}
	promised := map[api.PathName]map[string]bool{}
	for i, endpoint := range endpoints {
		enforced := endpoint.Server.Enforced()
		if enforced == "" || endpoint.Client.Sends == "" {
			return nil, nil
		}
		promise := expectation.Promise{Sidecar: api.SidecarEnabled, Mode: enforced, Sends: endpoint.Client.Sends}
		byID[ids[i]] = promise.Around()
		for path, expected := range promise.Expectations() {
			if promised[path] == nil {
				promised[path] = map[string]bool{}
			}
			promised[path][expected.String()+string(expected.Encryption)] = true
			paths[path] = expected
		}
	}
	for path, different := range promised {
		if len(different) > 1 {
			delete(paths, path)
		}
	}
	return paths, byID
}

// inWords sums up the modes of all endpoints, such as "STRICT, MutualTLS from the client".
func inWords(endpoints []EndpointPolicy) string {
	var servers, clients []string
	for _, endpoint := range endpoints {
		mode := string(endpoint.Server.Enforced())
		if endpoint.Server.Capture != meshpolicy.Captured {
			mode = string(endpoint.Server.Capture)
		}
		servers = append(servers, mode)
		clients = append(clients, string(endpoint.Client.Sends))
	}
	return distinct(servers) + ", " + distinct(clients) + " from the client"
}

func deciders(endpoints []EndpointPolicy) []meshpolicy.Object {
	var found []meshpolicy.Object
	for _, endpoint := range endpoints {
		found = append(found, endpoint.Server.Deciders()...)
		found = append(found, endpoint.Client.Deciders()...)
	}
	return meshpolicy.Distinct(found)
}

func distinct(words []string) string {
	slices.Sort(words)
	return strings.Join(slices.Compact(words), "+")
}

// injectionWarning speaks of a namespace that has lost its injection label while its pods still have their sidecars: the
// next ones will have none.
func injectionWarning(i *inventory.Inventory) string {
	if i.Probe.Spec.Target.Service == nil || i.Probe.Spec.Target.Sidecar != api.SidecarEnabled || i.Target.NamespaceLabels == nil {
		return ""
	}
	labels := i.Target.NamespaceLabels
	if labels["istio-injection"] == "enabled" || labels["istio.io/rev"] != "" && labels["istio-injection"] != "disabled" {
		return ""
	}
	for _, endpoint := range i.Target.Endpoints {
		asked := endpoint.Pod.Labels["sidecar.istio.io/inject"] == "true" || endpoint.Pod.Labels["istio.io/rev"] != ""
		if endpoint.Pod.Sidecar && !asked {
			return fmt.Sprintf("; but namespace %s has no injection label (any more): pods that are made from now on, such as the next %s, will have no sidecar", i.Target.Namespace, endpoint.Pod.Name)
		}
	}
	return ""
}

// Promised holds what is computed for a path against what is declared: Unknown where nothing single is computed. The
// status code is the server's affair.
func (p Policies) Promised(path api.PathName) api.Outcome {
	computed, ok := p.Computed[path]
	switch declared := p.Declared[path]; {
	case !ok:
		return api.OutcomeUnknown
	case computed.Kind == declared.Kind && (declared.Encryption == "" || computed.Encryption == declared.Encryption):
		return api.OutcomeMatch
	default:
		return api.OutcomeMismatch
	}
}

// Explanations say what Istio computes for paths of which it computes something else than is declared.
func (p Policies) Explanations() map[api.PathName]string {
	explained := map[api.PathName]string{}
	for path, expected := range p.Declared {
		if p.Promised(path) == api.OutcomeMatch {
			continue
		}
		explained[path] = explain(path, expected, p.Endpoints)
	}
	return explained
}

// explain says why a path cannot show what is expected: by the first endpoint that promises something else.
func explain(path api.PathName, expected expectation.Expectation, endpoints []EndpointPolicy) string {
	for _, endpoint := range endpoints {
		promise := expectation.Promise{Sidecar: api.SidecarEnabled, Mode: endpoint.Server.Enforced(), Sends: endpoint.Client.Sends}
		promised := promise.Expectations()[path]
		if promised.Kind == expected.Kind && promised.Encryption == expected.Encryption {
			continue
		}
		if path == api.PathSleep {
			return fmt.Sprintf("the client's sidecar sends %s: %s", endpoint.Client.Sends, endpoint.Client.Why)
		}
		return endpoint.Server.String()
	}
	return ""
}

func newest(pods []corev1.Pod) corev1.Pod {
	return slices.MaxFunc(pods, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
}
