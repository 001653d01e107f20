package controllers

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
	"github.com/meshprobe/httpsmeshprobe/internal/podhealth"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// readCA reads the certificates that the server's must chain to.
func (r *Reconciler) readCA(_ context.Context, v *visit) (verdict.Standing, error) {
	ca := v.Probe.Spec.Target.CA
	if ca == nil {
		return proceed, nil
	}
	v.lookAgain(referenceRetry)
	if standing, ok := unavailable(v.CA, api.ReasonCAInvalid); ok {
		return standing, nil
	}
	key := ca.ConfigMap
	if key == nil {
		key = ca.Secret
	}
	text, ok := v.CA.Data[key.Key]
	if !ok {
		return stalled(api.ReasonCAInvalid, "%s has no entry %s; it has %s: correct spec.target.ca", v.CA.Object, key.Key, entries(v.CA.Data)), nil
	}
	v.server.ca = x509.NewCertPool()
	if !v.server.ca.AppendCertsFromPEM(text) {
		return stalled(api.ReasonCAInvalid, "entry %s of %s holds no certificate in PEM encoding", key.Key, v.CA.Object), nil
	}
	v.server.caText = string(text)
	return proceed, nil
}

// adoptUsersCertificate takes the certificate in the Secret that the spec names. While pods may still serve with the
// one before, either is the server's own.
func (r *Reconciler) adoptUsersCertificate(ctx context.Context, v *visit) (verdict.Standing, error) {
	v.lookAgain(referenceRetry)
	if standing, ok := unavailable(v.Certificate, api.ReasonCertificateInvalid); ok {
		return standing, nil
	}
	certificate, err := fixture.ReadCertificate(v.Certificate.Name, v.Certificate.Data, r.Now())
	if err != nil {
		return stalled(api.ReasonCertificateInvalid, "%s cannot be used: %v", v.Certificate.Object, err), nil
	}
	v.server.certificate = certificate
	if left := certificate.NotAfter.Sub(r.Now()); left > 0 {
		v.lookAgain(left)
	}
	if v.ServerConfigMap == nil {
		return proceed, nil
	}
	v.server.previous = recordedPrevious(v.ServerConfigMap)
	recorded, err := fixture.ParseCertificate(v.ServerConfigMap.Data[fixture.KeyCertificate])
	if err == nil && recorded.SHA256 != certificate.SHA256 {
		v.server.previous = recorded.SHA256
		return proceed, nil
	}
	// The cached Deployment may be the one before, which is rolled out, but with the certificate before.
	deployment := v.Deployments[fixture.ServerName(v.Probe.Name)]
	if deployment != nil && fixture.MadeFor(deployment, certificate) && podhealth.RolledOut(deployment) {
		return proceed, r.retireCertificate(ctx, v)
	}
	return proceed, nil
}

func unavailable(reference inventory.Reference, missing string) (verdict.Standing, bool) {
	switch {
	case reference.Missing:
		return stalled(missing, "%s does not exist: create it, or correct the spec", reference.Object), true
	case reference.Forbidden:
		return stalled(api.ReasonSecretForbidden,
			"the operator may not read %s, and reads no Secret unless it is let: give its service account a Role with get on this Secret (docs/verdicts.md, SecretForbidden)", reference.Object), true
	default:
		return verdict.Standing{}, false
	}
}

func entries(data map[string][]byte) string {
	if len(data) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(data)), ", ")
}

func stalled(reason, format string, arguments ...any) verdict.Standing {
	return verdict.Standing{Phase: verdict.Stalled, Reason: reason, Message: fmt.Sprintf(format, arguments...)}
}
