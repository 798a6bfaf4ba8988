package oracle_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"

	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
	"github.com/kube-gatehouse/gatehouse/auth/oidc/distributed"
	"github.com/kube-gatehouse/gatehouse/auth/oidc/lookup"
)

// sourceRow is a token whose groups stand elsewhere, and what is sent from there.
type sourceRow struct {
	is      string
	claims  map[string]any // of the token, beside the usual ones
	answer  string
	status  int // default: 200
	refused bool
	differs string // the row of docs/divergences.md by which gatehouse refuses more
}

// sourceRows are the same for kube-apiserver and for gatehouse, the endpoint being
// allowed. $ENDPOINT stands for it.
func sourceRows(w *world) []sourceRow {
	sign := func(issuer string, claims map[string]any) string {
		all := map[string]any{"iss": issuer, "aud": audience, "exp": now().Add(time.Hour).Unix(), "sub": "alice"}
		maps.Copy(all, claims)
		payload, err := json.Marshal(all)
		if err != nil {
			panic(err)
		}
		return w.keys["RS256"].Sign(payload)
	}
	own := func(claims map[string]any) string { return sign(w.main.URL, claims) }
	refer := func(source map[string]any) map[string]any {
		return map[string]any{"_claim_names": map[string]any{"groups": "s"}, "_claim_sources": map[string]any{"s": source}}
	}
	referred := refer(map[string]any{"endpoint": "$ENDPOINT", "access_token": "t"})
	with := func(more map[string]any) map[string]any {
		all := maps.Clone(referred)
		maps.Copy(all, more)
		return all
	}
	good := own(map[string]any{"groups": []string{"dev", "ops"}})
	rows := []sourceRow{
		{is: "a list", claims: referred, answer: good},
		{is: "a string", claims: referred, answer: own(map[string]any{"groups": "dev"})},
		{is: "an empty list", claims: referred, answer: own(map[string]any{"groups": []string{}})},
		{is: "null", claims: referred, answer: own(map[string]any{"groups": nil})},
		{is: "a number", claims: referred, answer: own(map[string]any{"groups": 1}), refused: true},
		{is: "no claim", claims: referred, answer: own(nil), refused: true},
		{is: "no access token", claims: refer(map[string]any{"endpoint": "$ENDPOINT"}), answer: good},
		{is: "own groups", claims: with(map[string]any{"groups": []string{"own"}}), answer: good},
		{is: "own groups null", claims: with(map[string]any{"groups": nil}), answer: good},
		{is: "another claim", claims: with(map[string]any{"_claim_names": map[string]any{"roles": "s"}}), answer: good},
		{is: "another issuer of ours", claims: referred, answer: sign(w.other.URL, map[string]any{"groups": "dev"})},
		{is: "several audiences", claims: referred, answer: own(map[string]any{"groups": "dev", "aud": []string{"x", audience}})},
		{is: "another audience", claims: referred, answer: own(map[string]any{"groups": "dev", "aud": "x"}), refused: true},
		{is: "expired", claims: referred, answer: own(map[string]any{"groups": "dev", "exp": now().Add(-time.Second).Unix()}), refused: true},
		{is: "no end", claims: referred, answer: own(map[string]any{"groups": "dev", "exp": nil}), refused: true},
		{is: "not yet valid", claims: referred, answer: own(map[string]any{"groups": "dev", "nbf": now().Add(time.Hour).Unix()}), refused: true},
		{is: "a stranger's key", claims: referred, answer: w.keys["stranger"].Sign([]byte(`{"iss":"` + w.main.URL + `","aud":"` + audience + `","exp":2000000100,"groups":"dev"}`)), refused: true},
		{is: "an issuer that nobody can find", claims: referred, answer: sign("https://127.0.0.1:1", map[string]any{"groups": "dev"}), refused: true},
		{is: "an algorithm that is not accepted", claims: referred, answer: w.keys["ES256"].Sign([]byte(`{"iss":"` + w.main.URL + `","aud":"` + audience + `","exp":2000000100,"groups":"dev"}`)), refused: true},
		{is: "newline behind", claims: referred, answer: good + "\n"},
		{is: "no JWT", claims: referred, answer: "dev", refused: true},
		{is: "nothing", claims: referred, answer: "", refused: true},
		{is: "JSON", claims: referred, answer: `{"groups":["dev"]}`, refused: true},
		{is: "members nobody knows", claims: refer(map[string]any{"endpoint": "$ENDPOINT", "x": 1}), answer: good},
		{is: "endpoint of a number", claims: refer(map[string]any{"endpoint": 1}), answer: good, refused: true},
		{is: "typ of another kind", claims: referred, answer: w.keys["RS256"].SignHeader(map[string]any{"alg": "RS256", "kid": "RS256", "typ": "at+jwt"}, []byte(`{"iss":"`+w.main.URL+`","aud":"`+audience+`","exp":2000000100,"groups":"dev"}`)), differs: "the JWT breaks a rule of"},
		{is: "endpoint with a query", claims: refer(map[string]any{"endpoint": "$ENDPOINT?x=1"}), answer: good, differs: "endpoint without https, with a user name, a query"},
		{is: "endpoint in another case", claims: refer(map[string]any{"Endpoint": "$ENDPOINT"}), answer: good, differs: "member of a source in another case of letters"},
		{is: "hasgroups", claims: map[string]any{"hasgroups": true}, answer: good, differs: "`hasgroups: true` of Microsoft Entra"},
	}
	for _, status := range []int{200, 201, 204, 226, 227, 300, 400, 401, 403, 404, 500, 503} {
		rows = append(rows, sourceRow{is: fmt.Sprint("status ", status), claims: referred, answer: good, status: status, refused: status > 226 || status == 204})
	}
	return rows
}

// Promise: distributed groups give the user that kube-apiserver gives, or a
// refusal where it refuses, if their endpoint is allowed; mapped from the claim,
// and by an expression.
func TestDistributedClaims(t *testing.T) {
	w := sharedWorld(t)
	pair, err := w.ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	rows := sourceRows(w)
	source := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var row int
		if _, err := fmt.Sscanf(r.URL.Path, "/groups/%d", &row); err != nil || row >= len(rows) {
			http.NotFound(rw, r)
			return
		}
		if rows[row].status != 0 {
			rw.WriteHeader(rows[row].status)
		}
		_, _ = io.WriteString(rw, rows[row].answer)
	}))
	source.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	source.StartTLS()
	defer source.Close()

	byClaim := referenceFlags(flags{UsernamePrefix: "-", GroupsClaim: "groups"}, w.main.URL, string(w.ca.PEM()))
	byExpression := byClaim
	byExpression.ClaimMappings.Groups = apiserver.PrefixedClaimOrExpression{Expression: "claims.?groups.orValue([])"}
	// What other expressions see of a claim that was fetched.
	withRule := byClaim
	withRule.ClaimValidationRules = []apiserver.ClaimValidationRule{{Expression: "'dev' in dyn(claims.?groups.orValue([]))"}}
	for name, jwt := range map[string]apiserver.JWTAuthenticator{"claim": byClaim, "expression": byExpression, "rule": withRule} {
		reference, err := newReference(w.ctx, []apiserver.JWTAuthenticator{jwt}, []string{"RS256"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ours := resolvingGatehouse(t, w, jwt, source.URL+"/groups")
		for i, row := range rows {
			t.Run(name+"/"+row.is, func(t *testing.T) {
				token := sourceToken(t, w, row.claims, fmt.Sprintf("%s/groups/%d", source.URL, i))
				compareSources(t, row, name, askReferenceAgain(t, reference, token), askGatehouse(t.Context(), ours, token))
			})
		}
	}
}

func compareSources(t *testing.T, row sourceRow, mapping string, want, got answer) {
	t.Helper()
	if mapping == "claim" && (want.user == nil) != row.refused {
		t.Fatalf("kube-apiserver: %s; the row says refused: %t", want, row.refused)
	}
	switch {
	case mapping == "claim" && row.differs != "":
		mustBeDocumented(t, row.differs)
		if want.user == nil || got.user != nil {
			t.Errorf("there is no such difference: kube-apiserver: %s; gatehouse: %s", want, got)
		}
	case row.differs != "": // judged with the claim
	case (want.user == nil) != (got.user == nil):
		t.Errorf("kube-apiserver: %s; gatehouse: %s", want, got)
	case want.user != nil:
		if diff := cmp.Diff(want.user, got.user); diff != "" {
			t.Errorf("user (-kube-apiserver +gatehouse):\n%s", diff)
		}
	}
}

// askReferenceAgain asks until kube-apiserver has discovered the issuer of what
// the source sends, which it does in the background, or for a second.
func askReferenceAgain(t *testing.T, reference authenticator.Token, token string) answer {
	t.Helper()
	deadline := time.Now().Add(time.Second)
	for {
		got := askReference(t.Context(), reference, token)
		if got.err == nil || !strings.Contains(got.err.Error(), "verifier not initialized") || time.Now().After(deadline) {
			return got
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func sourceToken(t *testing.T, w *world, claims map[string]any, endpoint string) string {
	t.Helper()
	all := map[string]any{"iss": w.main.URL, "aud": audience, "exp": now().Add(time.Hour).Unix(), "sub": "alice"}
	maps.Copy(all, claims)
	payload, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return w.keys["RS256"].Sign([]byte(strings.ReplaceAll(string(payload), "$ENDPOINT", endpoint)))
}

// resolvingGatehouse returns gatehouse's issuers main and other, of which main is
// mapped as jwt says and asks endpoint.
func resolvingGatehouse(t *testing.T, w *world, jwt apiserver.JWTAuthenticator, endpoint string) *oidc.Issuers {
	t.Helper()
	list := make([]*oidc.Issuer, 0, 2)
	for _, url := range []string{w.main.URL, w.other.URL} {
		own := jwt
		own.Issuer.URL = url
		cfg := oidc.Config{URL: url, Audiences: []string{audience}, Mapping: mappingOf(t, own), Roots: w.ca.Pool(), Now: now}
		sources, err := oidc.NewSources(cfg, nil, func() []*oidc.Issuer { return list })
		if err != nil {
			t.Fatal(err)
		}
		endpoints, err := distributed.ParseEndpoints([]string{endpoint})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Resolver = distributed.New(distributed.Config{Endpoints: endpoints, Verifier: sources, Roots: w.ca.Pool(), Lookup: lookup.Config{Now: now}})
		issuer, err := oidc.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		go issuer.Run(w.ctx)
		<-issuer.Ready()
		list = append(list, issuer)
	}
	issuers, err := oidc.NewIssuers(list...)
	if err != nil {
		t.Fatal(err)
	}
	return issuers
}

// mappingOf reads jwt as gatehouse does, from a file.
func mappingOf(t *testing.T, jwt apiserver.JWTAuthenticator) authconfig.Mapping {
	t.Helper()
	groups := map[string]any{"expression": jwt.ClaimMappings.Groups.Expression}
	if jwt.ClaimMappings.Groups.Claim != "" {
		groups = map[string]any{"claim": jwt.ClaimMappings.Groups.Claim, "prefix": ""}
	}
	var rules []any
	for _, rule := range jwt.ClaimValidationRules {
		rules = append(rules, map[string]any{"expression": rule.Expression})
	}
	content, err := json.Marshal(map[string]any{
		"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
		"jwt": []any{map[string]any{
			"issuer":               map[string]any{"url": jwt.Issuer.URL, "audiences": []string{audience}},
			"claimMappings":        map[string]any{"username": map[string]any{"claim": "sub", "prefix": ""}, "groups": groups},
			"claimValidationRules": rules,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	config, err := authconfig.Parse(content, nil)
	if err != nil {
		t.Fatal(err)
	}
	return config.Issuers[0].Mapping
}
