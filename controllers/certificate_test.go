package controllers_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
)

// untilRenewal is two thirds of a certificate's 365 days, and a little.
const untilRenewal = 365*24*time.Hour/3*2 + time.Hour

func (o *operator) secrets(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, secret := range o.made(t, "v1 Secret") {
		names = append(names, secret.Name)
	}
	return names
}

// certificate is the fingerprint of the certificate in a server's ConfigMap, and of the one that it replaced.
func (o *operator) certificate(t *testing.T, probe string) (present, previous string) {
	t.Helper()
	configMap := &corev1.ConfigMap{}
	must(t, o.get(t, fixture.ServerName(probe), configMap))
	certificate, err := fixture.ParseCertificate(configMap.Data[fixture.KeyCertificate])
	must(t, err)
	return certificate.SHA256, configMap.Annotations[fixture.AnnotationPreviousCertificate]
}

func secretOf(probe, fingerprint string) string {
	return fixture.Certificate{SHA256: fingerprint}.SecretName(probe)
}

func TestCertificateIsRenewed(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict")
	o.awaitVerified(t, "strict")
	old, _ := o.certificate(t, "strict")
	seen := o.follow(t, "strict")
	o.cluster.set("strict-nginx", fault{keepOld: true})
	o.clock.forward(untilRenewal)
	var present string
	eventually(t, "the new certificate", func() error {
		var previous string
		if present, previous = o.certificate(t, "strict"); present == old || previous != old {
			return fmt.Errorf("certificate %s, previous %q; the old one is %s", present, previous, old)
		}
		return nil
	})
	eventually(t, "both pods", func() error {
		if fingerprints, _ := o.cluster.servers(t.Context(), "strict"); len(fingerprints) != 2 {
			return fmt.Errorf("certificates in use: %v", fingerprints)
		}
		return nil
	})
	o.awaitRuns(t, "strict", 4)
	if got, want := o.secrets(t), []string{secretOf("strict", old), secretOf("strict", present)}; !sameInAnyOrder(got, want) {
		t.Errorf("Secrets while both pods run: got %v, want %v", got, want)
	}
	if _, previous := o.certificate(t, "strict"); previous != old {
		t.Errorf("previous certificate while its pod runs: got %q, want %s", previous, old)
	}
	o.cluster.set("strict-nginx", fault{})
	o.awaitRetired(t)
	o.awaitRuns(t, "strict", 1)
	o.awaitVerified(t, "strict")
	seen.wantReady(t)
	if got := o.events(t, "strict", "Repaired"); len(got) != 0 {
		t.Errorf("events: got %v, want no repair", got)
	}
}

// awaitRetired waits until nothing but the present certificate is left.
func (o *operator) awaitRetired(t *testing.T) {
	t.Helper()
	eventually(t, "the end of the old certificate", func() error {
		present, previous := o.certificate(t, "strict")
		if got := o.secrets(t); previous != "" || len(got) != 1 || got[0] != secretOf("strict", present) {
			return fmt.Errorf("certificate %s, previous %q, Secrets %v", present, previous, got)
		}
		return nil
	})
}

func sameInAnyOrder(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

// Between the ConfigMap that names a new certificate and the Deployment that mounts it, the API server may fail. The old
// certificate is still the one in use then, however long that lasts.
func TestOldCertificateOutlivesAFailedRenewal(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]func(*http.Request) bool{
		"the Deployment is not applied": appliesServer,
		"the Secret is not created":     createsSecret,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := startOperator(t)
			o.create(t, "strict")
			o.awaitVerified(t, "strict")
			old, _ := o.certificate(t, "strict")
			seen := o.follow(t, "strict")
			o.calls.failing(fails)
			o.clock.forward(untilRenewal)
			o.awaitRuns(t, "strict", 3)
			present, previous := o.certificate(t, "strict")
			if present == old || previous != old || !slices.Contains(o.secrets(t), secretOf("strict", old)) {
				t.Errorf("while the Deployment mounts %s: certificate %s, previous %q, Secrets %v; want the old Secret kept", old, present, previous, o.secrets(t))
			}
			o.cluster.set("strict-nginx", fault{keepOld: true})
			o.calls.failing(nil)
			o.awaitRuns(t, "strict", 4)
			o.cluster.set("strict-nginx", fault{})
			o.awaitRetired(t)
			o.awaitRuns(t, "strict", 1)
			o.awaitVerified(t, "strict")
			seen.wantNotRefuted(t)
		})
	}
}

func appliesServer(r *http.Request) bool {
	return r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/deployments/strict-nginx")
}

func createsSecret(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/secrets") && r.URL.Query().Get("dryRun") == ""
}

func TestLostSecretIsReplaced(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.cluster.set("strict-nginx", fault{slow: true})
	o.create(t, "strict")
	eventually(t, "the server's pod", func() error {
		if len(o.pods(t, fixture.ServerLabels("strict"))) != 1 || len(o.secrets(t)) != 1 {
			return fmt.Errorf("pods %d, Secrets %v", len(o.pods(t, fixture.ServerLabels("strict"))), o.secrets(t))
		}
		return nil
	})
	old, _ := o.certificate(t, "strict")
	must(t, o.admin.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: secretOf("strict", old)}}))
	throughout(t, 2*time.Second, "the server has only begun to start", func() error {
		if present, _ := o.certificate(t, "strict"); present != old {
			return fmt.Errorf("the certificate was replaced at once")
		}
		return nil
	})
	o.clock.forward(11 * time.Second)
	o.cluster.set("strict-nginx", fault{})
	eventually(t, "another certificate", func() error {
		if present, _ := o.certificate(t, "strict"); present == old {
			return fmt.Errorf("it is still the one without Secret")
		}
		return nil
	})
	o.awaitVerified(t, "strict")
	o.awaitRetired(t)
}

// A Secret that could not be created after its ConfigMap was is noticed before anything mounts it.
func TestCertificateWithoutSecretIsNotRolledOut(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.calls.failing(createsSecret)
	o.create(t, "strict")
	eventually(t, "the ConfigMap", func() error { return o.get(t, "strict-nginx", &corev1.ConfigMap{}) })
	throughout(t, 2*time.Second, "no Secret can be created", func() error {
		if got := len(o.made(t, "apps/v1 Deployment")); got != 0 {
			return fmt.Errorf("%d Deployments were made", got)
		}
		return nil
	})
	o.calls.failing(nil)
	o.awaitVerified(t, "strict")
	o.awaitRetired(t)
}

func TestOperatorCannotReadSecrets(t *testing.T) {
	t.Parallel()
	server := theAPIServer(t)
	operator, err := client.New(server.operator, client.Options{Scheme: server.scheme})
	must(t, err)
	for verb, allowed := range map[string]bool{
		"get": false, "list": false, "watch": false, "update": false, "patch": false, "deletecollection": false, "create": true, "delete": true,
	} {
		for _, namespace := range []string{"", "default", systemNamespace} {
			review := &authorizationv1.SelfSubjectAccessReview{}
			review.Spec.ResourceAttributes = &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: verb, Resource: "secrets"}
			must(t, operator.Create(t.Context(), review))
			if got := review.Status.Allowed; got != allowed {
				t.Errorf("%s secrets in namespace %q: allowed is %v, want %v", verb, namespace, got, allowed)
			}
		}
	}
	if err := operator.List(t.Context(), &corev1.SecretList{}); !apierrors.IsForbidden(err) {
		t.Errorf("list of all Secrets: got %v, want it forbidden", err)
	}
}

func TestKeysAreNowhereButInTheirSecrets(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict")
	o.awaitVerified(t, "strict")
	o.clock.forward(untilRenewal)
	old, _ := o.certificate(t, "strict")
	o.calls.failing(func(r *http.Request) bool {
		return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/secrets")
	})
	o.awaitRuns(t, "strict", 2)
	o.calls.failing(nil)
	eventually(t, "the renewed certificate", func() error {
		if present, previous := o.certificate(t, "strict"); present == old || previous != "" || len(o.secrets(t)) != 1 {
			return fmt.Errorf("certificate %s, previous %q, Secrets %v", present, previous, o.secrets(t))
		}
		return nil
	})
	var secret corev1.Secret
	must(t, o.get(t, o.secrets(t)[0], &secret))
	block, _ := pem.Decode(secret.Data[corev1.TLSPrivateKeyKey])
	if block == nil || block.Type != "PRIVATE KEY" {
		t.Fatal("the Secret holds no key: what is to be looked for?")
	}
	body := strings.Split(string(secret.Data[corev1.TLSPrivateKeyKey]), "\n")[5]
	for place, text := range o.publicPlaces(t) {
		if text == "" {
			t.Errorf("%s: empty, so nothing was looked at", place)
		}
		for _, trace := range []string{"PRIVATE KEY", body, "tls.key\":"} {
			if strings.Contains(text, trace) {
				t.Errorf("%s holds %q", place, trace)
			}
		}
	}
}

// publicPlaces is what others than the server may read.
func (o *operator) publicPlaces(t *testing.T) map[string]string {
	t.Helper()
	var events eventsv1.EventList
	must(t, o.admin.List(t.Context(), &events, client.InNamespace(o.namespace)))
	var configMaps corev1.ConfigMapList
	must(t, o.admin.List(t.Context(), &configMaps, client.InNamespace(o.namespace)))
	places := map[string]string{"the logs": logged.all()}
	for place, object := range map[string]any{"the probe": o.probe(t, "strict"), "the events": events, "the ConfigMaps": configMaps} {
		encoded, err := json.Marshal(object)
		must(t, err)
		places[place] = string(encoded)
	}
	return places
}
