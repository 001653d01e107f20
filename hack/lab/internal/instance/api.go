package instance

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/nodeconfig"
)

// api asks the lab's API server, as its administrator, from inside its network.
type api struct{ client *http.Client }

func (i Instance) api() (*api, error) {
	content, err := os.ReadFile(i.clientFile())
	if err != nil {
		return nil, fmt.Errorf("cannot read the administrator's certificate: %w", err)
	}
	var client nodeconfig.Client
	if err := json.Unmarshal(content, &client); err != nil {
		return nil, fmt.Errorf("%s is broken (%w): lab down and lab up make it anew", i.clientFile(), err)
	}
	certificate, err := tls.X509KeyPair(client.CertificatePEM, client.KeyPEM)
	if err != nil {
		return nil, fmt.Errorf("cannot use the administrator's certificate: %w", err)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(client.AuthorityPEM) {
		return nil, errors.New("cannot use the certificate of the lab's authority")
	}
	return &api{&http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			DialContext:     i.dial,
			TLSClientConfig: &tls.Config{RootCAs: authorities, Certificates: []tls.Certificate{certificate}},
			// One connection is enough, and its namespace work is done once.
			MaxIdleConnsPerHost: 1,
		},
	}}, nil
}

// get reads an object into v, which may be nil where only success counts.
func (a *api) get(ctx context.Context, path string, v any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, nodeconfig.APIServer+path, nil)
	if err != nil {
		return err
	}
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the API server answered %s with %s", path, response.Status)
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(content, v)
}

// conditioned is any object with conditions, such as a node.
type conditioned struct {
	Status struct {
		Conditions []struct{ Type, Status, Message string }
	}
}

// condition returns the status and message of one condition.
func (c conditioned) condition(kind string) (status, message string) {
	for _, each := range c.Status.Conditions {
		if each.Type == kind {
			return each.Status, each.Message
		}
	}
	return "Unknown", "it has no condition " + kind + " yet"
}
