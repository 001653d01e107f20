// Package expectation says what each path of a probe should see, given the mutual TLS mode before the server, and why.
// The table behind it was measured path by path on a real mesh (docs/concepts.md).
package expectation

import (
	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// Refused is how the status spells an expected or observed refusal.
const Refused = "refused"

// OK is how the status spells an expected answer.
const OK = "200"

// Expectation is what one path should see.
type Expectation struct {
	// Refused says that the server's sidecar must refuse the request for want of a client certificate; otherwise the
	// server itself must answer 200.
	Refused bool
	// Why explains the expectation in half a sentence.
	Why string
}

// String is "refused" or "200".
func (e Expectation) String() string {
	if e.Refused {
		return Refused
	}
	return OK
}

// For returns the expectation of every path for a server with or without sidecar under an effective mode: DISABLE,
// PERMISSIVE or STRICT.
func For(sidecar api.Sidecar, mode api.MTLSMode) map[api.PathName]Expectation {
	expectations := map[api.PathName]Expectation{}
	for _, path := range api.PathNames() {
		expectations[path] = forPath(path, sidecar, mode)
	}
	return expectations
}

func forPath(path api.PathName, sidecar api.Sidecar, mode api.MTLSMode) Expectation {
	switch {
	case sidecar == api.SidecarDisabled:
		return Expectation{Why: "no sidecar stands before the server"}
	case mode == api.MTLSDisable:
		return Expectation{Why: "DISABLE leaves every connection to the server as it is"}
	case mode == api.MTLSPermissive && path == api.PathSleep:
		return Expectation{Why: "PERMISSIVE accepts the mutual TLS of the client's sidecar"}
	case mode == api.MTLSPermissive:
		return Expectation{Why: "PERMISSIVE accepts connections without a certificate of the mesh"}
	case path == api.PathSleep:
		return Expectation{Why: "the client's sidecar has a certificate of the mesh, which STRICT demands"}
	default:
		return Expectation{Refused: true, Why: "STRICT demands a certificate of the mesh, and this path has none"}
	}
}
