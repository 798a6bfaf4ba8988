package proxy_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// leaver is a caller's connection that fails, and whose owner goes on reading what
// was written to it: net/http's HTTP/2 server may when a stream is reset.
type leaver struct {
	http.ResponseWriter
	kept [][]byte
}

func (l *leaver) Write(p []byte) (int, error) {
	l.kept = append(l.kept, p)
	return 0, errors.New("the stream is closed")
}

// Unwrap serves http.ResponseController.
func (l *leaver) Unwrap() http.ResponseWriter { return l.ResponseWriter }

// Promise: what is being written to one caller never becomes another's answer, not
// even when the caller leaves in the middle.
func TestBuffersAreNotShared(t *testing.T) {
	for _, protocol := range []int{1, 2} {
		g := newGate(t, protocol, func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(strings.Repeat(r.Header.Get("Impersonate-User"), 4000)))
		})
		for range 30 {
			caller := &leaver{ResponseWriter: httptest.NewRecorder()}
			for _, w := range []http.ResponseWriter{caller, httptest.NewRecorder()} {
				r := httptest.NewRequest(http.MethodGet, "/api/v1/pods", nil)
				r.Header.Set("Authorization", "Bearer bob")
				if w == caller {
					r.Header.Set("Authorization", "Bearer alice")
				}
				g.proxy.ServeHTTP(w, r)
			}
			if len(caller.kept) == 0 {
				t.Fatal("nothing was written")
			}
			for _, p := range caller.kept {
				if bytes.Contains(p, []byte("bob")) {
					t.Fatalf("HTTP/%d: alice's connection holds what came for bob", protocol)
				}
			}
		}
	}
}
