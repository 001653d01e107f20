package controllers_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// letRead gives the operator the Role that docs/verdicts.md tells people to make: get on one Secret.
func (o *operator) letRead(t *testing.T, secret string) {
	t.Helper()
	name := metav1.ObjectMeta{Namespace: o.namespace, Name: "meshprobe-" + secret}
	role := &rbacv1.Role{ObjectMeta: name, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{secret}, Verbs: []string{"get"},
	}}}
	must(t, o.admin.Create(t.Context(), role))
	binding := &rbacv1.RoleBinding{
		ObjectMeta: name, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name.Name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: systemNamespace, Name: "httpsmeshprobe-manager"}},
	}
	must(t, o.admin.Create(t.Context(), binding))
}

// pair is a certificate with its key, in PEM.
type pair struct{ certificate, key []byte }

func (p pair) fingerprint(t *testing.T) string {
	t.Helper()
	certificate, err := fixture.ParseCertificate(string(p.certificate))
	must(t, err)
	return certificate.SHA256
}

// seen is what a client sees of the certificate.
func (p pair) seen() observation.Certificate {
	block, _ := pem.Decode(p.certificate)
	return presented(block.Bytes)
}

// issue makes a certificate for a name that ends at a time, as a user's own authority would.
func issue(t *testing.T, name string, ends time.Time) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: ends.Add(-100 * 24 * time.Hour), NotAfter: ends, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return pair{
		certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}),
	}
}

// putSecret makes a user's Secret what it is to be, whatever it was.
func (o *operator) putSecret(t *testing.T, name string, data map[string][]byte) *corev1.Secret {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: name}}
	if err := o.admin.Get(t.Context(), keyOf(secret), secret); apierrors.IsNotFound(err) {
		secret.Data = data
		must(t, o.admin.Create(t.Context(), secret, client.FieldOwner("user")))
		return secret
	}
	secret.Data = data
	must(t, o.admin.Update(t.Context(), secret, client.FieldOwner("user")))
	return secret
}

func (p pair) data() map[string][]byte {
	return map[string][]byte{corev1.TLSCertKey: p.certificate, corev1.TLSPrivateKeyKey: p.key}
}

func withCertificate(secret string) func(*api.HTTPSMeshProbe) {
	return func(p *api.HTTPSMeshProbe) { p.Spec.Target.Certificate = &api.TargetCertificate{SecretName: secret} }
}

// mends brings a probe through troubles with what its spec names, each of which is said, to its verdict. Nothing of it is
// watched: the test asks for a look, where the operator would look by itself within 15 seconds.
func (o *operator) mends(t *testing.T, name string, steps []mend) {
	t.Helper()
	for i, step := range steps {
		step.change()
		o.request(t, name, fmt.Sprint("step ", i))
		eventually(t, fmt.Sprintf("step %d of %s, %s", i, name, step.reason), func() error {
			if got := o.message(t, name, api.ConditionStalled); !containsAll(got, step.mentions...) {
				return fmt.Errorf("Stalled says %q, want it to mention %q", got, step.mentions)
			}
			if err := o.condition(t, name, api.ConditionReady, metav1.ConditionFalse, step.reason); err != nil {
				return err
			}
			return o.condition(t, name, api.ConditionStalled, metav1.ConditionTrue, step.reason)
		})
	}
}

type mend struct {
	change   func()
	reason   string
	mentions []string
}

func TestUsersCertificateIsRefusedUntilItIsRight(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	now := o.clock.now()
	right, other, ended := issue(t, "shop.example.com", now.Add(90*24*time.Hour)), issue(t, "shop.example.com", now.Add(time.Hour)), issue(t, "shop.example.com", now.Add(-time.Hour))
	early := issue(t, "shop.example.com", now.Add(200*24*time.Hour))
	o.create(t, "strict", withCertificate("users"), seldom)
	put := func(data map[string][]byte) func() { return func() { o.putSecret(t, "users", data) } }
	o.mends(t, "strict", []mend{
		{func() {}, api.ReasonSecretForbidden, []string{"Secret " + o.namespace + "/users", "Role with get on this Secret"}},
		{put(right.data()), api.ReasonSecretForbidden, []string{"may not read"}},
		{func() {
			must(t, o.admin.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: "users"}}))
			o.letRead(t, "users")
		}, api.ReasonCertificateInvalid, []string{"Secret " + o.namespace + "/users does not exist"}},
		{put(map[string][]byte{corev1.TLSCertKey: right.certificate}), api.ReasonCertificateInvalid, []string{"no entry tls.key"}},
		{put(map[string][]byte{corev1.TLSPrivateKeyKey: right.key}), api.ReasonCertificateInvalid, []string{"no entry tls.crt"}},
		{put(map[string][]byte{corev1.TLSCertKey: right.certificate, corev1.TLSPrivateKeyKey: other.key}), api.ReasonCertificateInvalid, []string{"no pair"}},
		{put(map[string][]byte{corev1.TLSCertKey: []byte("garbage"), corev1.TLSPrivateKeyKey: other.key}), api.ReasonCertificateInvalid, []string{"no pair"}},
		{put(ended.data()), api.ReasonCertificateInvalid, []string{"has ended on " + now.Add(-time.Hour).UTC().Format("2006-01-02")}},
		{put(early.data()), api.ReasonCertificateInvalid, []string{"begins only on"}},
	})
	if got := o.made(t, "apps/v1 Deployment"); len(got) != 0 {
		t.Errorf("Deployments without a certificate: got %d, want 0", len(got))
	}
	secret := o.putSecret(t, "users", right.data())
	before := asJSON(t, secret)
	o.awaitVerified(t, "strict") // by itself, this time
	if got := o.probe(t, "strict").Status.Certificate; got == nil || got.SHA256 != right.fingerprint(t) || got.DaysLeft == nil || *got.DaysLeft != 89 {
		t.Errorf("certificate in the status: got %+v, want %s with 89 days left", got, right.fingerprint(t))
	}
	if got := o.secrets(t); len(got) != 0 {
		t.Errorf("Secrets of the operator's own beside the user's: %v", got)
	}

	// The day comes on which it ends, though nothing else happens.
	o.clock.forward(91 * 24 * time.Hour)
	wantMention(t, o.await(t, "strict", api.ConditionStalled, metav1.ConditionTrue, api.ReasonCertificateInvalid), "has ended")
	must(t, o.get(t, "users", secret))
	if after := asJSON(t, secret); after != before {
		t.Errorf("the user's Secret was changed:\n%s\n%s", before, after)
	}
}

// A Secret is rotated in place, as cert-manager does; both certificates are met while pods are replaced.
func TestUsersCertificateIsRotated(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.letRead(t, "users")
	old, present := issue(t, "shop.example.com", o.clock.now().Add(time.Hour)), issue(t, "shop.example.com", o.clock.now().Add(2*time.Hour))
	o.putSecret(t, "users", old.data())
	o.create(t, "strict", withCertificate("users"))
	o.awaitVerified(t, "strict")
	if got := o.probe(t, "strict").Status.Certificate; got == nil || got.SHA256 != old.fingerprint(t) {
		t.Errorf("certificate in the status: got %+v, want the old one", got)
	}
	seen := o.follow(t, "strict")
	o.cluster.set("strict-nginx", fault{keepOld: true})
	o.putSecret(t, "users", present.data())
	eventually(t, "both certificates", func() error {
		if served, _ := o.cluster.servers(t.Context(), "strict"); len(served) != 2 {
			return fmt.Errorf("certificates in use: %v", served)
		}
		return nil
	})
	o.awaitRuns(t, "strict", 3)
	o.cluster.set("strict-nginx", fault{})
	eventually(t, "the new certificate alone", func() error {
		certificate, previous := o.certificate(t, "strict")
		if served, _ := o.cluster.servers(t.Context(), "strict"); !slices.Equal(served, []string{present.fingerprint(t)}) || certificate != served[0] || previous != "" {
			return fmt.Errorf("served %v, recorded %s after %q", served, certificate, previous)
		}
		if got := o.probe(t, "strict").Status.Certificate; got == nil || got.SHA256 != present.fingerprint(t) {
			return fmt.Errorf("status: %+v", got)
		}
		return nil
	})
	o.awaitRuns(t, "strict", 1)
	o.awaitVerified(t, "strict")
	seen.wantReady(t)
	must(t, o.get(t, "users", &corev1.Secret{}))
	if got := o.events(t, "strict", "Repaired"); len(got) != 0 {
		t.Errorf("events: got %v, want no repair", got)
	}
}

// Between the ConfigMap that names the new certificate and the Deployment whose pods are to have it, the API server may
// fail. The old certificate is still the one in use then, however long that lasts.
func TestOldUsersCertificateOutlivesAFailedRotation(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.letRead(t, "users")
	old, present := issue(t, "shop.example.com", o.clock.now().Add(time.Hour)), issue(t, "shop.example.com", o.clock.now().Add(2*time.Hour))
	o.putSecret(t, "users", old.data())
	o.create(t, "strict", withCertificate("users"))
	o.awaitVerified(t, "strict")
	seen := o.follow(t, "strict")
	o.calls.failing(appliesServer)
	o.putSecret(t, "users", present.data())
	o.request(t, "strict", "rotated")
	eventually(t, "the record of the new certificate", func() error {
		if recorded, _ := o.certificate(t, "strict"); recorded != present.fingerprint(t) {
			return fmt.Errorf("recorded is %s", recorded)
		}
		return nil
	})
	o.awaitRuns(t, "strict", 3)
	if recorded, previous := o.certificate(t, "strict"); recorded != present.fingerprint(t) || previous != old.fingerprint(t) {
		t.Errorf("while pods have the old certificate: recorded %s after %q, want the new one after the old one", recorded, previous)
	}
	o.calls.failing(nil)
	eventually(t, "the new certificate alone", func() error {
		served, _ := o.cluster.servers(t.Context(), "strict")
		if _, previous := o.certificate(t, "strict"); !slices.Equal(served, []string{present.fingerprint(t)}) || previous != "" {
			return fmt.Errorf("served %v, recorded as the one before %q", served, previous)
		}
		return nil
	})
	o.awaitRuns(t, "strict", 1)
	o.awaitVerified(t, "strict")
	seen.wantNotRefuted(t)
}

// From the operator's own certificate to a user's and back: each goes with its time, the user's Secret never.
func TestCertificateBecomesAUsersAndIsOursAgain(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.letRead(t, "users")
	users := issue(t, "shop.example.com", o.clock.now().Add(time.Hour))
	o.putSecret(t, "users", users.data())
	o.create(t, "strict")
	o.awaitVerified(t, "strict")
	o.change(t, "strict", withCertificate("users"))
	eventually(t, "the end of the operator's certificate", func() error {
		if served, _ := o.cluster.servers(t.Context(), "strict"); !slices.Equal(served, []string{users.fingerprint(t)}) {
			return fmt.Errorf("served %v", served)
		}
		if got := o.secrets(t); len(got) != 0 {
			return fmt.Errorf("Secrets %v", got)
		}
		return nil
	})
	o.awaitVerified(t, "strict")
	o.change(t, "strict", func(p *api.HTTPSMeshProbe) { p.Spec.Target.Certificate = nil })
	o.awaitRetired(t)
	o.awaitVerified(t, "strict")
	if served, _ := o.cluster.servers(t.Context(), "strict"); slices.Contains(served, users.fingerprint(t)) {
		t.Errorf("served %v, want the operator's certificate", served)
	}
	must(t, o.get(t, "users", &corev1.Secret{}))
}

func TestAuthorityInAConfigMap(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.declare(t, o.namespace, "default", strictMode, nil)
	o.addShop(t, 2)
	authority, stranger := issue(t, "shop.example.com", time.Now().Add(time.Hour)), issue(t, "shop.example.com", time.Now().Add(time.Hour))
	o.mesh.set(func(m *mesh) { m.certificates["shop"] = authority.seen() })
	o.create(t, "strict", ofService("shop"), seldom, func(p *api.HTTPSMeshProbe) {
		p.Spec.Target.CA = &api.CertificateAuthority{ConfigMap: &api.KeyReference{Name: "authority", Key: "ca.crt"}}
		p.Spec.Target.ServerName = "shop.example.com"
	})
	configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: "authority"}}
	put := func(data map[string]string) func() {
		return func() {
			configMap.Data = data
			if configMap.ResourceVersion == "" {
				must(t, o.admin.Create(t.Context(), configMap))
				return
			}
			must(t, o.admin.Update(t.Context(), configMap))
		}
	}
	o.mends(t, "strict", []mend{
		{func() {}, api.ReasonCAInvalid, []string{"ConfigMap " + o.namespace + "/authority does not exist"}},
		{put(map[string]string{}), api.ReasonCAInvalid, []string{"has no entry ca.crt; it has none"}},
		{put(map[string]string{"root.pem": "x", "b": "y"}), api.ReasonCAInvalid, []string{"has no entry ca.crt; it has b, root.pem"}},
		{put(map[string]string{"ca.crt": "garbage"}), api.ReasonCAInvalid, []string{"entry ca.crt", "no certificate in PEM"}},
		{put(map[string]string{"ca.crt": string(authority.key)}), api.ReasonCAInvalid, []string{"no certificate in PEM"}},
	})
	if got := o.mesh.requests("shop"); got != 0 {
		t.Errorf("requests without an authority: got %d, want 0", got)
	}
	put(map[string]string{"ca.crt": string(stranger.certificate)})()
	o.request(t, "strict", "stranger")
	wantMention(t, o.await(t, "strict", api.ConditionSleepVerified, metav1.ConditionFalse, api.ReasonUnexpectedCertificate), "target.ca does not vouch", "shop.example.com")
	o.await(t, "strict", api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted)
	put(map[string]string{"ca.crt": string(stranger.certificate) + string(authority.certificate)})()
	o.awaitVerified(t, "strict") // by itself, this time
	if got := o.probe(t, "strict").Status.Certificate; got == nil || got.SHA256 != authority.fingerprint(t) {
		t.Errorf("certificate in the status: got %+v", got)
	}
	for _, one := range o.mesh.arrived(func(one asked) bool { return one.target == "shop" }) {
		if one.ServerName != "shop.example.com" || !one.Chain {
			t.Fatalf("asked %+v, want the name in the spec, and the chain", one.Request)
		}
	}
	// The right authority vouches for no other name.
	o.change(t, "strict", func(p *api.HTTPSMeshProbe) { p.Spec.Target.ServerName = "other.example.com" })
	wantMention(t, o.await(t, "strict", api.ConditionSleepVerified, metav1.ConditionFalse, api.ReasonUnexpectedCertificate), "other.example.com")
}

func TestAuthorityInASecret(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.declare(t, o.namespace, "default", strictMode, nil)
	o.addShop(t, 1)
	host := strings.Join([]string{"shop", o.namespace, "svc.cluster.local"}, ".")
	authority := issue(t, host, time.Now().Add(time.Hour))
	o.mesh.set(func(m *mesh) { m.certificates["shop"] = authority.seen() })
	o.create(t, "strict", ofService("shop"), seldom, func(p *api.HTTPSMeshProbe) {
		p.Spec.Target.CA = &api.CertificateAuthority{Secret: &api.KeyReference{Name: "authority", Key: "ca.crt"}}
	})
	o.mends(t, "strict", []mend{
		{func() { o.putSecret(t, "authority", nil) }, api.ReasonSecretForbidden, []string{"Secret " + o.namespace + "/authority", "Role with get"}},
		{func() { o.letRead(t, "authority") }, api.ReasonCAInvalid, []string{"has no entry ca.crt; it has none"}},
		{func() { o.putSecret(t, "authority", map[string][]byte{"ca.crt": []byte("garbage")}) }, api.ReasonCAInvalid, []string{"no certificate in PEM"}},
	})
	o.putSecret(t, "authority", map[string][]byte{"ca.crt": authority.certificate})
	o.request(t, "strict", "right")
	o.awaitVerified(t, "strict")
	// What was once there is missed when it goes.
	must(t, o.admin.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: "authority"}}))
	o.mends(t, "strict", []mend{{func() {}, api.ReasonCAInvalid, []string{"Secret " + o.namespace + "/authority does not exist"}}})
}
