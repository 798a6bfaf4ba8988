package rawbytes

import (
	"regexp"
	"strconv"
	"testing"
	"time"
)

var goroutines = regexp.MustCompile(`(?m)^go_goroutines (\d+)`)

// held counts what a process holds: goroutines and open files.
func held(t *testing.T, p *Process) (int, int) {
	t.Helper()
	text, err := p.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	m := goroutines.FindStringSubmatch(text)
	if m == nil {
		t.Fatal("the metrics page has no go_goroutines")
	}
	n, _ := strconv.Atoi(m[1])
	files, err := p.OpenFiles()
	if err != nil {
		t.Fatal(err)
	}
	return n, files
}

// TestNothingIsLeftBehind holds that clients who leave at a bad moment cost
// nothing once they are gone: goroutines and open files return to where they
// were (oracle O5; threats 37, 41).
func TestNothingIsLeftBehind(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		up, err := StartUpstream(shared.pki, h2, proxyToken)
		if err != nil {
			t.Fatal(err)
		}
		defer up.Close()
		p, err := shared.process(t.Name(), up, usersCSV())
		if err != nil {
			t.Fatal(err)
		}
		defer p.Stop()
		to := &Target{Addr: p.Addr, Roots: shared.pki.Roots, Up: up, Secrets: shared.secrets, LogFrom: p.LogFrom}
		leaveBadly(t, to, 2)
		routines, files := held(t, p)
		leaveBadly(t, to, 40)
		late := time.After(10 * time.Second)
		tick := time.NewTicker(25 * time.Millisecond)
		defer tick.Stop()
		for r, f := held(t, p); r > routines+20 || f > files+10; r, f = held(t, p) {
			select {
			case <-late:
				t.Fatalf("upstream h2=%v: %d goroutines and %d files, %d and %d before", h2, r, f, routines, files)
			case <-tick.C:
			}
		}
	}
}

// leaveBadly opens each kind of exchange n times and leaves it half done.
func leaveBadly(t *testing.T, to *Target, n int) {
	t.Helper()
	for range n {
		for _, c := range upgrade {
			conn := dialH1(t, to)
			conn.Write(RenderH1(c.Wrap(as(aliceToken, execPath)), to.Addr))
			if a := conn.ReadAnswer("GET"); a.Status != 101 {
				t.Errorf("%s: answered %d", c, a.Status)
			}
			conn.Write("half a fra")
			conn.Close()
		}
		watch := dialH1(t, to)
		watch.Write(RenderH1(as(aliceToken, "/api/v1/pods?watch=1&fake=watch"), to.Addr))
		if _, err := watch.ReadStart(); err != nil {
			t.Error(err)
		}
		watch.Close()
		for _, unfinished := range []string{
			"GET / HTTP/1.1\r\nHost: x\r\nAuthor",
			RenderH1(as(aliceToken, "/", Field{"Content-Length", "100"}), to.Addr) + "short",
			RenderH1(as(aliceToken, "/", Field{"Transfer-Encoding", "chunked"}), to.Addr) + "5\r\nab",
			RenderH1(as("wrong", "/", Field{"Content-Length", "100"}), to.Addr),
			"\x16\x03\x01", "",
		} {
			conn := dialH1(t, to)
			conn.Write(unfinished)
			conn.Close()
		}
		if h, err := DialH2(to.Addr, to.Roots); err == nil {
			h.block(1, Fields{{":method", "POST"}, {":scheme", "https"}, {":authority", to.Addr}, {":path", "/half"}, {"authorization", "Bearer " + aliceToken}}, false)
			h.Close()
		}
	}
}
