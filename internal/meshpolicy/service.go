package meshpolicy

import "slices"

// Service is a Kubernetes Service as far as policy is concerned.
type Service struct {
	Namespace, Name string
	// Port is the port that clients ask for, TargetPort that of the server's pod.
	Port, TargetPort uint32
	Headless         bool
	// ExportTo are the namespaces in the annotation networking.istio.io/exportTo.
	ExportTo []string
	// Endpoints are all pods behind the port, ready or not. They matter only where connections are passed on to the
	// address that the client asked for (a headless service, or a rule with loadBalancer.simple PASSTHROUGH), because
	// auto mTLS treats all of them alike there.
	Endpoints []Pod
}

// String names the object, for messages.
func (s Service) String() string { return s.Object().String() }

// Object refers to the Service.
func (s Service) Object() Object {
	return Object{Kind: "Service", Namespace: s.Namespace, Name: s.Name}
}

// host is the name by which Istio knows the service (pilot/pkg/serviceregistry/kube/conversion.go, ServiceHostname).
func (s Service) host(mesh Mesh) string {
	return s.Name + "." + s.Namespace + ".svc." + mesh.clusterDomain()
}

// visible follows pilot/pkg/model/push_context.go (initServiceRegistry): "*" goes before "~", "~" before the rest.
func (s Service) visible(mesh Mesh, namespace string) bool {
	exports := s.ExportTo
	if len(exports) == 0 {
		exports = mesh.ServiceExportTo
	}
	switch {
	case len(exports) == 0 || slices.Contains(exports, exportPublic):
		return true
	case slices.Contains(exports, exportNobody):
		return false
	default:
		return slices.Contains(exports, namespace) || namespace == s.Namespace && slices.Contains(exports, exportPrivate)
	}
}
