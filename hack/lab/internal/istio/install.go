// Package istio installs Istio into a lab.
package istio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/instance"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/versions"
)

// settings are the minimal profile's, fitted to a small machine and to an Envoy
// that is not Istio's.
var settings = []string{
	"profile=minimal",
	"hub=" + versions.IstioHub,
	"tag=" + versions.Istio,
	// Upstream Envoy lacks Istio's own filters: telemetry, peer metadata and ALPN
	// need them. Mutual TLS, PeerAuthentication and DestinationRule do not.
	"values.telemetry.enabled=false",
	"values.pilot.env.PILOT_ENABLE_METADATA_EXCHANGE=false",
	"values.pilot.env.PILOT_ENABLE_ALPN_FILTER=false",
	"values.pilot.autoscaleEnabled=false",
	"values.pilot.resources.requests.cpu=10m",
	"values.pilot.resources.requests.memory=64Mi",
	"values.global.proxy.resources.requests.cpu=10m",
	"values.global.proxy.resources.requests.memory=32Mi",
}

// Install installs Istio with istioctl, which carries its charts within itself,
// and waits until istiod is available. Where it is installed already, that takes
// no time.
func Install(ctx context.Context, lab instance.Instance, istioctl string, patience time.Duration) error {
	if lab.IstioReady(ctx) {
		return nil
	}
	logPath := filepath.Join(filepath.Dir(lab.NodeLog()), "istioctl.log")
	log, err := os.Create(logPath)
	if err != nil {
		return fmt.Errorf("cannot write a log: %w", err)
	}
	defer log.Close()
	arguments := []string{"install", "--skip-confirmation"}
	for _, setting := range settings {
		arguments = append(arguments, "--set", setting)
	}
	install := lab.CommandInNetwork(ctx, istioctl, arguments...)
	install.Stdout, install.Stderr = log, log
	install.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := install.Run(); err != nil {
		var exit *exec.ExitError
		if ctx.Err() != nil {
			return errors.New("interrupted; the next lab up goes on from here")
		}
		if errors.As(err, &exit) {
			return fmt.Errorf("istioctl install failed (log: %s)", logPath)
		}
		return fmt.Errorf("cannot run istioctl: %w", err)
	}
	return lab.WaitForIstio(ctx, patience)
}
