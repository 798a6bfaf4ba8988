package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// fickle is a TokenAuthenticator whose verdict of all tokens can be changed.
type fickle struct {
	mu      sync.Mutex
	expires time.Time
	groups  []string
	err     error
}

func (f *fickle) AuthenticateToken(_ context.Context, token string) (*auth.Identity, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	if !f.expires.IsZero() && f.expires.Before(time.Now()) {
		refusal := auth.Refuse(auth.KindOIDC, auth.Expired, "")
		refusal.At = f.expires
		return nil, refusal
	}
	return &auth.Identity{Kind: auth.KindOIDC, User: auth.User{Name: token, Groups: f.groups}, Expires: f.expires}, nil
}

func (f *fickle) set(change func(*fickle)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// endless serves one line at once, and then nothing until the request ends.
func endless(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, "event\n")
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// open begins a stream and reads its first line.
func (g *gate) open(client *http.Client, path string) *bufio.Reader {
	g.t.Helper()
	resp, err := client.Do(g.request(http.MethodGet, path, "alice"))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { resp.Body.Close() })
	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); line != "event\n" {
		g.t.Fatalf("line %q, %v", line, err)
	}
	return lines
}

// running starts what judges streams again.
func (g *gate) running() {
	g.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.proxy.Run(ctx)
	}()
	g.t.Cleanup(func() { stop(); <-done })
}

const watchPath, logPath, podsPath = "/api/v1/pods?watch=true", "/api/v1/namespaces/d/pods/p/log?follow=true", "/api/v1/pods"

// Promise: a credential's end is its streams' end, whether it expires, is
// withdrawn, or makes another user than before. A watch ends as if the API
// server had ended it; any other answer does not look whole.
func TestStreamsEndWithTheirCredential(t *testing.T) {
	for name, change := range map[string]struct {
		change func(*fickle)
		label  string
	}{
		"revoked":  {func(f *fickle) { f.err = auth.Refuse(auth.KindOIDC, auth.Revoked, "") }, "revoked"},
		"removed":  {func(f *fickle) { f.err = auth.ErrNotMine }, "unknown_token"},
		"group":    {func(f *fickle) { f.groups = []string{"dev"} }, "identity_changed"},
		"expired":  {func(f *fickle) { f.expires = time.Now().Add(-time.Second) }, "expired"},
		"no group": {func(f *fickle) { f.groups = nil }, "identity_changed"},
	} {
		t.Run(name, func(t *testing.T) {
			bothProtocols(t, func(t *testing.T, client, upstream int) {
				verdict := &fickle{groups: []string{"ops", "qa"}}
				g := newGateFor(t, upstream, auth.Bearer(verdict), endless)
				g.running()
				watch, log := g.open(g.client(client), watchPath), g.open(g.client(client), logPath)
				verdict.set(change.change)
				g.proxy.Recheck()
				if rest, err := io.ReadAll(watch); len(rest) != 0 || err != nil {
					t.Errorf("the watch ended with %q, %v; want a clean end", rest, err)
				}
				if _, err := io.ReadAll(log); err == nil {
					t.Error("the log looks whole")
				}
				if err := g.proxy.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := g.count("gatehouse_streams_ended_total", map[string]string{"reason": change.label}); got != 2 {
					t.Errorf("counted %v ended by %s, want 2; log:\n%s", got, change.label, g.log.Bytes())
				}
			})
		})
	}
}

// Promise: a stream ends when its token expires, without anybody's saying so.
func TestStreamsEndAtExpiry(t *testing.T) {
	g := newGateFor(t, 2, auth.Bearer(&fickle{expires: time.Now().Add(1500 * time.Millisecond)}), endless)
	g.running()
	start := time.Now()
	watch := g.open(g.client(2), watchPath)
	if rest, err := io.ReadAll(watch); len(rest) != 0 || err != nil {
		t.Errorf("the watch ended with %q, %v", rest, err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it ended after %s", took)
	}
}

// Promise: streams go on while nothing changes for them: the same groups in
// another order, a verdict that cannot be reached now, and a plain request that
// was good when it came.
func TestStreamsThatGoOn(t *testing.T) {
	for name, tt := range map[string]struct {
		path   string
		change func(*fickle)
	}{
		"same verdict":          {watchPath, func(*fickle) {}},
		"order of groups":       {watchPath, func(f *fickle) { f.groups = []string{"qa", "ops"} }},
		"issuer not reachable":  {watchPath, func(f *fickle) { f.err = auth.Refuse(auth.KindOIDC, auth.IssuerUnavailable, "") }},
		"authenticator fails":   {logPath, func(f *fickle) { f.err = errors.New("broken") }},
		"plain request, denied": {podsPath, func(f *fickle) { f.err = auth.Refuse(auth.KindOIDC, auth.Revoked, "") }},
	} {
		t.Run(name, func(t *testing.T) {
			next, judged := make(chan struct{}), make(chan struct{}, 8)
			verdict := &fickle{groups: []string{"ops", "qa"}}
			hearing := tokens(func(ctx context.Context, token string) (*auth.Identity, error) {
				defer func() { judged <- struct{}{} }()
				return verdict.AuthenticateToken(ctx, token)
			})
			g := newGateFor(t, 2, auth.Bearer(hearing), func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "event\n")
				_ = http.NewResponseController(w).Flush()
				<-next
				_, _ = io.WriteString(w, "more\n")
			})
			g.running()
			stream := g.open(g.client(2), tt.path)
			<-judged
			verdict.set(tt.change)
			g.proxy.Recheck()
			if tt.path != podsPath {
				<-judged // and what comes of it, comes before what follows in the stream's own time
			}
			close(next)
			if rest, err := io.ReadAll(stream); string(rest) != "more\n" || err != nil {
				t.Errorf("the stream ended with %q, %v", rest, err)
			}
		})
	}
}

// tokens is a TokenAuthenticator made of a function.
type tokens func(context.Context, string) (*auth.Identity, error)

func (f tokens) AuthenticateToken(ctx context.Context, token string) (*auth.Identity, error) {
	return f(ctx, token)
}

// Promise: an upgraded connection ends with its credential on both sides.
func TestUpgradesEndWithTheirCredential(t *testing.T) {
	verdict, closed := &fickle{}, make(chan struct{})
	g := newGateFor(t, 1, auth.Bearer(verdict), func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
		_, _ = io.Copy(io.Discard, buffered)
		close(closed)
	})
	g.running()
	r := g.request(http.MethodPost, "/api/v1/namespaces/d/pods/p/exec?command=sh", "alice")
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "SPDY/3.1")
	resp, err := g.client(1).Do(r)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	defer resp.Body.Close()
	verdict.set(func(f *fickle) { f.err = auth.Refuse(auth.KindOIDC, auth.Revoked, "") })
	g.proxy.Recheck()
	_, _ = io.Copy(io.Discard, resp.Body) // ends
	<-closed
	if err := g.proxy.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines := g.requestLines()
	if len(lines) != 1 || lines[0]["ended"] != "revoked" {
		t.Errorf("logged %v", lines)
	}
}

// Promise: a watch that is ended before the API server answered is told why.
func TestEndBeforeTheAnswer(t *testing.T) {
	verdict, arrived := &fickle{}, make(chan struct{})
	g := newGateFor(t, 2, auth.Bearer(verdict), func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	g.running()
	go func() {
		<-arrived
		verdict.set(func(f *fickle) { f.err = auth.Refuse(auth.KindOIDC, auth.Revoked, "") })
		g.proxy.Recheck()
	}()
	resp, err := g.client(2).Do(g.request(http.MethodGet, watchPath, "alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(string(body), "has been revoked") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}
