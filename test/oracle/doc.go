// Package oracle holds internal/meshpolicy against Istio's own code: for random sets of policies it asks both what mode
// a server enforces and what a client's sidecar sends, and for all that annotations can say, whether a port is captured.
// The sets are the same every time; one that the two differ about is shown as small as it can be made, with the seed and
// the number that make it again:
//
//	go test -trimpath -v ./...
//	go test -trimpath -v ./... -args -seed 3 -set 17
//
// It is a module of its own, so that Istio stays out of the operator's dependencies. Its libraries are those of
// hack/lab/node, with which it shares the build cache where CGO_ENABLED is 0.
package oracle
