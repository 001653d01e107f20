package nodeconfig

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/pki"
)

// Client is an administrator's access to the cluster.
type Client struct {
	// Kubeconfig is the same as a file's content, for other programs.
	Kubeconfig []byte `json:"-"`
	// AuthorityPEM is what the API server's certificate chains to.
	AuthorityPEM []byte
	// CertificatePEM and KeyPEM prove who the administrator is.
	CertificatePEM, KeyPEM []byte
}

// writeKubeconfigs writes one for each of the node's programs, with no more
// rights than that program has in any cluster, and returns an administrator's.
func writeKubeconfigs(dir, name string, authority *pki.Authority, now time.Time) (Client, error) {
	programs := map[string]pki.Subject{
		"controller-manager": {Name: "system:kube-controller-manager"},
		"scheduler":          {Name: "system:kube-scheduler"},
		"proxy":              {Name: "system:kube-proxy"},
		"kubelet":            {Name: "system:node:" + name, Groups: []string{"system:nodes"}},
		"coredns":            {Name: "coredns"},
	}
	for program, subject := range programs {
		pair, err := authority.Issue(subject, now)
		if err != nil {
			return Client{}, err
		}
		file := filepath.Join(dir, program+".kubeconfig")
		if err := os.WriteFile(file, kubeconfig(authority, pair), 0o600); err != nil {
			return Client{}, fmt.Errorf("cannot write the kubeconfig of %s: %w", program, err)
		}
	}
	admin, err := authority.Issue(pki.Subject{Name: "admin", Groups: []string{"system:masters"}}, now)
	if err != nil {
		return Client{}, err
	}
	return Client{
		Kubeconfig:     kubeconfig(authority, admin),
		AuthorityPEM:   authority.CertificatePEM,
		CertificatePEM: admin.CertificatePEM,
		KeyPEM:         admin.KeyPEM,
	}, nil
}

func kubeconfig(authority *pki.Authority, user pki.Pair) []byte {
	encode := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: lab
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: lab
  user:
    client-certificate-data: %s
    client-key-data: %s
contexts:
- name: lab
  context: {cluster: lab, user: lab}
current-context: lab
`, APIServer, encode(authority.CertificatePEM), encode(user.CertificatePEM), encode(user.KeyPEM))
}
