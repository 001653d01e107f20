package explain

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/effective"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

// Change is one object to change.
type Change struct {
	// Object is the object, as kind namespace/name.
	Object string `json:"object"`
	// Advice says what to do with it, and to what end.
	Advice string `json:"advice"`
}

// changes are what to change where what is declared, computed and observed disagree. Where only the declaration may be
// wrong, they say so: a probe's spec is an object too.
func changes(i *inventory.Inventory, policies effective.Policies) []Change {
	var all []Change
	if policies.Agreement.Status == metav1.ConditionFalse {
		all = policyChanges(i, policies)
	}
	for _, path := range paths.Names() {
		if change, ok := pathChange(i, policies, path); ok && !slices.Contains(all, change) {
			all = append(all, change)
		}
	}
	return all
}

func policyChanges(i *inventory.Inventory, policies effective.Policies) []Change {
	var all []Change
	add := func(change Change) {
		if change.Object != "" && !slices.Contains(all, change) {
			all = append(all, change)
		}
	}
	for at, endpoint := range policies.Endpoints {
		switch policies.Agreement.Reason {
		case api.ReasonSidecarMissing, api.ReasonSidecarPresent, api.ReasonNotCaptured:
			add(podChange(i, endpoint, at))
		case api.ReasonOverridden, api.ReasonMixed:
			add(serverChange(i, policies.Agreement.Reason, endpoint))
		}
	}
	if policies.Agreement.Reason != api.ReasonOverridden || len(all) > 0 {
		return all
	}
	// No server deviates, so it is the client's side that does (effective.PolicyInEffect looks at the servers first).
	for _, endpoint := range policies.Endpoints {
		add(clientChange(i.Probe.Spec.MTLS.ClientMode, endpoint))
	}
	return all
}

// podChange speaks of a pod whose sidecar is not as claimed.
func podChange(i *inventory.Inventory, endpoint effective.EndpointPolicy, at int) Change {
	pod := "pod " + i.Target.Namespace + "/" + endpoint.Name
	if at < len(i.Target.Endpoints) && i.Target.Endpoints[at].Pod.Name == "" {
		pod = "endpoint " + endpoint.Name
	}
	claimed := i.Probe.Spec.Target.Sidecar
	switch capture := endpoint.Server.Capture; {
	case capture == meshpolicy.HostNetwork && claimed == api.SidecarEnabled:
		return Change{pod, "it is on the node's network, where no sidecar is injected: set hostNetwork to false, or declare target.sidecar Disabled"}
	case capture == meshpolicy.NoSidecar && claimed == api.SidecarEnabled:
		return Change{pod, "it has no sidecar: label its namespace for injection (istio-injection=enabled or istio.io/rev) and restart it, or declare target.sidecar Disabled"}
	case capture == meshpolicy.PortExcluded && claimed == api.SidecarEnabled:
		return Change{pod, endpoint.Server.Past + " leads the port past its sidecar: take that annotation out of its template, and restart it"}
	case capture == meshpolicy.NoRedirection && claimed == api.SidecarEnabled:
		return Change{pod, "no traffic is redirected to its proxy, as in a gateway: take inject.istio.io/templates or sidecar.istio.io/interceptionMode out of its template and restart it, or declare target.sidecar Disabled"}
	case (capture == meshpolicy.Captured || capture == meshpolicy.PortExcluded) && claimed == api.SidecarDisabled:
		return Change{pod, "it has a sidecar: declare target.sidecar Enabled, or keep the injector off with the label sidecar.istio.io/inject=false"}
	default:
		return Change{}
	}
}

// serverChange speaks of the object that sets another mode than the declared one.
func serverChange(i *inventory.Inventory, reason string, endpoint effective.EndpointPolicy) Change {
	declared, enforced := i.Probe.Spec.MTLS.Mode, endpoint.Server.Enforced()
	mixed := reason == api.ReasonMixed
	if own := endpoint.Server.Decider; !mixed && declared == api.MTLSUnset && endpoint.Server.Own() && i.Probe.Spec.Target.Sidecar == api.SidecarEnabled {
		return Change{own.String(), fmt.Sprintf("it sets %s for the pods themselves, and UNSET inherits: delete it, or declare mtls.mode %s", endpoint.Server.Mode, enforced)}
	}
	if !mixed && (!declared.IsSet() || enforced == declared) || i.Probe.Spec.Target.Sidecar == api.SidecarDisabled {
		return Change{}
	}
	wanted := fmt.Sprintf("or declare mtls.mode %s", enforced)
	if mixed {
		wanted = "or declare the mode that all endpoints are to have"
		declared = "the same mode for all endpoints"
	}
	switch {
	case endpoint.Server.Silent != nil:
		return Change{endpoint.Server.Silent.String(), fmt.Sprintf("it sets no mode and keeps younger policies out of force: set %s in it, or delete it; %s", declared, wanted)}
	case endpoint.Server.Decider != nil:
		advice := fmt.Sprintf("it sets %s: set %s in it, or delete it", endpoint.Server.Mode, declared)
		if next := endpoint.Server.Overridden; len(next) > 0 {
			advice += fmt.Sprintf(" (then %s decides)", next[0])
		}
		return Change{endpoint.Server.Decider.String(), advice + "; " + wanted}
	default:
		return Change{"PeerAuthentication in namespace " + i.Target.Namespace,
			fmt.Sprintf("there is none that sets a mode, so PERMISSIVE holds: create one that sets %s; %s", declared, wanted)}
	}
}

// clientChange speaks of the object that makes the client's sidecar send something else than is declared.
func clientChange(declared api.ClientTLSMode, endpoint effective.EndpointPolicy) Change {
	computed, wanted := endpoint.Client, expectation.Declared("", "", declared).Sends
	if !declared.IsSet() {
		wanted = meshpolicy.MutualTLS
		if enforced := endpoint.Server.Enforced(); enforced != api.MTLSPermissive && enforced != api.MTLSStrict {
			return Change{}
		}
	}
	if computed.Sends == wanted {
		return Change{}
	}
	end := fmt.Sprintf("so that the client's sidecar sends %s instead of %s", wanted, computed.Sends)
	switch {
	case computed.Rule != nil:
		return Change{computed.Rule.String(), fmt.Sprintf("change its trafficPolicy's tls.mode or delete it, %s", end)}
	case computed.Policy != nil:
		return Change{computed.Policy.String(), fmt.Sprintf("auto mTLS follows it: set another mode than DISABLE there, %s", end)}
	case wanted != meshpolicy.MutualTLS:
		return Change{"DestinationRule for the Service", fmt.Sprintf("there is none that sets TLS: create one, %s", end)}
	default:
		return Change{"the client's way to the Service", computed.Why}
	}
}

// pathChange speaks of a path that saw something else than Istio computes: no policy explains it.
func pathChange(i *inventory.Inventory, policies effective.Policies, path api.PathName) (Change, bool) {
	verified := condition(i.Probe, paths.Condition(path))
	if verified == nil || verified.Status != metav1.ConditionFalse {
		return Change{}, false
	}
	if change, ok := deliveredChange(i, verified.Reason); ok && path == paths.Mesh().Name && (verified.Reason == api.ReasonLedElsewhere || policies.Promised(path) == api.OutcomeMatch) {
		return change, true
	}
	if policies.Promised(path) != api.OutcomeMatch {
		return Change{}, false
	}
	switch verified.Reason {
	case api.ReasonMTLSNotEnforced, api.ReasonRefused:
		return Change{"the proxies before " + i.Target.String(), fmt.Sprintf("Istio computes what is declared, and the path %s saw something else: look at istioctl proxy-status and istiod's log", path)}, true
	case api.ReasonLedElsewhere:
		return Change{"the client's sidecar", "it leads requests for the Service to another one: look for a VirtualService, ServiceEntry or EnvoyFilter for its host or address"}, true
	case api.ReasonPlaintextInMesh:
		return Change{"the client's sidecar", "Istio's policies promise mutual TLS, and its counters show plaintext: look for a Sidecar resource, VirtualService or EnvoyFilter that leads around the Service"}, true
	default:
		return Change{i.Target.String(), fmt.Sprintf("the path %s says %s: %s", path, verified.Reason, verified.Message)}, true
	}
}

// deliveredChange speaks of the object that Istio names behind what the client's Envoy was told to do.
func deliveredChange(i *inventory.Inventory, reason string) (Change, bool) {
	status := i.Probe.Status.Delivered
	if status == nil {
		return Change{}, false
	}
	where, _ := delivered(*status, i.Target.Namespace, i.Target.Port)
	switch reason {
	case api.ReasonLedElsewhere:
		if status.Object != "" {
			return Change{status.Object, fmt.Sprintf("it makes the client's sidecar lead requests for %s to %s: let it lead all of them to the Service itself, or delete it", i.Target, where)}, true
		}
	case api.ReasonPlaintextInMesh, api.ReasonUnexpectedMutualTLS:
		wrong := map[string]string{api.ReasonPlaintextInMesh: "without mutual TLS", api.ReasonUnexpectedMutualTLS: "by mutual TLS"}[reason]
		for _, leg := range status.Legs {
			if mutual := leg.Endpoints > 0 && leg.MutualTLS == leg.Endpoints; leg.Object != "" && mutual == (reason == api.ReasonUnexpectedMutualTLS) {
				return Change{leg.Object, fmt.Sprintf("it shapes %s, to which the client's sidecar sends %s: change its trafficPolicy's tls.mode or delete it",
					legName(leg.Cluster, i.Target.Namespace, i.Target.Port), wrong)}, true
			}
		}
		if status.Object != "" {
			return Change{status.Object, fmt.Sprintf("it leads requests to %s, and they go there %s: let it lead to a host whose traffic policy is right, or delete it", where, wrong)}, true
		}
	}
	return Change{}, false
}
