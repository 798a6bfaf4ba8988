// Package exchangetest answers: what does a test of a client need of an exchange?
// One that keeps the rules of docs/decisions/0028 towards its callers, counts what
// it issues, and can lie. It proves nobody: a test says whose token is whose.
package exchangetest

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/scope"
)

const (
	grant      = "urn:ietf:params:oauth:grant-type:token-exchange"
	typePrefix = "urn:ietf:params:oauth:token-type:"
	maximum    = 3600 // seconds that a token lives
)

// Exchange is a token endpoint with its metadata, over TLS.
type Exchange struct {
	URL string

	mu       sync.Mutex
	subjects map[string]string
	asked    []url.Values
	metadata func(map[string]any)
	lie      http.HandlerFunc
}

// New starts an exchange with a certificate of ca for 127.0.0.1, which ends with
// the test.
func New(t testing.TB, ca *authtest.CA) *Exchange {
	t.Helper()
	e := &Exchange{subjects: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", e.serveMetadata)
	mux.HandleFunc("/token", e.serveToken)
	e.URL = Serve(t, ca, mux)
	return e
}

// Serve serves a handler over TLS until the test ends, and returns its URL.
func Serve(t testing.TB, ca *authtest.CA, handler http.Handler) string {
	t.Helper()
	pair, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // failed handshakes are what some tests want
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// Know makes token one of the user name's.
func (e *Exchange) Know(token, name string) { e.change(func() { e.subjects[token] = name }) }

// EditMetadata lets a test change the metadata before it is sent.
func (e *Exchange) EditMetadata(edit func(map[string]any)) { e.change(func() { e.metadata = edit }) }

// Lie answers for the token endpoint, after the request was judged; nil gives the
// truth again.
func (e *Exchange) Lie(h http.HandlerFunc) { e.change(func() { e.lie = h }) }

// Asked returns the forms of all requests that kept the rules.
func (e *Exchange) Asked() []url.Values {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.asked)
}

func (e *Exchange) change(do func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	do()
}

func (e *Exchange) serveMetadata(w http.ResponseWriter, _ *http.Request) {
	metadata := map[string]any{
		"issuer": e.URL, "token_endpoint": e.URL + "/token", "jwks_uri": e.URL + "/jwks",
		"grant_types_supported": []string{grant}, "response_types_supported": []string{},
		"token_endpoint_auth_methods_supported": []string{"none"},
	}
	e.change(func() {
		if e.metadata != nil {
			e.metadata(metadata)
		}
	})
	Write(w, http.StatusOK, metadata)
}

// Write answers with JSON.
func Write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the caller may be gone
}

// Refuse answers as RFC 6749 section 5.2 says.
func Refuse(w http.ResponseWriter, status int, code, description string) {
	Write(w, status, map[string]string{"error": code, "error_description": description})
}

func (e *Exchange) serveToken(w http.ResponseWriter, r *http.Request) {
	if fault := broken(r); fault != "" {
		Refuse(w, http.StatusBadRequest, "invalid_request", "The rules were broken: "+fault)
		return
	}
	var name string
	var lie http.HandlerFunc
	number := 0
	e.change(func() {
		e.asked = append(e.asked, maps.Clone(r.PostForm))
		name, lie, number = e.subjects[r.PostForm.Get("subject_token")], e.lie, len(e.asked)
	})
	switch {
	case lie != nil:
		lie(w, r)
	case name == "":
		Refuse(w, http.StatusBadRequest, "invalid_request", "The subject's token is not accepted.")
	case !known(r.PostForm.Get("scope")):
		Refuse(w, http.StatusBadRequest, "invalid_scope", "A word of the scope is not known.")
	default:
		life := maximum
		if asked, err := strconv.Atoi(r.PostForm.Get("expires_in")); err == nil {
			life = min(life, asked)
		}
		kind := "access_token"
		if r.PostForm.Has("resource") {
			kind = "jwt"
		}
		answer := map[string]any{
			"access_token": fmt.Sprintf("issued.%s.%d", name, number), "issued_token_type": typePrefix + kind,
			"token_type": "Bearer", "expires_in": life,
		}
		if scope := r.PostForm.Get("scope"); scope != "" {
			answer["scope"] = scope
		}
		Write(w, http.StatusOK, answer)
	}
}

func known(words string) bool {
	_, err := scope.Parse(words)
	return err == nil
}

// broken says which rule of the form a request breaks, or "".
func broken(r *http.Request) string {
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		return "it is no POST of a form"
	}
	if r.URL.RawQuery != "" || len(r.Header["Authorization"]) > 0 {
		return "it has a query, or an Authorization header"
	}
	if err := r.ParseForm(); err != nil {
		return "the form cannot be read"
	}
	parameters := []string{
		"grant_type", "subject_token", "subject_token_type", "actor_token", "actor_token_type", "resource", "audience", "scope",
		"requested_token_type", "expires_in", "client_id",
	}
	for parameter, values := range r.PostForm {
		if !slices.Contains(parameters, parameter) || len(values) != 1 && parameter != "audience" || slices.Contains(values, "") {
			return "a parameter is unknown, empty or repeated"
		}
	}
	types := []string{typePrefix + "id_token", typePrefix + "jwt", typePrefix + "access_token"}
	switch form := r.PostForm; {
	case form.Get("grant_type") != grant:
		return "grant_type is another"
	case form.Get("subject_token") == "" || !slices.Contains(types, form.Get("subject_token_type")):
		return "subject_token or its type is missing"
	case form.Has("actor_token") != form.Has("actor_token_type"):
		return "actor_token and its type belong together"
	case form.Has("resource") && (form.Has("scope") || form.Has("actor_token") || !form.Has("audience") || !strings.HasPrefix(form.Get("resource"), "urn:kubernetes:serviceaccount:")):
		return "resource is no ServiceAccount, lacks an audience, or has a scope or an actor"
	}
	return ""
}
