//go:build tools

// Package node pins what the lab's node runs: this file holds Istio's programs
// in go.mod, which are built from their own main packages.
package node

import (
	_ "istio.io/istio/istioctl/cmd/istioctl"
	_ "istio.io/istio/pilot/cmd/pilot-agent"
	_ "istio.io/istio/pilot/cmd/pilot-discovery"
)
