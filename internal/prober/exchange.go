package prober

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

var afterHandshakeFailed = stage{
	timeout: observation.ResponseTimeout,
	closed:  observation.ResponseClosed,
	reset:   observation.ResponseReset,
	other:   observation.NotHTTP,
}

// exchange sends the request and reads the response's header.
func (p *probe) exchange(ctx context.Context, conn *tls.Conn) {
	limited := &io.LimitedReader{R: conn, N: maxHeaderBytes}
	reader := bufio.NewReader(limited)
	if err := p.listen(ctx, conn, reader); err != nil {
		p.endFailed(err, afterHandshakeFailed)
		return
	}
	talk := talkHTTP1
	if conn.ConnectionState().NegotiatedProtocol == protocolHTTP2 {
		talk = talkHTTP2
	}
	// A failed write is not the end: the alert that explains it may be waiting to be read.
	code, writeErr, err := talk(conn, reader, p.http)
	if err != nil {
		if limited.N == 0 {
			p.end(observation.NotHTTP, fmt.Errorf("the header is longer than %d bytes", maxHeaderBytes))
			return
		}
		if writeErr != nil && !isAlert(err) {
			err = writeErr
		}
		p.endFailed(err, afterHandshakeFailed)
		return
	}
	p.seen.HTTPCode = code
	p.end(observation.Answered, nil)
}

// talkHTTP1 passes over interim responses (RFC 9110, section 15.2). 101 is the last of its connection.
func talkHTTP1(conn io.Writer, reader *bufio.Reader, request *http.Request) (code int, writeErr, err error) {
	writeErr = request.Write(conn)
	for {
		response, err := http.ReadResponse(reader, request)
		if err != nil {
			return 0, writeErr, err
		}
		// The body is not closed: that would read it to its end, which may never come. The connection is closed anyway.
		if code := response.StatusCode; code >= 200 || code == http.StatusSwitchingProtocols {
			return code, writeErr, nil
		}
	}
}

// wait ends a handshake after which no request follows: a peer that asked for a certificate has not judged it yet.
func (p *probe) wait(ctx context.Context, conn *tls.Conn) {
	if err := p.listen(ctx, conn, bufio.NewReader(conn)); err != nil {
		p.endFailed(err, afterHandshakeFailed)
		return
	}
	if ctx.Err() != nil {
		p.endFailed(ctx.Err(), afterHandshakeFailed)
		return
	}
	p.end(observation.Handshaken, nil)
}

// listen waits for the peer's verdict on our certificate, or on there being none. Silence means that the peer does not mind.
func (p *probe) listen(ctx context.Context, conn *tls.Conn, reader *bufio.Reader) error {
	if !p.seen.CertificateRequested || conn.ConnectionState().Version != tls.VersionTLS13 {
		return nil
	}
	deadline, _ := ctx.Deadline()
	wait := min(alertWait, time.Until(deadline)/2)
	_ = conn.SetReadDeadline(time.Now().Add(wait))
	_, err := reader.Peek(1)
	if err != nil && isTimeout(err) && ctx.Err() == nil {
		err = nil
	}
	_ = conn.SetReadDeadline(deadline)
	return err
}

var errNoHTTP2 = errors.New("malformed HTTP/2")
