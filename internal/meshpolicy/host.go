package meshpolicy

import (
	"cmp"
	"net/netip"
	"strings"
)

const wildcard = "*"

// host follows pilot/pkg/model/config.go (ResolveShortnameToFQDN): only a name without any dot is completed, so that
// "nginx" is the service in the rule's own namespace, and "nginx.shop" is no service at all.
func (r DestinationRule) host(mesh Mesh) string {
	if r.Host == "" || r.Host == wildcard || strings.Contains(r.Host, ".") {
		return r.Host
	}
	if _, err := netip.ParseAddr(r.Host); err == nil {
		return r.Host
	}
	return r.Host + "." + r.Namespace + ".svc." + mesh.clusterDomain()
}

// covers follows pilot/pkg/model/config.go (MostSpecificHostMatch). A wildcard takes any beginning of the name, within a
// label too.
func covers(pattern, host string) bool {
	if suffix, ok := strings.CutPrefix(pattern, wildcard); ok {
		return strings.HasSuffix(host, suffix)
	}
	return pattern == host
}

// bySpecificity orders patterns that cover the same host, the most specific first (pkg/config/host/names.go,
// MoreSpecific). Two wildcards of one length that do are the same.
func bySpecificity(a, b string) int {
	wildA, wildB := strings.HasPrefix(a, wildcard), strings.HasPrefix(b, wildcard)
	switch {
	case wildA == wildB:
		return cmp.Compare(len(b), len(a))
	case wildA:
		return 1
	default:
		return -1
	}
}
