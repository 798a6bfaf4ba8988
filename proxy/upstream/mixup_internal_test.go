package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kube-gatehouse/gatehouse/proxy/h2"
)

// repeated is an answer that is a word over and over, so that each piece of it tells
// whose it is.
func repeated(word string, n int) string { return strings.Repeat(word, n/len(word)+1)[:n] }

// unreliable answers each request with its caller's name over and over, and its
// body; and now and then breaks off, goes away, or loses a connection.
func (s *servers) unreliable(w http.ResponseWriter, r *http.Request) {
	who := r.Header.Get("Impersonate-User")
	size, _ := strconv.Atoi(r.URL.Query().Get("size"))
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if want := repeated(who, len(body)); string(body) != want {
		s.t.Errorf("a request of %s has a body of somebody else", who)
	}
	w.Header().Set("Whose", who)
	w.Header().Set("Whose-"+who, strconv.Itoa(size))
	switch rand.IntN(60) {
	case 0:
		w.Header().Set("Connection", "close") // GOAWAY
	case 1:
		if conn := s.any(); conn != nil {
			conn.Close()
		}
	case 2:
		_, _ = io.WriteString(w, repeated(who, size/2))
		panic(http.ErrAbortHandler) // RST_STREAM
	case 3:
		_ = http.NewResponseController(w).Flush()
	}
	_, _ = io.WriteString(w, repeated(who, size))
	w.Header().Set(http.TrailerPrefix+"Last-Word", who)
}

// failingAfter is a caller who leaves after some bytes.
type failingAfter struct {
	strings.Builder
	left int
}

func (f *failingAfter) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errors.New("the caller left")
	}
	return f.Builder.Write(p)
}

// consume reads an answer of size in one of the ways in which callers do. Who leaves
// before its end gets an error.
func consume(body io.Reader, way, size int) (string, error) {
	switch {
	case way%5 == 0:
		got, err := io.ReadAll(io.LimitReader(body, int64(size/2)))
		return string(got), errors.Join(err, errors.New("left half way"))
	case way%3 == 0:
		got, err := io.ReadAll(body)
		return string(got), err
	}
	w := failingAfter{left: 1 << 30}
	if way%4 == 0 {
		w.left = size / 3
	}
	_, err := io.Copy(&w, body)
	return w.String(), err
}

// visit sends one request as who, in one of the ways in which callers behave, and
// reports whether its answer was whole. Nothing that comes may be somebody else's.
func visit(t *testing.T, rt http.RoundTripper, who string, way int) (whole bool) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	size := rand.IntN(1 + rand.IntN(300<<10))
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if way%2 == 1 {
		method, body = http.MethodPost, strings.NewReader(repeated(who, rand.IntN(200<<10)))
	}
	r, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("https://api.example/?size=%d", size), body)
	if err != nil {
		t.Error(err)
		return false
	}
	r.Header.Set("Impersonate-User", who)
	if way%7 == 0 {
		go cancel()
	}
	resp, err := rt.RoundTrip(r)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	if resp.Header.Get("Whose") != who || resp.Header.Get("Whose-"+who) != strconv.Itoa(size) {
		t.Errorf("%s got the header of somebody else: %v", who, resp.Header)
	}
	got, err := consume(resp.Body, way, size)
	if got != repeated(who, len(got)) {
		t.Errorf("%s got an answer of somebody else", who)
	}
	if err != nil {
		return false
	}
	if len(got) != size {
		t.Errorf("%s got %d bytes of %d, and they look whole", who, len(got), size)
	}
	if last := resp.Trailer.Get("Last-Word"); last != who {
		t.Errorf("%s got the trailer %q", who, last)
	}
	return true
}

// Promise: whatever callers and API servers do at the same time, nobody gets or sends
// anything of somebody else's, and everybody comes to an end.
func TestPoolMixesNothingUp(t *testing.T) {
	s := newServers(t, "127.0.0.2", "127.0.0.3")
	s.most = 20
	s.start("127.0.0.2", s.unreliable)
	s.start("127.0.0.3", s.unreliable)
	p := s.pool(h2.Config{})
	var all sync.WaitGroup
	var whole atomic.Int32
	const callers, each = 40, 25
	for caller := range callers {
		all.Go(func() {
			who := fmt.Sprintf("user-%d.", caller*caller)
			for n := range each {
				if visit(t, p, who, n+caller) {
					whole.Add(1)
				}
			}
		})
	}
	all.Wait()
	if n := whole.Load(); n < callers*each/4 {
		t.Errorf("%d answers of %d were whole: too few to tell anything", n, callers*each)
	}
	eventually(t, "no request is under way", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, conn := range p.conns {
			if conn.Status().Load > 0 {
				return false
			}
		}
		return true
	})
}
