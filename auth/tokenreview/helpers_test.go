package tokenreview_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/tokenreview"
)

const (
	clusterIssuer = "https://kubernetes.default.svc.cluster.local"
	oidcIssuer    = "https://issuer.example"
	apiAudience   = clusterIssuer
	ownToken      = "gatehouses-own-credential"
	ownAccount    = "system:serviceaccount:gatehouse:gatehouse"
	builder       = "system:serviceaccount:ci:builder"
)

// apiServer stands in for the API server's TokenReview endpoint
// (k8s.io/kubernetes v1.37, pkg/registry/authentication/tokenreview and
// pkg/serviceaccount), on a real TLS socket. It tells the truth unless a test
// takes its place.
type apiServer struct {
	*httptest.Server
	key       *authtest.Key
	audiences []string // the API server's own
	reviews   atomic.Int64
	requests  atomic.Int64

	mu      sync.Mutex
	deleted map[string]bool // accounts that are gone
	lie     http.HandlerFunc
	asked   []string // the audiences of the last review
}

func newAPIServer(tb testing.TB) *apiServer {
	tb.Helper()
	key, err := authtest.NewKey("sa-1", jose.ES256)
	if err != nil {
		tb.Fatal(err)
	}
	s := &apiServer{key: key, audiences: []string{apiAudience}, deleted: map[string]bool{}}
	s.Server = httptest.NewUnstartedServer(s)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	tb.Cleanup(s.Close)
	return s
}

// answer lets a test answer in the API server's place; nil gives the truth again.
func (s *apiServer) answer(lie http.HandlerFunc) { s.set(func() { s.lie = lie }) }

// answerStatus answers every review with this status.
func (s *apiServer) answerStatus(status string) {
	s.answer(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","status":%s}`, status)
	})
}

func (s *apiServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	s.mu.Lock()
	lie := s.lie
	s.mu.Unlock()
	if lie != nil {
		lie(w, r)
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+ownToken {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	var review struct {
		APIVersion, Kind string
		Spec             struct {
			Token     string
			Audiences []string
		}
	}
	if r.Method != http.MethodPost || r.URL.Path != tokenreview.Path || r.Header.Get("Content-Type") != "application/json" ||
		json.NewDecoder(r.Body).Decode(&review) != nil || review.Kind != "TokenReview" || review.Spec.Token == "" {
		http.Error(w, "token is required for TokenReview in authentication", http.StatusBadRequest)
		return
	}
	s.reviews.Add(1)
	s.set(func() { s.asked = review.Spec.Audiences })
	status := map[string]any{}
	user, audiences, err := s.verify(review.Spec.Token, review.Spec.Audiences)
	if err != nil {
		status["error"] = "[invalid bearer token, " + err.Error() + "]"
	} else {
		status = map[string]any{"authenticated": true, "user": user, "audiences": audiences}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
		"metadata": map[string]any{"creationTimestamp": nil}, "spec": review.Spec, "status": status,
	})
}

// verify holds the rules of kube-apiserver's ServiceAccount authenticator.
func (s *apiServer) verify(token string, asked []string) (user map[string]any, audiences []string, err error) {
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, nil, errors.New("invalid bearer token")
	}
	payload, err := jws.Verify(s.key.JWK().Key)
	if err != nil {
		return nil, nil, errors.New("square/go-jose: error in cryptographic primitive")
	}
	var c struct {
		Sub, JTI string
		Aud      []string
		Exp      float64
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return nil, nil, err
	}
	if len(asked) == 0 {
		asked = s.audiences
	}
	if len(c.Aud) == 0 {
		c.Aud = s.audiences // a legacy token
	}
	for _, audience := range c.Aud {
		if slices.Contains(asked, audience) {
			audiences = append(audiences, audience)
		}
	}
	if len(audiences) == 0 && len(s.audiences) != 0 {
		return nil, nil, fmt.Errorf("token audiences %q is invalid for the target audiences %q", c.Aud, asked)
	}
	if c.Exp != 0 && time.Now().Add(-time.Minute).After(time.Unix(int64(c.Exp), 0)) {
		return nil, nil, errors.New("service account token has expired")
	}
	s.mu.Lock()
	gone := s.deleted[c.Sub]
	s.mu.Unlock()
	if gone {
		return nil, nil, fmt.Errorf("service account %s has been deleted", c.Sub)
	}
	return s.user(c.Sub, c.JTI), audiences, nil
}

func (s *apiServer) user(name, jti string) map[string]any {
	namespace := strings.Split(name, ":")[2]
	return map[string]any{
		"username": name, "uid": "uid-of-" + name,
		"groups": []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
		"extra": map[string][]string{
			"authentication.kubernetes.io/pod-name":      {"pod-1"},
			"authentication.kubernetes.io/pod-uid":       {"pod-uid-1"},
			"authentication.kubernetes.io/node-name":     {"node-1"},
			"authentication.kubernetes.io/credential-id": {"JTI=" + jti},
		},
	}
}

// RoundTrip sends a request as gatehouse.
func (s *apiServer) RoundTrip(req *http.Request) (*http.Response, error) {
	target, err := url.Parse(s.URL)
	if err != nil {
		return nil, err
	}
	req = req.Clone(req.Context())
	req.URL.Scheme, req.URL.Host = target.Scheme, target.Host
	req.Header.Set("Authorization", "Bearer "+ownToken)
	return s.Client().Transport.RoundTrip(req)
}

// token signs a token of the builder, for an hour and the API server. A nil
// claim is left out.
func (s *apiServer) token(change authtest.Claims) string { return s.key.Sign(payload(change)) }

func payload(change authtest.Claims) []byte {
	all := authtest.Claims{
		"iss": clusterIssuer, "sub": builder, "aud": []string{apiAudience}, "jti": "jti-1",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	maps.Copy(all, change)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	raw, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return raw
}

// forged returns a token of the right form with a signature of nobody's.
func forged(change authtest.Claims) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"ES256","kid":"sa-1"}`)) + "." + encode(payload(change)) + "." + encode(make([]byte, 64))
}

// world is an API server, and gatehouse's view of it.
type world struct {
	tb       testing.TB
	api      *apiServer
	clock    *authtest.Clock
	view     *tokenreview.Authenticator
	mu       sync.Mutex
	outcomes map[tokenreview.Outcome]int
}

func newWorld(tb testing.TB, change func(*tokenreview.Config)) *world {
	tb.Helper()
	w := &world{tb: tb, api: newAPIServer(tb), clock: authtest.NewClock(), outcomes: map[tokenreview.Outcome]int{}}
	cfg := w.config()
	if change != nil {
		change(&cfg)
	}
	var err error
	if w.view, err = tokenreview.New(cfg); err != nil {
		tb.Fatal(err)
	}
	return w
}

func (w *world) config() tokenreview.Config {
	return tokenreview.Config{
		Reviewer: tokenreview.NewHTTPReviewer(w.api),
		Known:    func(issuer string) bool { return issuer == oidcIssuer },
		Self:     func() string { return ownAccount },
		Issuers:  []string{clusterIssuer},
		Now:      w.clock.Now,
		Observe: func(o tokenreview.Outcome, _ time.Duration) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.outcomes[o]++
		},
	}
}

func (w *world) count(o tokenreview.Outcome) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.outcomes[o]
}

const notMine auth.Reason = "not mine"

// reasonOf returns the reason of an error, "" for nil.
func reasonOf(tb testing.TB, err error) auth.Reason {
	tb.Helper()
	if err == nil {
		return ""
	}
	if errors.Is(err, auth.ErrNotMine) {
		return notMine
	}
	refusal, ok := errors.AsType[*auth.Refusal](err)
	if !ok {
		tb.Fatalf("error %v is no refusal", err)
	}
	if refusal.Kind != auth.KindServiceAccount {
		tb.Errorf("refusal of kind %q", refusal.Kind)
	}
	return refusal.Reason
}

// ask returns whom a token names, or why it is refused.
func (w *world) ask(token string) (*auth.Identity, auth.Reason) {
	w.tb.Helper()
	id, err := w.view.AuthenticateToken(w.tb.Context(), token)
	if (id == nil) == (err == nil) {
		w.tb.Fatalf("identity %v beside error %v", id, err)
	}
	if err != nil && strings.Contains(err.Error(), token) && token != "" {
		w.tb.Errorf("the error holds the token")
	}
	return id, reasonOf(w.tb, err)
}

// want fails the test if token is not judged so, by so many reviews; reason ""
// means accepted.
func (w *world) want(token string, reason auth.Reason, reviews int64) {
	w.tb.Helper()
	before := w.api.requests.Load()
	if _, got := w.ask(token); got != reason {
		w.tb.Errorf("refused with %q, want %q", got, reason)
	}
	if got := w.api.requests.Load() - before; got != reviews {
		w.tb.Errorf("%d reviews, want %d", got, reviews)
	}
}
