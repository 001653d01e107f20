package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/nodeconfig"
)

// WaitForAPI waits until the API server says it is ready.
func (i Instance) WaitForAPI(ctx context.Context, patience time.Duration) error {
	return i.wait(ctx, patience, "the API server", "kube-apiserver", func(ctx context.Context, a *api) error {
		return a.get(ctx, "/readyz", nil)
	})
}

// WaitForNode waits until the cluster calls the node ready.
func (i Instance) WaitForNode(ctx context.Context, patience time.Duration) error {
	return i.wait(ctx, patience, "the node", "kubelet", i.nodeReady)
}

func (i Instance) nodeReady(ctx context.Context, a *api) error {
	return isTrue(ctx, a, "/api/v1/nodes/"+i.Name, "Ready")
}

// WaitForIstio waits until istiod is available.
func (i Instance) WaitForIstio(ctx context.Context, patience time.Duration) error {
	return i.wait(ctx, patience, "istiod", "kubelet", istiodReady)
}

// IstioReady reports whether istiod is available now.
func (i Instance) IstioReady(ctx context.Context) bool {
	client, err := i.api()
	return err == nil && istiodReady(ctx, client) == nil
}

func istiodReady(ctx context.Context, a *api) error {
	return isTrue(ctx, a, "/apis/apps/v1/namespaces/istio-system/deployments/istiod", "Available")
}

// WaitForDNS waits until CoreDNS has read the cluster's services.
func (i Instance) WaitForDNS(ctx context.Context, patience time.Duration) error {
	return i.wait(ctx, patience, "CoreDNS", "coredns", func(ctx context.Context, _ *api) error { return i.dnsReady(ctx) })
}

func (i Instance) dnsReady(ctx context.Context) error {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DialContext: i.dial, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+nodeconfig.NodeAddress+":8181/ready", nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		content, _ := io.ReadAll(response.Body)
		return fmt.Errorf("CoreDNS still waits for: %s", content)
	}
	return nil
}

func isTrue(ctx context.Context, a *api, path, kind string) error {
	var object conditioned
	if err := a.get(ctx, path, &object); err != nil {
		return err
	}
	if status, message := object.condition(kind); status != "True" {
		return fmt.Errorf("its condition %s is %s: %s", kind, status, message)
	}
	return nil
}

// wait asks again and again until ready returns nil. component names the log to
// read when it never does.
func (i Instance) wait(ctx context.Context, patience time.Duration, what, component string, ready func(context.Context, *api) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client, err := i.api()
	if err != nil {
		return err
	}
	for {
		last := ready(ctx, client)
		if last == nil {
			return nil
		}
		if _, err := i.mustRun(); err != nil {
			return fmt.Errorf("the node ended while waiting for %s (log: %s)", what, i.NodeLog())
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return errors.New("interrupted; the next lab up goes on from here")
			}
			return fmt.Errorf("%s is not ready after %s: %w (see lab --name %s logs %s)", what, patience, last, i.Name, component)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
