package tokenreview_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/tokenreview"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// reviewerFunc is a Reviewer that says the same of every token.
type reviewerFunc func() (tokenreview.Status, error)

func (f reviewerFunc) Review(context.Context, string, []string) (tokenreview.Status, error) {
	return f()
}

func yesStatus() tokenreview.Status {
	return tokenreview.Status{Authenticated: true, User: auth.User{Name: builder}, Audiences: []string{apiAudience}}
}

// Promise: a verdict is kept for its time and not extended by use, never past
// the token's end, and a refusal for a short time.
func TestVerdictsAreKept(t *testing.T) {
	w := newWorld(t, nil)
	token := w.api.token(nil)
	w.want(token, "", 1)
	for range 9 {
		w.clock.Advance(time.Second)
		w.want(token, "", 0)
	}
	w.clock.Advance(time.Second)
	w.want(token, "", 1)

	w.api.set(func() { w.api.deleted[builder] = true })
	w.want(token, "", 0)
	w.clock.Advance(10 * time.Second)
	w.want(token, auth.UnknownToken, 1)
	w.clock.Advance(1999 * time.Millisecond)
	w.want(token, auth.UnknownToken, 0)
	w.clock.Advance(time.Millisecond)
	w.want(token, auth.UnknownToken, 1)
	w.api.set(func() { clear(w.api.deleted) })
	w.clock.Advance(2 * time.Second)
	w.want(token, "", 1)

	ending := w.api.token(authtest.Claims{"exp": w.clock.Now().Add(5 * time.Second).Unix()})
	w.want(ending, "", 1)
	w.clock.Advance(3 * time.Second)
	w.want(ending, "", 0)
	w.clock.Advance(2 * time.Second)
	w.want(ending, auth.UnknownToken, 0)
	if w.count(tokenreview.CachedAccepted) != 11 || w.count(tokenreview.CachedRefused) != 1 {
		t.Errorf("outcomes %v", w.outcomes)
	}
}

// Promise: a token that ends while it is reviewed is not accepted.
func TestExpiresDuringReview(t *testing.T) {
	w := newWorld(t, nil)
	end := time.Now().Add(time.Minute).Truncate(time.Second)
	token := w.api.token(authtest.Claims{"exp": end.Unix()})
	w.api.answer(func(rw http.ResponseWriter, r *http.Request) {
		w.clock.Advance(time.Minute)
		w.api.answer(nil)
		w.api.ServeHTTP(rw, r)
	})
	_, err := w.view.AuthenticateToken(t.Context(), token)
	refusal, ok := errors.AsType[*auth.Refusal](err)
	if !ok || refusal.Reason != auth.Expired || !refusal.At.Equal(end) {
		t.Errorf("got %v", err)
	}
}

// Promise: Flush and Forget make a token be reviewed again, and a review that
// was under way then decides nothing afterwards.
func TestFlushAndForget(t *testing.T) {
	for name, act := range map[string]func(*world, string){
		"flush":  func(w *world, _ string) { w.view.Flush() },
		"forget": func(w *world, token string) { w.view.Forget(token) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			token := w.api.token(nil)
			w.want(token, "", 1)
			act(w, token)
			w.want(token, "", 1)
			act(w, token)

			arrived, release := make(chan bool, 1), make(chan bool)
			w.api.answer(func(rw http.ResponseWriter, r *http.Request) {
				arrived <- true
				<-release
				w.api.answer(nil)
				w.api.ServeHTTP(rw, r)
			})
			var old sync.WaitGroup
			old.Go(func() { _, _ = w.view.AuthenticateToken(t.Context(), token) })
			select {
			case <-arrived:
			case <-time.After(5 * time.Second):
				t.Error("no review")
			}
			act(w, token)
			close(release)
			old.Wait()
			w.want(token, "", 1)
			w.want(token, "", 0)
		})
	}
	w := newWorld(t, nil)
	w.want(forged(nil), auth.UnknownToken, 1)
	w.view.Flush()
	w.want(forged(nil), auth.UnknownToken, 1)
}

// Promise: what is kept is bounded, and refused tokens push out no accepted one.
func TestCacheIsBounded(t *testing.T) {
	w := newWorld(t, func(c *tokenreview.Config) { c.MaxAccepted, c.MaxRefused, c.Burst = 2, 2, 1000 })
	token := func(n int) string { return w.api.token(authtest.Claims{"jti": fmt.Sprint(n)}) }
	tokens := []string{token(0), token(1), token(2)}
	w.want(tokens[0], "", 1)
	w.want(tokens[1], "", 1)
	for n := range 50 {
		w.want(forged(authtest.Claims{"jti": fmt.Sprint(n)}), auth.UnknownToken, 1)
	}
	w.want(tokens[0], "", 0)
	w.want(tokens[1], "", 0)
	w.want(forged(authtest.Claims{"jti": "49"}), auth.UnknownToken, 0)
	w.want(forged(authtest.Claims{"jti": "47"}), auth.UnknownToken, 1)
	w.want(tokens[2], "", 1) // the oldest goes
	w.want(tokens[1], "", 0)
	w.want(tokens[0], "", 1)
}

// Promise: identities are shared, and verdicts are the token's own: one
// differing byte is another token.
func TestVerdictsAreTheTokensOwn(t *testing.T) {
	w := newWorld(t, nil)
	token := w.api.token(nil)
	first, _ := w.ask(token)
	second, _ := w.ask(token)
	if first != second {
		t.Error("the identity is copied for each request")
	}
	for i := len(token) - 1; i > len(token)-80; i -= 7 {
		other := []byte(token)
		if other[i] = 'A'; token[i] == 'A' {
			other[i] = 'B'
		}
		if id, _ := w.ask(string(other)); id != nil {
			t.Errorf("byte %d makes no difference", i)
		}
	}
}
