package proxy_test

import (
	"context"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// vanisher is a TokenAuthenticator that does not even return.
type vanisher struct{}

func (vanisher) AuthenticateToken(context.Context, string) (*auth.Identity, error) {
	runtime.Goexit()
	return nil, nil
}

// Promise: where the goroutine of a watch is another's than net/http's, a fault of
// our own still ends that request alone: with 500, a log line that says where it
// was, and nothing of the request in it.
func TestPanicBeforeWatch(t *testing.T) {
	g := newGate(t, 2, func(http.ResponseWriter, *http.Request) { t.Error("a request that failed reached the API server") })
	client := g.client(2)
	for range 2 {
		resp, err := client.Do(g.request(http.MethodGet, "/api/v1/pods?watch=1", "panic"))
		if err != nil {
			t.Fatal(err)
		}
		wantOwnAnswer(t, resp, http.StatusInternalServerError, "")
		resp.Body.Close()
	}
	log := string(g.log.Bytes())
	if strings.Contains(log, "canary") || !strings.Contains(log, "users.AuthenticateToken") {
		t.Errorf("want where the panic was in the log, and not its value:\n%s", log)
	}
	if got := g.count("gatehouse_requests_in_flight", nil); got != 0 {
		t.Errorf("%v requests are under way, want none", got)
	}
}

// Promise: a watch whose goroutine ends in the middle is broken off, and never
// looks like an answer.
func TestNoAnswerToWatch(t *testing.T) {
	g := newGateFor(t, 2, auth.Bearer(vanisher{}), func(http.ResponseWriter, *http.Request) {})
	resp, err := g.client(2).Do(g.request(http.MethodGet, "/api/v1/pods?watch=1", "alice"))
	if err == nil {
		resp.Body.Close()
		t.Fatalf("status %d, want a broken stream", resp.StatusCode)
	}
}

// Promise: a watch that the API server breaks off, before its answer begins or
// after, leaves nothing behind, and its caller's next one is served.
func TestWatchesLeaveNothing(t *testing.T) {
	bothProtocols(t, func(t *testing.T, client, upstream int) {
		g := newGate(t, upstream, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Query().Get("end") {
			case "early":
				panic(http.ErrAbortHandler)
			case "late":
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, "event")
		})
		c := g.client(client)
		for _, end := range []string{"early", "late", "well"} {
			resp, err := c.Do(g.request(http.MethodGet, "/api/v1/pods?watch=1&end="+end, "alice"))
			if err != nil {
				t.Fatalf("%s: %v", end, err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if end == "well" && (err != nil || string(body) != "event") {
				t.Errorf("%s: %q, %v", end, body, err)
			}
		}
		if err := g.proxy.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := g.count("gatehouse_requests_in_flight", nil); got != 0 {
			t.Errorf("%v requests are under way, want none", got)
		}
	})
}
