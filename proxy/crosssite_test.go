package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy"
)

// certificate is an Authenticator that finds ana's client certificate on every
// connection.
type certificate struct{}

func (certificate) Authenticate(*http.Request) (*auth.Identity, error) {
	return &auth.Identity{Kind: auth.KindClientCert, User: auth.User{Name: "ana"}}, nil
}

// Promise: a page of another site cannot act with a client certificate that the
// browser shows of itself.
func TestCrossSite(t *testing.T) {
	g := newGate(t, 2, func(http.ResponseWriter, *http.Request) {})
	p, err := proxy.New(proxy.Config{Target: g.target.Target, Authenticator: certificate{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		header http.Header
		code   int
	}{
		{"kubectl", http.Header{}, 200},
		{"own page", http.Header{"Origin": {"https://gatehouse.example"}, "Sec-Fetch-Site": {"same-origin"}}, 200},
		{"typed address", http.Header{"Sec-Fetch-Site": {"none"}}, 200},
		{"another site", http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}, 403},
		{"another site, older browser", http.Header{"Origin": {"https://evil.example"}}, 403},
		{"another origin of the site", http.Header{"Sec-Fetch-Site": {"same-site"}}, 403},
		{"another port", http.Header{"Origin": {"https://gatehouse.example:444"}}, 403},
		{"opaque origin", http.Header{"Origin": {"null"}}, 403},
		{"two origins", http.Header{"Origin": {"https://gatehouse.example", "https://evil.example"}}, 403},
		{"with a token, which no browser adds of itself", http.Header{"Origin": {"https://evil.example"}, "Authorization": {"Bearer x"}}, 200},
	} {
		r := httptest.NewRequest(http.MethodGet, "/api", nil)
		r.Host, r.Header = "gatehouse.example", tt.header
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code != tt.code {
			t.Errorf("%s: %d, want %d", tt.name, w.Code, tt.code)
		}
	}
}
