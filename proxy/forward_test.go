package proxy_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Promise: method, path, query and body arrive byte for byte, with the API
// server's host, our credential and the caller's identity.
func TestForward(t *testing.T) {
	bothProtocols(t, func(t *testing.T, client, upstream int) {
		var got *http.Request
		var body []byte
		g := newGate(t, upstream, func(w http.ResponseWriter, r *http.Request) {
			got = r
			body, _ = io.ReadAll(r.Body)
			w.Header().Set("Audit-Id", r.Header.Get("Audit-Id"))
			w.Header().Set("Alt-Svc", `h3=":443"`)
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.Header().Set("X-Kubernetes-Pf-Flowschema-Uid", "uid")
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, "answer")
		})
		for _, path := range []string{
			"/", "/api/v1/pods", "/api//v1", "/a%2Fb/%2e%2e/c", "/a/../b", "/a;b?c;d&e=%zz&f=%20+", "/x?", "/é%C3%A9", "/api?watch=false&limit=500",
		} {
			r := g.request(http.MethodPatch, "/", "alice")
			r.URL.Opaque = path
			if rest, query, found := strings.Cut(path, "?"); found {
				r.URL.Opaque, r.URL.RawQuery, r.URL.ForceQuery = rest, query, query == ""
			}
			r.Body = io.NopCloser(strings.NewReader("sent"))
			resp, err := g.client(client).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if path == "/é%C3%A9" { // not ASCII: Go would write it in another way
				if resp.StatusCode != http.StatusBadRequest {
					t.Errorf("path %q: %d", path, resp.StatusCode)
				}
				continue
			}
			if err != nil || string(answer) != "answer" || resp.StatusCode != http.StatusConflict {
				t.Errorf("path %q: answer %d %q, %v", path, resp.StatusCode, answer, err)
			}
			if got.Method != http.MethodPatch || got.RequestURI != path || string(body) != "sent" || got.Host != strings.TrimPrefix(g.back.URL, "https://") {
				t.Errorf("arrived: %s %s at %s with %q; want path %q", got.Method, got.RequestURI, got.Host, body, path)
			}
			if got.ProtoMajor != upstream {
				t.Errorf("HTTP/%d to the API server, want %d", got.ProtoMajor, upstream)
			}
			want := http.Header{
				"Authorization": {"Bearer " + ownToken}, "Impersonate-User": {"alice"}, "Gatehouse-Via": {g.id}, "Impersonate-Group": {"dev"},
				"Audit-Id": resp.Header["Audit-Id"], "X-Forwarded-For": {"127.0.0.1"},
				"User-Agent": got.Header["User-Agent"], "Accept-Encoding": got.Header["Accept-Encoding"],
			}
			delete(got.Header, "Content-Length")
			if diff := cmp.Diff(want, got.Header); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
			if resp.Header["Alt-Svc"] != nil || resp.Header["Access-Control-Allow-Origin"] != nil || resp.Header.Get("X-Kubernetes-Pf-Flowschema-Uid") != "uid" {
				t.Errorf("answer's header %v", resp.Header)
			}
		}
	})
}

// Promise: an event of a watch, or a line of a log, is passed on when it comes.
func TestStreamsAreFlushed(t *testing.T) {
	bothProtocols(t, func(t *testing.T, client, upstream int) {
		next := make(chan struct{})
		g := newGate(t, upstream, func(w http.ResponseWriter, r *http.Request) {
			flush := http.NewResponseController(w)
			for range 3 {
				if err := flush.Flush(); err != nil {
					t.Error(err)
				}
				select {
				case <-next:
				case <-r.Context().Done():
					return
				}
				_, _ = io.WriteString(w, "event\n")
			}
		})
		for _, path := range []string{"/api/v1/pods?watch=true", "/api/v1/namespaces/d/pods/p/log?follow=true"} {
			resp, err := g.client(client).Do(g.request(http.MethodGet, path, "alice"))
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(resp.Body)
			for range 3 {
				next <- struct{}{} // the next event is made only after the last was read
				if line, err := lines.ReadString('\n'); line != "event\n" {
					t.Fatalf("line %q, %v", line, err)
				}
			}
			if rest, err := io.ReadAll(lines); len(rest) != 0 || err != nil {
				t.Errorf("after the end: %q, %v", rest, err)
			}
			resp.Body.Close()
		}
	})
}

// Promise: at the end of gatehouse's life watches end as if the API server had
// ended them, new ones are sent elsewhere, and everything else goes on.
func TestEndWatches(t *testing.T) {
	bothProtocols(t, func(t *testing.T, client, upstream int) {
		released := make(chan struct{})
		g := newGate(t, upstream, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "event\n")
			_ = http.NewResponseController(w).Flush()
			if r.URL.Query().Has("watch") {
				<-r.Context().Done()
				return
			}
			<-released
			_, _ = io.WriteString(w, "end\n")
		})
		c := g.client(client)
		do := func(path string) (*http.Response, *bufio.Reader) {
			resp, err := c.Do(g.request(http.MethodGet, path, "alice"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { resp.Body.Close() })
			lines := bufio.NewReader(resp.Body)
			if resp.StatusCode == http.StatusOK {
				if line, err := lines.ReadString('\n'); line != "event\n" {
					t.Fatalf("line %q, %v", line, err)
				}
			}
			return resp, lines
		}
		_, watch := do("/api/v1/pods?watch=true")
		_, slow := do("/api/v1/pods")
		g.proxy.EndWatches()
		if rest, err := io.ReadAll(watch); len(rest) != 0 || err != nil {
			t.Errorf("the watch ended with %q, %v; want a clean end", rest, err)
		}
		late, _ := do("/api/v1/pods?watch=1")
		if late.StatusCode != http.StatusServiceUnavailable || late.Header.Get("Retry-After") == "" {
			t.Errorf("a watch after the end: %d", late.StatusCode)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if g.proxy.Wait(ctx) == nil {
			t.Error("Wait did not wait for a request under way")
		}
		close(released)
		if rest, err := io.ReadAll(slow); string(rest) != "end\n" || err != nil {
			t.Errorf("the other request ended with %q, %v", rest, err)
		}
		if err := g.proxy.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Promise: a caller who leaves is noticed at the API server, and is no error.
func TestCallerLeaves(t *testing.T) {
	bothProtocols(t, func(t *testing.T, client, upstream int) {
		arrived, left := make(chan struct{}), make(chan struct{})
		g := newGate(t, upstream, func(_ http.ResponseWriter, r *http.Request) {
			close(arrived)
			<-r.Context().Done()
			close(left)
			panic(http.ErrAbortHandler) // so that no answer can overtake the news
		})
		ctx, leave := context.WithCancel(t.Context())
		go func() {
			<-arrived
			leave()
		}()
		if _, err := g.client(client).Do(g.request(http.MethodGet, "/api", "alice").WithContext(ctx)); err == nil {
			t.Error("an answer came")
		}
		<-left
		if err := g.proxy.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := g.count("gatehouse_requests_total", map[string]string{"code": "499"}); got != 1 {
			t.Errorf("counted %v, want 1; log:\n%s", got, g.log.Bytes())
		}
		if got := g.count("gatehouse_upstream_errors_total", nil); got != 0 {
			t.Errorf("%v errors of the API server", got)
		}
	})
}
