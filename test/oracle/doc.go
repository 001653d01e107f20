// Package oracle holds internal/meshpolicy and internal/delivered against Istio's own code.
//
// For meshpolicy: for random sets of policies it asks both what mode a server enforces and what a client's sidecar
// sends, and for all that annotations can say, whether a port is captured. The sets are the same every time; one that
// the two differ about is shown as small as it can be made, with the seed and the number that make it again:
//
//	go test -trimpath -v ./...
//	go test -trimpath -v ./... -args -seed 3 -set 17
//
// For delivered: pilot makes the listeners, clusters and endpoints of a client's sidecar out of YAML; they are given to
// internal/delivered in the form in which Envoy's admin interface shows them. What it reads is held against the truth of
// each case, and, for every address and name of the mesh, against Istio's own simulation of Envoy's choice of listener
// and filter chain (pilot/pkg/simulation). The simulation knows one cluster of a chain, so weights, endpoints and TLS are
// read from the generated messages of the chain that it chose.
//
// It is a module of its own, so that Istio stays out of the operator's dependencies. Its libraries are those of
// hack/lab/node, with which it shares the build cache where CGO_ENABLED is 0.
package oracle
