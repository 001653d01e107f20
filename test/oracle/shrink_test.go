package oracle

import (
	"slices"

	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// shrink takes away from a set whatever it can while the sides still differ about it.
func shrink(whole set, differ func(set) bool) set {
	for {
		smaller, ok := smallerOne(whole, differ)
		if !ok {
			return whole
		}
		whole = smaller
	}
}

func smallerOne(whole set, differ func(set) bool) (set, bool) {
	for _, candidate := range smallerOnes(whole) {
		if differ(candidate) {
			return candidate, true
		}
	}
	return set{}, false
}

func smallerOnes(whole set) []set {
	var smaller []set
	for i := range whole.Policies {
		without := whole
		without.Policies = slices.Delete(slices.Clone(whole.Policies), i, i+1)
		smaller = append(smaller, without)
	}
	for i := range whole.Rules {
		without := whole
		without.Rules = slices.Delete(slices.Clone(whole.Rules), i, i+1)
		smaller = append(smaller, without)
	}
	for i, policy := range whole.Policies {
		for _, simpler := range simplerPolicies(policy) {
			with := whole
			with.Policies = slices.Clone(whole.Policies)
			with.Policies[i] = simpler
			smaller = append(smaller, with)
		}
	}
	for i, rule := range whole.Rules {
		for _, simpler := range simplerRules(rule) {
			with := whole
			with.Rules = slices.Clone(whole.Rules)
			with.Rules[i] = simpler
			smaller = append(smaller, with)
		}
	}
	return smaller
}

func simplerPolicies(policy meshpolicy.PeerAuthentication) []meshpolicy.PeerAuthentication {
	var simpler []meshpolicy.PeerAuthentication
	if len(policy.PortModes) > 0 {
		without := policy
		without.PortModes = nil
		simpler = append(simpler, without)
	}
	return simpler
}

func simplerRules(rule meshpolicy.DestinationRule) []meshpolicy.DestinationRule {
	var simpler []meshpolicy.DestinationRule
	if len(rule.PortTLS) > 0 {
		without := rule
		without.PortTLS, without.PortPassthrough = nil, nil
		simpler = append(simpler, without)
	}
	if len(rule.ExportTo) > 0 {
		without := rule
		without.ExportTo = nil
		simpler = append(simpler, without)
	}
	if rule.WorkloadSelector != nil {
		without := rule
		without.WorkloadSelector = nil
		simpler = append(simpler, without)
	}
	if rule.Passthrough {
		without := rule
		without.Passthrough = false
		simpler = append(simpler, without)
	}
	return simpler
}
