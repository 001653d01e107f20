package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// authority is a user's certificate authority.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         string
}

// pair is a certificate with its key, in PEM.
type pair struct {
	certificate, key []byte
	// sha256 is the certificate's fingerprint.
	sha256 string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := &authority{key: newKey(t)}
	der := sign(t, template, template, a.key, a.key)
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a.certificate, a.pem = certificate, string(encode("CERTIFICATE", der))
	return a
}

func (a *authority) issue(t *testing.T, names ...string) pair {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	key := newKey(t)
	der := sign(t, template, a.certificate, key, a.key)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return pair{certificate: encode("CERTIFICATE", der), key: encode("PRIVATE KEY", pkcs8), sha256: hex.EncodeToString(sum[:])}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) []byte {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// server is a Deployment of nginx and a Service in front of it, made as a user would; nothing of it is the operator's.
type server struct {
	namespace, name string
	// labels and annotations are the pods', beside the label app.
	labels, annotations map[string]string
	// listen and port are what nginx listens on and the Service's name for it.
	listen, port string
	authority    *authority
}

const (
	serverImage = "lab.local/nginx:1.22.1"
	serverPort  = 8443

	withTLS    = "8443 ssl"
	withoutTLS = "8443"
)

func newServer(t *testing.T, namespace, name string) *server {
	t.Helper()
	return &server{
		namespace: namespace, name: name, listen: withTLS, port: "https",
		labels: map[string]string{"sidecar.istio.io/inject": "true"}, authority: newAuthority(t, name+"'s authority"),
	}
}

func (s *server) selector() map[string]string { return map[string]string{"app": s.name} }

func (s *server) host() string { return s.name + "." + s.namespace + ".svc.cluster.local" }

// create makes all of it and waits for nothing.
func (s *server) create(t *testing.T) {
	t.Helper()
	issued := s.authority.issue(t, s.host())
	meta := metav1.ObjectMeta{Namespace: s.namespace, Name: s.name}
	for _, object := range []client.Object{
		&corev1.Secret{ObjectMeta: meta, Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{corev1.TLSCertKey: issued.certificate, corev1.TLSPrivateKeyKey: issued.key}},
		&corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"nginx.conf": s.configuration()}},
		&corev1.ServiceAccount{ObjectMeta: meta},
		s.deployment(meta),
		s.service(meta),
	} {
		if err := lab.Create(t.Context(), object); err != nil {
			t.Fatalf("create %T %s: %v", object, s.name, err)
		}
	}
}

func (s *server) configuration() string {
	return `pid /tmp/nginx.pid;
error_log /dev/stderr warn;
events {}
http {
  access_log off;
  server {
    listen ` + s.listen + `;
    ssl_certificate /etc/tls/tls.crt;
    ssl_certificate_key /etc/tls/tls.key;
    location / { return 200 "the user's own\n"; }
  }
}
`
}

func (s *server) deployment(meta metav1.ObjectMeta) *appsv1.Deployment {
	labels := s.selector()
	maps.Copy(labels, s.labels)
	scheme := corev1.URISchemeHTTPS
	if s.listen == withoutTLS {
		scheme = corev1.URISchemeHTTP
	}
	grace := int64(1)
	pod := corev1.PodSpec{
		ServiceAccountName: s.name, TerminationGracePeriodSeconds: &grace,
		Containers: []corev1.Container{{
			Name: "nginx", Image: serverImage, Command: []string{"nginx", "-c", "/etc/nginx-conf/nginx.conf", "-g", "daemon off;"},
			ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
				HTTPGet: &corev1.HTTPGetAction{Scheme: scheme, Port: intstr.FromInt32(serverPort)}}},
			VolumeMounts: []corev1.VolumeMount{{Name: "conf", MountPath: "/etc/nginx-conf"}, {Name: "tls", MountPath: "/etc/tls"}},
		}},
		Volumes: []corev1.Volume{
			{Name: "conf", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: s.name}}}},
			{Name: "tls", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: s.name}}},
		},
	}
	return &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: s.selector()},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: s.annotations}, Spec: pod},
	}}
}

func (s *server) service(meta metav1.ObjectMeta) *corev1.Service {
	return &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		Selector: s.selector(),
		Ports:    []corev1.ServicePort{{Name: s.port, Port: 443, TargetPort: intstr.FromInt32(serverPort)}},
	}}
}

// awaitPods waits until so many pods, and no others, are up, and the Service leads to them.
func (s *server) awaitPods(t *testing.T, n int) []corev1.Pod {
	t.Helper()
	var pods []corev1.Pod
	await(t, fmt.Sprintf("%d pods of %s", n, s.name), func() error {
		pods = podsWith(t, s.namespace, "app="+s.name)
		if len(pods) != n {
			return fmt.Errorf("there are %d", len(pods))
		}
		for _, pod := range pods {
			if pod.DeletionTimestamp != nil || !isReady(pod) {
				return fmt.Errorf("pod %s is not ready", pod.Name)
			}
		}
		if ready := s.readyEndpoints(t); ready != n {
			return fmt.Errorf("the Service leads to %d", ready)
		}
		return nil
	})
	return pods
}

func (s *server) readyEndpoints(t *testing.T) (ready int) {
	t.Helper()
	var list discoveryv1.EndpointSliceList
	if err := lab.List(t.Context(), &list, client.InNamespace(s.namespace), client.MatchingLabels{discoveryv1.LabelServiceName: s.name}); err != nil {
		t.Fatal(err)
	}
	for _, slice := range list.Items {
		for _, endpoint := range slice.Endpoints {
			if endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready {
				ready++
			}
		}
	}
	return ready
}

// probe declares what the server's user claims of it.
func (s *server) probe(name string, mode api.MTLSMode) *api.HTTPSMeshProbe {
	hmp := newProbe(s.namespace, name, meshed, mode)
	hmp.Spec.Target.Service = &api.TargetService{Name: s.name, Port: intstr.FromString(s.port)}
	return hmp
}

// trust makes a ConfigMap with the authority's certificate, and has the probe hold the server's against it.
func trust(t *testing.T, hmp *api.HTTPSMeshProbe, a *authority) {
	t.Helper()
	configMap := &corev1.ConfigMap{Data: map[string]string{"ca.crt": a.pem}}
	configMap.Namespace, configMap.Name = hmp.Namespace, hmp.Name+"-ca"
	if err := lab.Create(t.Context(), configMap); err != nil {
		t.Fatal(err)
	}
	hmp.Spec.Target.CA = &api.CertificateAuthority{ConfigMap: &api.KeyReference{Name: configMap.Name}}
}
