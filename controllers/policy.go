package controllers

import (
	"context"

	"github.com/meshprobe/httpsmeshprobe/internal/effective"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// policies are what is computed for the target, and the object by whose change it has become what it is.
type policies struct {
	effective.Policies
	cause string
}

// computePolicies works out what Istio computes for every endpoint, and holds it against what is declared.
func (r *Reconciler) computePolicies(_ context.Context, v *visit) (verdict.Standing, error) {
	v.policies.Policies = effective.Of(v.Inventory)
	v.policies.cause = r.memory.cause(v)
	v.policy = verdict.Policy(v.policies.Agreement)
	return proceed, nil
}
