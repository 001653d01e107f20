package controllers

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshprobe/httpsmeshprobe/internal/effective"
)

// policyMemory remembers the policies that each probe's last visit saw, to tell which of them has changed since.
type policyMemory struct {
	mu      sync.Mutex
	byProbe map[types.NamespacedName]remembered
}

type remembered struct {
	objects map[string]string
	// words are what was computed, deciders the objects behind it, and cause is by whose change.
	words, deciders, cause string
}

// cause names the object by whose change the computed policy has become what it is: of those that changed since the
// words were others one that decides, else any, else the endpoints.
func (m *policyMemory) cause(v *visit) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := client.ObjectKeyFromObject(v.Probe)
	before, known := m.byProbe[key]
	now := remembered{objects: policyObjects(v), words: v.policies.Modes, deciders: v.policies.Deciders, cause: before.cause}
	if known && before.words != now.words {
		now.cause = changedObject(before.objects, now.objects, before.deciders+" "+now.deciders)
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

const meshConfigName = "the mesh config"

// policyObjects are what policies are computed from, pods aside, by name. Of the Service it is what has a say in them.
func policyObjects(v *visit) map[string]string {
	service := effective.Service(v.Inventory)
	service.Endpoints = nil
	objects := map[string]string{meshConfigName: encoded(v.Mesh), v.Target.String(): encoded(service)}
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

// changedObject names one of those that changed. A mesh config may bring others with it, such as those of another root
// namespace, and goes before them.
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
	if changed[meshConfigName] {
		return meshConfigName
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
