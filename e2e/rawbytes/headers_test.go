package rawbytes

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestConnectionHeaderChangesNothing holds that no list of a client's can take
// a header of the proxy's away, on any protocol (threats 4, 5, 6).
func TestConnectionHeaderChangesNothing(t *testing.T) {
	onH2 := harmless(alice, 400)
	onH2.Dropped = true
	var table []Case
	for _, v := range []string{
		"Impersonate-User, Impersonate-Group", "Impersonate-User, Impersonate-Group, Impersonate-Uid",
		"impersonate-user,IMPERSONATE-GROUP,Impersonate-uid", "\timpersonate-user \t, ,impersonate-group ,,",
		"keep-alive, Impersonate-User, Authorization", "close, Impersonate-User", "Impersonate-Extra-Scopes", "Impersonate-*",
		"Authorization", "authorization", "AUTHORIZATION", "  Authorization  ", "Authorization,Authorization",
		"Host", "Host, Content-Length, User-Agent, Accept", "X-Forwarded-For, Audit-Id", "Connection", "Connection, Impersonate-User",
		"TE, Trailer, Transfer-Encoding", "Upgrade, Impersonate-User", `"Impersonate-User"`, "@, ;, =", "Impersonate-User; q=1", "",
	} {
		table = append(table, Case{Name: fmt.Sprintf("Connection %q", v), Request: ask(Field{"Connection", v}), Want: served(alice), OnH2: &onH2})
	}
	for _, k := range table { // on upgrades the list is joined to ours, here it is a line of its own
		table = append(table, Case{Name: "second line, " + k.Name, On: upgrade, Want: served(alice),
			Request: ask(Field{"Connection", "Impersonate-Group"}, k.Request.Fields[1])})
	}
	for _, n := range []string{"Proxy-Connection", "Keep-Alive"} {
		table = append(table, Case{Name: n, Request: ask(Field{n, "Impersonate-User, Authorization"}), Want: served(alice), OnH2: &onH2})
	}
	table = append(table,
		Case{Name: "TE", Request: ask(Field{"TE", "trailers, Impersonate-User"}), Want: harmless(alice, 400), OnH2: &onH2},
		Case{Name: "body survives", On: oneWay, Want: served(alice), OnH2: &onH2, Request: Request{Method: "POST", Target: "/api/v1/pods",
			Fields: ask(Field{"Connection", "Content-Length, Content-Type"}).Fields, Body: `{"kind":"Pod"}`}},
		Case{Name: "Connection Upgrade and no protocol", On: oneWay, Request: ask(Field{"Connection", "Upgrade, Impersonate-User"}), Want: harmless(alice, 400), OnH2: &onH2},
		Case{Name: "Connection Authorization and no credential", Request: Request{Target: "/", Fields: Fields{{"Connection", "Authorization"}}},
			Want: refused(401), OnH2: &Want{Codes: []int{400, 401}, Library: true, Dropped: true}},
	)
	attack(t, table)
}

// TestClientImpersonationIsRefused holds that every name of the family is refused
// and reaches nothing, alone or not, empty or not, where the cluster's rules let
// nobody act as another: 403 if a user is asked for, else 400 (threats 1, 32).
func TestClientImpersonationIsRefused(t *testing.T) {
	var table []Case
	for _, n := range []string{
		"Impersonate-User", "impersonate-user", "IMPERSONATE-USER", "iMpErSoNaTe-UsEr", "Impersonate-Group", "Impersonate-Uid",
		"Impersonate-UID", "Impersonate-Extra-Scopes", "Impersonate-Extra-", "Impersonate-Extra-a%2fb", "Impersonate-Future", "Impersonate-",
	} {
		for _, v := range []string{"system:admin", alice.User, ""} {
			want := refused(400)
			if strings.EqualFold(n, "Impersonate-User") && v != "" {
				want = refused(403)
			}
			table = append(table, Case{Name: fmt.Sprintf("%s=%q", n, v), Request: ask(Field{n, v}), Want: want})
		}
	}
	table = append(table,
		Case{Name: "repeated", Request: ask(Field{"Impersonate-Group", "a"}, Field{"impersonate-group", "b"}), Want: refused(400)},
		Case{Name: "before the credential", Want: refused(403), Request: Request{Target: "/", Fields: Fields{{"Impersonate-User", "root"}, {"Authorization", "Bearer " + aliceToken}}}},
		Case{Name: "on a write", On: oneWay, Want: refused(403), Request: Request{Method: "POST", Target: "/api/v1/pods", Fields: ask(Field{"Impersonate-User", "root"}).Fields, Body: "{}"}},
		Case{Name: "without a credential", Want: refused(401, 403), Request: Request{Target: "/", Fields: Fields{{"Impersonate-User", "root"}}}},
		Case{Name: "with a bad credential", Want: refused(401, 403), Request: as("wrong", "/", Field{"Impersonate-User", "root"})},
		Case{Name: "named by Connection too", On: lines, Want: refused(403), Request: ask(Field{"Connection", "Impersonate-User"}, Field{"Impersonate-User", "root"})},
		Case{Name: "capitals on the wire", On: []Carrier{H2}, Want: malformed(400, 403), Request: ask(Field{"=Impersonate-User", "root"})},
		Case{Name: "long s folds to s", Want: malformed(400), Request: ask(Field{"Imper\u017fonate-User", "root"})},
		Case{Name: "bare family name", Want: harmless(alice, 400, 403), Request: ask(Field{"Impersonate", "root"})},
	)
	attack(t, table)
}

// TestLookAlikesNeverArrive holds that a name which a later hop may read as an
// identity or an address is dropped or refused (threats 2, 8, 9, 86).
func TestLookAlikesNeverArrive(t *testing.T) {
	var table []Case
	for _, n := range []string{
		"Impersonate_User", "impersonate_group", "Impersonate-Extra_Scopes", "IMPERSONATE_EXTRA_SCOPES", "Impersonate_Uid", "Impersonate.User",
		"X-Remote-User", "x-remote-group", "X-Remote-Extra-Scopes", "X-Remote-Uid", "X_Remote_User", "X-Remote_Group",
		"X-Client-Cert", "X-Ssl-Client-Cert", "X-Original-Url", "X-User", "X-Groups", "Authorization_", "Proxy-Authorization", "Proxy_Authorization",
		"X-Forwarded-Client-Cert", "X-Forwarded-User", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix", "X_Forwarded_For",
		"X-Real-Ip", "X_Real_Ip", "Forwarded", "Cookie",
	} {
		table = append(table, Case{Name: n, Request: ask(Field{n, "10.9.8.7"}), Want: harmless(alice, 400, 403)})
	}
	attack(t, table)
}

// TestOnlyTheSocketAddressArrives holds that the API server's audit log shows
// where the client really is (threat 9).
func TestOnlyTheSocketAddressArrives(t *testing.T) {
	once := func(r Record) []string {
		if got := r.Fields.All("X-Forwarded-For"); !slices.Equal(got, []string{"127.0.0.1"}) {
			return []string{fmt.Sprintf("X-Forwarded-For upstream is %q", got)}
		}
		return nil
	}
	table := []Case{{Name: "none sent", Request: ask(), Want: served(alice), Also: once}}
	for _, v := range []string{"10.9.8.7", "10.9.8.7, 127.0.0.1", "", "127.0.0.1, ", "unknown", "[::1]:80", "_hidden", strings.Repeat("10.9.8.7,", 900)} {
		table = append(table, Case{Name: fmt.Sprintf("sent %.20q", v), Request: ask(Field{"X-Forwarded-For", v}), Want: served(alice), Also: once})
	}
	table = append(table, Case{Name: "two lines", Request: ask(Field{"X-Forwarded-For", "10.9.8.7"}, Field{"x-forwarded-for", "::1"}), Want: served(alice), Also: once})
	attack(t, table)
}

// TestTrustedProxysWordCounts holds that a trusted proxy can say where a request
// comes from, in X-Forwarded-For alone, that nobody before it can, and that the
// API server gets one address and none of the list (threats 9, 86).
func TestTrustedProxysWordCounts(t *testing.T) {
	up, err := StartUpstream(shared.pki, true, proxyToken)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	p, err := shared.process(t.Name(), up, usersCSV(), "GATEHOUSE_TRUSTED_PROXIES=127.0.0.1,10.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	to := &Target{Addr: p.Addr, Roots: shared.pki.Roots, Up: up, Secrets: shared.secrets, LogFrom: p.LogFrom}
	var table []Case
	for from, lists := range map[string][]string{
		"198.51.100.7": {"198.51.100.7", "203.0.113.66, 198.51.100.7", "203.0.113.66, 198.51.100.7,10.1.2.3", "198.51.100.7:80", "::ffff:198.51.100.7"},
		"2001:db8::7":  {"2001:db8::7", "[2001:db8::7]:443"},
		"127.0.0.1":    {"", "unknown", "203.0.113.66,", "_hidden", "203.0.113.66 10.1.2.3", strings.Repeat("9", 9000)},
		"10.1.2.3":     {"10.1.2.3", "203.0.113.66, , 10.1.2.3", "203.0.113.66" + strings.Repeat(",10.1.2.3", 900)},
	} {
		want := Want{Served: &alice, From: from}
		for _, list := range lists {
			table = append(table, Case{Name: fmt.Sprintf("%.30q", list), Want: want, Request: ask(Field{"X-Forwarded-For", list},
				Field{"Forwarded", "for=203.0.113.66"}, Field{"X-Real-Ip", "203.0.113.66"}, Field{"X_Forwarded_For", "203.0.113.66"})})
		}
	}
	table = append(table,
		Case{Name: "several lines are one list", Want: Want{Served: &alice, From: "198.51.100.7"},
			Request: ask(Field{"X-Forwarded-For", "203.0.113.66"}, Field{"x-forwarded-for", "198.51.100.7"}, Field{"X-FORWARDED-FOR", "10.1.2.3"}), On: lines},
		Case{Name: "others alone", Want: served(alice), Request: ask(Field{"Forwarded", "for=203.0.113.66"}, Field{"X-Real-Ip", "203.0.113.66"})},
	)
	for k := range table {
		table[k].Also = func(r Record) []string {
			if got := r.Fields.All("X-Forwarded-For"); !slices.Equal(got, []string{table[k].Want.from()}) {
				return []string{fmt.Sprintf("X-Forwarded-For upstream is %q", got)}
			}
			return nil
		}
	}
	for _, c := range Carriers {
		t.Run(string(c), func(t *testing.T) { tryAll(t, to, c, table) })
	}
}

// TestTrailersNeverArrive holds that nothing can be said after the body
// (threat 10).
func TestTrailersNeverArrive(t *testing.T) {
	var table []Case
	for _, n := range []string{"Impersonate-Group", "impersonate-user", "Authorization", "X-Remote-User", "X-Checksum", "Content-Length", "Host", "Connection"} {
		for _, announced := range []bool{true, false} {
			r := Request{Method: "POST", Target: fmt.Sprintf("/trailer/%s/%v", n, announced), Fields: ask().Fields, Body: "{}", Trailers: Fields{{n, "system:masters"}}}
			if announced {
				r = r.With(Field{"Trailer", n})
			}
			want := harmless(alice, 400, 403)
			want.Dropped, want.Cut = true, true
			table = append(table, Case{Name: fmt.Sprintf("%s announced=%v", n, announced), On: oneWay, Request: r, Want: want})
		}
	}
	attack(t, table)
}

// TestOnlyKnownHeadersArrive holds that the outgoing header is built, not
// filtered: what kubectl and the API server speak arrives byte for byte, and a
// name that nobody listed does not (design rule 2).
func TestOnlyKnownHeadersArrive(t *testing.T) {
	known := Fields{
		{"Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}, {"User-Agent", "kubectl/v1.37.2 (linux/amd64) kubernetes/abc"},
		{"Accept-Encoding", "gzip"}, {"Content-Type", "application/merge-patch+json"}, {"If-None-Match", `"tag-1"`},
	}
	unknown := Fields{
		{"X-Made-Up", "1"}, {"X-Http-Method-Override", "DELETE"}, {"X-Rewrite-Url", "/secret"}, {"Via", "1.1 elsewhere"}, {"Alt-Used", "elsewhere"},
		{"Http2-Settings", "AAMAAABkAAQAAP__"}, {"Cdn-Loop", "x"}, {"X-Envoy-Original-Path", "/"}, {"Early-Data", "1"}, {"Sec-Websocket-Key", "eA=="},
	}
	also := func(r Record) []string {
		var out []string
		for _, f := range known {
			if got := r.Fields.All(f.Name); !slices.Equal(got, []string{f.Value}) {
				out = append(out, fmt.Sprintf("%s upstream is %q, want %q", f.Name, got, f.Value))
			}
		}
		for _, f := range unknown {
			if got := r.Fields.All(f.Name); len(got) > 0 {
				out = append(out, fmt.Sprintf("not on any list, yet upstream: %s: %q", f.Name, got))
			}
		}
		return out
	}
	r := Request{Method: "PATCH", Target: "/api/v1/namespaces/x/pods/p", Fields: append(ask(known...).Fields, unknown...), Body: "{}"}
	attack(t, []Case{{Name: "one patch", On: oneWay, Request: r, Want: served(alice), Also: also}})
}

// TestAuditIDIsOurs holds that one id, which the client did not choose, names a
// request upstream and in its answer, so that two logs can be joined
// (threat 112).
func TestAuditIDIsOurs(t *testing.T) {
	eachTarget(t, func(t *testing.T, to *Target) {
		for _, c := range Carriers {
			var up []string
			faults, err := to.Try(c, Case{Request: ask(Field{"Audit-Id", "client-chosen"}, Field{"audit-id", "again"}), Want: served(alice),
				Also:  func(r Record) []string { up = r.Fields.All("Audit-Id"); return nil },
				Reply: func(a *Answer) []string { return oneAuditID(c, up, a.Fields.All("Audit-Id")) }})
			if err != nil || len(faults) > 0 {
				t.Errorf("%s: %v %q", c, err, faults)
			}
		}
	})
}

func oneAuditID(c Carrier, up, down []string) []string {
	tunnel := c == WebSocket || c == SPDY // the answer to an upgrade need not carry it
	if len(up) != 1 || up[0] == "" || strings.Contains(up[0], "client") || !slices.Equal(up, down) && !(tunnel && len(down) == 0) {
		return []string{fmt.Sprintf("Audit-Id upstream %q, in the answer %q", up, down)}
	}
	return nil
}
