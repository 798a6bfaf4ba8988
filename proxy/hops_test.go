package proxy_test

import (
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Promise: a gatehouse whose API server is itself refuses the request when it
// comes back, at once and without a second round.
func TestLoopIsRefused(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, client, _ int) {
		g := newGateFor(t, 2, auth.Bearer(accounts), func(http.ResponseWriter, *http.Request) {})
		g.connect(kubeconfig(t, g.front.URL, g.front.Certificate().Raw))
		resp, err := g.client(client).Do(g.request(http.MethodPost, "/api", "t"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusLoopDetected || !strings.Contains(resp.Header.Get("Warning"), "gatehouse itself") {
			t.Errorf("%d %v, want 508 that says why", resp.StatusCode, resp.Header)
		}
		if err := g.proxy.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if lines := g.requestLines(); len(lines) != 2 {
			t.Errorf("%d requests, want the caller's and the one that came back", len(lines))
		}
		if !strings.Contains(string(g.log.Bytes()), "a request came back") {
			t.Error("the operator is not told")
		}
	})
}

// Promise: two gatehouses that stand in a row on purpose work; two that lead to
// one another do not go round.
func TestChainAndRing(t *testing.T) {
	t.Parallel()
	var arrived atomic.Int64
	var seen atomic.Pointer[http.Header]
	back := newGateFor(t, 2, auth.Bearer(accounts), func(_ http.ResponseWriter, r *http.Request) {
		arrived.Add(1)
		seen.Store(&r.Header)
	})
	front := newGateFor(t, 2, auth.Bearer(accounts), nil)
	front.connect(kubeconfig(t, back.front.URL, back.front.Certificate().Raw))
	ask := func() int {
		resp, err := front.client(2).Do(front.request(http.MethodGet, "/api", "t"))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if code := ask(); code != http.StatusOK || arrived.Load() != 1 {
		t.Fatalf("a chain: %d, %d requests arrived", code, arrived.Load())
	}
	if via := strings.Split(seen.Load().Get("Gatehouse-Via"), ", "); len(via) != 2 || via[0] == via[1] || len(via[0]) != 26 {
		t.Errorf("the chain is written as %q", via)
	}
	back.connect(kubeconfig(t, front.front.URL, front.front.Certificate().Raw))
	if code := ask(); code != http.StatusLoopDetected {
		t.Errorf("a ring: %d, want 508", code)
	}
}

// Promise: a caller can say nothing by the marker, and harm nobody but their own
// request: what no gatehouse wrote is dropped, and too long a row refused.
func TestCallersMarker(t *testing.T) {
	t.Parallel()
	var seen atomic.Pointer[http.Header]
	g := newGate(t, 2, func(_ http.ResponseWriter, r *http.Request) { seen.Store(&r.Header) })
	ids := func(n int) string {
		var all []string
		for range n {
			all = append(all, rand.Text())
		}
		return strings.Join(all, ",")
	}
	known := rand.Text()
	for name, tt := range map[string]struct {
		lines  []string
		code   int
		passed []string
	}{
		"none":           {nil, 200, nil},
		"words":          {[]string{"gatehouse", "1.1 x, *, \x7f"[:8]}, 200, nil},
		"small letters":  {[]string{strings.ToLower(known)}, 200, nil},
		"too long":       {[]string{known + "A", strings.Repeat("A", 1<<16)}, 200, nil},
		"one":            {[]string{known}, 200, []string{known}},
		"one among junk": {[]string{"x,,\t" + known + " , y"}, 200, []string{known}},
		"seven":          {[]string{ids(4), ids(3)}, 200, make([]string, 7)},
		"eight":          {[]string{ids(8)}, 508, nil},
	} {
		r := g.request(http.MethodGet, "/api", "alice")
		r.Header["Gatehouse-Via"] = tt.lines
		resp, err := g.client(2).Do(r)
		if err != nil {
			t.Fatal(name, err)
		}
		if resp.StatusCode != tt.code {
			t.Errorf("%s: %d, want %d", name, resp.StatusCode, tt.code)
		}
		if tt.code != 200 {
			wantOwnAnswer(t, resp, 508, "gatehouse itself")
		} else if via := strings.Split(seen.Load().Get("Gatehouse-Via"), ", "); len(via) != len(tt.passed)+1 || len(tt.passed) == 1 && !slices.Equal(via[:1], tt.passed) {
			t.Errorf("%s: %q went on", name, via)
		}
		if echo := resp.Header.Get("Gatehouse-Via"); echo != "" {
			t.Errorf("%s: the caller learns %q", name, echo)
		}
		_ = resp.Body.Close()
	}
}
