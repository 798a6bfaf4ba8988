package proxy

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy/address"
)

func (f *inFlight) takes(name string) bool {
	_, full := f.enter(caller{name: name}, requestClass)
	return full == nil
}

// Promise: whoever wants everything leaves as much as they have to whoever
// comes next, and all who want everything have the same.
func TestNobodyTakesAll(t *testing.T) {
	const all = 4000
	for greedy, share := range map[int]int{1: 2000, 3: 1000, 9: 400, 99: 40, 1999: 2} {
		f := newInFlight(Limits{Requests: all, RequestsPerUser: all}.orDefault())
		for took := true; took; {
			took = false
			for i := range greedy {
				took = f.takes(fmt.Sprint(i)) || took
			}
		}
		for i := range greedy {
			if got := f.users[caller{name: fmt.Sprint(i)}][requestClass]; got < share-1 || got > share+1 {
				t.Fatalf("one of %d has %d, want %d", greedy, got, share)
			}
		}
		late := 0
		for ; f.takes("late"); late++ {
			if f.used[requestClass] > all {
				t.Fatalf("%d under way", f.used[requestClass])
			}
		}
		if late < share/2-1 || late == 0 {
			t.Errorf("beside %d, who comes late has %d, want about half of %d", greedy, late, share)
		}
	}
}

// Promise: nothing is kept of who has nothing under way.
func TestNothingIsKeptOfWhoLeft(t *testing.T) {
	f := newInFlight(Limits{}.orDefault())
	var leave []func()
	for i := range 1000 {
		who := caller{auth.KindOIDC, fmt.Sprint(i)}
		for _, class := range []class{requestClass, streamClass} {
			used, full := f.enter(who, class)
			if full != nil {
				t.Fatal(full)
			}
			leave = append(leave, func() { f.leave(who, used, class) })
		}
	}
	for _, leave := range leave {
		leave()
	}
	if len(f.users) != 0 || f.used != [2]int{} {
		t.Errorf("%d users and %v are left", len(f.users), f.used)
	}
}

// flood makes an address one with too many failures.
func flood(f *failures, client string) {
	for i := range 2*int(f.burst) + 1 {
		f.judged(client, uint64(1e6+i), time.Now(), auth.Refuse(auth.KindUnknown, auth.UnknownToken, ""))
	}
}

func (f *failures) mustPass(t *testing.T, what, client string, credential uint64) (done func()) {
	t.Helper()
	start := time.Now()
	done, fault := f.begin(t.Context(), client, credential, start)
	if fault != nil || time.Since(start) != 0 {
		t.Errorf("%s: %v after %s, want to pass at once", what, fault, time.Since(start))
		return func() {}
	}
	return done
}

// Promise: a flood of failures holds up nobody at another address, nor anybody
// whose credential was accepted lately at the same one; who is new there waits
// their turn, and is refused only if it does not come.
func TestFloodLocksNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const client, known, revoked = "192.0.2.1", 7, 8
		f := newFailures(Limits{}.orDefault())
		f.judged(client, known, time.Now(), nil)
		f.judged(client, revoked, time.Now(), nil)
		f.mustPass(t, "in peace", client, 1)()
		f.judged(client, revoked, time.Now(), auth.Refuse(auth.KindOIDC, auth.Revoked, ""))
		flood(f, client)
		var held []func()
		for i := range uint64(laneWidth) {
			held = append(held, f.mustPass(t, "the lane", client, 100+i))
		}
		f.mustPass(t, "another address", "192.0.2.2", 1)()
		f.mustPass(t, "a known credential", client, known)()
		f.mustPass(t, "no credential", client, 0)()

		for _, credential := range []uint64{1, revoked} {
			start := time.Now()
			if _, fault := f.begin(t.Context(), client, credential, start); fault != tooManyFailures || time.Since(start) != laneWait {
				t.Errorf("%d in a lane that stands still: %v after %s", credential, fault, time.Since(start))
			}
			flood(f, client)
		}
		turn := make(chan time.Duration)
		go func() {
			start := time.Now()
			done, fault := f.begin(t.Context(), client, 1, start)
			if fault != nil {
				t.Error(fault)
			} else {
				done()
			}
			turn <- time.Since(start)
		}()
		time.Sleep(2 * time.Second)
		held[0]()
		if took := <-turn; took != 2*time.Second {
			t.Errorf("the turn came after %s, want when it was free", took)
		}
		time.Sleep(failureSpan)
		f.mustPass(t, "after the flood", client, 1)()
	})
}

// Promise: what waits is bounded, and who leaves does not wait on.
func TestLaneIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFailures(Limits{}.orDefault())
		flood(f, "::1")
		for i := range uint64(laneWidth) {
			f.mustPass(t, "the lane", "::1", 100+i)
		}
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan *rejection, laneQueue)
		for i := range uint64(laneQueue) {
			go func() {
				_, fault := f.begin(ctx, "::1", 1000+i, time.Now())
				left <- fault
			}()
		}
		synctest.Wait()
		start := time.Now()
		if _, fault := f.begin(t.Context(), "::1", 1, start); fault != tooManyFailures || time.Since(start) != 0 {
			t.Errorf("beyond the queue: %v after %s", fault, time.Since(start))
		}
		leave()
		for range laneQueue {
			if fault := <-left; fault != tooManyFailures {
				t.Errorf("who left: %v", fault)
			}
		}
		if time.Since(start) != 0 {
			t.Errorf("who left waited for %s", time.Since(start))
		}
	})
}

// Promise: failures from any number of addresses take bounded memory.
func TestAddressesAreBounded(t *testing.T) {
	f := newFailures(Limits{}.orDefault())
	for i := range 3 * maxAddresses {
		client := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(i >> 16), byte(i >> 8), byte(i)})
		f.judged(client.String(), 1, time.Now(), auth.Refuse(auth.KindUnknown, auth.BadSignature, ""))
	}
	if len(f.addresses) > maxAddresses {
		t.Errorf("%d addresses are remembered", len(f.addresses))
	}
}

// What counts as a failure is a credential that is bad: not one that nobody can
// judge now, and not none.
func TestWhatIsAFailure(t *testing.T) {
	for reason, counts := range map[auth.Reason]bool{
		auth.BadSignature: true, auth.UnknownToken: true, auth.Expired: true,
		auth.NoCredential: false, auth.IssuerUnavailable: false, auth.InternalAuthFailed: false,
	} {
		f := newFailures(Limits{}.orDefault())
		f.judged("192.0.2.1", 1, time.Now(), auth.Refuse(auth.KindUnknown, reason, ""))
		if got := len(f.addresses) > 0; got != counts {
			t.Errorf("%s counts: %t, want %t", reason, got, counts)
		}
	}
}

// Promise: each limit that can be reached is among the limits of the documents,
// by its label.
func TestLimitsAreDocumented(t *testing.T) {
	document, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, why := range rejections() {
		if text := "`" + why.label + "`"; !strings.Contains(string(document), text) {
			t.Errorf("docs/operations.md does not have %s", text)
		}
	}
}

// Addresses that one client can choose from freely are one.
func TestNetwork(t *testing.T) {
	for client, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1",
		"2001:db8:0:1:2::3": "2001:db8:0:1::", "2001:db8:0:2::3": "2001:db8:0:2::", "fe80::1%eth0": "fe80::", "": "invalid IP",
	} {
		if got := address.Network(client).String(); got != want {
			t.Errorf("%q is of %s, want %s", client, got, want)
		}
	}
}

// BenchmarkLimits is what limits add to a request that is served.
func BenchmarkLimits(b *testing.B) {
	p := &Proxy{inFlight: newInFlight(DefaultLimits()), failures: newFailures(DefaultLimits())}
	token := make([]byte, 900)
	for i := range token {
		token[i] = 'a' + byte(i%26)
	}
	r := &http.Request{Header: http.Header{
		"Authorization": {"Bearer " + string(token)}, "Accept": {"application/json"}, "Accept-Encoding": {"gzip"},
		"User-Agent": {"kubectl/v1.37.0"}, "Kubectl-Command": {"kubectl get"}, "Kubectl-Session": {"x"}, "Content-Type": {"application/json"},
	}}
	now := time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			credential, long := p.failures.look(r, DefaultLimits().TokenBytes)
			if long || headerLines(r.Header) > DefaultLimits().HeaderLines {
				b.Fatal("too large")
			}
			done, _ := p.failures.begin(b.Context(), "192.0.2.1", credential, now)
			p.failures.judged("192.0.2.1", credential, now, nil)
			done()
			who := caller{auth.KindOIDC, "https://login.example.com#ana"}
			used, full := p.inFlight.enter(who, requestClass)
			if full != nil {
				b.Fatal(full)
			}
			p.inFlight.leave(who, used, requestClass)
		}
	})
}
