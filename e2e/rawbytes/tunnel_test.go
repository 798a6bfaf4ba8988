package rawbytes

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const execPath = "/api/v1/namespaces/x/pods/p/exec?command=id"

// TestOnlyTwoProtocolsUpgrade holds that websocket and SPDY/3.1 alone make a
// tunnel; any other wish is 400 and reaches nothing (threat 38).
func TestOnlyTwoProtocolsUpgrade(t *testing.T) {
	row := func(want Want, f ...Field) Case {
		return Case{Name: fmt.Sprintf("%q", f), On: []Carrier{H1}, Want: want, Request: as(aliceToken, execPath, f...)}
	}
	conn := Field{"Connection", "Upgrade"}
	h2c := Fields{{"Connection", "Upgrade, HTTP2-Settings"}, {"Upgrade", "h2c"}, {"HTTP2-Settings", "AAMAAABkAAQAAP__"}}
	table := []Case{row(refused(400), h2c...), row(refused(400), append(Fields{{"Connection", "HTTP2-Settings"}}, h2c[1:]...)...)}
	for _, p := range []string{"h2c", "h2", "TLS/1.0", "HTTP/2.0", "SPDY/2", "SPDY/3", "SPDY/3.1/x", "websocket/13", "foo", "websocket, h2c", "h2c, websocket",
		"websocket,SPDY/3.1", "SPDY/3.1, websocket", "websocket, websocket", "websocket;q=1", "web socket", ",websocket", "websocket,", "webſocket"} {
		table = append(table, row(refused(400), conn, Field{"Upgrade", p}))
	}
	table = append(table,
		row(refused(400), conn, Field{"Upgrade", "websocket"}, Field{"Upgrade", "h2c"}),
		row(refused(400), conn, Field{"Upgrade", "h2c"}, Field{"Upgrade", "websocket"}),
		row(refused(400), conn, Field{"Upgrade", "websocket"}, Field{"Upgrade", "SPDY/3.1"}),
		row(Want{Served: &alice, Codes: []int{400}, Status: 200}, conn, Field{"Upgrade", ""}),
		row(Want{Served: &alice, Codes: []int{400}, Status: 200}, Field{"Upgrade", "h2c"}),
		row(Want{Served: &alice, Codes: []int{400}, Status: 200}, Field{"Upgrade", "websocket"}),
		row(served(alice).status(101), conn, Field{"Upgrade", "WebSocket"}, Field{"Sec-WebSocket-Version", "13"}, Field{"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}),
		row(served(alice).status(101), Field{"connection", "keep-alive, upgrade"}, Field{"upgrade", "websocket"}, Field{"Sec-WebSocket-Version", "13"}, Field{"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}),
		row(served(alice).status(101), Field{"Connection", "keep-alive"}, conn, Field{"Upgrade", "SPDY/3.1"}),
		Case{Name: "h2c without a credential", On: []Carrier{H1}, Want: refused(400, 401), Request: Request{Target: execPath, Fields: h2c}},
	)
	attack(t, table)
}

// TestUpgradeCarriesIdentity holds that the request which opens a tunnel is
// judged and rebuilt like any other, and that the tunnel then carries every
// byte both ways (threat 39).
func TestUpgradeCarriesIdentity(t *testing.T) {
	eachTunnel(t, func(t *testing.T, to *Target, c Carrier) {
		mark := to.Up.Mark()
		conn := dialH1(t, to)
		defer conn.Close()
		payload := "\x00\xffGET /inside HTTP/1.1\r\nImpersonate-User: root\r\n\r\n" + strings.Repeat("z", 70000)
		req := c.Wrap(as(utf8Token, execPath, Field{"X-Remote-User", "root"}, Field{"Connection", "Impersonate-User"}))
		if c == SPDY {
			req = req.With(Field{"X-Stream-Protocol-Version", "v3.channel.k8s.io"})
		}
		if err := conn.Write(RenderH1(req, to.Addr)); err != nil {
			t.Fatal(err)
		}
		a := conn.ReadAnswer("GET")
		if a.Status != 101 || !strings.EqualFold(a.Fields.Get("Upgrade"), req.Fields.Get("Upgrade")) || !strings.EqualFold(a.Fields.Get("Connection"), "Upgrade") {
			t.Fatalf("answer %d %v %q", a.Status, a.Fields, a.Body)
		}
		go conn.Write(payload)
		got, err := conn.ReadFull(len(payload))
		if err != nil || string(got) != payload {
			t.Fatalf("echo of %d bytes: %d, %v", len(payload), len(got), err)
		}
		recs := to.Up.Since(mark)
		if len(recs) != 1 || string(recs[0].Tunnel) != payload {
			t.Fatalf("%d requests upstream", len(recs))
		}
		for _, n := range []string{"Sec-WebSocket-Protocol", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "X-Stream-Protocol-Version"} {
			if got, want := recs[0].Fields.All(n), req.Fields.All(n); !slices.Equal(got, want) {
				t.Errorf("%s upstream is %q, want %q", n, got, want)
			}
		}
		for _, f := range append(to.Up.Arrived(recs[0], utf8er, "127.0.0.1"), to.Leaks(a, recs)...) {
			t.Error(f)
		}
	})
}

func eachTunnel(t *testing.T, f func(t *testing.T, to *Target, c Carrier)) {
	eachTarget(t, func(t *testing.T, to *Target) {
		for _, c := range upgrade {
			t.Run(string(c), func(t *testing.T) { f(t, to, c) })
		}
	})
}

// TestFailedUpgradeLeavesNoTunnel holds that bytes after an upgrade which the
// API server did not grant are a new request, judged by its own credential,
// sent with the first or after the answer (threat 37).
func TestFailedUpgradeLeavesNoTunnel(t *testing.T) {
	const naked = "GET /inside HTTP/1.1\r\nHost: x\r\nImpersonate-User: root\r\n\r\n"
	bobs := RenderH1(as(bobToken, "/bobs", Field{"Connection", "close"}), "x")
	eachTunnel(t, func(t *testing.T, to *Target, c Carrier) {
		for _, fake := range []string{"refuse", "401", "mismatch", "redirect"} {
			for _, early := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s early=%v", fake, early), func(t *testing.T) {
					mark := to.Up.Mark()
					conn := dialH1(t, to)
					defer conn.Close()
					first := RenderH1(c.Wrap(as(aliceToken, execPath+"&fake="+fake)), to.Addr)
					if early {
						first += naked + bobs
					}
					if err := conn.Write(first); err != nil {
						t.Fatal(err)
					}
					a := conn.ReadAnswer("GET")
					want := map[string][]int{"refuse": {403}, "401": {502}, "mismatch": {502}, "redirect": {502}}[fake]
					if !slices.Contains(want, a.Status) {
						t.Errorf("answered %d (%v), want %v", a.Status, a.Err, want)
					}
					if a.Status == 502 {
						for _, f := range OwnAnswer(a, false) {
							t.Error(f)
						}
					}
					if !early {
						conn.Write(naked + bobs)
					}
					rest, _ := conn.Rest()
					judgeAfterFailure(t, to, mark, a, rest)
				})
			}
		}
	})
}

func judgeAfterFailure(t *testing.T, to *Target, mark int, a *Answer, rest []byte) {
	t.Helper()
	recs := to.Up.Since(mark)
	for _, f := range append(to.Leaks(a, recs), to.Leaks(&Answer{Body: rest}, nil)...) {
		t.Error(f)
	}
	for _, r := range recs {
		id := alice
		if r.Target == "/bobs" {
			id = bob
		} else if !strings.HasPrefix(r.Target, execPath) {
			t.Errorf("upstream saw %q", r.Target)
		}
		if len(r.Tunnel) > 0 {
			t.Errorf("bytes in a tunnel that was not granted: %q", r.Tunnel)
		}
		for _, f := range to.Up.Arrived(r, id, "127.0.0.1") {
			t.Error(f)
		}
	}
}

// TestUninvited101 holds that a 101 which nobody asked for is 502, and opens
// nothing (threat 37).
func TestUninvited101(t *testing.T) {
	eachTarget(t, func(t *testing.T, to *Target) {
		for _, c := range oneWay {
			mark := to.Up.Mark()
			a, err := c.Exchange(to.Addr, to.Roots, as(aliceToken, "/api/v1/pods?fake=101"))
			if err != nil {
				t.Fatal(err)
			}
			recs := to.Up.Since(mark)
			faults := append(OwnAnswer(a, false), to.Leaks(a, recs)...)
			if a.Status != 502 {
				faults = append(faults, fmt.Sprintf("answered %d (%v)", a.Status, a.Err))
			}
			for _, r := range recs {
				faults = append(faults, to.Up.Arrived(r, alice, "127.0.0.1")...)
				if len(r.Tunnel) > 0 {
					faults = append(faults, fmt.Sprintf("tunnel %q", r.Tunnel))
				}
			}
			for _, f := range faults {
				t.Errorf("%s: %s", c, f)
			}
		}
	})
}

// TestWatchEventsArriveOneByOne holds that the first event of a watch is at the
// client while the API server has not yet sent the second.
func TestWatchEventsArriveOneByOne(t *testing.T) {
	eachTarget(t, func(t *testing.T, to *Target) {
		c := dialH1(t, to)
		defer c.Close()
		if err := c.Write(RenderH1(as(aliceToken, "/api/v1/pods?watch=1&fake=watch"), to.Addr)); err != nil {
			t.Fatal(err)
		}
		h, err := c.ReadStart()
		if err != nil {
			t.Fatal(err)
		}
		size := len("11\r\n" + `{"type":"ADDED"}` + "\n\r\n")
		if got, err := c.ReadFull(size); err != nil || !strings.Contains(string(got), "ADDED") {
			t.Fatalf("first event: %q, %v after %q", got, err, h.Raw)
		}
		start := time.Now()
		if !to.Up.ReleaseWatch() {
			t.Fatal("the API server was not holding a watch")
		}
		if got, err := c.ReadFull(size); err != nil || !strings.Contains(string(got), "ADDED") {
			t.Fatalf("second event after %s: %q, %v", time.Since(start), got, err)
		}
	})
}
