package meshpolicy

import (
	"maps"
	"slices"
)

// pool holds the rules for the service's host among which Istio chooses at one step.
type pool struct {
	rules []DestinationRule
	// exported says that the rules are seen by the namespaces only that they are exported to.
	exported bool
}

// poolsFor follows pilot/pkg/model/push_context.go (destinationRule, setDestinationRules): the client's namespace comes
// first, then the service's, then the root namespace. For clients in the root namespace the first step sees private
// rules alone, lest the mesh's rules take precedence over the service's.
func poolsFor(mesh Mesh, rules []DestinationRule, client Client, service Service) []pool {
	root := mesh.rootNamespace()
	pools := []pool{{}, {exported: true}, {exported: true}}
	for _, rule := range selectingThenOldest(rules) {
		if !covers(rule.host(mesh), service.host(mesh)) {
			continue
		}
		private := rule.private(mesh)
		first := rule.local()
		if client.Namespace == root {
			first = private
		}
		for i, in := range []bool{
			rule.Namespace == client.Namespace && first,
			rule.Namespace == service.Namespace && !private,
			rule.Namespace == root && !private,
		} {
			if in {
				pools[i].rules = append(pools[i].rules, rule)
			}
		}
	}
	for i := range pools {
		// What is for one host stays in its order.
		slices.SortStableFunc(pools[i].rules, func(a, b DestinationRule) int { return bySpecificity(a.host(mesh), b.host(mesh)) })
	}
	return pools
}

// sees says whether a client sees a rule of the pool.
func (p pool) sees(client Client, rule DestinationRule) bool {
	if !p.exported {
		return rule.WorkloadSelector == nil || selects(rule.WorkloadSelector, client.Labels)
	}
	return exportedTo(rule.exports(), client.Namespace)
}

func exportedTo(exports []string, namespace string) bool {
	return len(exports) == 0 || slices.Contains(exports, exportPublic) || slices.Contains(exports, namespace)
}

// consolidated is what Istio makes of rules for one host in one namespace that it merges.
type consolidated struct {
	selector map[string]string
	exports  []string
	// policy is the rule whose trafficPolicy counts; nil where none of them has one.
	policy *DestinationRule
	// first is the one that the others were merged into.
	first DestinationRule
}

// choose returns what Istio goes by for a client; nil where there is nothing.
func choose(mesh Mesh, pools []pool, client Client) *consolidated {
	for _, pool := range pools {
		found := pool.consolidate(mesh)
		if pool.exported {
			// A rule that is exported elsewhere has by now hidden those for less specific hosts.
			found = slices.DeleteFunc(found, func(c consolidated) bool { return !exportedTo(c.exports, client.Namespace) })
		}
		if len(found) > 0 {
			return forClient(found, client)
		}
	}
	return nil
}

// forClient follows pilot/pkg/model/sidecar.go (DestinationRule): the first that selects the client, else the last that
// selects nobody. If there is neither, no further step is made.
func forClient(found []consolidated, client Client) *consolidated {
	var general *consolidated
	for i, candidate := range found {
		switch {
		case candidate.selector == nil:
			general = &found[i]
		case selects(candidate.selector, client.Labels):
			return &found[i]
		}
	}
	return general
}

// consolidate merges the rules for the most specific host.
func (p pool) consolidate(mesh Mesh) []consolidated {
	var merged []consolidated
	for _, rule := range p.rules {
		if rule.host(mesh) != p.rules[0].host(mesh) {
			break
		}
		merged = mergeInto(merged, rule)
	}
	return merged
}

// mergeInto follows pilot/pkg/model/destination_rule.go (mergeDestinationRule), its oddities included: whether a rule
// stands for itself is decided by the last of those it is held against, and a rule of one's own namespace for all
// clients (exportTo ".") vanishes in one for some clients, which leaves the other clients without.
func mergeInto(merged []consolidated, rule DestinationRule) []consolidated {
	exports, apart := rule.exports(), true
	for i := range merged {
		existing := &merged[i]
		apart = !slices.Equal(exports, existing.exports)
		if apart && (len(existing.exports) == 0 || !includes(exports, existing.exports)) {
			continue
		}
		selecting, existingSelecting := rule.WorkloadSelector != nil, existing.selector != nil
		switch {
		case selecting && existingSelecting && !maps.Equal(rule.WorkloadSelector, existing.selector):
			apart = true
			continue
		case selecting == existingSelecting:
			apart = false
		}
		if existing.policy == nil && rule.hasTrafficPolicy() {
			existing.policy = &rule
		}
	}
	if !apart {
		return merged
	}
	entry := consolidated{selector: rule.WorkloadSelector, exports: exports, first: rule}
	if rule.hasTrafficPolicy() {
		entry.policy = &rule
	}
	return append(merged, entry)
}

func includes(all, some []string) bool {
	return !slices.ContainsFunc(some, func(one string) bool { return !slices.Contains(all, one) })
}
