package controllers

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// policyMemory remembers the policies that each probe's last visit saw, to tell which of them has changed since.
type policyMemory struct {
	mu      sync.Mutex
	byProbe map[types.NamespacedName]remembered
}

type remembered struct {
	objects map[string]string
	// words are what was computed, and cause is by whose change.
	words, cause string
}

// cause names the object by whose change the computed policy has become what it is: of those that changed since the
// words were others one that decides, else any, else the endpoints.
func (m *policyMemory) cause(v *visit) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := client.ObjectKeyFromObject(v.Probe)
	before, known := m.byProbe[key]
	now := remembered{objects: policyObjects(v), words: v.policies.words, cause: before.cause}
	if known && before.words != now.words {
		now.cause = changedObject(before.objects, now.objects, v.policies.deciders)
		if now.cause == "" {
			now.cause = "the pods behind " + v.Target.String()
		}
	}
	if m.byProbe == nil {
		m.byProbe = map[types.NamespacedName]remembered{}
	}
	m.byProbe[key] = now
	return now.cause
}

func (m *policyMemory) forget(probe types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.byProbe, probe)
}

func policyObjects(v *visit) map[string]string {
	objects := map[string]string{}
	for _, policy := range v.PeerAuthentications {
		objects[policy.String()] = encoded(policy)
	}
	for _, rule := range v.DestinationRules {
		objects[rule.String()] = encoded(rule)
	}
	return objects
}

func encoded(policy any) string {
	text, err := json.Marshal(policy)
	if err != nil {
		panic(err) // strings, numbers, maps and times always encode
	}
	return string(text)
}

func changedObject(before, now map[string]string, deciders string) string {
	changed := map[string]bool{}
	for name, content := range now {
		changed[name] = before[name] != content
	}
	for name := range before {
		if _, there := now[name]; !there {
			changed[name] = true
		}
	}
	found := ""
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		switch {
		case !changed[name]:
		case strings.Contains(deciders, name+" "):
			return name
		case found == "":
			found = name
		}
	}
	return found
}
