package rawbytes

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestIdentityArrivesByteExact holds that whom the CSV file names is whom the
// API server is told, on every way in and both ways out (threats 11, 14, 16,
// 17, 19).
func TestIdentityArrivesByteExact(t *testing.T) {
	var table []Case
	for _, u := range []struct {
		name, token string
		id          Identity
	}{
		{"uid and groups", aliceToken, alice},
		{"no uid and no groups", bobToken, bob},
		{"spaces and separators inside", spacesToken, spaces},
		{"five hundred groups", manyToken, many},
		{"UTF-8", utf8Token, utf8er},
		{"token kept as a digest", hashedToken, hashed},
	} {
		table = append(table, Case{Name: u.name, Request: as(u.token, "/api/v1/pods"), Want: served(u.id)})
	}
	attack(t, table)
}

// TestHostileRowsNeverReachUpstream holds that a name which the wire would
// change, or which is reserved, is refused when the file is read or when the
// token is used, and never arrives in any form (threats 11-13, 15, 80).
func TestHostileRowsNeverReachUpstream(t *testing.T) {
	up, err := StartUpstream(shared.pki, true, proxyToken)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	const token = "canary-hostile-5d7c2e9b1a4f6083"
	shared.secrets.Add(token)
	for _, row := range []struct {
		name string
		id   Identity
	}{
		{"user of blanks", Identity{User: "  "}},
		{"user empty", Identity{User: ""}},
		{"user reserved", Identity{User: "system:admin"}},
		{"user reserved behind a blank", Identity{User: " system:admin"}},
		{"user with a blank at the end", Identity{User: "eve "}},
		{"user with a tab at the start", Identity{User: "\teve"}},
		{"user with a line feed", Identity{User: "eve\nImpersonate-Group: system:masters"}},
		{"user with NUL", Identity{User: "e\x00ve"}},
		{"user not UTF-8", Identity{User: "e\xffve"}},
		{"user with a no-break space at the end", Identity{User: "eve\u00a0"}},
		{"uid with a blank at the start", Identity{User: "eve", UID: " 1"}},
		{"group reserved", Identity{User: "eve", Groups: []string{"system:masters"}}},
		{"group reserved behind a blank", Identity{User: "eve", Groups: []string{"dev", " system:masters"}}},
		{"group reserved, not by its prefix", Identity{User: "eve", Groups: []string{"kubeadm:cluster-admins"}}},
		{"group with a carriage return", Identity{User: "eve", Groups: []string{"a\rb"}}},
		{"group empty in the middle", Identity{User: "eve", Groups: []string{"dev", "", "ops"}}},
		{"proxy's own account", Identity{User: "system:serviceaccount:gatehouse:gatehouse"}},
	} {
		t.Run(row.name, func(t *testing.T) { hostileRow(t, up, token, row.id) })
	}
}

func hostileRow(t *testing.T, up *Upstream, token string, id Identity) {
	p, err := shared.process(t.Name(), up, csvFile(csvRow(aliceToken, alice), csvRow(token, id)))
	if err != nil {
		if p == nil || !errors.Is(err, ErrExited) || !strings.Contains(p.Log(), "tokens.csv: line 2") {
			t.Fatalf("a start that fails names the file and the line: %v", err)
		}
		for _, f := range shared.secrets.Leaks("the log of a refused start", p.Log()) {
			t.Error(f)
		}
		return
	}
	defer p.Stop()
	to := &Target{Addr: p.Addr, Roots: shared.pki.Roots, Up: up, Secrets: shared.secrets, LogFrom: p.LogFrom}
	for _, c := range Carriers {
		for _, k := range []Case{
			{Name: "hostile row", Request: as(token, "/api/v1/pods"), Want: refused(401, 403)},
			{Name: "good row beside it", Request: ask(), Want: served(alice)},
		} {
			faults, err := to.Try(c, k)
			if err != nil || len(faults) > 0 {
				t.Errorf("%s, %s: %v %q", c, k.Name, err, faults)
			}
		}
	}
}

// turns is who comes one after the other on one connection.
var turns = []struct {
	req    Request
	id     *Identity
	status int
}{
	{as(aliceToken, "/1"), &alice, 200}, {Request{Target: "/2"}, nil, 401}, {as(bobToken, "/3"), &bob, 200},
	{as("wrong", "/4"), nil, 401}, {as(aliceToken, "/5"), &alice, 200},
}

// TestEachRequestIsJudgedAlone holds that a connection has no identity: one
// that carries alice, nobody and bob in turn serves each as itself (threat 22).
func TestEachRequestIsJudgedAlone(t *testing.T) {
	eachTarget(t, func(t *testing.T, to *Target) {
		t.Run("http1", func(t *testing.T) {
			judge := judgeTurn(t, to)
			var c *H1Conn
			defer func() { c.Close() }()
			for _, turn := range turns {
				if c == nil {
					c = dialH1(t, to)
				}
				if err := c.Write(RenderH1(turn.req, to.Addr)); err != nil {
					t.Fatal(err)
				}
				a := c.ReadAnswer("GET")
				judge(a, turn.id, turn.status)
				if a.Fields.Get("Connection") == "close" {
					c.Close()
					c = dialH1(t, to)
				}
			}
		})
		t.Run("http2", func(t *testing.T) {
			judge := judgeTurn(t, to)
			c, err := DialH2(to.Addr, to.Roots)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { c.Close() }()
			for _, turn := range turns {
				a, err := c.Exchange(turn.req)
				if err != nil {
					t.Fatal(err)
				}
				judge(a, turn.id, turn.status)
				if turn.status == 401 { // the server may end the connection after one
					c.Close()
					if c, err = DialH2(to.Addr, to.Roots); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	})
}

// TestPipelinedRequestsAreJudgedAlone holds the same for requests that are on
// the wire before the first is answered.
func TestPipelinedRequestsAreJudgedAlone(t *testing.T) {
	eachTarget(t, func(t *testing.T, to *Target) {
		mark := to.Up.Mark()
		c := dialH1(t, to)
		defer c.Close()
		all := RenderH1(as(aliceToken, "/alice"), to.Addr) + RenderH1(as(bobToken, "/bob"), to.Addr) +
			RenderH1(as("wrong", "/nobody", Field{"Impersonate-User", "root"}), to.Addr) + RenderH1(Request{Target: "/nobody"}, to.Addr)
		if err := c.Write(all); err != nil {
			t.Fatal(err)
		}
		var got []int
		for range 4 {
			got = append(got, c.ReadAnswer("GET").Status)
		}
		if got[0] != 200 || got[1] != 200 || got[2] == 200 || got[3] == 200 {
			t.Errorf("answered %v", got)
		}
		recs := to.Up.Since(mark)
		if len(recs) != 2 {
			t.Errorf("%d requests upstream", len(recs))
		}
		for _, r := range recs {
			for _, f := range to.Up.Arrived(r, map[string]Identity{"/alice": alice, "/bob": bob}[r.Target], "127.0.0.1") {
				t.Error(f)
			}
		}
	})
}

func judgeTurn(t *testing.T, to *Target) func(*Answer, *Identity, int) {
	mark := to.Up.Mark()
	return func(a *Answer, id *Identity, status int) {
		t.Helper()
		recs := to.Up.Since(mark)
		mark = to.Up.Mark()
		faults := to.Leaks(a, recs)
		if want := map[bool]int{true: 1}[id != nil]; a.Status != status || len(recs) != want {
			faults = append(faults, fmt.Sprintf("status %d (%v) with %d requests upstream, want %d with %d", a.Status, a.Err, len(recs), status, want))
		}
		for _, r := range recs {
			if id != nil {
				faults = append(faults, to.Up.Arrived(r, *id, "127.0.0.1")...)
			}
		}
		for _, f := range faults {
			t.Error(f)
		}
	}
}

func dialH1(t *testing.T, to *Target) *H1Conn {
	t.Helper()
	c, err := DialH1(to.Addr, to.Roots)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
