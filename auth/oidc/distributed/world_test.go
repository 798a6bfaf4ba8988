package distributed_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
	"github.com/kube-gatehouse/gatehouse/auth/oidc/distributed"
	"github.com/kube-gatehouse/gatehouse/auth/oidc/lookup"
)

const (
	accessToken    = "access-token-of-the-claim-source-7316"
	secondAudience = "audience of the second issuer"
)

// world is an issuer of tokens, another that is configured too, one that is on
// the list of endpoints, one that is nowhere, and a claim source.
type world struct {
	t                              *testing.T
	ca                             *authtest.CA
	issuer, second, listed, nobody *authtest.Issuer
	issuers                        *oidc.Issuers
	resolver                       *distributed.Resolver
	clock                          *authtest.Clock

	source *httptest.Server
	asked  atomic.Int64
	bearer atomic.Value // of the last question
	mu     sync.Mutex
	answer http.HandlerFunc
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ca, err := authtest.NewCA("test CA")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, ca: ca, clock: authtest.NewClock()}
	for _, issuer := range []**authtest.Issuer{&w.issuer, &w.second, &w.listed, &w.nobody} {
		if *issuer, err = authtest.NewIssuer(ca); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = (*issuer).Close() })
	}
	w.source = newServer(t, ca, func(rw http.ResponseWriter, r *http.Request) {
		w.asked.Add(1)
		w.bearer.Store(r.Header.Get("Authorization"))
		w.mu.Lock()
		answer := w.answer
		w.mu.Unlock()
		answer(rw, r)
	})
	w.send(w.issuer.Token(authtest.Claims{"groups": []string{"dev", "ops"}}))
	w.configure()
	return w
}

func newServer(t *testing.T, ca *authtest.CA, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	pair, err := ca.Server("127.0.0.1", "localhost")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// configure makes gatehouse's view: the issuer and the second are configured.
func (w *world) configure() {
	w.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	w.t.Cleanup(stop)
	var list []*oidc.Issuer
	for _, real := range []*authtest.Issuer{w.second, w.issuer} { // the resolver of the last one is kept
		audience := authtest.Audience
		if real == w.second {
			audience = secondAudience
		}
		described, err := authconfig.Flags{IssuerURL: real.URL, ClientID: audience, UsernamePrefix: "-", GroupsClaim: "groups"}.Issuer()
		if err != nil {
			w.t.Fatal(err)
		}
		cfg := oidc.Config{URL: real.URL, Audiences: described.Audiences, Mapping: described.Mapping, Roots: w.ca.Pool(), Now: w.clock.Now}
		prefixes := []string{w.source.URL + "/groups", w.listed.URL}
		sources, err := oidc.NewSources(cfg, prefixes, func() []*oidc.Issuer { return list })
		if err != nil {
			w.t.Fatal(err)
		}
		w.resolver = distributed.New(distributed.Config{
			Endpoints: endpoints(w.t, prefixes...), Verifier: sources, Roots: w.ca.Pool(),
			Lookup: lookup.Config{Now: w.clock.Now, Timeout: 2 * time.Second},
		})
		cfg.Resolver = w.resolver
		issuer, err := oidc.New(cfg)
		if err != nil {
			w.t.Fatal(err)
		}
		go issuer.Run(ctx)
		<-issuer.Ready()
		list = append(list, issuer)
	}
	var err error
	if w.issuers, err = oidc.NewIssuers(list...); err != nil {
		w.t.Fatal(err)
	}
}

// send makes jwt what the source answers.
func (w *world) send(jwt string) {
	w.serve(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, jwt+"\n") })
}

func (w *world) serve(h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = h
}

// token returns one whose groups stand at endpoint.
func (w *world) token(endpoint string, more authtest.Claims) string {
	claims := authtest.Claims{"_claim_names": map[string]any{"groups": "src1"}, "_claim_sources": map[string]any{
		"src1": map[string]any{"endpoint": endpoint, "access_token": accessToken},
	}}
	for name, value := range more {
		claims[name] = value
	}
	return w.issuer.Token(claims)
}

// ask returns whom a token names, or why it is refused.
func (w *world) ask(token string) (*auth.Identity, *auth.Refusal) {
	w.t.Helper()
	id, err := w.issuers.AuthenticateToken(w.t.Context(), token)
	refusal, refused := errors.AsType[*auth.Refusal](err)
	if err != nil && !refused {
		w.t.Fatalf("error %v is no refusal", err)
	}
	return id, refusal
}
