package nodeconfig

import (
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var made = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func written(t *testing.T) (string, Client) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "etc")
	client, err := Write(dir, "trial", made)
	if err != nil {
		t.Fatal(err)
	}
	return dir, client
}

func TestWriteFillsEveryTemplateAndKeepsItToRoot(t *testing.T) {
	dir, _ := written(t)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s can be read by others: %s", path, info.Mode())
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.Contains(string(content), "{{") || strings.Contains(string(content), "<no value>") {
			t.Errorf("%s is not filled in:\n%s", path, content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEachCertificateSaysWhoAndWhere(t *testing.T) {
	dir, client := written(t)
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(client.AuthorityPEM) {
		t.Fatal("the authority's certificate is unusable")
	}
	for _, c := range []struct{ file, user, group, host string }{
		{"apiserver", "kube-apiserver", "", NodeAddress},
		{"apiserver", "kube-apiserver", "", ServiceAddress},
		{"apiserver", "kube-apiserver", "", "kubernetes.default.svc"},
		{"kubelet", "system:node:trial", "system:nodes", NodeAddress},
		{"kubelet-client", "kubelet-client", "", ""},
		{"front-proxy", "front-proxy-client", "", ""},
	} {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "pki", c.file+".crt"), filepath.Join(dir, "pki", c.file+".key"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = pair.Leaf.Verify(x509.VerifyOptions{
			DNSName: c.host, Roots: authorities, CurrentTime: made.Add(time.Hour), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		})
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
		}
		groups := strings.Join(pair.Leaf.Subject.Organization, ",")
		if pair.Leaf.Subject.CommonName != c.user || groups != c.group {
			t.Errorf("%s is for the user %q in %q, expected %q in %q", c.file, pair.Leaf.Subject.CommonName, groups, c.user, c.group)
		}
	}
}

func TestAddressesAreFromTheBenchmarkRange(t *testing.T) {
	_, benchmark, err := net.ParseCIDR("198.18.0.0/15")
	if err != nil {
		t.Fatal(err)
	}
	for _, each := range []string{NodePrefix, PodRange, ServiceRange, ServiceAddress + "/32", NodeGateway + "/32"} {
		ip, _, err := net.ParseCIDR(each)
		if err != nil || !benchmark.Contains(ip) {
			t.Errorf("%s is outside %s (%v)", each, benchmark, err)
		}
	}
}

func TestKubeconfigsAreNewForEachLab(t *testing.T) {
	_, first := written(t)
	_, second := written(t)
	if string(first.Kubeconfig) == string(second.Kubeconfig) {
		t.Error("two labs have the same administrator's kubeconfig")
	}
}
