package revocation_test

import (
	"net/http"
	"sync"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/revocation"
)

type answer struct{ id *auth.Identity }

func (a answer) Authenticate(*http.Request) (*auth.Identity, error) { return a.id, nil }

// Promise: a new list counts from the next check on, for requests and streams
// under way; what could not be parsed changes nothing.
func TestSwap(t *testing.T) {
	live := &revocation.Live{}
	id := static("alice")
	request := &http.Request{}
	a := auth.Checked(answer{id: id}, live.Check)
	check := func(want bool) {
		t.Helper()
		got, err := a.Authenticate(request)
		if denied(t, id, err) != want || (got == id) == want {
			t.Errorf("identity %v, error %v, want denied: %t", got, err, want)
		}
	}
	check(false)
	live.Swap(parse(t, "revoked:\n- user: alice\n"))
	check(true)
	bad, err := revocation.Parse([]byte("revoked:\n- user: alice\n- usr: bob\n"))
	if err == nil {
		t.Fatal("accepted")
	}
	live.Swap(bad)
	check(true)
	live.Swap(parse(t, "revoked: []\n"))
	check(false)
}

// Promise: a revoked credential beside a good one refuses the request, if each
// is wrapped.
func TestRevokedBesideGood(t *testing.T) {
	live := &revocation.Live{}
	live.Swap(parse(t, "revoked:\n- user: mallory\n"))
	wrapped := func(name string) auth.Authenticator {
		return auth.Checked(answer{id: static(name)}, live.Check)
	}
	for _, names := range [][2]string{{"alice", "mallory"}, {"mallory", "alice"}} {
		if _, err := auth.Ranked(wrapped(names[0]), wrapped(names[1])).Authenticate(nil); err == nil {
			t.Errorf("%v passed", names)
		}
	}
}

// Promise: lists may be swapped while requests run (for the race detector).
func TestSwapRace(t *testing.T) {
	live := &revocation.Live{}
	lists := []*revocation.List{parse(t, large(10)), parse(t, "revoked: []\n")}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 1000 {
				if i == 0 {
					live.Swap(lists[n%2])
				} else if err := live.Check(static("alice")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
