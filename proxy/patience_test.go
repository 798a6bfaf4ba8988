package proxy_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/proxy"
)

// Promise: an API server that does not begin to answer holds nobody for ever, and
// one that has begun may take its time, as may a stream's. The answer says so too
// where a body would have had less time: there is none to be slow.
func TestSlowUpstream(t *testing.T) {
	const limit = 200 * time.Millisecond
	for _, protocol := range []int{1, 2} {
		release := make(chan struct{})
		g := limited(t, protocol, proxy.Limits{AnswerTime: limit, BodyTime: limit / 2}, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/api/v1/namespaces" {
				_, _ = io.WriteString(w, "[")
				_ = http.NewResponseController(w).Flush()
			}
			select {
			case <-r.Context().Done():
			case <-release:
				_, _ = io.WriteString(w, "]")
			}
		})
		for method, retry := range map[string]string{http.MethodGet: "1", http.MethodPost: ""} {
			resp, err := g.client(2).Do(g.request(method, "/api/v1/pods", "alice"))
			if err != nil {
				t.Fatal(err)
			}
			wantOwnAnswer(t, resp, http.StatusGatewayTimeout, "did not answer gatehouse in time")
			if got := resp.Header.Get("Retry-After"); got != retry {
				t.Errorf("HTTP/%d, %s: Retry-After %q, want %q", protocol, method, got, retry)
			}
			resp.Body.Close()
		}
		if got := g.count("gatehouse_upstream_errors_total", map[string]string{"reason": "timeout"}); got != 2 {
			t.Errorf("HTTP/%d: %v time-outs counted, want 2", protocol, got)
		}
		late := time.AfterFunc(3*limit, func() { close(release) }) // what must outlast the limit is in real time
		defer late.Stop()
		for _, path := range []string{"/api/v1/namespaces", "/api/v1/pods?watch=true"} {
			resp, err := g.client(2).Do(g.request(http.MethodGet, path, "alice"))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK || len(body) == 0 || body[len(body)-1] != ']' {
				t.Errorf("HTTP/%d, %s: status %d, %q, %v; want it whole", protocol, path, resp.StatusCode, body, err)
			}
		}
	}
}
