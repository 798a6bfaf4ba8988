package rawbytes

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestOnlyOneGoodCredentialIsServed holds that anything but exactly one good
// bearer credential is 401 and reaches nothing, never anonymous (threats 24,
// 25, 28, 91, 115).
func TestOnlyOneGoodCredentialIsServed(t *testing.T) {
	auth := func(values ...string) Request {
		r := Request{Target: "/api/v1/pods"}
		for _, v := range values {
			r.Fields = append(r.Fields, Field{"Authorization", v})
		}
		return r
	}
	sum := sha256.Sum256([]byte(hashedToken))
	basic := base64.StdEncoding.EncodeToString([]byte("alice:" + aliceToken))
	shared.secrets.Add(basic)
	var table []Case
	for _, v := range []string{"", "Bearer", "Bearer ", "Bearer \t", "Basic " + basic, "Basic", "Negotiate x", "Token " + aliceToken, aliceToken,
		"Bearer=" + aliceToken, "Bearer:" + aliceToken, "Bearer\t" + aliceToken, "Bearer wrong", "Bearer " + aliceToken[:len(aliceToken)-1],
		"Bearer " + aliceToken + "x", "Bearer " + strings.ToUpper(aliceToken), "Bearer " + proxyToken, "Bearer sha256:" + hex.EncodeToString(sum[:]),
		"Bearer " + hex.EncodeToString(sum[:]), "Bearer " + aliceToken + ", Bearer " + bobToken, "Bearer " + aliceToken + "," + bobToken,
		"Basic " + basic + ", Bearer " + aliceToken, `Bearer "` + aliceToken + `"`, "Bearer é" + aliceToken, "Bearer e30.e30.e30", "Bearer ..", "Bearer " + strings.Repeat("a.", 4000)} {
		table = append(table, Case{Name: fmt.Sprintf("%.40q", v), Request: auth(v), Want: refused(401)})
	}
	table = append(table,
		Case{Name: "none", Request: Request{Target: "/api/v1/pods"}, Want: refused(401)},
		Case{Name: "two users", Request: auth("Bearer "+aliceToken, "Bearer "+bobToken), Want: refused(401)},
		Case{Name: "one user twice", Request: auth("Bearer "+aliceToken, "Bearer "+aliceToken), Want: refused(401)},
		Case{Name: "good then bad", Request: auth("Bearer "+aliceToken, "Bearer wrong"), Want: refused(401)},
		Case{Name: "bad then good", Request: auth("Bearer wrong", "Bearer "+aliceToken), Want: refused(401)},
		Case{Name: "Basic then good", Request: auth("Basic "+basic, "Bearer "+aliceToken), Want: refused(401)},
		Case{Name: "empty then good", Request: auth("", "Bearer "+aliceToken), Want: refused(401)},
		Case{Name: "names in two cases", Request: auth("Bearer " + aliceToken).With(Field{"AUTHORIZATION", "Bearer " + bobToken}), Want: refused(401)},
		Case{Name: "something after the token", Request: auth("Bearer " + aliceToken + " more"), Want: Want{Served: &alice, Codes: []int{401}}},
		Case{Name: "two spaces", Request: auth("Bearer  " + aliceToken), Want: Want{Served: &alice, Codes: []int{401}}},
		Case{Name: "scheme in lower case", Request: auth("bearer " + aliceToken), Want: served(alice)},
		Case{Name: "scheme in upper case", Request: auth("BEARER " + aliceToken), Want: served(alice)},
		Case{Name: "name in lower case", Request: Request{Target: "/", Fields: Fields{{"authorization", "Bearer " + aliceToken}}}, Want: served(alice)},
	)
	for _, n := range []string{"Proxy-Authorization", "X-Authorization", "Authorization_", "X-Forwarded-Access-Token", "Cookie", "Authentication", "X-Api-Key"} {
		table = append(table, Case{Name: "only in " + n, Request: Request{Target: "/", Fields: Fields{{n, "Bearer " + aliceToken}}}, Want: refused(401)})
	}
	for _, q := range []string{"access_token=", "token=", "authorization=Bearer%20", "bearer="} {
		table = append(table, Case{Name: "only in the query, " + q, Request: Request{Target: "/api/v1/pods?" + q + aliceToken}, Want: refused(401)})
	}
	attack(t, append(table, Case{Name: "only in a form", On: oneWay, Want: refused(401), Request: Request{Method: "POST", Target: "/api/v1/pods",
		Fields: Fields{{"Content-Type", "application/x-www-form-urlencoded"}}, Body: "access_token=" + aliceToken}}))
}

// TestNothingSkipsAuthentication holds that no path, method or agent is let
// through without a credential, and that the API server's own health paths are
// its own (threat 27).
func TestNothingSkipsAuthentication(t *testing.T) {
	var table []Case
	for _, p := range []string{"/", "/healthz", "/livez", "/readyz", "/readyz/", "/livez?verbose", "//healthz", "/metrics", "/version", "/api", "/apis", "/openid/v1/jwks",
		"/.well-known/openid-configuration", "/oauth2/callback", "/ping", "/favicon.ico", "/debug/pprof/", "/healthz%2f..%2fapi", "/healthz/../api/v1/secrets"} {
		for _, m := range []string{"GET", "HEAD", "OPTIONS"} {
			table = append(table, Case{Name: m + " " + p, On: oneWay, Want: refused(401), Request: Request{Method: m, Target: p, Fields: Fields{{"User-Agent", "kube-probe/1.37"}}}})
		}
	}
	table = append(table,
		Case{Name: "preflight", On: oneWay, Want: refused(401), Request: Request{Method: "OPTIONS", Target: "/api", Fields: Fields{{"Origin", "https://elsewhere.invalid"}, {"Access-Control-Request-Method", "POST"}, {"Access-Control-Request-Headers", "authorization"}}},
			Reply: func(a *Answer) []string {
				if v := a.Fields.All("Access-Control-Allow-Origin"); len(v) > 0 {
					return []string{fmt.Sprintf("origin allowed: %q", v)}
				}
				return nil
			}},
		Case{Name: "readyz belongs to the API server", On: oneWay, Request: as(aliceToken, "/readyz?case=1"), Want: served(alice)},
		Case{Name: "metrics belongs to the API server", On: oneWay, Request: as(aliceToken, "/metrics"), Want: served(alice)},
	)
	attack(t, table)
}

// TestUnauthenticatedHTTP2IsClosed holds that a stranger cannot keep a
// connection of many streams: a 401 is followed by GOAWAY, as kube-apiserver
// does (threat 102).
func TestUnauthenticatedHTTP2IsClosed(t *testing.T) {
	eachTarget(t, func(t *testing.T, to *Target) {
		c, err := DialH2(to.Addr, to.Roots)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		a, err := c.Exchange(Request{Target: "/api"})
		if err != nil || a.Status != 401 {
			t.Fatalf("answered %d (%v, %v)", a.Status, a.Err, err)
		}
		if err := c.AwaitGoAway(); err != nil {
			t.Errorf("no GOAWAY after a 401: %v", err)
		}
	})
}

// TestFloodLocksNobodyOut holds that whoever floods gatehouse with forged tokens
// takes nothing from the others at the same address: who was served before is
// served, and so is who comes for the first time (threat 105).
func TestFloodLocksNobodyOut(t *testing.T) {
	eachTarget(t, func(t *testing.T, to *Target) {
		for i := range 400 {
			a, err := H1.Exchange(to.Addr, to.Roots, as(fmt.Sprintf("forged-%d", i), "/api"))
			if err != nil || a.Status != 401 {
				t.Fatalf("forged token %d: answered %d (%v, %v)", i, a.Status, a.Err, err)
			}
		}
		for _, user := range []struct {
			token string
			id    Identity
		}{{aliceToken, alice}, {bobToken, bob}} {
			faults, err := to.Try(H2, Case{Request: as(user.token, "/api"), Want: served(user.id)})
			if err != nil || len(faults) > 0 {
				t.Errorf("after the flood: %v %q", err, faults)
			}
		}
	})
}

const wsBearer = "base64url.bearer.authorization.k8s.io."

func wsToken(token string) string {
	return wsBearer + base64.RawURLEncoding.EncodeToString([]byte(token))
}

// TestWebSocketProtocolToken holds that a browser's credential is read as
// kube-apiserver reads it, and that no entry of that kind goes
// upstream, whichever credential won (threat 29).
func TestWebSocketProtocolToken(t *testing.T) {
	with := func(f ...Field) Request { return Request{Target: "/api/v1/namespaces/x/pods/p/exec", Fields: f} }
	protos := func(p ...string) Field { return Field{"Sec-WebSocket-Protocol", strings.Join(p, ", ")} }
	bearer := Field{"Authorization", "Bearer " + aliceToken}
	clean := func(r Record) []string {
		if got := strings.Join(r.Fields.All("Sec-WebSocket-Protocol"), ", "); strings.Contains(strings.ToLower(got), "bearer") || got == "" {
			return []string{fmt.Sprintf("Sec-WebSocket-Protocol upstream is %q", got)}
		}
		return nil
	}
	onlyV5 := func(r Record) []string {
		if got := r.Fields.All("Sec-WebSocket-Protocol"); !slices.Equal(got, []string{"v5.channel.k8s.io"}) {
			return []string{fmt.Sprintf("Sec-WebSocket-Protocol upstream is %q", got)}
		}
		return nil
	}
	padded := wsBearer + base64.URLEncoding.EncodeToString([]byte(aliceToken+"xx"))
	ws := []Carrier{WebSocket}
	read := served(alice)
	table := []Case{
		{Name: "token then protocol", On: ws, Request: with(protos(wsToken(aliceToken), "v5.channel.k8s.io")), Want: read, Also: onlyV5},
		{Name: "protocol then token", On: ws, Request: with(protos("v5.channel.k8s.io", wsToken(aliceToken))), Want: read, Also: onlyV5},
		{Name: "in two lines", On: ws, Request: with(protos(wsToken(aliceToken)), protos("v5.channel.k8s.io")), Want: read, Also: onlyV5},
		{Name: "beside a bearer header", On: ws, Request: with(bearer, protos(wsToken(bobToken), "v5.channel.k8s.io")), Want: Want{Served: &alice, Codes: []int{401}}, Also: onlyV5},
		{Name: "bad one beside a bearer header", On: ws, Request: with(bearer, protos(wsToken("wrong"), "v5.channel.k8s.io")), Want: Want{Served: &alice, Codes: []int{401}}, Also: onlyV5},
		{Name: "beside a bad bearer header", On: ws, Request: with(Field{"Authorization", "Bearer wrong"}, protos(wsToken(bobToken), "v5.channel.k8s.io")), Want: refused(401)},
		{Name: "beside Basic", On: ws, Request: with(Field{"Authorization", "Basic eDp5"}, protos(wsToken(bobToken), "v5.channel.k8s.io")), Want: Want{Served: &bob, Codes: []int{401}}, Also: onlyV5},
		{Name: "alone", On: ws, Request: with(protos(wsToken(aliceToken))), Want: refused(401)},
		{Name: "two tokens", On: ws, Request: with(protos(wsToken(aliceToken), wsToken(bobToken), "v5.channel.k8s.io")), Want: refused(401)},
		{Name: "one token twice", On: ws, Request: with(protos(wsToken(aliceToken), "v5.channel.k8s.io", wsToken(aliceToken))), Want: refused(401)},
		{Name: "padded", On: ws, Request: with(protos(padded, "v5.channel.k8s.io")), Want: refused(401)},
		{Name: "not base64", On: ws, Request: with(protos(wsBearer+"!!!", "v5.channel.k8s.io")), Want: refused(401)},
		{Name: "not UTF-8", On: ws, Request: with(protos(wsToken("\xff\xfe"), "v5.channel.k8s.io")), Want: refused(401)},
		{Name: "empty", On: ws, Request: with(protos(wsBearer, "v5.channel.k8s.io")), Want: refused(401)},
		{Name: "unknown", On: ws, Request: with(protos(wsToken("wrong"), "v5.channel.k8s.io")), Want: refused(401)},
		{Name: "the proxy's own", On: ws, Request: with(protos(wsToken(proxyToken), "v5.channel.k8s.io")), Want: refused(401)},
		{Name: "prefix in capitals", On: ws, Request: with(protos(strings.ToUpper(wsBearer)+wsToken(aliceToken)[len(wsBearer):], "v5.channel.k8s.io")), Want: refused(401)},
		{Name: "prefix in capitals beside a bearer header", On: ws, Request: with(bearer, protos(strings.ToUpper(wsBearer)+wsToken(bobToken)[len(wsBearer):], "v5.channel.k8s.io")), Want: Want{Served: &alice, Codes: []int{401}}, Also: onlyV5},
		{Name: "split over two lines beside a bearer header", On: ws, Request: with(bearer, Field{"Sec-WebSocket-Protocol", "v5.channel.k8s.io,"}, Field{"Sec-WebSocket-Protocol", "\t" + wsToken(bobToken) + " ,"}), Want: Want{Served: &alice, Codes: []int{401}}, Also: onlyV5},
		{Name: "protocols and a bearer header", On: ws, Request: with(bearer, protos("v5.channel.k8s.io", "v4.channel.k8s.io")), Want: served(alice), Also: clean},
		{Name: "no upgrade", On: append([]Carrier{SPDY}, oneWay...), Request: with(protos(wsToken(aliceToken), "v5.channel.k8s.io")), Want: refused(401)},
		{Name: "no upgrade, with a bearer header", On: append([]Carrier{SPDY}, oneWay...), Request: with(bearer, protos(wsToken(bobToken), "v5.channel.k8s.io")), Want: Want{Served: &alice, Codes: []int{400, 401}}},
	}
	attack(t, table)
}
