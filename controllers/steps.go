package controllers

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/podhealth"
	"github.com/meshprobe/httpsmeshprobe/internal/schedule"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// server is what a visit knows of the probe's own server.
type server struct {
	certificate fixture.Certificate
	// key is the private key, only in the visit that issued the certificate.
	key []byte
	// previous is the fingerprint of the certificate that pods may still use, or "".
	previous string
	// ca is what spec.target.ca holds, and caText the same as text; nil and "" without it.
	ca     *x509.CertPool
	caText string
}

const (
	istioRetry = 5 * time.Second
	// An uninjected pod is replaced when it is this old: the injector may have come up a moment after it.
	uninjectedPodAge = 30 * time.Second
	// A server that is not up after this long may lack its Secret.
	slowStart = 10 * time.Second
)

var proceed = verdict.Standing{}

func (r *Reconciler) stopWhileSuspended(_ context.Context, v *visit) (verdict.Standing, error) {
	if !v.Probe.Spec.Suspend {
		return proceed, nil
	}
	return verdict.Standing{Phase: verdict.Suspended, Reason: api.ReasonSuspended,
		Message: "no requests are sent while spec.suspend is true; what is shown of the paths is from before"}, nil
}

func (r *Reconciler) requireIstio(_ context.Context, v *visit) (verdict.Standing, error) {
	if !v.IstioInstalled {
		v.lookAgain(istioRetry)
		return verdict.Standing{Phase: verdict.Stalled, Reason: api.ReasonIstioNotInstalled,
			Message: "the API server does not know the kinds PeerAuthentication (security.istio.io/v1) and DestinationRule (networking.istio.io/v1): install Istio; the probe goes on by itself then"}, nil
	}
	return proceed, r.istio.start()
}

// requireMeshConfig says nothing of a mesh of which it is not known whose policies count in it.
func (r *Reconciler) requireMeshConfig(_ context.Context, v *visit) (verdict.Standing, error) {
	if v.MeshForbidden != "" {
		return stalled(api.ReasonMeshUnreadable, "%s", v.MeshForbidden), nil
	}
	if v.MeshProblem == "" {
		return proceed, nil
	}
	return verdict.Standing{Phase: verdict.Progressing, Reason: api.ReasonProgressing,
		Message: v.MeshProblem + "; until it can, nobody knows which policies hold: correct it"}, nil
}

// keepCertificate finds the certificate of the operator's own server, or issues one: at first, when two thirds of its
// life are over, when its names are wrong, and when its Secret is gone.
func (r *Reconciler) keepCertificate(ctx context.Context, v *visit) (verdict.Standing, error) {
	if v.Probe.Spec.Target.Service != nil {
		return proceed, nil
	}
	if v.Probe.Spec.Target.Certificate != nil {
		return r.adoptUsersCertificate(ctx, v)
	}
	names := fixture.HostNames(v.Probe.Name, v.Probe.Namespace, r.Settings.ClusterDomain)
	usable := func(configMap *corev1.ConfigMap) (bool, error) { return r.adoptCertificate(ctx, v, configMap, names) }
	if ok, err := usable(v.ServerConfigMap); ok || err != nil {
		return proceed, err
	}
	// The cache may be behind: a certificate issued a moment ago must not be issued again.
	var live corev1.ConfigMap
	err := r.Live.Get(ctx, types.NamespacedName{Namespace: v.Probe.Namespace, Name: fixture.ServerName(v.Probe.Name)}, &live)
	if client.IgnoreNotFound(err) != nil {
		return proceed, fmt.Errorf("get the server's ConfigMap: %w", err)
	}
	if err == nil {
		if ok, err := usable(&live); ok || err != nil {
			return proceed, err
		}
	}
	// While there is a certificate before the present one, the present one is not rolled out, and may never have been.
	if v.server.previous == "" {
		v.server.previous = v.server.certificate.SHA256
	}
	v.server.certificate, v.server.key, err = fixture.IssueCertificate(names, r.Now())
	return proceed, err
}

// adoptCertificate takes the certificate that is recorded in the ConfigMap, and says whether it can go on being used.
func (r *Reconciler) adoptCertificate(ctx context.Context, v *visit, configMap *corev1.ConfigMap, names []string) (bool, error) {
	if configMap == nil {
		return false, nil
	}
	certificate, err := fixture.ParseCertificate(configMap.Data[fixture.KeyCertificate])
	if err != nil {
		return false, nil //nolint:nilerr // a certificate that cannot be read is replaced
	}
	v.server.certificate = certificate
	v.server.previous = recordedPrevious(configMap)
	if !certificate.Covers(names) || !r.Now().Before(certificate.RenewAt()) {
		return false, nil
	}
	v.lookAgain(certificate.RenewAt().Sub(r.Now()))
	deployment := v.Deployments[fixture.ServerName(v.Probe.Name)]
	switch {
	case deployment == nil || !mountsSecret(deployment, certificate.SecretName(v.Probe.Name)):
		// It is still to be rolled out, and its Secret may not have been created.
		return r.secretExists(ctx, v)
	case podhealth.RolledOut(deployment):
		return true, r.retireCertificate(ctx, v)
	case !r.startsSlowly(v):
		return true, nil
	}
	return r.secretExists(ctx, v)
}

// recordedPrevious is the fingerprint in the ConfigMap's annotation. Whoever may edit that must not have the operator
// delete a Secret of another name.
func recordedPrevious(configMap *corev1.ConfigMap) string {
	if previous := configMap.Annotations[fixture.AnnotationPreviousCertificate]; fixture.IsFingerprint(previous) {
		return previous
	}
	return ""
}

func mountsSecret(deployment *appsv1.Deployment, name string) bool {
	return slices.ContainsFunc(deployment.Spec.Template.Spec.Volumes, func(volume corev1.Volume) bool {
		return volume.Secret != nil && volume.Secret.SecretName == name
	})
}

// startsSlowly says whether a pod of the server has been starting for so long that its Secret may be missing.
func (r *Reconciler) startsSlowly(v *visit) bool {
	for _, pod := range podhealth.Living(v.PodsOf(fixture.ServerLabels(v.Probe.Name))) {
		age := r.Now().Sub(pod.CreationTimestamp.Time)
		switch {
		case podhealth.IsReady(pod):
		case age >= slowStart:
			return true
		default:
			v.lookAgain(slowStart - age)
		}
	}
	return false
}

// retireCertificate removes the Secret of the certificate before, once no pod uses it any more.
func (r *Reconciler) retireCertificate(ctx context.Context, v *visit) error {
	leaving := func(pod corev1.Pod) bool { return pod.DeletionTimestamp != nil }
	if v.server.previous == "" || slices.ContainsFunc(v.PodsOf(fixture.ServerLabels(v.Probe.Name)), leaving) {
		return nil // a pod on its way out may still answer with it
	}
	secret := &corev1.Secret{}
	secret.Namespace = v.Probe.Namespace
	secret.Name = fixture.Certificate{SHA256: v.server.previous}.SecretName(v.Probe.Name)
	if err := r.Client.Delete(ctx, secret); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete Secret %s: %w", secret.Name, err)
	}
	v.server.previous = ""
	return nil
}

// secretExists asks without the right to read Secrets: creating a namesake, as a dry run, is refused if there is one.
func (r *Reconciler) secretExists(ctx context.Context, v *visit) (bool, error) {
	secret := &corev1.Secret{}
	secret.Namespace, secret.Name = v.Probe.Namespace, v.server.certificate.SecretName(v.Probe.Name)
	secret.Labels = fixture.ServerLabels(v.Probe.Name) // config/admission lets nothing else through, dry or not
	err := r.Client.Create(ctx, secret, client.DryRunAll, client.FieldOwner(fixture.ManagedBy))
	switch {
	case apierrors.IsAlreadyExists(err):
		return true, nil
	case err == nil:
		return false, nil
	default:
		return false, secretObstacle(secret, err)
	}
}

func (r *Reconciler) keepServer(ctx context.Context, v *visit) (verdict.Standing, error) {
	if v.Probe.Spec.Target.Service != nil {
		return proceed, nil
	}
	objects, err := fixture.Server(fixture.Of(v.Probe), r.host(v), v.server.certificate, v.server.previous, r.Settings.Images)
	if err != nil {
		return proceed, err
	}
	for _, object := range objects {
		// The ConfigMap goes first: it names the Secret, and a name without a Secret is noticed, a Secret without a name is not.
		if err := r.apply(ctx, v, object); err != nil {
			return proceed, err
		}
		if object.GetKind() == "ConfigMap" && v.server.key != nil {
			secret := fixture.Secret(fixture.Of(v.Probe), v.server.certificate, v.server.key)
			if err := r.Client.Create(ctx, secret, client.FieldOwner(fixture.ManagedBy)); err != nil {
				return proceed, secretObstacle(secret, err)
			}
		}
	}
	return proceed, r.removeUndeclaredPolicies(ctx, v)
}

// host is the DNS name of the Service that is probed.
func (r *Reconciler) host(v *visit) string {
	return v.Target.Name + "." + v.Target.Namespace + ".svc." + r.Settings.ClusterDomain
}

func secretObstacle(secret *corev1.Secret, err error) error {
	if apierrors.IsForbidden(err) {
		return &obstacle{verdict.Standing{Phase: verdict.Troubled, Reason: api.ReasonApplyFailed,
			Message: fmt.Sprintf("the API server refuses Secret %s/%s: %v", secret.Namespace, secret.Name, err)}, foreignObstacle}
	}
	return fmt.Errorf("create Secret %s/%s: %w", secret.Namespace, secret.Name, err)
}

// removeUndeclaredPolicies takes back the policies of the operator's own server that the spec no longer asks for.
func (r *Reconciler) removeUndeclaredPolicies(ctx context.Context, v *visit) error {
	declared := map[string]bool{
		"PeerAuthentication": v.Probe.Spec.Target.Sidecar == api.SidecarEnabled,
		"DestinationRule":    fixture.WantsDestinationRule(fixture.Of(v.Probe)),
	}
	for kind, wanted := range declared {
		policy := v.Existing(kind, fixture.ServerName(v.Probe.Name))
		if wanted || policy == nil || !metav1.IsControlledBy(policy, v.Probe) {
			continue
		}
		if err := r.Client.Delete(ctx, policy); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete %s %s: %w", kind, policy.GetName(), err)
		}
	}
	return nil
}

// keepClients applies the clients of all probes of the namespace: they are shared, and so are their owner references.
func (r *Reconciler) keepClients(ctx context.Context, v *visit) (verdict.Standing, error) {
	users := make([]fixture.Probe, 0, len(v.Siblings))
	for i := range v.Siblings {
		users = append(users, fixture.Of(&v.Siblings[i]))
	}
	clients, err := fixture.Clients(v.Probe.Namespace, users, r.Settings.Images)
	if err != nil {
		return proceed, err
	}
	wanted := map[string]bool{}
	for _, deployment := range clients {
		wanted[deployment.GetName()] = true
		if err := r.apply(ctx, v, deployment); err != nil {
			return proceed, err
		}
	}
	for name, deployment := range v.Deployments {
		if deployment.Labels[fixture.LabelClient] != name || wanted[name] {
			continue
		}
		if err := r.Client.Delete(ctx, deployment, client.Preconditions{UID: &deployment.UID}); client.IgnoreNotFound(err) != nil {
			return proceed, fmt.Errorf("delete Deployment %s: %w", name, err)
		}
	}
	return proceed, nil
}

// awaitPods holds a probe back until its pods are up, the first time. Later on runs go on whatever happens to the pods:
// what the requests meet is then the finding.
func (r *Reconciler) awaitPods(ctx context.Context, v *visit) (verdict.Standing, error) {
	states := []podhealth.State{
		r.checkPods(v, fixture.SleepName(v.Probe.Spec.Revision), fixture.ClientLabels(fixture.SleepName(v.Probe.Spec.Revision)), api.SidecarEnabled),
		r.checkPods(v, fixture.OutsiderName, fixture.ClientLabels(fixture.OutsiderName), api.SidecarDisabled),
	}
	if v.Probe.Spec.Target.Service == nil {
		states = append([]podhealth.State{
			r.checkPods(v, fixture.ServerName(v.Probe.Name), fixture.ServerLabels(v.Probe.Name), v.Probe.Spec.Target.Sidecar),
		}, states...)
	}
	for _, state := range states {
		if state.Reason == api.ReasonSidecarNotInjected || state.Reason == api.ReasonSidecarNotWanted {
			r.Runner.Forget(keyOf(v))
			return standingOf(state), r.replaceUninjected(ctx, v)
		}
	}
	if judgedBefore(v.Probe) {
		return proceed, nil
	}
	for _, troubled := range []bool{true, false} {
		for _, state := range states {
			if !state.Ready && state.Troubled == troubled {
				return standingOf(state), nil
			}
		}
	}
	return proceed, nil
}

func (r *Reconciler) checkPods(v *visit, name string, labels map[string]string, sidecar api.Sidecar) podhealth.State {
	return podhealth.Check(name, v.Deployments[name], v.PodsOf(labels), sidecar)
}

func standingOf(state podhealth.State) verdict.Standing {
	phase := verdict.Progressing
	if state.Troubled {
		phase = verdict.Troubled
	}
	return verdict.Standing{Phase: phase, Reason: state.Reason, Message: state.Message}
}

// replaceUninjected deletes our own pods that the injector missed, so that their Deployment makes them anew.
func (r *Reconciler) replaceUninjected(ctx context.Context, v *visit) error {
	var failures []error
	for _, pod := range podhealth.Living(v.Pods) {
		if !fixture.WantsSidecar(pod.Labels) || podhealth.HasSidecar(pod) {
			continue
		}
		if age := r.Now().Sub(pod.CreationTimestamp.Time); age < uninjectedPodAge {
			v.lookAgain(uninjectedPodAge - age)
			continue
		}
		err := r.Client.Delete(ctx, &pod, client.Preconditions{UID: &pod.UID})
		failures = append(failures, client.IgnoreNotFound(err))
	}
	return errors.Join(failures...)
}

func keyOf(v *visit) schedule.Key {
	return schedule.Key{Namespace: v.Probe.Namespace, Name: v.Probe.Name}
}
