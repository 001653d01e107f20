package prober

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	// maxAdminBytes bounds one answer of Envoy's admin interface.
	maxAdminBytes = 1 << 20
	// adminQuestions is how many are asked at once beside those of the lane, so that their answers stay within the agent's
	// memory.
	adminQuestions = 1
)

var errTooLong = fmt.Errorf("the answer is longer than %d bytes", maxAdminBytes)

// admin asks the admin interfaces of Envoys, over connections that are kept: there are some questions a request.
type admin struct {
	transport *http.Transport
	questions chan struct{}
}

func newAdmin() *admin {
	return &admin{
		transport: &http.Transport{
			MaxIdleConnsPerHost: adminQuestions + 2, MaxIdleConns: 2 * (adminQuestions + 2), IdleConnTimeout: 30 * time.Second,
			DisableCompression: true, MaxResponseHeaderBytes: maxHeaderBytes,
		},
		questions: make(chan struct{}, adminQuestions),
	}
}

func (a *admin) close() { a.transport.CloseIdleConnections() }

// ask gets one page. Its errors read the same every time: they leave out from which port it was asked.
func (a *admin) ask(ctx context.Context, address, target string) ([]byte, error) {
	body, err := a.get(ctx, address, target)
	switch {
	case err == nil:
		return body, nil
	case ctx.Err() != nil:
		err = ctx.Err()
	}
	return nil, fmt.Errorf("admin interface of Envoy at %s: %w", address, whyUnread(err))
}

func (a *admin) get(ctx context.Context, address, target string) ([]byte, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, errors.New("is not host:port")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+target, nil)
	if err != nil {
		return nil, errors.New("is not host:port")
	}
	response, err := a.transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %d", response.StatusCode)
	}
	if response.ContentLength > maxAdminBytes {
		return nil, errTooLong
	}
	// Nobody could tell that a line is missing at the end, such as that of a handshake.
	if response.ContentLength < 0 && len(response.TransferEncoding) == 0 {
		return nil, errors.New("the answer does not say where it ends")
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAdminBytes+1))
	if err == nil && len(body) > maxAdminBytes {
		err = errTooLong
	}
	return body, err
}

// askBeside gets a page while requests are on their way.
func (a *admin) askBeside(ctx context.Context, address, target string) ([]byte, error) {
	select {
	case a.questions <- struct{}{}:
		defer func() { <-a.questions }()
		return a.ask(ctx, address, target)
	case <-ctx.Done():
		return nil, whyUnread(ctx.Err())
	}
}

// whyUnread leaves out the ports that a connection happened to have: the same failure must read the same every time.
func whyUnread(err error) error {
	var opErr *net.OpError
	var urlErr *url.Error
	switch {
	case errors.As(err, &urlErr):
		return whyUnread(urlErr.Err)
	case isTimeout(err):
		return errors.New("no answer in time")
	case errors.As(err, &opErr):
		return opErr.Err
	default:
		return err
	}
}
