// Package gitops holds config/argocd and the probe's status against the tools that decide in a GitOps cluster whether
// to go on: Argo CD's own Lua runner, and kstatus, by which Flux decides. It is a module of its own, so that neither is
// among the operator's dependencies.
package gitops
