// Package explain says why a probe says what it says: what is declared, what Istio computes, and what was observed, side
// by side, and which object to change where they disagree.
package explain

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/effective"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

// Explanation is why a probe says what it says.
type Explanation struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Target is the Service that is probed, in words.
	Target string `json:"target"`
	// Sidecar, Mode and ClientMode are what the spec declares.
	Sidecar    api.Sidecar       `json:"sidecar"`
	Mode       api.MTLSMode      `json:"mode"`
	ClientMode api.ClientTLSMode `json:"clientMode"`
	// Ready is the operator's verdict, and Stalled what keeps it from one; nil where the status has none.
	Ready   *Judgement `json:"ready,omitempty"`
	Stalled *Judgement `json:"stalled,omitempty"`
	// Outdated says that the status is not of the present spec, or that its last run is long ago.
	Outdated bool `json:"outdated,omitempty"`
	// Policy is the verdict on the policy, as it is computed now. Where nothing can be computed, it is Unknown and says why.
	Policy Judgement `json:"policy"`
	// Endpoints are the policies of the endpoints; those with the same policy are one entry.
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	Paths     []Path     `json:"paths"`
	// Changes are what to change, and to what end, so that declared, computed and observed agree.
	Changes []Change `json:"changes,omitempty"`
	// Notes are what is good to know about how far all of this holds.
	Notes []string `json:"notes,omitempty"`
}

// Judgement is a condition, or what one would say.
type Judgement struct {
	Status  metav1.ConditionStatus `json:"status"`
	Reason  string                 `json:"reason"`
	Message string                 `json:"message,omitempty"`
}

// Endpoint is what Istio computes for some endpoints of the target.
type Endpoint struct {
	// Names are some of them, at most 3, and Count is how many there are.
	Names []string `json:"names"`
	Count int      `json:"count"`
	// Enforced is the mode that holds before them; "" where that is not judged. Why names the object that decides.
	Enforced api.MTLSMode `json:"enforced"`
	Why      string       `json:"why"`
	// Decider is the object that sets the mode, as kind namespace/name; "" where Istio's default holds. Overridden are
	// those that would set another or the same, and lost.
	Decider    string   `json:"decider,omitempty"`
	Overridden []string `json:"overridden,omitempty"`
	// Sends is what the client's sidecar sends to them, and SendsWhy names the objects behind it.
	Sends    string `json:"sends"`
	SendsWhy string `json:"sendsWhy"`
}

// Path holds one path's three answers side by side.
type Path struct {
	Name api.PathName `json:"name"`
	// Declared is what the spec promises.
	Declared    string `json:"declared"`
	DeclaredWhy string `json:"declaredWhy,omitempty"`
	// Computed is what is to be seen if the proxies do as Istio computes; "" where nothing single is: the endpoints differ,
	// or nothing can be computed.
	Computed    string `json:"computed,omitempty"`
	ComputedWhy string `json:"computedWhy,omitempty"`
	// Promised holds computed against declared: Match, Mismatch, or Unknown where nothing single is computed.
	Promised api.Outcome `json:"promised"`
	// Delivered is where the client's Envoy is configured to lead requests for the Service; "" on the paths around it, and
	// where the status does not tell.
	Delivered    string `json:"delivered,omitempty"`
	DeliveredWhy string `json:"deliveredWhy,omitempty"`
	// Observed is what the latest run saw, with its evidence in words; "" where there was no run.
	Observed string      `json:"observed,omitempty"`
	Evidence string      `json:"evidence,omitempty"`
	Outcome  api.Outcome `json:"outcome,omitempty"`
	// Claims are what is claimed of the path, each with its answer and evidence in the latest run.
	Claims   []api.ClaimStatus `json:"claims,omitempty"`
	ProbedAt *metav1.Time      `json:"probedAt,omitempty"`
	// Verified is the path's condition; nil where the status has none.
	Verified *Judgement `json:"verified,omitempty"`
}

// Of explains the verdict of an inventory's probe at a moment.
func Of(i *inventory.Inventory, now time.Time) Explanation {
	probe := i.Probe
	e := Explanation{
		Namespace: probe.Namespace, Name: probe.Name, Target: target(i),
		Sidecar: probe.Spec.Target.Sidecar, Mode: probe.Spec.MTLS.Mode, ClientMode: probe.Spec.MTLS.ClientMode,
		Ready: condition(probe, api.ConditionReady), Stalled: condition(probe, api.ConditionStalled),
		Outdated: probe.Status.ObservedGeneration != probe.Generation || Late(probe, now),
	}
	if obstacle := obstacleTo(i); obstacle != nil {
		e.Policy = *obstacle
		e.Paths = pathRows(i, effective.Policies{})
		e.Notes = notes(probe, e.Policy, now)
		return e
	}
	policies := effective.Of(i)
	e.Policy = Judgement(policies.Agreement)
	e.Endpoints = grouped(policies.Endpoints)
	e.Paths = pathRows(i, policies)
	e.Changes = changes(i, policies)
	e.Notes = notes(probe, e.Policy, now)
	return e
}

// Outcome is Match where the operator's verdict is that all is as declared and nothing computed now contradicts it,
// Mismatch where the verdict is that something is not, and Unknown where there is no such verdict, or an outdated one.
func (e Explanation) Outcome() api.Outcome {
	switch {
	case e.Ready == nil || e.Outdated:
		return api.OutcomeUnknown
	case e.Ready.Status == metav1.ConditionTrue && e.Policy.Status == metav1.ConditionTrue:
		return api.OutcomeMatch
	case e.Ready.Reason == api.ReasonRefuted:
		return api.OutcomeMismatch
	default:
		return api.OutcomeUnknown
	}
}

// obstacleTo says why nothing can be computed for the target.
func obstacleTo(i *inventory.Inventory) *Judgement {
	reason, message := effective.TargetObstacle(i)
	switch {
	case !i.IstioInstalled:
		reason, message = api.ReasonIstioNotInstalled, "the API server does not know the kinds PeerAuthentication and DestinationRule: install Istio"
	case i.MeshForbidden != "":
		reason, message = api.ReasonMeshUnreadable, i.MeshForbidden
	case i.MeshProblem != "":
		reason, message = api.ReasonProgressing, i.MeshProblem+"; until it can, nobody knows which policies hold: correct it"
	case reason == "":
		return nil
	}
	return &Judgement{metav1.ConditionUnknown, reason, message}
}

func target(i *inventory.Inventory) string {
	words := fmt.Sprintf("%s, port %s", i.Target, i.Target.WantedPort.String())
	if i.Probe.Spec.Target.Service == nil {
		words += ", the operator's own server"
	}
	if endpoints := len(i.Target.Endpoints); endpoints != 1 {
		return fmt.Sprintf("%s, %d ready endpoints", words, endpoints)
	}
	return words + ", 1 ready endpoint"
}

func condition(probe *api.HTTPSMeshProbe, kind string) *Judgement {
	found := meta.FindStatusCondition(probe.Status.Conditions, kind)
	if found == nil {
		return nil
	}
	return &Judgement{found.Status, found.Reason, found.Message}
}

const maxNamed = 3

// grouped puts endpoints with the same policy together, in the order of the first of each.
func grouped(endpoints []effective.EndpointPolicy) []Endpoint {
	var groups []Endpoint
	place := map[string]int{}
	for _, endpoint := range endpoints {
		one := single(endpoint)
		key := fmt.Sprint(one.Enforced, one.Why, one.Sends, one.Overridden, endpoint.Client.Auto, endpoint.Client.Rule, endpoint.Client.Policy)
		at, known := place[key]
		if !known {
			at = len(groups)
			place[key] = at
			groups = append(groups, one)
		}
		groups[at].Count++
		if len(groups[at].Names) < maxNamed {
			groups[at].Names = append(groups[at].Names, endpoint.Name)
		}
	}
	return groups
}

func single(endpoint effective.EndpointPolicy) Endpoint {
	one := Endpoint{
		Enforced: endpoint.Server.Enforced(), Why: endpoint.Server.String(),
		Sends: string(endpoint.Client.Sends), SendsWhy: endpoint.Client.Why,
	}
	if decider := endpoint.Server.Decider; decider != nil {
		one.Decider = decider.String()
	}
	for _, lost := range endpoint.Server.Overridden {
		one.Overridden = append(one.Overridden, lost.String())
	}
	for _, lost := range endpoint.Client.Overridden {
		one.Overridden = append(one.Overridden, lost.String())
	}
	return one
}

func pathRows(i *inventory.Inventory, policies effective.Policies) []Path {
	probe := i.Probe
	explanations := policies.Explanations()
	all := make([]Path, 0, len(paths.Names()))
	for _, name := range paths.Names() {
		path := Path{Name: name, Promised: policies.Promised(name), Verified: condition(probe, paths.Condition(name))}
		if declared, ok := policies.Declared[name]; ok {
			path.Declared, path.DeclaredWhy = worded(declared), declared.Why
		}
		if computed, ok := policies.Computed[name]; ok {
			path.Computed, path.ComputedWhy = worded(computed), computed.Why
		}
		if why := explanations[name]; why != "" {
			path.ComputedWhy = why
		}
		if name == paths.Mesh().Name && probe.Status.Delivered != nil {
			path.Delivered, path.DeliveredWhy = delivered(*probe.Status.Delivered, i.Target.Namespace, i.Target.Port)
		}
		for _, seen := range probe.Status.Paths {
			if seen.Name == name {
				path.Claims = seen.Claims
				path.Observed, path.Outcome, path.ProbedAt, path.Evidence = seen.Observed, seen.Outcome, seen.LastProbeTime, evidence(seen)
				if path.Declared == "" {
					path.Declared = seen.Expected
				}
			}
		}
		all = append(all, path)
	}
	return all
}

// worded is an expectation with how it is to be encrypted, such as "200 by MutualTLS".
func worded(expected expectation.Expectation) string {
	if expected.Encryption == "" {
		return expected.String()
	}
	return fmt.Sprintf("%s by %s", expected, expected.Encryption)
}
