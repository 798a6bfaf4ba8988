// Package stub answers: what stands behind every proxy that is measured?
//
// An upstream with the outside of a kube-apiserver, for a fraction of its
// cost: TLS with HTTP/2 and HTTP/1.1, one small pod, one list of 5 MiB, and
// watches that are idle until an event is emitted to all of them at once.
package stub

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// The paths that are measured, and the sizes of what they answer.
const (
	PodPath   = "/api/v1/namespaces/default/pods/web-0"
	ListPath  = "/api/v1/pods"
	WatchPath = "/api/v1/namespaces/default/pods?watch=true"
	// EmitPath, by POST, sends one event to every open watch, and answers with
	// Emitted as JSON. No proxy is asked for it.
	EmitPath = "/bench/emit"
	// EchoPath answers with the header that arrived, as JSON.
	EchoPath = "/api/v1/namespaces/default/echo"

	PodBytes   = 1 << 10
	ListBytes  = 5 << 20
	EventBytes = 1 << 10
)

// Emitted says when an event began to be sent, in ns of Unix time, and to how
// many watches.
type Emitted struct {
	Began   int64
	Watches int
}

// streams is how many requests a connection of HTTP/2 may have under way: as
// kube-apiserver has it (k8s.io/apiserver, pkg/server/secure_serving.go).
const streams = 100

// Config says how to serve. All fields are required.
type Config struct {
	Certificate tls.Certificate
	// Token is the credential that every proxy must present.
	Token string
}

// Stub is the upstream.
type Stub struct {
	cfg              Config
	pod, list, event []byte

	mu      sync.Mutex
	watches map[chan []byte]struct{}
}

// New makes a stub.
func New(cfg Config) *Stub {
	return &Stub{
		cfg: cfg, watches: map[chan []byte]struct{}{},
		pod: document("Pod", PodBytes), list: document("PodList", ListBytes),
		event: append(document("Event", EventBytes-1), '\n'),
	}
}

// document is JSON of exactly size bytes.
func document(kind string, size int) []byte {
	head := []byte(`{"apiVersion":"v1","kind":"` + kind + `","metadata":{"name":"web-0"},"filler":"`)
	tail := []byte(`"}`)
	return bytes.Join([][]byte{head, bytes.Repeat([]byte("x"), size-len(head)-len(tail)), tail}, nil)
}

// Serve serves on listener until ctx ends.
func (s *Stub) Serve(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+EmitPath, s.emit)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	mux.HandleFunc("GET /version", version)
	mux.HandleFunc("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", allow)
	mux.HandleFunc("GET "+PodPath, s.forSomebody(func(w http.ResponseWriter, _ *http.Request) { write(w, s.pod) }))
	mux.HandleFunc("GET "+ListPath, s.forSomebody(func(w http.ResponseWriter, _ *http.Request) { write(w, s.list) }))
	mux.HandleFunc("GET "+EchoPath, s.forSomebody(func(w http.ResponseWriter, r *http.Request) {
		b, _ := json.Marshal(r.Header) // strings always marshal
		write(w, b)
	}))
	mux.HandleFunc("GET /api/v1/namespaces/default/pods", s.forSomebody(s.watch))
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	server := &http.Server{
		Handler:           mux,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{s.cfg.Certificate}, MinVersion: tls.VersionTLS12},
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: streams},
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // connections that end early are part of the game
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // what is under way need not end well
	defer stop()
	if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the stub: %w", err)
	}
	return nil
}

// forSomebody lets through what a proxy sent as itself for somebody: a proxy
// that is measured and does not do its job must not look fast.
func (s *Stub) forSomebody(next http.HandlerFunc) http.HandlerFunc {
	authorization := "Bearer " + s.cfg.Token
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case len(r.Header["Authorization"]) != 1 || r.Header["Authorization"][0] != authorization:
			http.Error(w, "not the proxy's credential", http.StatusUnauthorized)
		case len(r.Header["Impersonate-User"]) != 1:
			http.Error(w, "not for exactly one user", http.StatusBadRequest)
		default:
			next(w, r)
		}
	}
}

func write(w http.ResponseWriter, body []byte) {
	h := w.Header()
	h["Audit-Id"] = []string{"4c2f6b0e-8d0f-4a3e-9a52-0a6a3c1d7f10"}
	h["Cache-Control"] = []string{"no-cache, private"}
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	_, _ = w.Write(body) // whoever went away has no answer
}

func version(w http.ResponseWriter, _ *http.Request) {
	write(w, []byte(`{"major":"1","minor":"37","gitVersion":"v1.37.2"}`))
}

// allow answers a SelfSubjectAccessReview: gatehouse asks at its start what it
// may do.
func allow(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, `{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","status":{"allowed":true}}`)
}

// watch sends one event at once, as a watch of what exists does, and then what is
// emitted. (nginx keeps even the header back until a first byte of the body.)
func (s *Stub) watch(w http.ResponseWriter, r *http.Request) {
	events := make(chan []byte, 4)
	events <- s.event
	s.mu.Lock()
	s.watches[events] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.watches, events)
		s.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "application/json")
	flush := http.NewResponseController(w).Flush
	for {
		select {
		case <-r.Context().Done():
			return
		case event := <-events:
			if _, err := w.Write(event); err != nil || flush() != nil {
				return
			}
		}
	}
}

// emit sends an event to every watch.
func (s *Stub) emit(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	began, n := time.Now(), len(s.watches)
	for events := range s.watches {
		select {
		case events <- s.event:
		default: // a watch that is four events behind is not waited for
		}
	}
	s.mu.Unlock()
	b, _ := json.Marshal(Emitted{began.UnixNano(), n}) // numbers always marshal
	write(w, b)
}
