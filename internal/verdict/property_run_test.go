package verdict_test

import (
	"time"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// probe makes one run, and labels it by what the model knows.
func (w *world) probe() observation.Run {
	one := observation.Run{Started: w.now, Results: map[string]observation.Result{}}
	w.throughMesh(one)
	for _, name := range []api.PathName{api.PathIstioProxy, api.PathOutsider} {
		w.around(name, one)
	}
	return one
}

// meets is what a plain request meets at an endpoint, and what that means where the declared mode should hold.
func (w *world) meets(there state) (observation.Result, label) {
	if there.mode == api.MTLSStrict {
		if w.declared == api.MTLSStrict {
			return turnedAway, clean
		}
		return turnedAway, fail
	}
	bad := fail
	if w.declared == api.MTLSStrict {
		bad = hole
	}
	switch there.app {
	case "down":
		if w.declared == api.MTLSStrict {
			return saw(observation.HandshakeClosed, nil), unknownEnd
		}
		return saw(observation.HandshakeClosed, nil), fail
	case "503":
		return answered(503, nginxLeaf), bad
	default:
		if w.declared == api.MTLSStrict {
			return served, hole
		}
		return served, clean
	}
}

// greets is what the hellos meet at an endpoint whose application answered the plain request, or did not.
func (w *world) greets(there state, reached bool) (mesh, forged observation.Result, means label) {
	if there.mode == api.MTLSDisable {
		mesh, forged = noProtocol, noProtocol
		switch {
		case w.declared == api.MTLSStrict, !reached:
			return mesh, forged, unknownEnd
		case w.declared == api.MTLSDisable:
			return mesh, forged, clean
		default:
			return mesh, forged, fail
		}
	}
	mesh, forged, means = takesMutual, refusesForged, clean
	if there.untrusted {
		forged = takesForged
	}
	switch {
	case w.declared == api.MTLSStrict && there.untrusted:
		means = hole
	case w.declared == api.MTLSDisable:
		means = fail
	}
	return mesh, forged, means
}

func (w *world) around(name api.PathName, one observation.Run) {
	lost := w.chance(w.silent)
	result, worst := failed(observation.AgentSilent, "silent"), unknownEnd
	if !lost {
		result, worst = w.meets(w.endpoints[w.random.IntN(len(w.endpoints))])
	}
	oldest := w.now
	result.Endpoints = nil
	for i := range w.contacts[name] {
		known := &w.contacts[name][i]
		if !lost && (w.silent == 0 || w.chance(70)) {
			known.asked, known.then = w.now, w.endpoints[i]
		}
		if !lost && (w.silent == 0 || w.chance(50)) {
			known.greeted, known.hello = w.now, w.endpoints[i]
		}
		told, means := w.tell(name, i, *known)
		result.Endpoints = append(result.Endpoints, told)
		worst = max(worst, means)
		if known.asked.Before(oldest) {
			oldest = known.asked
		}
	}
	one.Results[string(name)] = result
	w.note(name, labelled{w.now, oldest, worst})
}

// tell is the endpoint as the run tells of it.
func (w *world) tell(name api.PathName, i int, known contact) (observation.EndpointResult, label) {
	told := observation.EndpointResult{Endpoint: observation.Endpoint{ID: hostOf(i), Name: hostOf(i), Address: hostOf(i)}, Asked: known.asked}
	if known.asked.IsZero() {
		return told, unknownEnd
	}
	result, means := w.meets(known.then)
	told.Result = result
	if name != api.PathIstioProxy {
		return told, means
	}
	if known.greeted.IsZero() {
		return told, max(means, unknownEnd)
	}
	reached := known.then.mode != api.MTLSStrict && known.then.app != "down"
	mesh, forged, greeting := w.greets(known.hello, reached)
	told.Mesh = observation.Handshake{Asked: known.greeted, Result: mesh}
	told.Forged = observation.Handshake{Asked: known.greeted, Result: forged}
	return told, max(means, greeting)
}

func (w *world) throughMesh(one observation.Run) {
	if w.chance(w.silent) {
		one.Results[string(api.PathSleep)] = failed(observation.AgentSilent, "silent")
		w.note(api.PathSleep, labelled{w.now, w.now, unknownEnd})
		return
	}
	i := w.random.IntN(len(w.endpoints))
	there, mutual := w.endpoints[i], w.endpoints[i].mode != api.MTLSDisable && !w.plain && !w.past
	sent := &observation.Sent{Cluster: ownCluster, Host: hostOf(i)}
	result, means := w.answers(there, mutual)
	ledNow := w.led && w.chance(30)
	switch {
	case ledNow:
		result, means = answered(200, foreignLeaf), fail
		sent, mutual = &observation.Sent{Cluster: otherCluster, Host: "10.9.9.9:443"}, false
	case w.past:
		sent = &observation.Sent{Past: true}
	}
	if mutual {
		sent.Handshakes = 1
	}
	cameBack := result.Seen.Leaf != nil
	if w.chance(w.silent) {
		sent = &observation.Sent{Error: "no answer"}
		means = max(means, nattr)
	} else if ledNow || cameBack && mutual != (w.declared != api.MTLSDisable) {
		means = hole
	}
	delivered := w.delivers()
	if w.chance(w.silent) {
		delivered = &observation.Delivered{Error: "no answer"}
		means = max(means, nattr)
	} else if w.led || w.wrongTLS() {
		means = hole
	}
	result.Seen.Sent, result.Seen.Delivered = sent, delivered
	one.Results[string(api.PathSleep)] = result
	w.note(api.PathSleep, labelled{w.now, w.now, means})
}

// answers is what a request of the client's sidecar meets at an endpoint.
func (w *world) answers(there state, mutual bool) (observation.Result, label) {
	switch {
	case !mutual && there.mode == api.MTLSStrict:
		return turnedAway, fail
	case there.app == "down":
		return saw(observation.HandshakeClosed, nil), fail
	case there.app == "503":
		return answered(503, nginxLeaf), fail
	default:
		return served, clean
	}
}

func (w *world) tlsTo(i int) observation.LegTLS {
	if w.plain || w.endpoints[i].mode == api.MTLSDisable {
		return observation.TLSNone
	}
	return observation.TLSMutual
}

// wrongTLS says whether Envoy is configured to send to some endpoint otherwise than declared.
func (w *world) wrongTLS() bool {
	for i := range w.endpoints {
		if (w.tlsTo(i) == observation.TLSMutual) != (w.declared != api.MTLSDisable) {
			return true
		}
	}
	return false
}

func (w *world) delivers() *observation.Delivered {
	own := observation.Leg{Cluster: ownCluster, Weight: 70, TLS: observation.TLSByEndpoint}
	for i := range w.endpoints {
		own.Endpoints = append(own.Endpoints, observation.LegEndpoint{Address: hostOf(i), TLS: w.tlsTo(i)})
	}
	if !w.led {
		return legs(own)
	}
	return legs(own, weighted(30, otherCluster, observation.TLSNone, observation.LegEndpoint{Address: "10.9.9.9:443", TLS: observation.TLSNone}))
}

// note keeps what the model knows of a run.
func (w *world) note(name api.PathName, one labelled) {
	w.runs[name] = append(w.runs[name], one)
	switch one.label {
	case clean:
		w.fails[name], w.unknownSince[name] = 0, time.Time{}
	case hole:
		w.unknownSince[name] = time.Time{}
	case fail:
		if w.fails[name] == 0 {
			w.since[name] = w.now
		}
		w.fails[name]++
		w.failed[name] = w.now
		w.unknownSince[name] = time.Time{}
	default:
		if w.unknownSince[name].IsZero() {
			w.unknownSince[name] = w.now
		}
	}
}
