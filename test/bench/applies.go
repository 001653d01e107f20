package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
)

const (
	limit    = 2 * time.Minute
	pollTick = 5 * time.Millisecond
)

// poll asks until it is done, for two minutes at most.
func poll(ctx context.Context, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("not within two minutes")
		case <-time.After(pollTick):
		}
	}
}

func (b *bench) awaitReady(ctx context.Context, name string) error {
	return poll(ctx, func() (bool, error) {
		var probe api.HTTPSMeshProbe
		err := b.cluster.Get(ctx, client.ObjectKey{Namespace: b.namespace, Name: name}, &probe)
		return meta.IsStatusConditionTrue(probe.Status.Conditions, api.ConditionReady), err
	})
}

// timeApplies prints the time from applying a STRICT probe to its Ready, beside the time until its server's pod is
// ready: what is between the two is the operator's.
func (b *bench) timeApplies(ctx context.Context, n int) error {
	var begun time.Time
	var name string
	applied := 0
	rows, err := takeTurns(n, []way{
		{podRow, func() (time.Duration, error) {
			applied++
			name, begun = fmt.Sprintf("apply-%d", applied), time.Now()
			if err := b.cluster.Create(ctx, newProbe(b.namespace, name, api.SidecarEnabled, api.MTLSStrict)); err != nil {
				return 0, err
			}
			err := poll(ctx, func() (bool, error) { return b.podReady(ctx, name) })
			return time.Since(begun), err
		}},
		{"the probe is Ready", func() (time.Duration, error) {
			err := b.awaitReady(ctx, name)
			return time.Since(begun), err
		}},
	})
	if err != nil {
		return err
	}
	printTable("From apply (STRICT, clients are there)", rows, podRow)
	return nil
}

const podRow = "the server's pod is ready"

func (b *bench) podReady(ctx context.Context, probe string) (bool, error) {
	var pods corev1.PodList
	if err := b.cluster.List(ctx, &pods, client.InNamespace(b.namespace), client.MatchingLabels(fixture.ServerLabels(probe))); err != nil {
		return false, err
	}
	for _, pod := range pods.Items {
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
				return true, nil
			}
		}
	}
	return false, nil
}
