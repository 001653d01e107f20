// Package pki makes the keys and certificates of one lab. They are new for each
// lab and worth nothing anywhere else.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// lifetime is far longer than any lab lives: each start makes new certificates.
const lifetime = 365 * 24 * time.Hour

// Authority signs certificates.
type Authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	// CertificatePEM is the authority's own certificate.
	CertificatePEM []byte
	// KeyPEM is the authority's private key.
	KeyPEM []byte
}

// Pair is a certificate and its private key, in PEM.
type Pair struct{ CertificatePEM, KeyPEM []byte }

// Subject is whom a certificate is for.
type Subject struct {
	// Name is the common name, which Kubernetes takes for the user.
	Name string
	// Groups are the organizations, which Kubernetes takes for the groups.
	Groups []string
	// Addresses and Hosts are what a server's certificate is valid for.
	Addresses []string
	Hosts     []string
}

// NewAuthority makes a certificate authority.
func NewAuthority(name string, now time.Time) (*Authority, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, err
	}
	template, err := newTemplate(pkix.Name{CommonName: name}, now)
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("cannot sign the certificate of the authority %s: %w", name, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("cannot read back the certificate of the authority %s: %w", name, err)
	}
	return &Authority{key: key, certificate: certificate, CertificatePEM: encode("CERTIFICATE", der), KeyPEM: keyPEM}, nil
}

// Issue makes a key and a certificate that serves both ends of a connection.
func (a *Authority) Issue(subject Subject, now time.Time) (Pair, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return Pair{}, err
	}
	template, err := newTemplate(pkix.Name{CommonName: subject.Name, Organization: subject.Groups}, now)
	if err != nil {
		return Pair{}, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	template.DNSNames = subject.Hosts
	for _, address := range subject.Addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return Pair{}, fmt.Errorf("cannot sign the certificate of %s: %w", subject.Name, err)
	}
	return Pair{CertificatePEM: encode("CERTIFICATE", der), KeyPEM: keyPEM}, nil
}

// NewSigningKey makes the pair of keys with which service account tokens are
// signed and checked.
func NewSigningKey() (private, public []byte, err error) {
	key, private, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, fmt.Errorf("cannot write the service account key: %w", err)
	}
	return private, encode("PUBLIC KEY", der), nil
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot write a key: %w", err)
	}
	return key, encode("EC PRIVATE KEY", der), nil
}

func newTemplate(subject pkix.Name, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("cannot make a serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		// A clock that is set back a little must not make the lab unusable.
		NotBefore: now.Add(-time.Hour),
		NotAfter:  now.Add(lifetime),
	}, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
