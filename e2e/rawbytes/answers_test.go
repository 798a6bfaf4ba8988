package rawbytes

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestOwnAnswersAreStatuses holds that a person and a client library both learn
// why, for each code that gatehouse makes itself and on every way in. What the
// answer must look like is in OwnAnswer; all other tables ask it too.
func TestOwnAnswersAreStatuses(t *testing.T) {
	attack(t, []Case{
		{Name: "401", Request: Request{Target: "/api/v1/pods"}, Want: refused(401)},
		{Name: "401 to HEAD", On: oneWay, Request: Request{Method: "HEAD", Target: "/api/v1/pods"}, Want: refused(401)},
		{Name: "401 whatever is accepted", Want: refused(401), Request: Request{Target: "/", Fields: Fields{{"Accept", "application/vnd.kubernetes.protobuf"}, {"Accept-Encoding", "gzip"}}}},
		{Name: "403", Request: ask(Field{"Impersonate-User", "root"}), Want: refused(403)},
		{Name: "405", Request: Request{Method: "TRACE", Target: "/", Fields: ask().Fields}, Want: refused(405)},
		{Name: "400", On: []Carrier{H1}, Request: ask(Field{"Connection", "Upgrade"}, Field{"Upgrade", "h2c"}), Want: refused(400)},
	})
}

// TestOwnAnswersEchoNothing holds that nothing unverified comes back in an
// answer or reaches a metric (threats 109, 111).
func TestOwnAnswersEchoNothing(t *testing.T) {
	const mark = "marker-6f1d2c"
	quiet := func(a *Answer) []string {
		if strings.Contains(a.Text(), mark) {
			return []string{fmt.Sprintf("the answer repeats the request: %q", a.Text())}
		}
		return nil
	}
	attack(t, []Case{
		{Name: "token", Request: as(mark, "/"), Want: refused(401), Reply: quiet},
		{Name: "path and query", Request: Request{Target: "/" + mark + "?" + mark}, Want: refused(401), Reply: quiet},
		{Name: "scheme", Request: Request{Target: "/", Fields: Fields{{"Authorization", mark + " x"}}}, Want: refused(401), Reply: quiet},
		{Name: "impersonated name", Request: ask(Field{"Impersonate-User", mark}), Want: refused(403), Reply: quiet},
		{Name: "impersonation header", Request: ask(Field{"Impersonate-" + mark, "1"}), Want: refused(400), Reply: quiet},
		{Name: "method", Request: Request{Method: strings.ToUpper(mark), Target: "/", Fields: ask().Fields}, Want: refused(405), Reply: quiet},
		{Name: "protocol", On: []Carrier{H1}, Request: ask(Field{"Connection", "Upgrade"}, Field{"Upgrade", mark}), Want: refused(400), Reply: quiet},
		{Name: "audit id", Request: Request{Target: "/", Fields: Fields{{"Audit-Id", mark}}}, Want: refused(401), Reply: quiet},
	})
	for _, l := range shared.targets {
		p, err := l.start()
		if err != nil {
			t.Fatal(err)
		}
		text, err := p.Metrics()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{mark, strings.ToUpper(mark), alice.User, "/api/v1", "elsewhere.invalid"} {
			if strings.Contains(text, s) {
				t.Errorf("%s: the metrics page holds %q", l.name, s)
			}
		}
		for _, f := range shared.secrets.Leaks("the metrics page", text) {
			t.Error(f)
		}
	}
}

// upstreamSays runs one request whose answer the fake spoils, and returns the
// answer after the oracles have judged all that arrived.
func upstreamSays(t *testing.T, to *Target, c Carrier, target string) *Answer {
	t.Helper()
	mark := to.Up.Mark()
	a, err := c.Exchange(to.Addr, to.Roots, as(aliceToken, target))
	if err != nil {
		t.Fatal(err)
	}
	recs := to.Up.Since(mark)
	if len(recs) == 0 || len(recs) > 2 {
		t.Errorf("%s: %d requests upstream", c, len(recs))
	}
	faults := to.Leaks(a, recs)
	for _, r := range recs {
		faults = append(faults, to.Up.Arrived(r, alice, "127.0.0.1")...)
	}
	for _, f := range faults {
		t.Errorf("%s: %s", c, f)
	}
	return a
}

func mustBe502(t *testing.T, c Carrier, a *Answer) {
	t.Helper()
	if a.Status != 502 {
		t.Fatalf("%s: answered %d (%v), want 502", c, a.Status, a.Err)
	}
	for _, f := range OwnAnswer(a, false) {
		t.Errorf("%s: %s", c, f)
	}
}

// TestUpstream401IsOurTrouble holds that the API server's refusal of our own
// account is never told as the user's (threat 97).
func TestUpstream401IsOurTrouble(t *testing.T) {
	eachTarget(t, func(t *testing.T, to *Target) {
		for _, c := range Carriers {
			mustBe502(t, c, upstreamSays(t, to, c, "/api/v1/pods?fake=401"))
		}
	})
}

// TestUpstream403IsTheUsers holds that RBAC's verdict passes.
func TestUpstream403IsTheUsers(t *testing.T) {
	eachTarget(t, func(t *testing.T, to *Target) {
		for _, c := range oneWay {
			if a := upstreamSays(t, to, c, "/api/v1/pods?fake=403"); a.Status != 403 || !strings.Contains(string(a.Body), `"reason":"Forbidden"`) {
				t.Errorf("%s: answered %d %q", c, a.Status, a.Body)
			}
		}
	})
}

// TestRedirectsAreNotFollowed holds that the API server cannot send the proxy
// or its credential elsewhere; on an upgrade a redirect is 502 (threat 40).
func TestRedirectsAreNotFollowed(t *testing.T) {
	eachTarget(t, func(t *testing.T, to *Target) {
		for _, c := range Carriers {
			a := upstreamSays(t, to, c, execPath+"&fake=redirect")
			if slices.Contains(upgrade, c) || a.Status != 302 {
				mustBe502(t, c, a)
			}
		}
	})
}

// TestUpstreamHeadersThatDoNotPass holds that what speaks for the connection,
// the origin or another authority is dropped, and the API server's own stays
// (threat 52).
func TestUpstreamHeadersThatDoNotPass(t *testing.T) {
	eachTarget(t, func(t *testing.T, to *Target) {
		for _, c := range oneWay {
			a := upstreamSays(t, to, c, "/api/v1/pods?fake=headers")
			for _, n := range []string{"Alt-Svc", "Www-Authenticate", "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"} {
				if v := a.Fields.All(n); len(v) > 0 {
					t.Errorf("%s: %s: %q passed", c, n, v)
				}
			}
			for n, want := range map[string]string{"X-Kubernetes-Pf-Flowschema-Uid": "flow-1", "Warning": `299 - "from the API server"`, "Etag": `"tag-1"`, "Content-Type": "text/plain"} {
				if v := a.Fields.All(n); !slices.Equal(v, []string{want}) {
					t.Errorf("%s: %s is %q, want %q", c, n, v, want)
				}
			}
			a = upstreamSays(t, to, c, "/api/v1/pods?fake=hop")
			for _, n := range []string{"X-Hop", "Keep-Alive", "Proxy-Authenticate", "Upgrade", "Connection"} {
				if v := a.Fields.All(n); len(v) > 0 {
					t.Errorf("%s: %s: %q passed", c, n, v)
				}
			}
			if len(a.Fields.All("Audit-Id")) != 1 {
				t.Errorf("%s: Audit-Id is %q", c, a.Fields.All("Audit-Id"))
			}
		}
	})
}

// TestOversizedUpstreamHeaderIs502 holds that the API server's header has a
// bound too.
func TestOversizedUpstreamHeaderIs502(t *testing.T) {
	eachTarget(t, func(t *testing.T, to *Target) {
		for _, c := range oneWay {
			mustBe502(t, c, upstreamSays(t, to, c, "/api/v1/pods?fake=big-header"))
		}
	})
}

// TestNobodyGetsAnothersAnswer holds that a connection on which the API server
// said too much is not used again (threat 23).
func TestNobodyGetsAnothersAnswer(t *testing.T) {
	eachTarget(t, func(t *testing.T, to *Target) {
		for _, fake := range []string{"split", "surplus", "101", "401", "big-header"} {
			for _, c := range oneWay {
				upstreamSays(t, to, c, "/api/v1/pods?fake="+fake)
				faults, err := to.Try(c, Case{Request: as(bobToken, "/next"), Want: served(bob), Reply: func(a *Answer) []string {
					if !strings.HasPrefix(string(a.Body), Served) {
						return []string{fmt.Sprintf("after %s the next client got %q", fake, a.Body)}
					}
					return nil
				}})
				if err != nil || len(faults) > 0 {
					t.Errorf("%s after %s: %v %q", c, fake, err, faults)
				}
			}
		}
	})
}

// TestNoAnswerIsNotSuccess holds that a client which says that it will send
// nothing more, and still reads, is not told 200 for a request that gatehouse
// gave up before the API server answered.
func TestNoAnswerIsNotSuccess(t *testing.T) {
	eachTarget(t, func(t *testing.T, to *Target) {
		mark := to.Up.Mark()
		c := dialH1(t, to)
		defer c.Close()
		if err := c.Write(RenderH1(as(aliceToken, "/api/v1/pods?fake=stall"), to.Addr)); err != nil {
			t.Fatal(err)
		}
		if err := to.Up.Await(mark, 1); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		answers := make(chan *Answer, 1)
		go func() { answers <- c.ReadAnswer("GET") }()
		var a *Answer
		select {
		case a = <-answers: // gatehouse gave up at once
		case <-time.After(500 * time.Millisecond): // it waits for the API server
		}
		if !to.Up.ReleaseWatch() {
			t.Error("the API server was not stalled")
		}
		if a == nil {
			a = <-answers
		}
		if a.Status == 200 && !strings.HasPrefix(string(a.Body), Served) {
			t.Errorf("answered 200 %q %v, which the API server never said", a.Body, a.Fields)
		}
	})
}
