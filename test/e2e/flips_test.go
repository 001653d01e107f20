package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

const (
	flips    = 100
	flipSeed = 20260101
)

// situation is what stands in front of a server: a PeerAuthentication of its namespace and one of its pods, each UNSET
// where there is none.
type situation struct{ namespace, workload api.MTLSMode }

// enforced is the mode before the server by Istio's rules, and decider the policy that sets it, "" for Istio's default.
func (s situation) enforced() (mode api.MTLSMode, decider string) {
	switch {
	case s.workload != unset:
		return s.workload, "shop"
	case s.namespace != unset:
		return s.namespace, "default"
	default:
		return permissive, ""
	}
}

// encryption is what auto mTLS does, which looks at both levels.
func (s situation) encryption() api.Encryption {
	if mode, _ := s.enforced(); mode == disable || s.namespace == disable {
		return plaintext
	}
	return mutualTLS
}

// words are how the status names what is computed.
func (s situation) words() string {
	mode, _ := s.enforced()
	return fmt.Sprintf("%s, %s from the client", mode, s.encryption())
}

// paths are what the three paths meet.
func (s situation) paths() string {
	mode, _ := s.enforced()
	switch {
	case mode == strict && s.encryption() == plaintext:
		return "refused/refused/refused"
	case mode == strict:
		return "200/refused/refused"
	default:
		return "200/200/200"
	}
}

// verdicts are the conditions of a probe that declares the mode: the policy, the path sleep, and the two paths around the
// client's sidecar.
func (s situation) verdicts(declared api.MTLSMode) (policy, sleep, around metav1.ConditionStatus) {
	const yes, no, open = metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown
	mode, _ := s.enforced()
	policy, sleep, around = yes, yes, yes
	if s.refutesInheritance(declared) || declared != unset && mode != declared || s.trap() {
		policy = no
	}
	if declared == unset {
		declared = mode
	}
	// Without clientMode a probe claims that auto mTLS works wherever the server takes it.
	if declared != disable && s.encryption() == plaintext {
		sleep = no
	}
	if declared == strict && mode != strict {
		around = no
	}
	return policy, sleep, around
}

// refutesInheritance says whether UNSET is declared and the pods have a mode of their own, which is then none that they
// inherit.
func (s situation) refutesInheritance(declared api.MTLSMode) bool {
	return declared == unset && s.workload != unset
}

// trap says whether auto mTLS sends plaintext to a server that takes mutual TLS.
func (s situation) trap() bool {
	mode, _ := s.enforced()
	return mode != disable && s.encryption() == plaintext
}

// saidBy says whether a status speaks of this situation.
func (s situation) saidBy(hmp *api.HTTPSMeshProbe) bool {
	mode, decider := s.enforced()
	if declared := hmp.Spec.MTLS.Mode; s.trap() && !s.refutesInheritance(declared) && (declared == unset || declared == mode) {
		mode, decider = disable, "default"
	}
	sets := fmt.Sprintf("PeerAuthentication %s/%s (", hmp.Namespace, decider)
	if decider == "" {
		sets = "no PeerAuthentication sets a mode, so Istio's default holds"
	}
	message, change := condition(hmp, api.ConditionPolicyInEffect).Message, hmp.Status.LastPolicyChange
	return strings.Contains(message, sets) && strings.HasSuffix(message, string(mode)) && (change == nil || change.To == s.words())
}

// contradicts tells what a status says that is not true in this situation; "" where all of it is.
func (s situation) contradicts(hmp *api.HTTPSMeshProbe) string {
	policy, sleep, around := s.verdicts(hmp.Spec.MTLS.Mode)
	ready := metav1.ConditionTrue
	all := []metav1.ConditionStatus{policy, sleep, around}
	switch {
	case slices.Contains(all, metav1.ConditionFalse):
		ready = metav1.ConditionFalse
	case slices.Contains(all, metav1.ConditionUnknown):
		ready = metav1.ConditionUnknown
	}
	var wrong []string
	for kind, want := range map[string]metav1.ConditionStatus{
		api.ConditionReady: ready, api.ConditionPolicyInEffect: policy, api.ConditionSleepVerified: sleep,
		api.ConditionIstioProxyVerified: around, api.ConditionOutsiderVerified: around,
	} {
		if c := condition(hmp, kind); c.Status != want {
			wrong = append(wrong, fmt.Sprintf("%s is %s and not %s (%s: %s)", kind, c.Status, want, c.Reason, c.Message))
		}
	}
	if got := observed(hmp); got != s.paths() {
		wrong = append(wrong, fmt.Sprintf("paths are %s and not %s", got, s.paths()))
	}
	// On a busy machine Envoy may not tell its counters in time, and Unknown contradicts nothing; TestMatrix demands them.
	if len(hmp.Status.Paths) > 0 && hmp.Status.Paths[0].Encryption != s.encryption() && hmp.Status.Paths[0].Encryption != unknown {
		wrong = append(wrong, fmt.Sprintf("encryption is %s and not %s", hmp.Status.Paths[0].Encryption, s.encryption()))
	}
	return strings.Join(wrong, "; ")
}

// settled says whether a status claims to be the last word for now.
func settled(hmp *api.HTTPSMeshProbe) bool {
	return condition(hmp, api.ConditionReconciling).Status != metav1.ConditionTrue &&
		!slices.ContainsFunc(hmp.Status.Conditions, func(c metav1.Condition) bool { return c.Reason == api.ReasonBelowThreshold })
}

// TestFlips changes the policies in front of a server at random, a hundred times, and reads every status that two probes
// come to meanwhile, one of which inherits the mode and one demands STRICT. Whatever a settled status says must be true
// of the policies that it speaks of, and every change must be followed; of some that are made in haste, the last.
func TestFlips(t *testing.T) {
	ns := namespace(t)
	shop := newServer(t, ns, "shop")
	shop.create(t)
	shop.awaitPods(t, 1)
	f := &flipping{shop: shop, random: rand.New(rand.NewPCG(flipSeed, 0)), now: situation{unset, unset}}
	t.Logf("seed %d", flipSeed)
	for name, mode := range map[string]api.MTLSMode{"inherit": unset, "demand": strict} {
		hmp := shop.probe(name, mode)
		createProbe(t, hmp)
		probe := follow(t, hmp)
		probe.until(t, "a first verdict", func(hmp *api.HTTPSMeshProbe) error { return f.judge(t, hmp) })
		f.probes = append(f.probes, probe)
	}
	begun := time.Now()
	for f.made < flips {
		f.round(t)
	}
	slices.Sort(f.times)
	t.Logf("%d flips in %s; a settled verdict after %s in the middle, %s at most; %d of %d requests lost", f.made,
		time.Since(begun).Round(time.Second), f.times[len(f.times)/2].Round(time.Millisecond), f.times[len(f.times)-1].Round(time.Millisecond), f.lost, f.sent)
}

// flipping is a test under way.
type flipping struct {
	shop   *server
	probes []*follower
	random *rand.Rand
	// now is the present situation, and past are those before it of which a status may still speak, the latest first.
	now        situation
	past       []situation
	made       int
	times      []time.Duration
	sent, lost int32
}

// round changes the policies once, or every so often three times in haste, and follows the probes to their verdicts.
func (f *flipping) round(t *testing.T) {
	t.Helper()
	const haste, remembered = 3, 8
	before, times := f.now, 1
	if f.random.IntN(4) == 0 {
		times = haste
	}
	for i := 0; i < times || !tells(before, f.now); i++ {
		f.past = append([]situation{f.now}, f.past[:min(len(f.past), remembered)]...)
		f.flip(t)
		f.made++
	}
	flipped := time.Now()
	for _, probe := range f.probes {
		what := fmt.Sprintf("the change from %s to %s", before, f.now)
		followed := probe.until(t, what, func(hmp *api.HTTPSMeshProbe) error { return f.judge(t, hmp) })
		f.times = append(f.times, followed.at.Sub(flipped))
		if times == 1 && before.words() != f.now.words() {
			checkChange(t, followed.probe, before, f.now)
			f.sent += followed.probe.Status.LastPolicyChange.ProbesSent
			f.lost += followed.probe.Status.LastPolicyChange.ProbesLost
		}
	}
}

// tells says whether a status can tell two situations apart.
func tells(one, other situation) bool {
	_, first := one.enforced()
	_, second := other.enforced()
	return first != second || one.words() != other.words()
}

func (s situation) String() string {
	return fmt.Sprintf("namespace %s, pods %s", s.namespace, s.workload)
}

// flip changes one of the two policies so that a status can tell.
func (f *flipping) flip(t *testing.T) {
	t.Helper()
	modes := []api.MTLSMode{unset, disable, permissive, strict}
	for from := f.now; ; {
		to := from
		name, selector, mode, before := "default", map[string]string(nil), &to.namespace, from.namespace
		if f.random.IntN(2) == 0 {
			name, selector, mode, before = "shop", f.shop.selector(), &to.workload, from.workload
		}
		if *mode = modes[f.random.IntN(len(modes))]; !tells(from, to) {
			continue
		}
		policy := peerAuthentication(f.shop.namespace, name, selector, *mode)
		switch {
		case *mode == unset:
			deletePolicy(t, policy)
		case before == unset:
			createPolicy(t, policy)
		default:
			changePolicy(t, policy)
		}
		f.now = to
		return
	}
}

// judge takes a settled status for an error that speaks of no situation there was, or says what is not true of the one it
// speaks of. It returns nil for one that speaks of the present one.
func (f *flipping) judge(t *testing.T, hmp *api.HTTPSMeshProbe) error {
	t.Helper()
	if !settled(hmp) {
		return fmt.Errorf("it is on its way")
	}
	if len(hmp.Status.Paths) == 0 {
		return fmt.Errorf("Ready is %s", condition(hmp, api.ConditionReady).Reason)
	}
	for _, s := range append([]situation{f.now}, f.past...) {
		if !s.saidBy(hmp) {
			continue
		}
		if wrong := s.contradicts(hmp); wrong != "" {
			t.Errorf("probe %s, of %s (before: %s): %s", hmp.Name, s, f.past, wrong)
		}
		if s == f.now {
			return nil
		}
		return fmt.Errorf("it still speaks of %s", s)
	}
	policy := condition(hmp, api.ConditionPolicyInEffect)
	t.Errorf("probe %s speaks of neither %s nor %s: %s, last change %+v", hmp.Name, f.now, f.past, policy.Message, hmp.Status.LastPolicyChange)
	return fmt.Errorf("it speaks of something else")
}

// checkChange holds what the status says of the change against what was changed.
func checkChange(t *testing.T, hmp *api.HTTPSMeshProbe, before, now situation) {
	t.Helper()
	object := "PeerAuthentication " + hmp.Namespace + "/shop"
	if before.workload == now.workload {
		object = "PeerAuthentication " + hmp.Namespace + "/default"
	}
	change := hmp.Status.LastPolicyChange
	if change == nil {
		t.Fatalf("probe %s tells of no change", hmp.Name)
	}
	if change.Object != object || change.From != before.words() || change.To != now.words() || change.SettledAfter == nil {
		t.Errorf("probe %s tells of the change %+v; want %s, from %q to %q, settled", hmp.Name, change, object, before.words(), now.words())
	}
}
