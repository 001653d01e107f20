package page

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// writeTimeout is how long a browser may take to accept what it is sent.
const writeTimeout = 10 * time.Second

// stream sends updates as Server-Sent Events (HTML Standard, section 9.2) until the browser or the server ends.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	subscriber := s.board.Subscribe()
	defer subscriber.Close()
	out := http.NewResponseController(w)
	for {
		select {
		case <-r.Context().Done():
			return
		case <-s.ending:
			// So that the page can tell an end from a fault.
			_ = send(w, out, "ended", struct{}{})
			return
		case <-subscriber.Wake:
			if send(w, out, "update", subscriber.Take()) != nil {
				return
			}
		}
	}
}

func send(w http.ResponseWriter, out *http.ResponseController, event string, data any) error {
	encoded, err := json.Marshal(data)
	if err != nil {
		return err
	}
	if err := out.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, encoded); err != nil {
		return err
	}
	return out.Flush()
}
