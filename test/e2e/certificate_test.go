package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// TestUsersCertificate gives the operator's own server a certificate of the user's. The operator reads that Secret only
// when it is let. When the Secret is rotated, the new certificate is expected and seen, and Ready stays True meanwhile.
func TestUsersCertificate(t *testing.T) {
	ns := namespace(t)
	issuer := newAuthority(t, "cert-manager")
	host := "own-nginx." + ns + ".svc.cluster.local"
	first, second := issuer.issue(t, host), issuer.issue(t, host)
	secret := tlsSecret(ns, "users-own", first)
	if err := lab.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	hmp := newProbe(ns, "own", meshed, strict)
	hmp.Spec.Target.Certificate = &api.TargetCertificate{SecretName: secret.Name}
	createProbe(t, hmp)
	stalled := awaitCondition(t, hmp, api.ConditionStalled, metav1.ConditionTrue)
	wantCondition(t, stalled, api.ConditionReady, metav1.ConditionFalse, api.ReasonSecretForbidden)
	if c := condition(stalled, api.ConditionReady); !strings.Contains(c.Message, "Secret "+ns+"/users-own") {
		t.Errorf("Ready says %q", c.Message)
	}

	letOperatorRead(t, secret)
	verified := awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionTrue)
	checkCertificate(t, verified, first)

	ready := recordReady(t, hmp)
	secret = tlsSecret(ns, secret.Name, second)
	if err := lab.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	await(t, "the new certificate to be seen by every path that reaches the server", func() error {
		if verified = read(t, hmp); !seesCertificate(verified, second) {
			return fmt.Errorf("certificate %+v, paths %+v", verified.Status.Certificate, verified.Status.Paths)
		}
		return nil
	})
	t.Logf("the new certificate is seen %s after its Secret was written", time.Since(begun).Round(100*time.Millisecond))
	awaitOnePod(t, ns)
	if statuses := ready.end(t); !slices.Equal(statuses, []metav1.ConditionStatus{metav1.ConditionTrue}) {
		t.Errorf("Ready went through %v; want True throughout", statuses)
	}
	checkCertificate(t, read(t, hmp), second)
}

func tlsSecret(ns, name string, issued pair) *corev1.Secret {
	secret := &corev1.Secret{Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		corev1.TLSCertKey: issued.certificate, corev1.TLSPrivateKeyKey: issued.key,
	}}
	secret.Namespace, secret.Name = ns, name
	return secret
}

// letOperatorRead is what docs/verdicts.md advises under SecretForbidden.
func letOperatorRead(t *testing.T, secret *corev1.Secret) {
	t.Helper()
	meta := metav1.ObjectMeta{Namespace: secret.Namespace, Name: "meshprobe-" + secret.Name}
	for _, object := range []client.Object{
		&rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{secret.Name}, Verbs: []string{"get"}}}},
		&rbacv1.RoleBinding{ObjectMeta: meta,
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: operatorNamespace, Name: "httpsmeshprobe-manager"}}},
	} {
		if err := lab.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

func seesCertificate(hmp *api.HTTPSMeshProbe, issued pair) bool {
	return hmp.Status.Certificate != nil && hmp.Status.Certificate.SHA256 == issued.sha256 &&
		len(hmp.Status.Paths) > 0 && hmp.Status.Paths[0].Peer == "sha256:"+issued.sha256
}

func checkCertificate(t *testing.T, hmp *api.HTTPSMeshProbe, issued pair) {
	t.Helper()
	if !seesCertificate(hmp, issued) {
		t.Errorf("certificate %+v, paths %+v; want %s", hmp.Status.Certificate, hmp.Status.Paths, issued.sha256)
	}
	// It is valid for a day.
	if c := hmp.Status.Certificate; c != nil && (c.DaysLeft == nil || *c.DaysLeft != 0 || c.NotAfter == nil) {
		t.Errorf("certificate %+v; want less than a day left", c)
	}
}

func awaitOnePod(t *testing.T, ns string) {
	t.Helper()
	await(t, "the old pod of the server to be gone", func() error {
		if pods := podsWith(t, ns, "meshprobe.dev/probe=own"); len(pods) != 1 {
			return fmt.Errorf("there are %d", len(pods))
		}
		return nil
	})
}
