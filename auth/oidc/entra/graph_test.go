package entra_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// Promise: an answer that is not whole, or not Graph's, gives nobody an identity;
// it is kept for a while, so that Graph is not asked again and again.
func TestGraphFails(t *testing.T) {
	raw := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, body)
		}
	}
	fails := func(status int, code string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { authtest.GraphError(w, status, code, "canary") }
	}
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		reason auth.Reason
		asked  int64
	}{
		{"a next page", raw(`{"value":["` + group(1) + `"],"@odata.nextLink":"https://graph.microsoft.com/next"}`), auth.GroupsUnavailable, 1},
		{"no value", raw(`{}`), auth.GroupsUnavailable, 1},
		{"value null", raw(`{"value":null}`), auth.GroupsUnavailable, 1},
		{"value in another case", raw(`{"Value":["` + group(1) + `"]}`), auth.GroupsUnavailable, 1},
		{"value twice", raw(`{"value":["` + group(1) + `"],"value":[]}`), auth.GroupsUnavailable, 1},
		{"groups of numbers", raw(`{"value":[1]}`), auth.GroupsUnavailable, 1},
		{"groups that are no ids", raw(`{"value":["system:masters"]}`), auth.GroupsUnavailable, 1},
		{"no JSON", raw(`<html>canary`), auth.GroupsUnavailable, 1},
		{"cut off", raw(`{"value":["` + group(1)), auth.GroupsUnavailable, 1},
		{"1 MiB", raw(`{"value":["` + strings.Repeat("x", 1<<20) + `"]}`), auth.GroupsUnavailable, 1},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, auth.GroupsUnavailable, 1},
		{"no permission", fails(403, "Authorization_RequestDenied"), auth.GroupsUnavailable, 1},
		{"bad request", fails(400, "Request_BadRequest"), auth.GroupsUnavailable, 1},
		{"a code with a secret in it", fails(400, "canary canary"), auth.GroupsUnavailable, 1},
		{"no such path", fails(404, "ResourceNotFound"), auth.GroupsUnavailable, 1},
		{"no such person", fails(404, "Request_ResourceNotFound"), auth.GroupsRefused, 1},
		{"down", fails(503, "serviceNotAvailable"), auth.GroupsUnavailable, 1},
		{"slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, auth.GroupsUnavailable, 1},
		{"never content with our token", fails(401, "InvalidAuthenticationToken"), auth.GroupsUnavailable, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.tenant.ServeGraph(tt.answer)
			for range 3 {
				if list, refusal := w.resolve(w.claims(nil)); refusal == nil || refusal.Reason != tt.reason {
					t.Fatalf("%v, %v; want %s", list, refusal, tt.reason)
				}
			}
			w.wantAsked(tt.asked, tt.asked)
			w.tenant.ServeGraph(nil)
			w.clock.Advance(10 * time.Second)
			if list, refusal := w.resolve(w.claims(nil)); refusal != nil || len(list) != 250 {
				t.Errorf("once Graph has recovered: %v", refusal)
			}
		})
	}
}

// Promise: nobody keeps groups beyond their time because Graph is down.
func TestNothingStale(t *testing.T) {
	w := newWorld(t, nil)
	_, _ = w.resolve(w.claims(nil))
	_ = w.tenant.Close()
	if list, refusal := w.resolve(w.claims(nil)); refusal != nil || len(list) != 250 {
		t.Errorf("within the time: %v", refusal)
	}
	w.clock.Advance(5 * time.Minute)
	if list, refusal := w.resolve(w.claims(nil)); refusal == nil || refusal.Reason != auth.GroupsUnavailable {
		t.Errorf("%d groups, %v", len(list), refusal)
	}
}

// Promise: when Graph throttles, it is left alone for as long as it says, for
// everybody, within bounds.
func TestThrottling(t *testing.T) {
	for _, tt := range []struct {
		name, after string
		status      int
		pause       time.Duration
	}{
		{"as told", "41", 429, 41 * time.Second},
		{"not told", "", 429, 10 * time.Second},
		{"nonsense", "soon", 429, 10 * time.Second},
		{"far too long", "2000000000", 429, 5 * time.Minute},
		{"at once", "0", 429, time.Second},
		{"unavailable", "30", 503, 30 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.tenant.ServeGraph(func(rw http.ResponseWriter, _ *http.Request) {
				if tt.after != "" {
					rw.Header().Set("Retry-After", tt.after)
				}
				authtest.GraphError(rw, tt.status, "TooManyRequests", "canary")
			})
			_, _ = w.resolve(w.claims(nil))
			w.tenant.ServeGraph(nil)
			ben := "b0000000-0000-4000-8000-00000000000b"
			w.tenant.SetGroups(ben, groups(1)...)
			ask := func() *auth.Refusal {
				_, refusal := w.resolve(w.claims(authtest.Claims{"oid": ben}))
				return refusal
			}
			if refusal := ask(); refusal == nil || refusal.Reason != auth.GroupsUnavailable {
				t.Errorf("at once: %v", refusal)
			}
			w.wantAsked(1, 1)
			w.clock.Advance(max(tt.pause, 10*time.Second))
			if refusal := ask(); refusal != nil {
				t.Errorf("after the pause: %v", refusal)
			}
		})
	}
}

// Promise: our access token is used until it ends, a withdrawn one is replaced,
// and a refused secret says so to the operator without showing anything.
func TestOwnToken(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 20 {
		person := fmt.Sprintf("c0000000-0000-4000-8000-%012x", i)
		w.tenant.SetGroups(person, groups(3)...)
		if _, refusal := w.resolve(w.claims(authtest.Claims{"oid": person})); refusal != nil {
			t.Fatal(refusal)
		}
	}
	w.wantAsked(1, 20)
	w.clock.Advance(30 * time.Minute)
	_, _ = w.resolve(w.claims(nil))
	w.wantAsked(1, 21)
	w.clock.Advance(29 * time.Minute) // a minute before its end
	_, _ = w.resolve(w.claims(nil))
	w.wantAsked(2, 22)
	w.clock.Advance(6 * time.Minute)
	w.tenant.WithdrawTokens()
	if list, refusal := w.resolve(w.claims(nil)); refusal != nil || len(list) != 250 {
		t.Errorf("after our token was withdrawn: %v", refusal)
	}
	w.wantAsked(3, 24)

	w.tenant.SetSecret("another")
	w.tenant.WithdrawTokens()
	w.clock.Advance(6 * time.Minute)
	_, refusal := w.resolve(w.claims(nil))
	if refusal == nil || refusal.Reason != auth.GroupsUnavailable || !strings.Contains(refusal.Detail, "401 invalid_client (AADSTS7000215)") {
		t.Errorf("with a wrong secret: %v", refusal)
	}
}

// Promise: many requests of one person at once are one question.
func TestOneQuestion(t *testing.T) {
	w := newWorld(t, nil)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if list, refusal := w.resolve(w.claims(nil)); refusal != nil || len(list) != 250 {
				t.Errorf("%d groups, %v", len(list), refusal)
			}
		})
	}
	all.Wait()
	w.wantAsked(1, 1)
}
