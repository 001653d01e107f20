package meshpolicy

import (
	"fmt"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// Server is the policy before one port of a server's pod.
type Server struct {
	// Mode is what the policies compute: DISABLE, PERMISSIVE or STRICT. Enforced tells what of it holds.
	Mode  api.MTLSMode
	Scope Scope
	// Decider is the object that sets the mode; nil where none does and Istio's default holds.
	Decider *PeerAuthentication
	// Overridden are the other objects that apply to the pod and set a mode for the port, in the order of precedence.
	Overridden []PeerAuthentication
	// Silent is the object that leaves the mode UNSET and by its age keeps one of Overridden out of force; nil where
	// there is none.
	Silent  *PeerAuthentication
	Capture Capture
	// Past names the annotation or argument that leads the port past the sidecar; "" where Capture is not PortExcluded.
	Past string
}

// ForServer returns the policy before a port of a pod. Where several objects of one level apply, the oldest counts, and
// among those of the same second the first by name; a selector in the root namespace is ignored for sidecars.
func ForServer(mesh Mesh, policies []PeerAuthentication, pod Pod, port uint32) Server {
	levels := levelsFor(policies, pod.Namespace, pod.Labels, mesh.rootNamespace())
	mode, scope, decider := levels.decide(port)
	server := Server{
		Mode: mode, Scope: scope, Decider: decider,
		Overridden: levels.overridden(port, decider),
		Silent:     levels.silent(port),
		Capture:    pod.capture(port),
	}
	if server.Capture == PortExcluded {
		server.Past = pod.past(port)
	}
	return server
}

// Enforced returns the mode that holds for connections to the port: what the policies compute where the sidecar meets
// them, DISABLE where it does not, and "" where that is not judged.
func (s Server) Enforced() api.MTLSMode {
	switch s.Capture {
	case Captured:
		return s.Mode
	case Ambient:
		return ""
	default:
		return api.MTLSDisable
	}
}

// Own says whether the mode is the workload's own and not inherited: set for the pods themselves, or for the port.
func (s Server) Own() bool { return s.Scope == ScopeWorkload || s.Scope == ScopePort }

// String names the deciding object and what it sets, and what keeps it from having effect, for messages.
func (s Server) String() string {
	sentence := s.decision()
	switch s.Capture {
	case NoSidecar:
		return sentence + ", but the pod has no sidecar to enforce it"
	case PortExcluded:
		return fmt.Sprintf("%s, but %s leads its port past the sidecar", sentence, s.Past)
	case NoRedirection:
		return sentence + ", but no traffic is redirected to the pod's proxy, as in a gateway"
	case HostNetwork:
		return sentence + ", but the pod is on the host's network, where no sidecar enforces it"
	case Ambient:
		return sentence + ", but the pod is in the ambient mesh, which is not judged"
	default:
		return sentence
	}
}

func (s Server) decision() string {
	shadow := ""
	if s.Silent != nil {
		rival := s.rival(*s.Silent)
		shadow = fmt.Sprintf("%s (%s) sets no mode and takes %s out of force; ", s.Silent, precedence(*s.Silent, *rival), rival)
	}
	switch {
	case s.Decider != nil:
		return fmt.Sprintf("%s%s (%s) sets %s", shadow, s.Decider, s.standing(), s.Mode)
	case s.Silent != nil:
		return fmt.Sprintf("%sso Istio's default holds: %s", shadow, s.Mode)
	default:
		return fmt.Sprintf("no PeerAuthentication sets a mode, so Istio's default holds: %s", s.Mode)
	}
}

// standing says by what the deciding object decides: by its level, or by its age where it has a rival there.
func (s Server) standing() string {
	rival := s.rival(*s.Decider)
	switch {
	case rival == nil:
		return string(s.Scope) + " level"
	case s.Scope == ScopeWorkload:
		return precedence(*s.Decider, *rival)
	default:
		return fmt.Sprintf("%s level, %s", s.Scope, precedence(*s.Decider, *rival))
	}
}

// rival returns the first of the overridden objects that stands at the level of another; nil where none does.
func (s Server) rival(of PeerAuthentication) *PeerAuthentication {
	for i, policy := range s.Overridden {
		if policy.Namespace == of.Namespace && (len(policy.Selector) == 0) == (len(of.Selector) == 0) {
			return &s.Overridden[i]
		}
	}
	return nil
}

func precedence(first, second PeerAuthentication) string {
	age := "older"
	if first.Created.Equal(second.Created) {
		age = "as old but first by name"
	}
	if len(first.Selector) > 0 {
		return age + ", selects the same pods"
	}
	return age + ", in the same namespace"
}
