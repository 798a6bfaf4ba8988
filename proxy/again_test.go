package proxy_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// soon is less than the minute after which every stream is judged by itself.
const soon = 10 * time.Second

// endsSoon fails the test unless body ends cleanly before the next look by the
// clock alone.
func endsSoon(t *testing.T, body io.Reader) {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, body)
		ended <- err
	}()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the watch ended with %v", err)
		}
	case <-time.After(soon):
		t.Fatal("the watch goes on")
	}
}

// Promise: a request whose body is long in coming is not forwarded by a
// credential that was withdrawn meanwhile.
func TestRevokedWhileTheBodyComes(t *testing.T) {
	bothProtocols(t, func(t *testing.T, client, upstream int) {
		verdict, judged := &fickle{}, make(chan struct{}, 8)
		hearing := tokens(func(ctx context.Context, token string) (*auth.Identity, error) {
			defer func() { judged <- struct{}{} }()
			return verdict.AuthenticateToken(ctx, token)
		})
		var forwarded atomic.Int64
		g := newGateFor(t, upstream, auth.Bearer(hearing), func(http.ResponseWriter, *http.Request) { forwarded.Add(1) })
		body, rest := io.Pipe()
		r := g.request(http.MethodPost, podsPath, "alice")
		r.Body, r.ContentLength = body, 2
		go func() {
			_, _ = io.WriteString(rest, "{")
			<-judged
			verdict.set(func(f *fickle) { f.err = auth.Refuse(auth.KindOIDC, auth.Revoked, "") })
			g.proxy.Recheck()
			_, _ = io.WriteString(rest, "}")
			rest.Close()
		}()
		resp, err := g.client(client).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(string(answer), "has been revoked") || forwarded.Load() != 0 {
			t.Errorf("%d %s, %d requests forwarded", resp.StatusCode, answer, forwarded.Load())
		}
	})
}

// Promise: what changes between the verdict about a stream and its beginning
// ends the stream as soon as a change after that.
func TestChangedBeforeTheStreamBegan(t *testing.T) {
	verdict := &fickle{}
	var g *gate
	late := tokens(func(ctx context.Context, token string) (*auth.Identity, error) {
		identity, err := verdict.AuthenticateToken(ctx, token)
		if err == nil {
			verdict.set(func(f *fickle) { f.err = auth.Refuse(auth.KindOIDC, auth.Revoked, "") })
			g.proxy.Recheck()
			time.Sleep(100 * time.Millisecond) // that it is heard before the stream begins
		}
		return identity, err
	})
	g = newGateFor(t, 2, auth.Bearer(late), endless)
	g.running()
	endsSoon(t, g.open(g.client(2), watchPath))
}

// Promise: who is denied by name loses the stream even while nobody can judge
// the credential.
func TestDeniedWhileNobodyCanJudge(t *testing.T) {
	verdict := &fickle{}
	g := newGateFor(t, 2, auth.Bearer(verdict), endless)
	g.denied = func(id *auth.Identity) error {
		if id.Name != "alice" {
			t.Errorf("asked of %q", id.Name)
		}
		return auth.Refuse(id.Kind, auth.Revoked, "")
	}
	g.running()
	watch := g.open(g.client(2), watchPath)
	verdict.set(func(f *fickle) { f.err = auth.Refuse(auth.KindOIDC, auth.IssuerUnavailable, "") })
	g.proxy.Recheck()
	endsSoon(t, watch)
	if err := g.proxy.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := g.count("gatehouse_streams_ended_total", map[string]string{"reason": "revoked"}); got != 1 {
		t.Errorf("counted %v", got)
	}
}

// Promise: verdicts that are slow to come, of however many streams, hold up no
// end of another kind of credential.
func TestSlowVerdictsHoldUpNobodyElse(t *testing.T) {
	people, stuck := &fickle{}, make(chan struct{})
	var slow atomic.Bool
	both := tokens(func(ctx context.Context, token string) (*auth.Identity, error) {
		if token != "account" {
			return people.AuthenticateToken(ctx, token)
		}
		if slow.Load() {
			<-stuck
		}
		return accounts(ctx, token)
	})
	g := newGateFor(t, 2, auth.Bearer(both), endless)
	g.running()
	t.Cleanup(func() { close(stuck) })
	client := g.client(2)
	for range 40 {
		resp, err := client.Do(g.request(http.MethodGet, watchPath, "account"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
	}
	slow.Store(true)
	g.proxy.Recheck()
	time.Sleep(100 * time.Millisecond) // that the verdicts are under way
	watch := g.open(client, watchPath)
	people.set(func(f *fickle) { f.err = auth.Refuse(auth.KindOIDC, auth.Revoked, "") })
	g.proxy.Recheck()
	endsSoon(t, watch)
}

// Promise: who does not read what is left of an ended answer keeps nothing open.
func TestEndedAndUnread(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, client, upstream int) {
		t.Parallel()
		verdict, full := &fickle{}, make(chan struct{})
		g := newGateFor(t, upstream, auth.Bearer(verdict), func(w http.ResponseWriter, r *http.Request) {
			idle := time.AfterFunc(500*time.Millisecond, sync.OnceFunc(func() { close(full) }))
			chunk := make([]byte, 64<<10)
			for r.Context().Err() == nil {
				idle.Reset(500 * time.Millisecond)
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		})
		g.running()
		resp, err := g.client(client).Do(g.request(http.MethodGet, logPath, "alice"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		<-full
		verdict.set(func(f *fickle) { f.err = auth.Refuse(auth.KindOIDC, auth.Revoked, "") })
		g.proxy.Recheck()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := g.proxy.Wait(ctx); err != nil {
			t.Error("the request is still under way")
		}
	})
}

// Promise: only what the API server takes for a watch ends as one; a list with
// an odd query does not look whole when it is cut off.
func TestWatchesAsTheAPIServerReadsThem(t *testing.T) {
	for query, want := range map[string]string{
		"watch": "watch", "watch=": "watch", "watch=1": "watch", "watch=%74rue": "watch", "%77atch=true": "watch", "%77%61%74%63%68=true": "watch",
		"watch=0": "list", "watch=%30": "list", "watch=F%61lse": "list", "watch=1;x": "list", "watch=%zz": "list",
		"watch=%zz&watch=1": "watch", "watch=0&watch=1": "list", "watc=1": "list", "Watch=1": "list",
	} {
		g := newGate(t, 2, func(http.ResponseWriter, *http.Request) {})
		resp, err := g.client(2).Do(g.request(http.MethodGet, podsPath+"?"+query, "alice"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if err := g.proxy.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if lines := g.requestLines(); len(lines) != 1 || lines[0]["verb"] != want {
			t.Errorf("%s: logged %v, want the verb %s", query, lines, want)
		}
	}
}
