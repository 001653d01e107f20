package verdict_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// quickly judges runs that follow each other every 100 ms.
func quickly(quick bool, runs ...observation.Run) []verdict.Path {
	for i := range runs {
		runs[i].Started = firstRun.Add(time.Duration(i) * 100 * time.Millisecond)
	}
	return verdict.Paths(verdict.Input{Expectations: strict, Server: server, Runs: runs, FailureThreshold: 2, Quick: quick})
}

// A pod that is replaced closes its connections before the last proxy has heard of it.
func TestAReplacedPodCostsNoVerdict(t *testing.T) {
	well := run(served, turnedAway, turnedAway)
	dying := saw(observation.ConnectionRefused, nil)
	gone := beside(turnedAway, endpoint("old", saw(observation.ClosedAfterCertificateRequest, sidecarLeaf), served), endpoint("new", turnedAway, served))
	for name, broken := range map[string]observation.Run{
		"all of it":            run(brokenOff, dying, dying),
		"the control":          run(brokenOff, turnedAway, turnedAway),
		"a path around":        run(served, dying, turnedAway),
		"one of two endpoints": run(served, gone, gone),
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range quickly(true, well, broken, broken, broken) {
				if path.Status != metav1.ConditionTrue {
					t.Errorf("%s is %s after moments: %s", path.Evidence.Name, path.Status, path.Message)
				}
				if kept := path.Evidence.Outcome != api.OutcomeMatch; kept != (path.Reason == api.ReasonBelowThreshold) || kept != strings.Contains(path.Message, "only if it lasts for 2s") {
					t.Errorf("%s: %s, %s: %s", path.Evidence.Name, path.Evidence.Outcome, path.Reason, path.Message)
				}
			}
			if allTrue(quickly(false, well, broken, broken, broken)) {
				t.Error("it passes where no more runs follow")
			}
			if allTrue(quickly(true, broken, broken)) {
				t.Error("it passes where nothing passed before")
			}
			lasting := []observation.Run{well}
			for range 21 {
				lasting = append(lasting, broken)
			}
			if allTrue(quickly(true, lasting...)) {
				t.Error("it passes after two seconds")
			}
		})
	}
}

func allTrue(paths []verdict.Path) bool {
	for _, path := range paths {
		if path.Status != metav1.ConditionTrue {
			return false
		}
	}
	return true
}

// What says more than that a connection failed counts at once, whatever has just changed.
func TestOnlyBrokenConnectionsAreFleeting(t *testing.T) {
	well := run(served, turnedAway, turnedAway)
	for name, bad := range map[string]struct {
		run  observation.Run
		path api.PathName
	}{
		"let in":                {run(served, served, turnedAway), api.PathIstioProxy},
		"refused":               {run(turnedAway, turnedAway, turnedAway), api.PathSleep},
		"somebody else":         {run(answered(200, foreignLeaf), turnedAway, turnedAway), api.PathSleep},
		"another code":          {run(answered(503, nginxLeaf), turnedAway, turnedAway), api.PathSleep},
		"in plaintext":          {run(counting(served, passedOn), turnedAway, turnedAway), api.PathSleep},
		"not sent":              {run(failed(observation.ExecFailed, "broken"), turnedAway, turnedAway), api.PathSleep},
		"refused by a stranger": {run(served, refused(neighbourLeaf), turnedAway), api.PathIstioProxy},
	} {
		if got := verdictOn(bad.path, quickly(true, well, bad.run, bad.run)); got.Status == metav1.ConditionTrue {
			t.Errorf("%s: %s: %s", name, got.Reason, got.Message)
		}
	}
}
