package plugin

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/report"
)

const (
	// operatorSilence is after how long without a word in the status nobody is taken to be there who would write one. An
	// operator that has just been started may wait for its predecessor's lease, which lasts 15 s.
	operatorSilence = 20 * time.Second
	// clusterRetry is the pause before a broken connection to the API server is tried again.
	clusterRetry = time.Second
)

// awaited is a probe whose verdict is waited for.
type awaited struct {
	// name is what the person calls it.
	name string
	// probe is its latest known state.
	probe *api.HTTPSMeshProbe
	// settled says whether the state is an answer; asked whether it was found out since it was asked for; heard whether the
	// operator has spoken at all since.
	settled, asked, heard func(*api.HTTPSMeshProbe) bool
	// silence is how long the operator may take to speak, and silent how it is put when it has not.
	silence time.Duration
	silent  report.Ending

	ending report.Ending
}

func (a *awaited) title() string { return a.probe.Namespace + "/" + a.name }

// Ways in which waiting ends without an answer.
const (
	endedTimeout     = "Timeout"
	endedInterrupted = "Interrupted"
	endedDeleted     = "Deleted"
	endedNoOperator  = "NoOperator"
	endedCluster     = "ClusterFailed"
)

// errTimeout is the cause of a context that ended because the time for waiting is over.
var errTimeout = errors.New("no verdict in time")

// await follows the probe until it has settled, the operator has been silent for too long, or ctx has ended.
func (s *session) await(ctx context.Context, cluster client.WithWatch, a *awaited, shown *progress) {
	if a.ending.Reason != "" {
		return
	}
	silence := time.NewTimer(a.silence)
	defer silence.Stop()
	var trouble error
	// The probe has just been written; what comes after that is what is waited for.
	version := a.probe.ResourceVersion
	for {
		shown.say(a.title(), a.stage())
		var err error
		if version == "" {
			version, err = a.look(ctx, cluster)
		}
		if a.ending.Reason != "" || a.settled(a.probe) {
			return
		}
		if err == nil {
			err = s.followProbe(ctx, cluster, a, version, shown, silence.C)
		}
		version = ""
		switch {
		case err == nil:
			return
		case ctx.Err() != nil:
			a.ending = a.outOfTime(ctx, trouble)
			return
		case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err), meta.IsNoMatchError(err), apierrors.IsNotFound(err):
			a.ending = report.Ending{Reason: endedCluster, Message: s.sentence(err)}
			return
		}
		if !errors.Is(err, errWatchEnded) {
			trouble = errors.New(s.sentence(err))
			shown.say(a.title(), trouble.Error()+"; trying again")
		}
		select {
		case <-ctx.Done():
			a.ending = a.outOfTime(ctx, trouble)
			return
		case <-time.After(clusterRetry):
		}
	}
}

// errWatchEnded says that the API server ended a watch, which it does now and then.
var errWatchEnded = errors.New("the watch ended")

// look reads the probe anew, and returns as of when that is so. It sets ending where there is no such probe any more.
func (a *awaited) look(ctx context.Context, cluster client.Reader) (version string, err error) {
	var list api.HTTPSMeshProbeList
	if err := cluster.List(ctx, &list, a.only("")); err != nil {
		return "", err
	}
	if len(list.Items) == 0 || list.Items[0].UID != a.probe.UID {
		a.ending = somebodyDeleted
		return "", nil
	}
	a.probe = &list.Items[0]
	return list.ResourceVersion, nil
}

func (a *awaited) only(version string) *client.ListOptions {
	return &client.ListOptions{
		Namespace: a.probe.Namespace, FieldSelector: fields.OneTermEqualSelector("metadata.name", a.probe.Name),
		Raw: &metav1.ListOptions{ResourceVersion: version},
	}
}

// followProbe returns nil when nothing more is to be waited for.
func (s *session) followProbe(ctx context.Context, cluster client.WithWatch, a *awaited, version string, shown *progress, silence <-chan time.Time) error {
	watcher, err := cluster.Watch(ctx, &api.HTTPSMeshProbeList{}, a.only(version))
	if err != nil {
		return err
	}
	defer watcher.Stop()
	for {
		shown.say(a.title(), a.stage())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-silence:
			if !a.heard(a.probe) {
				a.ending = a.silent
				return nil
			}
		case event, ok := <-watcher.ResultChan():
			if !ok || event.Type == watch.Error {
				return errWatchEnded
			}
			probe, ok := event.Object.(*api.HTTPSMeshProbe)
			if !ok || probe.UID != a.probe.UID {
				continue
			}
			if event.Type == watch.Deleted {
				a.ending = somebodyDeleted
				return nil
			}
			if a.probe = probe; a.settled(probe) {
				return nil
			}
		}
	}
}

var somebodyDeleted = report.Ending{Reason: endedDeleted, Message: "somebody has deleted the probe"}

// noOperator is how the operator's silence is put.
func noOperator(silence time.Duration) report.Ending {
	return report.Ending{Reason: endedNoOperator, Message: fmt.Sprintf(
		"nobody has written a status for %v: HTTPSMeshProbe's operator does not seem to run (kubectl -n httpsmeshprobe-system get pods)", silence)}
}

// outOfTime says why waiting ended, and what was last heard.
func (a *awaited) outOfTime(ctx context.Context, trouble error) report.Ending {
	last := a.stage()
	if trouble != nil {
		last = trouble.Error()
	}
	if errors.Is(context.Cause(ctx), errTimeout) {
		return report.Ending{Reason: endedTimeout, Message: "no verdict in time; last heard: " + last}
	}
	return report.Ending{Reason: endedInterrupted, Message: "no verdict yet; last heard: " + last}
}

// stage is how far the probe is, in a line. What was found out before somebody asked is no answer.
func (a *awaited) stage() string {
	if a.ending.Reason != "" {
		return a.ending.Reason + ": " + a.ending.Message
	}
	settlement := report.Settle(a.probe)
	if settlement.Final && !a.asked(a.probe) {
		return "asked for a run"
	}
	return settlement.Reason + ": " + settlement.Message
}

// awaitAll waits for all of them side by side, and reports what became of each.
func (s *session) awaitAll(ctx context.Context, cluster client.WithWatch, all []*awaited, timeout time.Duration) report.Report {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer cancel()
	shown := newProgress(s.ErrOut, len(all))
	defer shown.clear()
	began := time.Now()
	results := make([]report.Probe, len(all))
	done := make(chan struct{})
	for i, a := range all {
		go func() {
			s.await(ctx, cluster, a, shown)
			a.ending.Asked = a.asked(a.probe)
			results[i] = report.Of(a.probe, a.name, a.ending, time.Since(began))
			shown.end(a.title(), results[i].Reason)
			done <- struct{}{}
		}()
	}
	for range all {
		<-done
	}
	return report.New(results)
}
