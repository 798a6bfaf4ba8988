package rawbytes

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ServiceAccounts and their tokens. Those that are revoked stand in the
// revocation file of every gatehouse of this file's tests.
const (
	builderName, deployerName, revokedName = "system:serviceaccount:ci:builder", "system:serviceaccount:ci:deployer", "system:serviceaccount:ci:revoked"

	revocations = `revoked:
- user: bob
- user: system:serviceaccount:ci:revoked
- jti: stolen
- credentialID: JTI=stolen-too
`
)

var (
	builderToken  = AccountToken(builderName, "builder")
	renewedToken  = AccountToken(builderName, "builder-renewed")
	deployerToken = AccountToken(deployerName, "deployer")
	ownTokens     = []string{AccountToken(ownAccount, "own"), AccountToken(ownAccount, "own-former")}
	goneToken     = AccountToken(builderName, "gone")
	foreignToken  = AccountToken(builderName, "foreign") // nobody's
	swappedToken  = AccountToken(builderName, "swapped") // the API server takes it for deployer's
	personToken   = AccountToken("carol", "person")      // the API server takes it for builder's, and it does not say so
	revokedToken  = AccountToken(revokedName, "revoked-account")
	stolenTokens  = []string{AccountToken(builderName, "stolen"), AccountToken(builderName, "stolen-too")}

	builder  = Identity{User: builderName, Token: builderToken}
	renewed  = Identity{User: builderName, Token: renewedToken}
	deployer = Identity{User: deployerName, Token: deployerToken}
)

// knownAccounts are the accounts of the tokens that the fake accepts.
func knownAccounts() map[string]string {
	known := map[string]string{
		builderToken: builderName, renewedToken: builderName, deployerToken: deployerName, goneToken: builderName,
		swappedToken: deployerName, personToken: builderName, revokedToken: revokedName,
	}
	for _, token := range ownTokens {
		known[token] = ownAccount
	}
	for _, token := range stolenTokens {
		known[token] = builderName
	}
	return known
}

// startAccounts runs gatehouse with ServiceAccount tokens and a revocation file,
// which it returns too. credential is the proxy's own, "" for a certificate.
func startAccounts(t *testing.T, h2 bool, credential string) (to *Target, revoked string) {
	t.Helper()
	up, err := StartUpstream(shared.pki, h2, credential)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	known := knownAccounts()
	up.Accept(known, goneToken)
	shared.secrets.Add(foreignToken)
	for token := range known {
		shared.secrets.Add(token)
	}
	revoked = filepath.Join(t.TempDir(), "revoked.yaml")
	if err := os.WriteFile(revoked, []byte(revocations), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := shared.process(t.Name(), up, usersCSV(), "GATEHOUSE_TOKEN_REVIEW=true", "GATEHOUSE_REVOCATION_FILE="+revoked)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return &Target{Addr: p.Addr, Roots: shared.pki.Roots, Up: up, Secrets: shared.secrets, LogFrom: p.LogFrom}, revoked
}

// eachAccounts runs f with an API server of each protocol, and with each kind of
// credential that the proxy itself may have.
func eachAccounts(t *testing.T, f func(t *testing.T, to *Target, revoked string)) {
	for _, h2 := range []bool{false, true} {
		for _, credential := range []string{proxyToken, ""} {
			name := map[bool]string{false: "upstream=http1", true: "upstream=http2"}[h2] + map[bool]string{false: " own=token", true: " own=certificate"}[credential == ""]
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				to, revoked := startAccounts(t, h2, credential)
				f(t, to, revoked)
			})
		}
	}
}

// attackAccounts runs a table over the carriers of each row, and then holds that
// the API server was shown no token that is not a ServiceAccount's.
func attackAccounts(t *testing.T, table []Case) {
	eachAccounts(t, func(t *testing.T, to *Target, _ string) {
		for _, c := range Carriers {
			t.Run(string(c), func(t *testing.T) { tryAll(t, to, c, table) })
		}
		for _, token := range to.Up.Shown() {
			if knownAccounts()[token] == "" && token != foreignToken {
				t.Errorf("the API server was shown %.40q", token)
			}
		}
	})
}

// authorized is a request with these Authorization lines.
func authorized(values ...string) Request {
	r := Request{Target: "/api/v1/pods"}
	for _, v := range values {
		r.Fields = append(r.Fields, Field{"Authorization", v})
	}
	return r
}

// TestAccountsOwnTokenAlone holds that a ServiceAccount's request arrives with
// exactly its own token, whatever stands beside it, over a connection without
// the proxy's certificate, between requests that arrive with exactly the proxy's
// credential and an identity (O1; threats 4, 5, 7, 25, 29, 90).
func TestAccountsOwnTokenAlone(t *testing.T) {
	onH2 := harmless(builder, 400)
	onH2.Dropped = true
	cut := onH2
	cut.Cut = true
	account := func(f ...Field) Request { return as(builderToken, "/api/v1/pods", f...) }
	table := []Case{
		{Name: "plain", Request: account(), Want: served(builder)},
		{Name: "a person between", Request: ask(), Want: served(alice)},
		{Name: "another token of the account", Request: as(renewedToken, "/"), Want: served(renewed)},
		{Name: "another account", Request: as(deployerToken, "/"), Want: served(deployer)},
		{Name: "a person again", Request: ask(), Want: served(alice)},
		{Name: "a write", On: oneWay, Want: served(builder), Request: Request{Method: "POST", Target: "/api/v1/pods", Fields: account().Fields, Body: `{"kind":"Pod"}`}},
		{Name: "the API server's own paths", On: oneWay, Request: as(builderToken, "/readyz?case=1"), Want: served(builder)},
		{Name: "a review of its own", On: oneWay, Want: served(builder), Request: Request{Method: "POST", Target: selfPath + "?case=1", Fields: account().Fields, Body: "{}"}},
		{Name: "trailer", On: oneWay, Want: cut, Request: Request{Method: "POST", Target: "/trailer", Body: "{}",
			Fields: account(Field{"Trailer", "Authorization"}).Fields, Trailers: Fields{{"Authorization", "Bearer " + deployerToken}}}},
	}
	for _, v := range []string{"Authorization", "authorization, Authorization", "keep-alive, Authorization", "close, Impersonate-User", "Host, Audit-Id, X-Forwarded-For", ""} {
		table = append(table, Case{Name: fmt.Sprintf("Connection %q", v), Request: account(Field{"Connection", v}), Want: served(builder), OnH2: &onH2})
	}
	for _, n := range []string{"X-Remote-User", "X_Remote_Group", "X-Remote-Extra-Scopes", "Proxy-Authorization", "Authorization_", "X-Forwarded-For", "X-Forwarded-User", "Forwarded", "Cookie", "X-Client-Cert"} {
		table = append(table, Case{Name: n, Request: account(Field{n, "system:admin"}), Want: harmless(builder, 400)})
	}
	for _, v := range []string{"bearer ", "BEARER ", "bEaReR ", "Bearer  ", "Bearer      "} {
		table = append(table, Case{Name: fmt.Sprintf("scheme %q", v), Request: authorized(v + builderToken), Want: orServed(refused(401), builder)})
	}
	for _, v := range []string{" ", "\t", " \t "} {
		table = append(table, Case{Name: fmt.Sprintf("white space %q behind", v), Request: authorized("Bearer " + builderToken + v), Want: orServed(refused(401), builder)})
	}
	attackAccounts(t, table)
}

// TestAccountsAreNotMixed holds that a request with a ServiceAccount's token and
// anything that could make it two is refused, and reaches nothing: a second
// credential, a wish to be somebody else, a token that another reader would read
// in another way (threats 1, 2, 24, 25, 62, 88, 91).
func TestAccountsAreNotMixed(t *testing.T) {
	bearer := func(token string) string { return "Bearer " + token }
	head, rest, _ := strings.Cut(builderToken, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	part := base64.RawURLEncoding.EncodeToString
	var table []Case
	for _, values := range [][]string{
		{bearer(builderToken), bearer(builderToken)}, {bearer(builderToken), bearer(aliceToken)}, {bearer(aliceToken), bearer(builderToken)},
		{bearer(builderToken), bearer(deployerToken)}, {"", bearer(builderToken)}, {bearer("wrong"), bearer(builderToken)},
		{bearer(builderToken + "," + deployerToken)}, {bearer(builderToken) + ", " + bearer(deployerToken)}, {bearer(builderToken + " " + deployerToken)},
		{bearer(builderToken + "\t" + deployerToken)}, {"Bearer\t" + builderToken}, {builderToken}, {"Basic " + builderToken}, {bearer(`"` + builderToken + `"`)},
		{bearer(foreignToken)}, {bearer(swappedToken)}, {bearer(personToken)}, {bearer(builderToken + "=")}, {bearer(builderToken + ".")}, {bearer(builderToken[:len(builderToken)-1])},
		{bearer(head + "." + payload + ".")}, {bearer(head + "." + payload)}, {bearer(part([]byte(`{"alg":"none"}`)) + "." + payload + "." + signature)},
		{bearer(part([]byte(`{"alg":"HS256"}`)) + "." + payload + "." + signature)}, {bearer(proxyToken)},
	} {
		table = append(table, Case{Name: fmt.Sprintf("%.60q", values), Request: authorized(values...), Want: refused(401)})
	}
	for i, token := range ownTokens {
		table = append(table, Case{Name: fmt.Sprintf("of the proxy's own account %d", i), Request: as(token, "/"), Want: refused(403)},
			Case{Name: fmt.Sprintf("of the proxy's own account %d, in small letters", i), Request: authorized("bearer " + token), Want: refused(403)})
	}
	for _, n := range []string{"Impersonate-User", "impersonate-group", "Impersonate-Uid", "Impersonate-Extra-Scopes", "Impersonate-Future", "Impersonate-"} {
		for _, v := range []string{"system:admin", builderName, ""} {
			if n == "Impersonate-User" && v != "" {
				continue // TestAccountsActAs
			}
			table = append(table, Case{Name: fmt.Sprintf("%s=%q", n, v), Request: as(builderToken, "/", Field{n, v}), Want: refused(400)})
		}
	}
	for _, n := range []string{"Impersonate_User", "IMPERSONATE_GROUP", "Impersonate.User", "Impersonate"} {
		table = append(table, Case{Name: n, Request: as(builderToken, "/", Field{n, "system:admin"}), Want: harmless(builder, 400, 403)})
	}
	attackAccounts(t, table)
}

// TestAccountsFromABrowser holds that the token of a WebSocket's protocol list is
// the one that goes on, as a bearer token and nowhere else (threat 29).
func TestAccountsFromABrowser(t *testing.T) {
	with := func(f ...Field) Request { return Request{Target: execPath, Fields: f} }
	protos := func(p ...string) Field { return Field{"Sec-WebSocket-Protocol", strings.Join(p, ", ")} }
	onlyV5 := func(r Record) []string {
		if got := r.Fields.All("Sec-WebSocket-Protocol"); !slices.Equal(got, []string{"v5.channel.k8s.io"}) {
			return []string{fmt.Sprintf("Sec-WebSocket-Protocol upstream is %q", got)}
		}
		return nil
	}
	bearer := Field{"Authorization", "Bearer " + builderToken}
	capitals := strings.ToUpper(wsBearer) + wsToken(deployerToken)[len(wsBearer):]
	ws := []Carrier{WebSocket}
	attackAccounts(t, []Case{
		{Name: "token", On: ws, Request: with(protos(wsToken(builderToken), "v5.channel.k8s.io")), Want: served(builder), Also: onlyV5},
		{Name: "in two lines", On: ws, Request: with(protos("v5.channel.k8s.io"), protos(wsToken(builderToken))), Want: served(builder), Also: onlyV5},
		{Name: "beside another account's", On: ws, Request: with(bearer, protos(wsToken(deployerToken), "v5.channel.k8s.io")), Want: refused(401)},
		{Name: "beside a person's", On: ws, Request: with(Field{"Authorization", "Bearer " + aliceToken}, protos(wsToken(builderToken), "v5.channel.k8s.io")), Want: refused(401)},
		{Name: "two", On: ws, Request: with(protos(wsToken(builderToken), wsToken(deployerToken), "v5.channel.k8s.io")), Want: refused(401)},
		{Name: "in capitals", On: ws, Request: with(protos(capitals, "v5.channel.k8s.io")), Want: refused(401)},
		{Name: "in capitals beside a header", On: ws, Request: with(bearer, protos(capitals, "v5.channel.k8s.io")), Want: refused(401)},
		{Name: "with a line end inside", On: ws, Request: with(protos(wsToken(builderToken+"\r\nImpersonate-User: root"), "v5.channel.k8s.io")), Want: refused(401)},
		{Name: "of the proxy's own account", On: ws, Request: with(protos(wsToken(ownTokens[0]), "v5.channel.k8s.io")), Want: refused(403)},
		{Name: "without an upgrade", On: append([]Carrier{SPDY}, oneWay...), Request: with(protos(wsToken(builderToken), "v5.channel.k8s.io")), Want: refused(401)},
	})
}

// TestAccountsAndTheirAnswers holds that no answer of the API server opens more
// than it should where the caller's own token went on: 401 is the caller's, and
// a 101 or a redirect of an upgrade that was not asked for is 502 (threats 37,
// 40, 97).
func TestAccountsAndTheirAnswers(t *testing.T) {
	gone := Identity{User: builderName, Token: goneToken}
	own := func(a *Answer) []string { return OwnAnswer(a, false) }
	attackAccounts(t, []Case{
		{Name: "401", Request: as(goneToken, "/gone"), Want: served(gone).status(401), Reply: own},
		{Name: "401 again", Request: as(goneToken, "/gone"), Want: served(gone).status(401), Reply: own},
		{Name: "403 is the API server's", On: oneWay, Request: as(builderToken, "/?fake=403"), Want: served(builder).status(403)},
		{Name: "a 101 that nobody asked for", On: []Carrier{H1}, Request: as(builderToken, "/?fake=101"), Want: served(builder).status(502), Reply: own},
		{Name: "a refused upgrade", On: upgrade, Request: as(builderToken, execPath+"&fake=refuse"), Want: served(builder).status(403)},
		{Name: "an upgrade to something else", On: upgrade, Request: as(builderToken, execPath+"&fake=mismatch"), Want: served(builder).status(502), Reply: own},
		{Name: "an upgrade elsewhere", On: upgrade, Request: as(builderToken, execPath+"&fake=redirect"), Want: served(builder).status(502), Reply: own},
		{Name: "a person after all that", Request: ask(), Want: served(alice)},
	})
}

// TestRevokedIsRefusedHoweverItIsSent holds that what stands in the revocation
// file is 401 on every way in, and that nobody else is (threats 24, 63, 82).
func TestRevokedIsRefusedHoweverItIsSent(t *testing.T) {
	table := []Case{
		{Name: "a person", Request: as(bobToken, "/"), Want: refused(401)},
		{Name: "a person in small letters", Request: authorized("bearer " + bobToken), Want: refused(401)},
		{Name: "a person with white space", Request: authorized("Bearer  " + bobToken), Want: refused(401)},
		{Name: "a person beside another", Request: authorized("Bearer "+aliceToken, "Bearer "+bobToken), Want: refused(401)},
		{Name: "another person", Request: ask(), Want: served(alice)},
		{Name: "an account", Request: as(revokedToken, "/"), Want: refused(401)},
		{Name: "another token of a stolen one's account", Request: as(renewedToken, "/"), Want: served(renewed)},
		{Name: "from a browser", On: []Carrier{WebSocket}, Want: refused(401),
			Request: Request{Target: execPath, Fields: Fields{{"Sec-WebSocket-Protocol", wsToken(bobToken) + ", v5.channel.k8s.io"}}}},
	}
	for i, token := range stolenTokens {
		table = append(table, Case{Name: fmt.Sprintf("a stolen token %d", i), Request: as(token, "/"), Want: refused(401)},
			Case{Name: fmt.Sprintf("a stolen token %d from a browser", i), On: []Carrier{WebSocket}, Want: refused(401),
				Request: Request{Target: execPath, Fields: Fields{{"Sec-WebSocket-Protocol", "v5.channel.k8s.io, " + wsToken(token)}}}})
	}
	attackAccounts(t, table)
}
