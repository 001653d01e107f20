package meshpolicy

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// DestinationRule is what matters of an Istio DestinationRule.
type DestinationRule struct {
	Namespace, Name string
	Created         time.Time
	// Host may be short, full, or begin with a wildcard.
	Host     string
	ExportTo []string
	// WorkloadSelector is nil where the object has none; an empty one selects every client of its namespace.
	WorkloadSelector map[string]string
	// HasTrafficPolicy tells a rule whose trafficPolicy says nothing of TLS from one that has none: the first keeps
	// the TLS settings of a younger rule out, the second does not.
	HasTrafficPolicy bool
	// TLS is trafficPolicy.tls; nil where it is absent.
	TLS *ClientTLS
	// Passthrough says that trafficPolicy.loadBalancer.simple is PASSTHROUGH.
	Passthrough bool
	// PortTLS has an entry for every port in trafficPolicy.portLevelSettings, by service port; nil for one without tls.
	// Of several entries for one port the first counts.
	PortTLS map[uint32]*ClientTLS
	// PortPassthrough holds the ports in portLevelSettings whose loadBalancer.simple is PASSTHROUGH.
	PortPassthrough map[uint32]bool
}

// ClientTLSMode is the mode of a DestinationRule's TLS settings.
type ClientTLSMode string

// The modes of networking.istio.io ClientTLSSettings.
const (
	ClientTLSDisable     ClientTLSMode = "DISABLE"
	ClientTLSSimple      ClientTLSMode = "SIMPLE"
	ClientTLSMutual      ClientTLSMode = "MUTUAL"
	ClientTLSIstioMutual ClientTLSMode = "ISTIO_MUTUAL"
)

// ClientTLS is what matters of a DestinationRule's TLS settings.
type ClientTLS struct {
	// Mode is DISABLE where tls is there and names none: that is the zero of Istio's enumeration.
	Mode ClientTLSMode
	// CredentialName, ClientCertificate and PrivateKey name the client's certificate for SIMPLE and MUTUAL.
	CredentialName, ClientCertificate, PrivateKey string
}

// String names the object, for messages.
func (r DestinationRule) String() string { return r.Object().String() }

func (r DestinationRule) is(other DestinationRule) bool {
	return r.Object() == other.Object()
}

const (
	exportPrivate = "."
	exportPublic  = "*"
	exportNobody  = "~"
)

// exports returns exportTo without repetitions. A rule that selects clients is private, whatever it says
// (pilot/pkg/model/push_context.go, setDestinationRules).
func (r DestinationRule) exports() []string {
	if r.WorkloadSelector != nil {
		return []string{exportPrivate}
	}
	return slices.Compact(slices.Sorted(slices.Values(r.ExportTo)))
}

// local says whether clients in the rule's own namespace see it there.
func (r DestinationRule) local() bool {
	exports := r.exports()
	return len(exports) == 0 || slices.ContainsFunc(exports, func(to string) bool {
		return to == exportPublic || to == exportPrivate || to == r.Namespace
	})
}

// private says whether the rule stays in its namespace. Of defaultDestinationRuleExportTo only "." is honoured.
func (r DestinationRule) private(mesh Mesh) bool {
	exports := r.exports()
	switch len(exports) {
	case 0:
		return slices.Contains(mesh.DestinationRuleExportTo, exportPrivate)
	case 1:
		return exports[0] == exportPrivate || exports[0] == r.Namespace
	default:
		return false
	}
}

// settings are what a rule sets for one service port.
type settings struct {
	tls         *ClientTLS
	passthrough bool
}

// settingsFor follows pilot/pkg/networking/util/util.go (GetPortLevelTrafficPolicy): an entry for the port replaces all
// that the rule says for every port, even where the entry says nothing of TLS.
func (r DestinationRule) settingsFor(port uint32) settings {
	if tls, ok := r.PortTLS[port]; ok {
		return settings{tls: tls, passthrough: r.PortPassthrough[port]}
	}
	return settings{tls: r.TLS, passthrough: r.Passthrough}
}

// endpointTLS follows pilot/pkg/xds/endpoints/mtls_checker.go (trafficPolicyTLSModeForPort), which, unlike the cluster,
// falls back to the settings for every port where the entry for the port has no tls.
func (r DestinationRule) endpointTLS(port uint32) *ClientTLS {
	if tls := r.PortTLS[port]; tls != nil {
		return tls
	}
	return r.TLS
}

func (r DestinationRule) hasTrafficPolicy() bool {
	return r.HasTrafficPolicy || r.TLS != nil || r.Passthrough || len(r.PortTLS) > 0
}

func (t ClientTLS) mode() ClientTLSMode {
	if t.Mode == "" {
		return ClientTLSDisable
	}
	return t.Mode
}

// configMapURI begins the names of credentials that every sidecar may use (pilot/pkg/model/credentials/resource.go).
const configMapURI = "configmap://"

// privileged says whether a sidecar gets the credential only through a rule that selects it.
func (t ClientTLS) privileged() bool {
	return t.CredentialName != "" && !strings.HasPrefix(t.CredentialName, configMapURI)
}

// selectingThenOldest sorts as pilot/pkg/model/push_context.go (sortConfigBySelectorAndCreationTime) does.
func selectingThenOldest(rules []DestinationRule) []DestinationRule {
	return slices.SortedFunc(slices.Values(rules), func(a, b DestinationRule) int {
		if selecting := a.WorkloadSelector != nil; selecting != (b.WorkloadSelector != nil) {
			if selecting {
				return -1
			}
			return 1
		}
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Namespace, b.Namespace))
	})
}
