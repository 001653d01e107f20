package controllers

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/schedule"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// records hold the record of each probe's runs. One is as good as its epoch: what was seen under another says nothing of
// the present. A restart of the operator loses them; the first run then goes by the status.
type records struct {
	mu      sync.Mutex
	byProbe map[types.NamespacedName]heldRecord
}

type heldRecord struct {
	epoch  schedule.Mark
	policy string
	record *verdict.Record
	// listed are the addresses that EndpointSlices have named. The client's Envoy may be a moment behind them, and those are
	// no endpoints that only Istio knows.
	listed map[string]bool
}

// maxListed bounds the addresses that are remembered of one probe.
const maxListed = 10000

// present returns the record of the epoch, judging by the criteria of this visit from now on.
func (r *records) present(probe *api.HTTPSMeshProbe, epoch schedule.Mark, criteria verdict.Criteria, now time.Time) *verdict.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := client.ObjectKeyFromObject(probe)
	if r.byProbe == nil {
		r.byProbe = map[types.NamespacedName]heldRecord{}
	}
	before, ok := r.byProbe[key]
	held := heldRecord{epoch: epoch, policy: criteria.Policy, record: before.record, listed: before.listed}
	if held.listed == nil || len(held.listed) > maxListed {
		held.listed = map[string]bool{}
	}
	for address := range criteria.Service.Endpoints {
		held.listed[address] = true
	}
	if ok && before.epoch == epoch {
		held.record.Renew(criteria, now)
	} else {
		held.record = verdict.NewRecord(criteria, now)
		if ok && before.policy != criteria.Policy {
			held.record.AwaitPolicy(now)
		}
	}
	r.byProbe[key] = held
	return held.record
}

// last is the record of whatever epoch; nil where there is none.
func (r *records) last(probe *api.HTTPSMeshProbe) *verdict.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byProbe[client.ObjectKeyFromObject(probe)].record
}

// wasListed says whether an EndpointSlice has named an address since the record began.
func (r *records) wasListed(probe *api.HTTPSMeshProbe, address string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byProbe[client.ObjectKeyFromObject(probe)].listed[address]
}

func (r *records) forget(probe types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byProbe, probe)
}
