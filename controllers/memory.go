package controllers

import (
	"encoding/json"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshprobe/httpsmeshprobe/internal/effective"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// policyMemory remembers the policies that each probe's last visit saw, to tell which of them has changed since.
type policyMemory struct {
	mu      sync.Mutex
	byProbe map[types.NamespacedName]remembered
}

type remembered struct {
	// objects are what is computed from, as text, and mesh is the mesh config.
	objects map[meshpolicy.Object]string
	mesh    string
	// words are what was computed, deciders the objects behind it, and cause is by whose change.
	words    string
	deciders []meshpolicy.Object
	cause    string
}

// cause names the object by whose change the computed policy has become what it is: of those that changed since the
// words were others one that decides, else any, else the endpoints.
func (m *policyMemory) cause(v *visit) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := client.ObjectKeyFromObject(v.Probe)
	before, known := m.byProbe[key]
	now := remembered{
		objects: policyObjects(v), mesh: encoded(v.Mesh),
		words: v.policies.Modes, deciders: v.policies.Deciders, cause: before.cause,
	}
	if known && before.words != now.words {
		now.cause = before.changedTo(now)
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

// policyObjects are what policies are computed from, the mesh config and pods aside. Of the Service it is what has a say in
// them.
func policyObjects(v *visit) map[meshpolicy.Object]string {
	service := effective.Service(v.Inventory)
	service.Endpoints = nil
	objects := map[meshpolicy.Object]string{service.Object(): encoded(service)}
	for _, policy := range v.PeerAuthentications {
		objects[policy.Object()] = encoded(policy)
	}
	for _, rule := range v.DestinationRules {
		objects[rule.Object()] = encoded(rule)
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

// changedTo names one of the objects that are not as they were, a decider before others; "" where all are. A mesh config
// may bring others with it, such as those of another root namespace, and goes before them.
func (r remembered) changedTo(now remembered) string {
	if r.mesh != now.mesh {
		return "the mesh config"
	}
	changed := r.objectsOtherThan(now)
	if len(changed) == 0 {
		return ""
	}
	decides := func(object meshpolicy.Object) bool {
		return slices.Contains(r.deciders, object) || slices.Contains(now.deciders, object)
	}
	if first := slices.IndexFunc(changed, decides); first >= 0 {
		return changed[first].String()
	}
	return changed[0].String()
}

// objectsOtherThan are those that are there before or now alone, or not the same, in their order.
func (r remembered) objectsOtherThan(now remembered) []meshpolicy.Object {
	var changed []meshpolicy.Object
	for object, content := range now.objects {
		if before, there := r.objects[object]; !there || before != content {
			changed = append(changed, object)
		}
	}
	for object := range r.objects {
		if _, there := now.objects[object]; !there {
			changed = append(changed, object)
		}
	}
	return meshpolicy.Distinct(changed)
}
