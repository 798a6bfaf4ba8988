package oracle_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

// liveIssuers is one server with an issuer at every path, all of one key set:
// each configuration of the corpus gets an issuer of its own.
type liveIssuers struct{ *httptest.Server }

func (w *world) startLiveIssuers(t *testing.T) liveIssuers {
	t.Helper()
	pair, err := w.ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	for _, key := range w.published() {
		set.Keys = append(set.Keys, key.JWK())
	}
	var s liveIssuers
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{name}/.well-known/openid-configuration", func(rw http.ResponseWriter, r *http.Request) {
		url := s.issuer(r.PathValue("name"))
		writeJSON(rw, map[string]any{
			"issuer": url, "jwks_uri": url + "/keys", "authorization_endpoint": url + "/auth", "token_endpoint": url + "/token",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"RS256", "ES256"},
		})
	})
	mux.HandleFunc("GET /{name}/keys", func(rw http.ResponseWriter, _ *http.Request) { writeJSON(rw, set) })
	s.Server = httptest.NewUnstartedServer(mux)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s liveIssuers) issuer(name string) string { return s.URL + "/" + name }

func writeJSON(rw http.ResponseWriter, v any) {
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(v) // who hung up, hears nothing
}

// moment finds dates of the corpus: numbers near that at which its clock stands.
var moment = regexp.MustCompile(`\b(1999|2000)\d{6}\b`)

// today moves the dates of a payload to the clock of the running servers. It
// reports false if one lies so near to where the verdict changes that a clock
// that runs cannot judge it.
func today(payload []byte) ([]byte, bool) {
	fits, shift := true, time.Now().Unix()-now().Unix()
	moved := moment.ReplaceAllFunc(payload, func(text []byte) []byte {
		date, _ := strconv.ParseInt(string(text), 10, 64) // ten digits
		for _, edge := range []int64{0, int64(time.Minute / time.Second)} {
			distance := date - now().Unix() - edge
			fits = fits && (distance < -20 || distance > 20)
		}
		return strconv.AppendInt(nil, date+shift, 10)
	})
	return moved, fits
}

// liveGroups are the configurations of the corpus that can stand in one file,
// each with an issuer of its own and at least one token that is accepted, by
// which it is seen that its keys are there.
func (w *world) liveGroups(t *testing.T, s liveIssuers) []group {
	t.Helper()
	var all []group
	for _, file := range []string{"mapping", "cel", "tokens"} {
		path := "testdata/corpus/" + file + ".yaml"
		for i := range readCorpus[group](t, path, w.places()) {
			places := w.places()
			places["ISSUER"] = s.issuer(file + strconv.Itoa(i))
			g := readCorpus[group](t, path, places)[i]
			if g.File != "" || g.Flags != nil || g.JWT["issuer"] != nil && !onlyAudiences(g.JWT["issuer"]) {
				continue
			}
			g.Config = file + "/" + g.Config
			all = append(all, g.at(places["ISSUER"]))
		}
	}
	return append(all, w.liveExpressions(t, s)...)
}

func onlyAudiences(issuer any) bool {
	fields, ok := issuer.(map[string]any)
	return ok && fields["url"] == nil && fields["discoveryURL"] == nil
}

// at returns g with an issuer's URL.
func (g group) at(url string) group {
	jwt, issuer := map[string]any{}, map[string]any{"url": url}
	for name, value := range g.JWT {
		jwt[name] = value
	}
	if given, ok := g.JWT["issuer"].(map[string]any); ok {
		for name, value := range given {
			issuer[name] = value
		}
	}
	jwt["issuer"] = issuer
	g.JWT = jwt
	return g
}

// accepts reports whether a token of g is accepted by kube-apiserver.
func (g group) accepts() bool {
	return slices.ContainsFunc(g.Tokens, func(r row) bool { return !r.Refused })
}

// liveExpressions are the expressions of the corpus that are good and do not
// speak of the issuer or its clock, sixteen to a configuration, each as an extra
// of its own.
func (w *world) liveExpressions(t *testing.T, s liveIssuers) []group {
	t.Helper()
	var good []expression
	for _, e := range readCorpus[expression](t, "testdata/expressions.yaml", w.places()) {
		ofIssuer := slices.ContainsFunc([]string{"claims.iss", "claims.exp", "claims.iat"}, func(s string) bool { return strings.Contains(e.CEL, s) })
		if (e.Compiles == nil || *e.Compiles) && !e.Refused && e.Differs == "" && !ofIssuer {
			good = append(good, e)
		}
	}
	var all []group
	i := 0
	for chunk := range slices.Chunk(good, 16) {
		r := row{Is: "every extra", Extra: map[string][]string{}}
		if err := json.Unmarshal([]byte(expressionClaims), &r.Claims); err != nil {
			t.Fatal(err)
		}
		var extra []any
		for _, e := range chunk {
			key := fmt.Sprintf("example.com/e%d", i)
			i++
			extra = append(extra, map[string]any{"key": key, "valueExpression": e.CEL})
			if len(e.Gives) > 0 {
				r.Extra[key] = e.Gives
			}
		}
		name := fmt.Sprintf("expressions%d", len(all))
		g := group{Config: name, Tokens: []row{r}, JWT: map[string]any{"claimMappings": map[string]any{
			"username": map[string]any{"claim": "sub", "prefix": ""}, "extra": extra,
		}}}
		all = append(all, g.at(s.issuer(name)))
	}
	return all
}

// extraKeys are what the configurations put into extra: each needs a right.
func extraKeys(groups []group) []string {
	keys := map[string]bool{}
	for _, g := range groups {
		mappings, _ := g.JWT["claimMappings"].(map[string]any)
		list, _ := mappings["extra"].([]any)
		for _, one := range list {
			if fields, ok := one.(map[string]any); ok {
				keys[strings.TrimSpace(fmt.Sprint(fields["key"]))] = true
			}
		}
	}
	var all []string
	for key := range keys {
		all = append(all, key)
	}
	slices.Sort(all)
	return all
}
