package proxy_test

import (
	"io"
	"net/http"
	"testing"
)

// Promise: a watch whose connection to the API server breaks ends cleanly, so
// that informers go on from the last event and do not list everything again.
// Any other answer does not look whole.
func TestBrokenStreams(t *testing.T) {
	bothProtocols(t, func(t *testing.T, client, upstream int) {
		broken := make(chan struct{})
		g := newGate(t, upstream, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "event\n")
			_ = http.NewResponseController(w).Flush()
			<-broken
			panic(http.ErrAbortHandler)
		})
		watch, log := g.open(g.client(client), watchPath), g.open(g.client(client), logPath)
		close(broken)
		if rest, err := io.ReadAll(watch); len(rest) != 0 || err != nil {
			t.Errorf("the watch ended with %q, %v; want a clean end", rest, err)
		}
		if _, err := io.ReadAll(log); err == nil {
			t.Error("the log looks whole")
		}
	})
}
