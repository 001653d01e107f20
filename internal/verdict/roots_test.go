package verdict_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"net/url"
	"testing"
	"time"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

const sidecarID = "spiffe://cluster.local/ns/shop/sa/strict-nginx"

var probedAt = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// authority signs certificates, as a mesh's CA does.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, parent *authority) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: probedAt.Add(-time.Hour), NotAfter: probedAt.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if parent == nil {
		parent = &authority{certificate: template, key: key}
	}
	return &authority{certificate: sign(t, parent, template, key), key: key}
}

// issue makes a certificate of the server's sidecar.
func (a *authority) issue(t *testing.T, notAfter time.Time) *x509.Certificate {
	t.Helper()
	id, err := url.Parse(sidecarID)
	if err != nil {
		t.Fatal(err)
	}
	return a.issueOne(t, x509.Certificate{NotAfter: notAfter, URIs: []*url.URL{id}})
}

// issueFor makes a certificate of a server for one name.
func (a *authority) issueFor(t *testing.T, name string, notAfter time.Time) *x509.Certificate {
	t.Helper()
	return a.issueOne(t, x509.Certificate{NotAfter: notAfter, DNSNames: []string{name}})
}

func (a *authority) issueOne(t *testing.T, template x509.Certificate) *x509.Certificate {
	t.Helper()
	template.SerialNumber, template.NotBefore = big.NewInt(2), probedAt.Add(-time.Hour)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return sign(t, a, &template, newKey(t))
}

// pool holds the authority as a root.
func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// presented is what an agent reports of a chain.
func presented(chain ...*x509.Certificate) *observation.Certificate {
	sum := sha256.Sum256(chain[0].Raw)
	leaf := &observation.Certificate{SHA256: hex.EncodeToString(sum[:]), NotAfter: chain[0].NotAfter}
	for _, uri := range chain[0].URIs {
		leaf.URIs = append(leaf.URIs, uri.String())
	}
	for _, certificate := range chain {
		leaf.Chain = append(leaf.Chain, certificate.Raw)
	}
	return leaf
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, by *authority, template *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, by.certificate, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// TestRefusalChainsToTheMeshRoot lets nobody refuse in the sidecar's name whom the mesh's root does not vouch for.
func TestRefusalChainsToTheMeshRoot(t *testing.T) {
	root := newAuthority(t, nil)
	intermediate := newAuthority(t, root)
	stranger := newAuthority(t, nil)
	tomorrow, lastHour := probedAt.Add(24*time.Hour), probedAt.Add(-30*time.Minute)
	roots := root.pool()
	for name, c := range map[string]struct {
		roots *x509.CertPool
		chain []*x509.Certificate
		want  api.Outcome
	}{
		"signed by the root":           {roots, []*x509.Certificate{root.issue(t, tomorrow)}, api.OutcomeMatch},
		"signed by an intermediate":    {roots, []*x509.Certificate{intermediate.issue(t, tomorrow), intermediate.certificate}, api.OutcomeMatch},
		"the intermediate is missing":  {roots, []*x509.Certificate{intermediate.issue(t, tomorrow)}, api.OutcomeUnknown},
		"signed by a stranger":         {roots, []*x509.Certificate{stranger.issue(t, tomorrow), stranger.certificate}, api.OutcomeUnknown},
		"ended before the probe":       {roots, []*x509.Certificate{root.issue(t, lastHour)}, api.OutcomeUnknown},
		"no chain at all":              {roots, nil, api.OutcomeUnknown},
		"the mesh's root is not known": {nil, nil, api.OutcomeMatch},
	} {
		t.Run(name, func(t *testing.T) {
			leaf := &observation.Certificate{SHA256: "aa", URIs: []string{sidecarID}}
			for _, certificate := range c.chain {
				leaf.Chain = append(leaf.Chain, certificate.Raw)
			}
			known := criteria(strict)
			known.Server.Roots = c.roots
			paths := after(known, refusedBy(leaf))
			if got := paths[1].Evidence.Outcome; got != c.want {
				t.Errorf("outcome %s (%s), want %s", got, paths[1].Message, c.want)
			}
		})
	}
}

// refusedBy is a run whose control got through, and whose other paths were refused by whoever has the leaf.
func refusedBy(leaf *observation.Certificate) observation.Run {
	refused := observation.Result{Seen: observation.Observation{
		Class: observation.ClientCertificateRequired, Started: probedAt, Leaf: leaf, CertificateRequested: true, Alert: "certificate_required",
	}}
	return observation.Run{Started: probedAt, Results: map[string]observation.Result{
		string(api.PathSleep): {Seen: observation.Observation{
			Class: observation.Answered, Started: probedAt, HTTPCode: 200, Leaf: &observation.Certificate{SHA256: "nginx"},
		}},
		string(api.PathIstioProxy): refused,
		string(api.PathOutsider):   refused,
	}}
}
