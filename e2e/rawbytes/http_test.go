package rawbytes

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestPathAndQueryArriveUnchanged holds that gatehouse neither normalises nor
// repairs what the API server decides on (threats 47, 48).
func TestPathAndQueryArriveUnchanged(t *testing.T) {
	var table []Case
	for _, p := range []string{
		"/", "/api/v1/namespaces/x/pods", "/api//v1///pods", "//api/v1", "/api/v1/", "/a/../b", "/..", "/../../etc", "/./a", "/a/.", "/..;/a", "/a;b=c/d",
		"/%2e%2e/a", "/a/%2e%2e/b", "/a%2Fb", "/a%2fb", "/a%252Fb", "/a%00b", "/a%0d%0ab", "/%C3%A9", "/%c3%a9", "/a%20b", "/a+b", "/~a!$&'()*,=:@", "/a%5Cb", "/[x]", "/a|b", `/a"b`,
		"/a?", "/a?b", "/a?b=", "/a?=b", "/a?b=c&b=d", "/a?b;c=d", "/a?b=c;d", "/a?%", "/a?%zz=1", "/a?b=%", "/a?b=c&%gg&d=e", "/a?a=b=c", "/a??", "/a?&&", "/a?b=%2B+%20",
		"/a?fieldSelector=metadata.name%3Dx&watch=0", "/a?b=/../c", "/a?b=é", "/a?b=\"<>`", "/a?b c", "/a?b HTTP/1.1", "/a?x" + strings.Repeat("&y=1", 3000),
	} {
		want := served(alice)
		if strings.ContainsAny(p, " \"<>`|\\é") || strings.Contains(p, "%00") {
			want = orServed(malformed(400), alice)
		}
		table = append(table, Case{Name: fmt.Sprintf("%.60q", p), On: oneWay, Request: as(aliceToken, p), Want: want})
	}
	for _, p := range []string{"/api/v1/namespaces/x/pods/p/exec?command=a%3Bb&command=c;d&%zz", "/api/v1/x/%2e%2e/a%2Fb//exec"} {
		table = append(table, Case{Name: fmt.Sprintf("upgrade, %.60q", p), On: upgrade, Request: as(aliceToken, p), Want: served(alice)})
	}
	attack(t, table)
}

// TestTargetFormsReachNothingElse holds that the request target and Host cannot
// choose where a request goes (threats 46, 50).
func TestTargetFormsReachNothingElse(t *testing.T) {
	to := func(want Want, target string, f ...Field) Case {
		return Case{Name: fmt.Sprintf("target %q", target), On: []Carrier{H1}, Request: as(aliceToken, target, f...), Want: want}
	}
	host := func(h string) Case {
		return Case{Name: fmt.Sprintf("host %q", h), Request: Request{Target: "/api", Host: h, Fields: ask().Fields}, Want: served(alice)}
	}
	bad := malformed(400, 404, 405)
	absolute := harmless(alice, 400, 403, 404, 405, 421).at("/api?x=1")
	table := []Case{
		to(absolute, "https://elsewhere.invalid/api?x=1"), to(absolute, "http://elsewhere.invalid:1/api?x=1"), to(absolute, "https://127.0.0.1:1/api?x=1"),
		to(absolute, "ftp://elsewhere.invalid/api?x=1"), to(harmless(alice, 400, 404, 405).at("/"), "https://elsewhere.invalid"),
		to(bad, "api/v1"), to(bad, "?x"), to(bad, "*"), to(bad, "elsewhere.invalid:443"), to(bad, ":"), to(bad, "#"), to(bad, "\\api"),
		to(harmless(alice, 400), "/a#b"), to(harmless(alice, 400), "//elsewhere.invalid/api"), to(harmless(alice, 400), "///elsewhere.invalid"),
		to(harmless(alice, 400), "/https://elsewhere.invalid/"), to(harmless(alice, 400), "/@elsewhere.invalid/"),
		host("elsewhere.invalid"), host("elsewhere.invalid:1"), host("localhost"), host("kubernetes.default.svc"), host("[::1]:443"),
		{Name: "authority with a user", On: []Carrier{H2}, Request: ask(Field{":authority", "a@elsewhere.invalid"}), Want: orServed(malformed(400), alice)},
		{Name: "host beside authority", On: []Carrier{H2}, Request: ask(Field{"host", "elsewhere.invalid"}), Want: harmless(alice, 400)},
		{Name: "authority empty", On: []Carrier{H2}, Request: ask(Field{":authority", ""}), Want: harmless(alice, 400)},
		{Name: "path with no slash", On: []Carrier{H2}, Request: as(aliceToken, "api"), Want: bad},
		{Name: "path empty", On: []Carrier{H2}, Request: as(aliceToken, ""), Want: bad},
		{Name: "path absolute", On: []Carrier{H2}, Request: as(aliceToken, "https://elsewhere.invalid/"), Want: bad},
		{Name: "path star", On: []Carrier{H2}, Request: as(aliceToken, "*"), Want: bad},
		{Name: "scheme http", On: []Carrier{H2}, Request: ask(Field{":scheme", "http"}), Want: harmless(alice, 400)},
	}
	for _, target := range []string{"*", "elsewhere.invalid:443", "https://elsewhere.invalid/", "/api"} {
		table = append(table, Case{Name: "CONNECT " + target, On: []Carrier{H1}, Request: Request{Method: "CONNECT", Target: target, Fields: ask().Fields}, Want: bad})
	}
	for _, r := range []Request{ask(), {}} {
		r.Method, r.Target = "OPTIONS", "*"
		table = append(table, Case{Name: fmt.Sprintf("OPTIONS * with %d header lines", len(r.Fields)), On: oneWay, Request: r, Want: malformed(400, 401, 405)})
	}
	for _, h := range []string{"", "a b", "elsewhere.invalid/x", "a@b", "a\tb", "<>"} {
		r := ask()
		table = append(table, Case{Name: fmt.Sprintf("odd host %q", h), On: []Carrier{H2}, Request: r.With(Field{":authority", h}), Want: orServed(malformed(400), alice)})
	}
	attack(t, table)
}

// TestOnlyKnownMethodsAreServed holds that a method which nobody listed is 405,
// and that the API server's own all pass (threat 49).
func TestOnlyKnownMethodsAreServed(t *testing.T) {
	var table []Case
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		table = append(table, Case{Name: m, On: oneWay, Request: Request{Method: m, Target: "/api/v1/pods", Fields: ask().Fields}, Want: served(alice)})
	}
	for _, m := range []string{"POST", "GET"} {
		table = append(table, Case{Name: m, On: []Carrier{SPDY}, Request: Request{Method: m, Target: "/api/v1/namespaces/x/pods/p/exec", Fields: ask().Fields}, Want: served(alice)})
	}
	for _, m := range []string{"TRACE", "TRACK", "DEBUG", "PROPFIND", "get", "Get", "GETX", "PRI", "PURGE", "M-SEARCH", "LINK", strings.Repeat("A", 300)} {
		want := refused(405)
		if m == "PRI" {
			want = malformed(400, 405)
		}
		table = append(table, Case{Name: "unknown " + m[:min(len(m), 20)], Request: Request{Method: m, Target: "/api/v1/pods", Fields: ask().Fields}, Want: want})
	}
	for _, m := range []string{"TRACE", "PROPFIND"} {
		table = append(table, Case{Name: m + " without a credential", Request: Request{Method: m, Target: "/"}, Want: refused(401, 405)})
	}
	table = append(table, Case{Name: "CONNECT", On: []Carrier{H2}, Want: malformed(400, 405), Request: Request{Method: "CONNECT", Target: "/", Fields: ask().Fields}})
	attack(t, table)
}

// TestMalformedHTTP2NeverArrives holds the same for what only HTTP/2 can say
// (threats 3, 38, 45).
func TestMalformedHTTP2NeverArrives(t *testing.T) {
	var table []Case
	row := func(name string, f ...Field) {
		table = append(table, Case{Name: name, On: []Carrier{H2}, Request: ask(f...), Want: malformed(400, 403, 405)})
	}
	for _, f := range (Fields{
		{"x-a", "1\r\nImpersonate-Group: system:masters"}, {"x-a", "a\nb"}, {"x-a", "a\rb"}, {"x-a", "a\x00b"}, {"x-a", "a\x01b"}, {"x-a", "a\x7fb"},
		{"x a", "1"}, {"x-a:", "1"}, {"x-a\r\nimpersonate-user", "root"}, {"=X-Upper", "1"}, {"=Impersonate-Group", "x"}, {"=", "1"}, {"é", "1"}, {":bogus", "1"}, {":status", "200"},
		{"upgrade", "websocket"}, {"transfer-encoding", "chunked"}, {"proxy-connection", "close"}, {"keep-alive", "1"}, {"te", "gzip"}, {"content-length", "x"},
	}) {
		row(fmt.Sprintf("%q=%q", f.Name, f.Value), f)
	}
	for i := range table { // the length of a body that is not there, and a field that no identity depends on
		if slices.Contains([]string{`"te"="gzip"`, `"content-length"="x"`}, table[i].Name) {
			table[i].Want = orServed(table[i].Want, alice)
		}
	}
	long := orServed(malformed(400), alice)
	long.Cut, long.Status = true, -1 // it may set out, never succeed
	table = append(table,
		Case{Name: "body longer than announced", On: []Carrier{H2}, Want: long, Request: Request{Method: "POST", Target: "/longer", Fields: ask(Field{"content-length", "1"}).Fields, Body: "xxxx"}},
		Case{Name: "extended CONNECT websocket", On: []Carrier{H2}, Want: malformed(400, 405, 501), Request: Request{Method: "CONNECT", Target: "/api/v1/namespaces/x/pods/p/exec", Fields: ask(Field{":protocol", "websocket"}).Fields}},
		Case{Name: "protocol without CONNECT", On: []Carrier{H2}, Want: malformed(400, 405), Request: ask(Field{":protocol", "websocket"})},
		Case{Name: "blanks around the token", On: []Carrier{H2}, Want: Want{Served: &alice, Codes: []int{400, 401}, Library: true}, Request: Request{Target: "/", Fields: Fields{{"authorization", "  Bearer " + aliceToken + " \t"}}}},
		Case{Name: "blank before the family name", On: []Carrier{H2}, Want: malformed(400, 403), Request: ask(Field{" impersonate-user", "root"})},
	)
	attack(t, table)
}

// TestExtendedConnectIsNotOffered holds that the settings frame does not invite
// what is refused.
func TestExtendedConnectIsNotOffered(t *testing.T) {
	eachTarget(t, func(t *testing.T, to *Target) {
		c, err := DialH2(to.Addr, to.Roots)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if c.Settings[0x8] == 1 {
			t.Error("SETTINGS_ENABLE_CONNECT_PROTOCOL is 1")
		}
		if n := c.Settings[0x3]; n == 0 || n > 1000 {
			t.Errorf("SETTINGS_MAX_CONCURRENT_STREAMS is %d", n)
		}
	})
}

// TestExpect holds that a body is asked for only after the credential is good
// (threat 51).
func TestExpect(t *testing.T) {
	post := func(token, expect string) Request {
		return Request{Method: "POST", Target: "/api/v1/pods", Body: "{}", Fields: Fields{{"Authorization", "Bearer " + token}, {"Expect", expect}}}
	}
	uninvited := func(a *Answer) []string {
		if len(a.Interim) > 0 {
			return []string{fmt.Sprintf("interim answers %v before a refusal", a.Interim)}
		}
		return nil
	}
	attack(t, []Case{
		{Name: "good", On: oneWay, Request: post(aliceToken, "100-continue"), Want: served(alice)},
		{Name: "bad credential", On: oneWay, Request: post("wrong", "100-continue"), Want: refused(401), Reply: uninvited},
		{Name: "unknown", On: oneWay, Request: post(aliceToken, "200-ok"), Want: harmless(alice, 400, 417)},
	})
}

// TestHeaderBombs holds that a header without bound is 431, and that the next
// client is served (threat 104).
func TestHeaderBombs(t *testing.T) {
	var small Fields
	for i := range 60000 {
		small = append(small, Field{fmt.Sprintf("X-Bomb-%d", i), "0123456789012345"})
	}
	bomb := Want{Codes: []int{431}, Library: true, Dropped: true}
	attack(t, []Case{
		{Name: "one line of 3 MiB", Request: ask(Field{"X-Bomb", strings.Repeat("b", 3<<20)}), Want: bomb},
		{Name: "sixty thousand lines", Request: ask(small...), Want: bomb},
		{Name: "sixty thousand times one name", Request: ask(slices.Repeat(Fields{{"Accept", "application/json, text/plain"}}, 60000)...), Want: bomb},
		{Name: "two thousand lines", Request: ask(slices.Repeat(Fields{{"Accept", "application/json"}}, 2000)...), Want: refused(431)},
		{Name: "without a credential", Request: Request{Target: "/", Fields: Fields{{"X-Bomb", strings.Repeat("b", 3<<20)}}}, Want: bomb},
		{Name: "a token of 3 MiB", Request: as(strings.Repeat("b", 3<<20), "/"), Want: bomb},
		{Name: "the next client", Request: ask(), Want: served(alice)},
	})
}
