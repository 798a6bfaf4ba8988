package tokenreview_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/tokenreview"
)

// hold makes the API server keep every review waiting. It returns a function
// that waits for n of them, and one that lets all go on.
func (w *world) hold() (await func(n int64), release func()) {
	gate := make(chan struct{})
	start := w.api.requests.Load()
	w.api.answer(func(rw http.ResponseWriter, r *http.Request) {
		<-gate
		w.api.answer(nil)
		w.api.ServeHTTP(rw, r)
	})
	await = func(n int64) {
		w.tb.Helper()
		w.eventually(func() bool { return w.api.requests.Load()-start >= n })
	}
	open := sync.OnceFunc(func() { close(gate) })
	w.tb.Cleanup(open)
	return await, open
}

func (w *world) eventually(done func() bool) {
	w.tb.Helper()
	for end := time.Now().Add(5 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.tb.Fatal("it did not come to pass")
		}
	}
}

// Promise: however many present one token at one time, it is reviewed once, and
// one who goes away takes nothing from the others.
func TestReviewsAreJoined(t *testing.T) {
	w := newWorld(t, nil)
	token := w.api.token(nil)
	_, release := w.hold()

	leaving, leave := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := w.view.AuthenticateToken(leaving, token)
		first <- err
	}()
	w.eventually(func() bool { return w.api.requests.Load() == 1 })
	var accepted atomic.Int64
	var callers sync.WaitGroup
	for range 200 {
		callers.Go(func() {
			if _, err := w.view.AuthenticateToken(t.Context(), token); err == nil {
				accepted.Add(1)
			}
		})
	}
	w.eventually(func() bool { return w.count(tokenreview.Joined) == 200 })
	leave()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("who left got %v", err)
	}
	release()
	callers.Wait()
	if accepted.Load() != 200 || w.api.reviews.Load() != 1 {
		t.Errorf("%d accepted by %d reviews, want 200 by 1", accepted.Load(), w.api.reviews.Load())
	}
}

// Promise: a storm of forged tokens costs the API server no more than the rate,
// and the accounts at work nothing.
func TestStorm(t *testing.T) {
	w := newWorld(t, func(c *tokenreview.Config) { c.Rate, c.Burst = 10, 20 })
	token := w.api.token(nil)
	w.want(token, "", 1)
	storm := func() {
		var callers sync.WaitGroup
		for caller := range 8 {
			callers.Go(func() {
				for n := range 250 {
					forgedToken := forged(authtest.Claims{"jti": fmt.Sprint(caller, n)})
					if id, _ := w.view.AuthenticateToken(t.Context(), forgedToken); id != nil {
						t.Error("a forged token was accepted")
					}
				}
			})
		}
		callers.Wait()
	}
	storm()
	if got := w.api.reviews.Load(); got != 20 {
		t.Errorf("%d reviews, want the burst of 20", got)
	}
	w.want(token, "", 0)
	w.clock.Advance(10 * time.Second)
	storm()
	if got := w.api.reviews.Load(); got != 40 {
		t.Errorf("%d reviews, want no more than the burst after a pause", got)
	}
	w.want(token, "", 1) // its time is over, and the rate is used up
	w.want(w.api.token(authtest.Claims{"jti": "new"}), auth.InternalAuthFailed, 0)
	w.clock.Advance(100 * time.Millisecond)
	w.want(w.api.token(authtest.Claims{"jti": "new"}), "", 1)
}

// Promise: a token that is refused loses the standing that it had.
func TestRevokedTokenIsAStranger(t *testing.T) {
	w := newWorld(t, func(c *tokenreview.Config) { c.Rate, c.Burst = 1, 1 })
	token := w.api.token(nil)
	w.want(token, "", 1)
	w.api.set(func() { w.api.deleted[builder] = true })
	w.clock.Advance(10 * time.Second)
	w.want(forged(nil), auth.UnknownToken, 1) // uses the rate up
	w.want(token, auth.UnknownToken, 1)
	w.clock.Advance(2 * time.Second)
	w.want(forged(authtest.Claims{"jti": "2"}), auth.UnknownToken, 1)
	w.want(token, auth.InternalAuthFailed, 0)
}

// Promise: the reviews under way are bounded, half of them for tokens that were
// accepted before; whoever is beyond is told to come again.
func TestInFlightIsBounded(t *testing.T) {
	w := newWorld(t, func(c *tokenreview.Config) { c.MaxInFlight = 4 })
	known := make([]string, 3)
	for n := range known {
		known[n] = w.api.token(authtest.Claims{"jti": fmt.Sprint(n)})
		w.want(known[n], "", 1)
	}
	w.clock.Advance(10 * time.Second)
	await, release := w.hold()
	var callers sync.WaitGroup
	background := func(token string) {
		callers.Go(func() { _, _ = w.view.AuthenticateToken(t.Context(), token) })
	}
	background(forged(authtest.Claims{"jti": "a"}))
	background(forged(authtest.Claims{"jti": "b"}))
	await(2)
	w.want(forged(authtest.Claims{"jti": "c"}), auth.InternalAuthFailed, 0)
	background(known[0])
	background(known[1])
	await(4)
	w.want(known[2], auth.InternalAuthFailed, 0)
	release()
	callers.Wait()
	w.want(known[2], "", 1)
	w.want(forged(authtest.Claims{"jti": "c"}), auth.UnknownToken, 1)
	if w.count(tokenreview.Shed) != 2 {
		t.Errorf("outcomes %v", w.outcomes)
	}
}

// Promise: verdicts, flushes and bounds hold while all happens at once.
func TestConcurrency(t *testing.T) {
	w := newWorld(t, func(c *tokenreview.Config) { c.MaxAccepted, c.MaxRefused, c.Burst = 4, 4, 1<<20 })
	tokens := make([]string, 16)
	for n := range tokens {
		name := fmt.Sprintf("system:serviceaccount:ci:n%d", n)
		if tokens[n] = w.api.token(authtest.Claims{"sub": name}); n%4 == 0 {
			tokens[n] = forged(authtest.Claims{"sub": name})
		}
	}
	var callers sync.WaitGroup
	for caller := range 8 {
		callers.Go(func() {
			for n := range 60 {
				i := (n*7 + caller) % len(tokens)
				id, err := w.view.AuthenticateToken(t.Context(), tokens[i])
				if err == nil && (i%4 == 0 || id.Name != fmt.Sprintf("system:serviceaccount:ci:n%d", i)) {
					t.Errorf("token %d gave %s", i, id.Name)
				}
				switch n % 20 {
				case 7:
					w.view.Flush()
				case 13:
					w.view.Forget(tokens[i])
				case 17:
					w.clock.Advance(time.Second)
				}
			}
		})
	}
	callers.Wait()
}
