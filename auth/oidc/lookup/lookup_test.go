package lookup_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/oidc/lookup"
)

// oracle answers, or fails, and counts how often.
type oracle struct {
	asked atomic.Int64
	until time.Time
	size  int
	err   error
}

func (o *oracle) ask(context.Context) (lookup.Answer[int64], error) {
	n := o.asked.Add(1)
	return lookup.Answer[int64]{Value: n, Until: o.until, Size: o.size}, o.err
}

// Promise: an answer is used again until it is too old, or has ended of itself,
// and not extended by use; a failure for a shorter time.
func TestAnswersEnd(t *testing.T) {
	for _, tt := range []struct {
		name  string
		own   time.Duration // when the answer ends of itself
		err   error
		after time.Duration
		again bool
	}{
		{"within its age", 0, nil, 59 * time.Second, false},
		{"beyond its age", 0, nil, time.Minute, true},
		{"within its own end", 20 * time.Second, nil, 19 * time.Second, false},
		{"beyond its own end", 20 * time.Second, nil, 20 * time.Second, true},
		{"its own end is later", time.Hour, nil, time.Minute, true},
		{"failure", 0, errors.New("x"), 4 * time.Second, false},
		{"failure, later", 0, errors.New("x"), 5 * time.Second, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := authtest.NewClock()
			cache := lookup.NewCache[int64](lookup.Config{Keep: time.Minute, KeepFailure: 5 * time.Second, Now: c.Now})
			o := &oracle{err: tt.err}
			if tt.own > 0 {
				o.until = c.Now().Add(tt.own)
			}
			key := lookup.KeyOf("a")
			if answer, err := cache.Get(t.Context(), key, o.ask); !errors.Is(err, tt.err) || err == nil && answer.Value != 1 {
				t.Fatalf("answer %+v, error %v", answer, err)
			}
			c.Advance(tt.after / 2)
			_, _ = cache.Get(t.Context(), key, o.ask)
			c.Advance(tt.after - tt.after/2)
			answer, err := cache.Get(t.Context(), key, o.ask)
			if again := o.asked.Load() == 2; again != tt.again || !errors.Is(err, tt.err) {
				t.Errorf("asked %d times; %+v, %v", o.asked.Load(), answer, err)
			}
			if err == nil && answer.Until.After(c.Now().Add(time.Minute)) {
				t.Errorf("the answer is said to hold until %s", answer.Until)
			}
		})
	}
}

// Promise: who wants to know the same shares one question, and it goes on when
// who asked first leaves.
func TestOneQuestionForAll(t *testing.T) {
	cache := lookup.NewCache[int64](lookup.Config{})
	o := &oracle{}
	began, release := make(chan struct{}), make(chan struct{})
	slow := func(ctx context.Context) (lookup.Answer[int64], error) {
		close(began)
		<-release
		return o.ask(ctx)
	}
	first, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := cache.Get(first, lookup.KeyOf("a"), slow)
		left <- err
	}()
	<-began
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if answer, err := cache.Get(t.Context(), lookup.KeyOf("a"), slow); err != nil || answer.Value != 1 {
				t.Errorf("answer %+v, error %v", answer, err)
			}
		})
	}
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who left: %v", err)
	}
	close(release)
	all.Wait()
	if n := o.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// Promise: only so many questions are under way, and who waits too long for a
// turn is told so.
func TestQuestionsAtOnce(t *testing.T) {
	cache := lookup.NewCache[int64](lookup.Config{AtOnce: 2, Timeout: 200 * time.Millisecond})
	var under, most atomic.Int64
	var all sync.WaitGroup
	var failed atomic.Int64
	for i := range 10 {
		all.Go(func() {
			_, err := cache.Get(t.Context(), lookup.KeyOf(fmt.Sprint(i)), func(context.Context) (lookup.Answer[int64], error) {
				most.Store(max(most.Load(), under.Add(1)))
				time.Sleep(500 * time.Millisecond)
				under.Add(-1)
				return lookup.Answer[int64]{}, nil
			})
			if err != nil {
				failed.Add(1)
				if r := lookup.Refusal(err); r.Reason != auth.GroupsUnavailable {
					t.Errorf("refused with %v", r)
				}
			}
		})
	}
	all.Wait()
	if most.Load() > 2 || failed.Load() != 8 {
		t.Errorf("%d at once, %d failed; want 2 and 8", most.Load(), failed.Load())
	}
}

// Promise: what is kept has a bound, and what was used last stays.
func TestSizeIsBounded(t *testing.T) {
	cache := lookup.NewCache[int64](lookup.Config{MaxSize: 10 * (512 + 1000)})
	o := &oracle{size: 1000}
	valued := lookup.KeyOf("valued")
	_, _ = cache.Get(t.Context(), valued, o.ask)
	for i := range 100 {
		_, _ = cache.Get(t.Context(), lookup.KeyOf(fmt.Sprint(i)), o.ask)
		if answer, _ := cache.Get(t.Context(), valued, o.ask); answer.Value != 1 {
			t.Fatalf("forgotten after %d others", i)
		}
	}
	before := o.asked.Load()
	_, _ = cache.Get(t.Context(), lookup.KeyOf("0"), o.ask)
	if o.asked.Load() == before {
		t.Error("everything is kept")
	}
	huge := &oracle{size: 1 << 20}
	for range 2 {
		_, _ = cache.Get(t.Context(), lookup.KeyOf("huge"), huge.ask)
	}
	if huge.asked.Load() != 2 {
		t.Error("an answer larger than the bound was kept")
	}
}

// Promise: an answer that cannot be digested ends a question, not the process.
func TestPanic(t *testing.T) {
	cache := lookup.NewCache[int64](lookup.Config{})
	_, err := cache.Get(t.Context(), lookup.KeyOf("a"), func(context.Context) (lookup.Answer[int64], error) { panic("canary") })
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("error %v", err)
	}
}

// Promise: a dropped answer is asked for anew.
func TestDrop(t *testing.T) {
	cache := lookup.NewCache[int64](lookup.Config{})
	o := &oracle{}
	_, _ = cache.Get(t.Context(), lookup.KeyOf("a"), o.ask)
	cache.Drop(lookup.KeyOf("a"))
	cache.Drop(lookup.KeyOf("b"))
	if answer, _ := cache.Get(t.Context(), lookup.KeyOf("a"), o.ask); answer.Value != 2 {
		t.Errorf("answer %+v", answer)
	}
}

// Promise: parts cannot be shifted into each other.
func TestKeys(t *testing.T) {
	seen := map[lookup.Key][]string{}
	for _, parts := range [][]string{{"a", "b"}, {"ab", ""}, {"ab"}, {"a", "b", ""}, {"", "a", "b"}, {"b", "a"}, {}, {""}} {
		key := lookup.KeyOf(parts...)
		if other, taken := seen[key]; taken || key != lookup.KeyOf(parts...) {
			t.Errorf("%q has the key of %q, or another each time", parts, other)
		}
		seen[key] = parts
	}
}

// Promise: no redirect is followed, no more than the limit is read, and errors
// quote neither the path nor the answer.
func TestClient(t *testing.T) {
	var elsewhere atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "/huge":
			_, _ = w.Write(make([]byte, lookup.MaxBody+1))
		case "/cut-off-canary":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("canary"))
		default:
			elsewhere.Add(1)
		}
	}))
	defer server.Close()
	client := lookup.NewClient(server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs)
	send := func(client *http.Client, url string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, _, err := lookup.Send(client, req)
		return resp, err
	}
	if resp, err := send(client, server.URL+"/redirect"); err != nil || resp.StatusCode != http.StatusFound || elsewhere.Load() != 0 {
		t.Errorf("redirect: %v, followed %d times", err, elsewhere.Load())
	}
	for _, path := range []string{"/huge", "/cut-off-canary"} {
		if _, err := send(client, server.URL+path); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: error %v", path, err)
		}
	}
	for name, c := range map[string]*http.Client{"another CA": lookup.NewClient(nil)} {
		if _, err := send(c, server.URL+"/canary"); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
