package proxy_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// wantOwnAnswer checks every mark of an answer that gatehouse makes itself.
func wantOwnAnswer(t *testing.T, resp *http.Response, code int, sentence string) {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var status metav1.Status
	if err := json.Unmarshal(body, &status); err != nil {
		t.Fatalf("body %q: %v", body, err)
	}
	if resp.StatusCode != code || int(status.Code) != code {
		t.Errorf("code %d, in the body %d, want %d", resp.StatusCode, status.Code, code)
	}
	if status.Kind != "Status" || status.APIVersion != "v1" || status.Status != "Failure" || status.Reason == "" {
		t.Errorf("status %+v", status)
	}
	if !strings.Contains(status.Message, sentence) || strings.Contains(status.Message, "%!") {
		t.Errorf("message %q, want %q", status.Message, sentence)
	}
	h := resp.Header
	if got := h["Warning"]; len(got) != 1 || got[0] != `299 - "`+status.Message+`"` {
		t.Errorf("Warning %q, message %q", got, status.Message)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Cache-Control": "no-cache, private", "X-Content-Type-Options": "nosniff",
	} {
		if got := h[name]; len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if len(h["Audit-Id"]) != 1 || len(h.Get("Audit-Id")) != 36 {
		t.Errorf("Audit-Id %q", h["Audit-Id"])
	}
	if got := strings.HasPrefix(h.Get("Www-Authenticate"), "Bearer"); got != (code == http.StatusUnauthorized) {
		t.Errorf("WWW-Authenticate %q", h["Www-Authenticate"])
	}
}

// Promise: every refusal has its sentence, the same in body and Warning, and
// nothing of a refused request reaches the API server.
func TestRefusals(t *testing.T) {
	const general = "Your credential was not accepted: it is damaged, or was not issued for this server."
	sentences := map[auth.Reason]struct {
		code     int
		sentence string
	}{
		auth.NoCredential:          {401, "You are not signed in"},
		auth.BadHeader:             {401, "The Authorization header cannot be read"},
		auth.SeveralCredentials:    {401, "more than one credential"},
		auth.UnsupportedScheme:     {401, "send a bearer token in the Authorization header"},
		auth.TokenTooLong:          {401, "too long"},
		auth.UnknownToken:          {401, general},
		auth.MalformedToken:        {401, general},
		auth.UnsupportedAlgorithm:  {401, general},
		auth.UnknownKey:            {401, general},
		auth.BadSignature:          {401, general},
		auth.IssuerUnavailable:     {503, "its issuer's keys are not known yet"},
		auth.Expired:               {401, "Your token expired 5 minutes ago: sign in again."},
		auth.NotYetValid:           {401, "Your credential is not valid yet, it will be in 5 minutes"},
		auth.WrongAudience:         {401, "issued for another application"},
		auth.WrongParty:            {401, "an application that may not be used with this cluster"},
		auth.WrongTokenType:        {401, "no ID token"},
		auth.BadUsernameClaim:      {401, "does not name you"},
		auth.UnverifiedEmail:       {401, "not verified"},
		auth.BadGroupsClaim:        {401, "groups in your token cannot be read"},
		auth.RequiredClaim:         {401, "lacks a claim"},
		auth.BadMapping:            {401, "does not hold what this cluster expects"},
		auth.ClaimRule:             {401, "does not meet a rule of this cluster"},
		auth.UserRule:              {401, "do not meet a rule of this cluster"},
		auth.BadName:               {401, "cannot be passed on"},
		auth.ReservedName:          {403, "reserved for Kubernetes itself"},
		auth.IdentityTooLarge:      {403, "more groups than can be passed on"},
		auth.UnsupportedClaims:     {401, "only says where to find them"},
		auth.GroupsUnavailable:     {503, "groups cannot be looked up now"},
		auth.GroupsRefused:         {401, "not accepted there"},
		auth.BadCertificate:        {401, "does not name a user for client authentication"},
		auth.CertificateExpired:    {401, "Your client certificate expired 5 minutes ago: get a new one."},
		auth.CertificateRevoked:    {401, "was revoked"},
		auth.CertificateNotTrusted: {401, general},
		auth.Revoked:               {401, "has been revoked"},
		auth.OriginGone:            {401, "is not accepted any more"},
		auth.CRLStale:              {401, "cannot be told now"},
		auth.CRLMissing:            {401, "cannot be told"},
		auth.InternalAuthFailed:    {503, "cannot be checked now"},
	}
	g := newGate(t, 2, func(http.ResponseWriter, *http.Request) { t.Error("a refused request reached the API server") })
	for _, reason := range auth.Reasons() {
		want, ok := sentences[reason]
		if !ok {
			t.Errorf("no sentence is expected of %s", reason)
			continue
		}
		for _, protocol := range []int{1, 2} {
			resp, err := g.client(protocol).Do(g.request(http.MethodGet, "/api", string(reason)))
			if err != nil {
				t.Fatal(err)
			}
			wantOwnAnswer(t, resp, want.code, want.sentence)
			resp.Body.Close()
		}
		if got := g.count("gatehouse_authentication_attempts_total", map[string]string{"result": string(reason), "kind": "oidc"}); got != 2 {
			t.Errorf("%s: counted %v times, want 2", reason, got)
		}
	}
}

// Promise: a credential is never guessed at: none, an unknown one, and a broken
// authenticator are each refused, never anonymous.
func TestNeverAnonymous(t *testing.T) {
	g := newGate(t, 2, func(http.ResponseWriter, *http.Request) { t.Error("a refused request reached the API server") })
	for token, want := range map[string]int{"": 401, "unknown": 401, "broken": 503, "nobody": 503, "panic": 500, "system:admin": 403, "_alice": 401} {
		resp, err := g.client(1).Do(g.request(http.MethodGet, "/api", token))
		if err != nil {
			t.Fatal(err)
		}
		wantOwnAnswer(t, resp, want, "")
		resp.Body.Close()
	}
	if log := string(g.log.Bytes()); strings.Contains(log, "canary") {
		t.Errorf("a panic's value is in the log:\n%s", log)
	}
}

// Promise: asking to be somebody else is refused, in every spelling.
func TestImpersonateIsRefused(t *testing.T) {
	g := newGate(t, 2, func(http.ResponseWriter, *http.Request) { t.Error("a refused request reached the API server") })
	for _, name := range []string{"Impersonate-User", "impersonate-group", "Impersonate-Uid", "Impersonate-Extra-X", "Impersonate_User", "Impersonate-New"} {
		r := g.request(http.MethodGet, "/api", "alice")
		r.Header[name] = []string{"admin"}
		resp, err := g.client(1).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		wantOwnAnswer(t, resp, 403, "--as")
		resp.Body.Close()
	}
}

// Promise: a request whose form two servers could read in two ways is refused.
func TestForm(t *testing.T) {
	g := newGate(t, 2, func(http.ResponseWriter, *http.Request) { t.Error("a refused request reached the API server") })
	for _, tt := range []struct {
		name           string
		method, target string
		header         http.Header
		code           int
	}{
		{"TRACE", "TRACE", "/api", nil, 405},
		{"CONNECT", "CONNECT", "host:443", nil, 405},
		{"own method", "FOO", "/api", nil, 405},
		{"lower case", "get", "/api", nil, 405},
		{"absolute form", "GET", "https://elsewhere.example/api", nil, 400},
		{"asterisk", "OPTIONS", "*", nil, 400},
		{"unusual escape", "GET", `/api/"x"`, nil, 400},
		{"h2c", "GET", "/api", http.Header{"Upgrade": {"h2c"}, "Connection": {"Upgrade, HTTP2-Settings"}}, 400},
		{"other protocol", "GET", "/api", http.Header{"Upgrade": {"TLS/1.0"}, "Connection": {"Upgrade"}}, 400},
		{"other protocol, not asked of this hop", "GET", "/api", http.Header{"Upgrade": {"TLS/1.0"}}, 400},
		{"two protocols", "GET", "/api", http.Header{"Upgrade": {"websocket", "SPDY/3.1"}, "Connection": {"Upgrade"}}, 400},
		{"list of protocols", "GET", "/api", http.Header{"Upgrade": {"websocket, h2c"}, "Connection": {"Upgrade"}}, 400},
		{"older SPDY", "GET", "/api", http.Header{"Upgrade": {"SPDY/3"}, "Connection": {"Upgrade"}}, 400},
		{"expectation", "PUT", "/api", http.Header{"Expect": {"something"}}, 417},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			target := httptest.NewRequest(http.MethodGet, strings.ReplaceAll(strings.ReplaceAll(tt.target, `"`, "%22"), "host:443", "/"), nil)
			r.Method, r.RequestURI, r.URL = tt.method, tt.target, target.URL
			for name, values := range tt.header {
				r.Header[name] = values
			}
			r.Header.Set("Authorization", "Bearer alice")
			w := httptest.NewRecorder()
			g.proxy.ServeHTTP(w, r)
			wantOwnAnswer(t, w.Result(), tt.code, "")
		})
	}
}

// Promise: who does not read a refusal keeps it waiting no longer than half a minute
// over HTTP/2, where he can have even that wait; over HTTP/1.1 nothing is bounded that
// holds for the requests that follow.
func TestUnreadRefusal(t *testing.T) {
	for protocol, bounded := range map[int]bool{1: false, 2: true} {
		synctest.Test(t, func(t *testing.T) {
			gate, err := proxy.New(proxy.Config{Target: func() *upstream.Target { return nil }, Authenticator: auth.Bearer(users{})})
			if err != nil {
				t.Fatal(err)
			}
			w := &deadlineRecorder{ResponseRecorder: httptest.NewRecorder()}
			r := httptest.NewRequest(http.MethodGet, "/api", nil)
			r.ProtoMajor = protocol
			gate.ServeHTTP(w, r)
			want := time.Time{}
			if bounded {
				want = time.Now().Add(30 * time.Second)
			}
			if w.Code != http.StatusUnauthorized || !w.write.Equal(want) {
				t.Errorf("HTTP/%d: code %d may be written until %v, want %v", protocol, w.Code, w.write, want)
			}
		})
	}
}

// deadlineRecorder notes until when it may be written to.
type deadlineRecorder struct {
	*httptest.ResponseRecorder
	write time.Time
}

func (w *deadlineRecorder) SetWriteDeadline(at time.Time) error { w.write = at; return nil }
