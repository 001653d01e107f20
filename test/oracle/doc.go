// Package oracle holds internal/meshpolicy against Istio's own code: for random sets of policies it asks both what mode
// a server enforces, and what a client's sidecar sends. It is a module of its own, so that Istio stays out of the
// operator's dependencies. Its libraries are those of hack/lab/node, with which it shares the build cache.
package oracle
