package controllers

import (
	"context"
	"fmt"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// rightsRetry is how often an operator for one namespace asks for its rights in Istio's.
const rightsRetry = 15 * time.Second

// IstioUnreadable says which rights the operator lacks in Istio's namespace that it needs to compute policies; "" where it
// has all of them. Watching without these rights would never begin, and nothing would tell absent from forbidden.
func IstioUnreadable(ctx context.Context, asker client.Client, namespace string) (string, error) {
	var missing []string
	for _, kind := range []struct{ group, resource string }{
		{"", "configmaps"}, {"security.istio.io", "peerauthentications"}, {"networking.istio.io", "destinationrules"},
	} {
		for _, verb := range []string{"list", "watch"} {
			review := &authorizationv1.SelfSubjectAccessReview{}
			review.Spec.ResourceAttributes = &authorizationv1.ResourceAttributes{
				Namespace: namespace, Verb: verb, Group: kind.group, Resource: kind.resource,
			}
			if err := asker.Create(ctx, review); err != nil {
				return "", fmt.Errorf("ask for the operator's rights in namespace %s: %w", namespace, err)
			}
			if !review.Status.Allowed {
				missing = append(missing, verb+" "+kind.resource)
			}
		}
	}
	if len(missing) == 0 {
		return "", nil
	}
	return fmt.Sprintf("the operator may not %s in namespace %s: give its service account the Role httpsmeshprobe-manager there (docs/install.md), or correct --istio-namespace; the probe goes on by itself then",
		strings.Join(missing, ", "), namespace), nil
}

// RightsWatch calls Changed when the operator's rights in Istio's namespace are no longer those with which it began: what is
// watched is decided once, at the beginning.
type RightsWatch struct {
	Asker     client.Client
	Namespace string
	// Began is what IstioUnreadable said at the beginning.
	Began   string
	Changed func()
}

// Start asks until then, or until ctx ends.
func (w RightsWatch) Start(ctx context.Context) error {
	again := time.NewTicker(rightsRetry)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
		if now, err := IstioUnreadable(ctx, w.Asker, w.Namespace); err == nil && now != w.Began {
			w.Changed()
			return nil
		}
	}
}

// NeedLeaderElection says that every replica asks for itself.
func (RightsWatch) NeedLeaderElection() bool { return false }
