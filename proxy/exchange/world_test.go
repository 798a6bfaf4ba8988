package exchange

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/session"
	"github.com/kube-gatehouse/gatehouse/proxy"
	"github.com/kube-gatehouse/gatehouse/proxy/address"
	"github.com/kube-gatehouse/gatehouse/proxy/audit"
	"github.com/kube-gatehouse/gatehouse/proxy/impersonate"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

const (
	self     = "https://exchange.example.com"
	ownToken = "own-canary-token" // gatehouse's own, at the API server
	madeFor  = "made-canary-token"
)

// people are the tokens that somebody knows, and whom they name. All of them are
// secrets, and none may be seen anywhere.
type people map[string]*auth.Identity

func (p people) AuthenticateToken(_ context.Context, token string) (*auth.Identity, error) {
	switch token {
	case "canary.expired.token":
		return nil, auth.Refuse(auth.KindOIDC, auth.Expired, "it has ended")
	case "canary.undecided.token":
		return nil, auth.Refuse(auth.KindOIDC, auth.InternalAuthFailed, "nobody can tell")
	}
	if id := p[token]; id != nil {
		return id, nil
	}
	return nil, auth.ErrNotMine
}

func everybody() people {
	user := func(kind auth.Kind, name string) *auth.Identity {
		return &auth.Identity{
			Kind: kind, User: auth.User{Name: name, Groups: []string{"dev"}, Extra: map[string][]string{"example.com/team": {"a"}}},
			Credential: auth.Credential{IDs: []string{"JTI=" + name}, Subject: name, Issued: time.Now().Add(-time.Minute).Truncate(time.Second)},
		}
	}
	alice, ben, account := user(auth.KindOIDC, "alice"), user(auth.KindTokenFile, "ben"), user(auth.KindServiceAccount, "system:serviceaccount:dev:job")
	alice.Issuer, alice.Expires = "https://login.example.com", time.Now().Add(10*time.Minute)
	ending, many := user(auth.KindOIDC, "ending"), user(auth.KindOIDC, "many")
	ending.Expires = time.Now().Add(-time.Second)
	many.Groups = strings.Split(strings.Repeat("a-group-with-a-long-name,", 3000), ",")[:3000]
	return people{
		"canary.alice.token": alice, "canary-ben": ben, "canary.account.token": account,
		"canary.ending.token": ending, "canary.many.token": many, "canary-visitor": user(auth.KindAnonymous, "visitor"),
		"canary.agent.token": user(auth.KindOIDC, "agent"), "canary.robot.token": user(auth.KindOIDC, "robot"),
		"canary.lost.token": user(auth.KindOIDC, "lost"),
	}
}

// actors let agent act for everybody, robot for nobody, and have no answer about lost.
type actors struct{}

func (actors) Allowed(_ context.Context, user *auth.User, a impersonate.Attributes) (bool, error) {
	if user.Name == "lost" {
		return false, context.DeadlineExceeded
	}
	asked := impersonate.Attributes{Verb: "act-for", Group: "kube-gatehouse.github.io", Version: "v1", Resource: "users", Name: a.Name}
	return user.Name == "agent" && a == asked && a.Name != "", nil
}

// world is an exchange before a real proxy and what answers for the API server, all
// on real sockets.
type world struct {
	*Server
	front    *httptest.Server
	proxy    *proxy.Proxy
	sessions *session.Sessions
	trail    *audit.Trail
	metrics  *prometheus.Registry
	log, out *safeBuffer

	mu    sync.Mutex
	last  reply           // of the last exchange
	asked []*http.Request // what the API server got, each with its body in a header
}

func newWorld(t testing.TB, edits ...func(*Config)) *world {
	t.Helper()
	w := &world{metrics: prometheus.NewRegistry(), log: &safeBuffer{}, out: &safeBuffer{}}
	log := slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.sessions = newSessions(t)
	trail, err := audit.New(audit.Config{Path: audit.Stdout})
	if err != nil {
		t.Fatal(err)
	}
	policy, err := audit.Parse([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	trail.SetPolicy(policy)
	if err := trail.Open(w.out); err != nil {
		t.Fatal(err)
	}
	w.trail = trail
	proxies, err := address.Parse([]string{"127.0.0.1/32"})
	if err != nil {
		t.Fatal(err)
	}
	target := w.newAPIServer(t)
	w.proxy, err = proxy.New(proxy.Config{
		Target: func() *upstream.Target { return target }, Authenticator: auth.Bearer(everybody(), w.sessions),
		Proxies: proxies, Audit: trail, Metrics: w.metrics, Log: log,
		Self: func() string { return "gatehouse" },
	})
	if err != nil {
		t.Fatal(err)
	}
	names := auth.NamePolicy{}
	cfg := Config{
		URL: self, Door: w.proxy, Sessions: w.sessions, Actors: actors{}, PerMinute: 1000, Audit: trail, Metrics: w.metrics, Log: log,
		Nameable: func(id *auth.Identity) error { return names.Check(auth.KindSession, &id.User) },
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	if w.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	w.front = httptest.NewUnstartedServer(w.Server)
	w.front.EnableHTTP2 = true
	w.front.StartTLS()
	t.Cleanup(w.front.Close)
	return w
}

// newSessions returns Sessions with a key.
func newSessions(t testing.TB) *session.Sessions {
	t.Helper()
	sessions, err := session.New(session.Config{Issuer: self, MaxLifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, session.SigningFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := session.LoadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	sessions.SetKeys(keys)
	return sessions
}

// newAPIServer starts what answers TokenRequests, by the name of the
// ServiceAccount, and returns the way to it.
func (w *world) newAPIServer(t testing.TB) *upstream.Target {
	t.Helper()
	back := httptest.NewUnstartedServer(http.HandlerFunc(w.serveAPI))
	back.EnableHTTP2 = true
	back.StartTLS()
	t.Cleanup(back.Close)
	config, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": []any{map[string]any{"name": "c", "cluster": map[string]any{
			"server": back.URL, "certificate-authority-data": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: back.Certificate().Raw}),
		}}},
		"users":    []any{map[string]any{"name": "u", "user": map[string]any{"token": ownToken}}},
		"contexts": []any{map[string]any{"name": "c", "context": map[string]any{"cluster": "c", "user": "u"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	target, err := upstream.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(target.Close)
	return target
}

// bodyHeader is where the body of a request that was kept stands.
const bodyHeader = "Body"

func (w *world) serveAPI(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	kept := r.Clone(context.WithoutCancel(r.Context()))
	kept.Header.Set(bodyHeader, string(body))
	w.mu.Lock()
	w.asked = append(w.asked, kept)
	w.mu.Unlock()
	parts := strings.Split(r.URL.Path, "/")
	if r.Method != http.MethodPost || len(parts) != 8 || parts[5] != "serviceaccounts" || parts[7] != "token" {
		rw.WriteHeader(http.StatusNotFound)
		return
	}
	status := map[string]int{"forbidden": 403, "absent": 404, "denied": 401, "bad": 400, "unprocessable": 422, "busy": 429, "fails": 500}
	name := parts[6]
	rw.Header().Set("Content-Type", "application/json")
	if code := status[name]; code != 0 {
		rw.WriteHeader(code)
		_, _ = io.WriteString(rw, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"echo-canary"}`)
		return
	}
	var asked tokenRequest
	if err := json.Unmarshal(body, &asked); err != nil {
		rw.WriteHeader(http.StatusBadRequest)
		return
	}
	lifetime := time.Hour
	if asked.Spec.ExpirationSeconds != nil {
		lifetime = time.Duration(*asked.Spec.ExpirationSeconds) * time.Second
	}
	asked.Status = tokenRequestStatus{Token: madeFor, Expires: time.Now().Add(lifetime).UTC().Truncate(time.Second)}
	switch name {
	case "no-token":
		asked.Status.Token = ""
	case "spaced":
		asked.Status.Token = "a canary"
	case "endless":
		asked.Status.Expires = time.Time{}
	case "other":
		asked.Kind = "Status"
	}
	rw.WriteHeader(http.StatusCreated)
	switch name {
	case "broken":
		_, _ = io.WriteString(rw, `{"kind":"TokenRequest","canary`)
	case "huge":
		_, _ = io.WriteString(rw, `{"kind":"`+strings.Repeat("canary", 1<<18))
	case "cut":
		_, _ = io.WriteString(rw, `{"kind":"TokenRequest"`)
		_ = http.NewResponseController(rw).Flush()
		panic(http.ErrAbortHandler)
	default:
		_ = json.NewEncoder(rw).Encode(asked)
	}
}

// requests returns what the API server got, and forgets it.
func (w *world) requests() []*http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.asked
	w.asked = nil
	return all
}

// client returns a client of HTTP version 1 or 2.
func (w *world) client(t testing.TB, protocol int) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(protocol == 1)
	protocols.SetHTTP2(protocol == 2)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: w.front.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}, Protocols: protocols,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// values is the form of an exchange of a token of alice's, with more parameters as
// pairs. One whose value is "" is left out.
func values(more ...string) url.Values {
	form := url.Values{"grant_type": {GrantType}, "subject_token": {"canary.alice.token"}, "subject_token_type": {typeAccessToken}}
	set := map[string]bool{}
	for i := 0; i < len(more); i += 2 {
		name, value := more[i], more[i+1]
		if !set[name] {
			delete(form, name)
		}
		if set[name] = true; value != "" {
			form.Add(name, value)
		}
	}
	return form
}

// post returns a request with a form.
func (w *world) post(t testing.TB, form string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.front.URL+TokenPath, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// reply is what an exchange answers.
type reply struct {
	code        int
	header      http.Header
	body        string
	Token       string `json:"access_token"`
	Type        string `json:"issued_token_type"`
	Use         string `json:"token_type"`
	Expires     int    `json:"expires_in"`
	Scope       string `json:"scope"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

func (w *world) do(t testing.TB, client *http.Client, r *http.Request) reply {
	t.Helper()
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := reply{code: resp.StatusCode, header: resp.Header, body: string(body)}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = got
	return got
}

// exchanged is do for a form over HTTP/2.
func (w *world) exchanged(t testing.TB, more ...string) reply {
	t.Helper()
	return w.do(t, w.client(t, 2), w.post(t, values(more...).Encode()))
}

// given is exchanged where a token must be given.
func (w *world) given(t testing.TB, more ...string) reply {
	t.Helper()
	got := w.exchanged(t, more...)
	if got.code != http.StatusOK || got.Token == "" {
		t.Fatalf("%+v", got)
	}
	return got
}

// safeBuffer is a bytes.Buffer that goroutines may share.
type safeBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
