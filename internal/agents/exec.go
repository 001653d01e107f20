package agents

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
)

// Exec opens streams through the API server's pods/exec.
type Exec struct {
	config  *rest.Config
	client  rest.Interface
	command []string
}

// NewExec returns an Opener that runs command, the agent, in the containers.
func NewExec(config *rest.Config, command ...string) (*Exec, error) {
	config = rest.CopyConfig(config)
	config.GroupVersion = &corev1.SchemeGroupVersion
	config.APIPath = "/api"
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("client for pods/exec: %w", err)
	}
	return &Exec{config: config, client: client, command: command}, nil
}

// Open runs the agent in a container until it or ctx ends.
func (e *Exec) Open(ctx context.Context, from Vantage, stdin io.Reader, stdout io.Writer) error {
	target := e.client.Post().Resource("pods").Namespace(from.Namespace).Name(from.Pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: from.Container, Command: e.command, Stdin: true, Stdout: true, Stderr: true,
		}, scheme.ParameterCodec).URL()
	// WebSocket first: SPDY is deprecated, and not every proxy before an API server passes it on.
	websocket, err := remotecommand.NewWebSocketExecutor(e.config, http.MethodGet, target.String())
	if err != nil {
		return err
	}
	spdy, err := remotecommand.NewSPDYExecutor(e.config, http.MethodPost, target)
	if err != nil {
		return err
	}
	executor, err := remotecommand.NewFallbackExecutor(websocket, spdy, func(err error) bool {
		return !isForbidden(err) && (httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err))
	})
	if err != nil {
		return err
	}
	complaint := &tail{}
	ended := make(chan error, 1)
	go func() {
		ended <- executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: stdin, Stdout: stdout, Stderr: complaint})
	}()
	// While an upgrade is under way the executor does not look at ctx, and an API server that is frozen leaves it there.
	select {
	case err = <-ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	switch {
	case err == nil:
		return ErrAgentEnded
	case isForbidden(err):
		return fmt.Errorf("%w: %w; unless a policy forbids it, grant the operator's service account create and get on pods/exec in namespace %s",
			ErrForbidden, err, from.Namespace)
	case complaint.String() != "":
		return fmt.Errorf("%w: %s", err, complaint)
	default:
		return err
	}
}

// isForbidden says whether the API server answered 403. The WebSocket's error keeps that status to itself, and of
// SPDY's there is but the text.
func isForbidden(err error) bool {
	var refused *httpstream.UpgradeFailureError
	if errors.As(err, &refused) {
		err = refused.Cause
	}
	return apierrors.IsForbidden(err) || strings.HasPrefix(err.Error(), "unable to upgrade connection: ") && strings.Contains(err.Error(), "is forbidden")
}

const maxComplaint = 256

// tail keeps the first line or so of what the agent says on standard error.
type tail struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text.Write(p[:min(len(p), maxComplaint-t.text.Len())])
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(t.text.String())
}
