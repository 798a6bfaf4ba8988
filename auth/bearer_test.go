package auth_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// knows is a TokenAuthenticator of one token.
type knows string

func (k knows) AuthenticateToken(_ context.Context, token string) (*auth.Identity, error) {
	if token != string(k) {
		return nil, auth.ErrNotMine
	}
	return &auth.Identity{User: auth.User{Name: "user of " + token}}, nil
}

// broken is a TokenAuthenticator that recognises every token and accepts none.
type broken struct{}

func (broken) AuthenticateToken(context.Context, string) (*auth.Identity, error) {
	return nil, auth.Refuse(auth.KindOIDC, auth.Expired, "")
}

func reasonOf(t *testing.T, err error) auth.Reason {
	t.Helper()
	if errors.Is(err, auth.ErrNotMine) {
		return "not mine"
	}
	refusal, ok := errors.AsType[*auth.Refusal](err)
	if !ok {
		t.Fatalf("error %v is no refusal", err)
	}
	return refusal.Reason
}

func webSocket(protocols ...string) http.Header {
	return http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Protocol": protocols}
}

// Promise: exactly one well-formed bearer token is a credential; anything that
// looks like one and is not is refused, and only the absence of all is "none".
func TestBearerToken(t *testing.T) {
	for _, tt := range []struct {
		name   string
		header http.Header
		token  string
		reason auth.Reason
	}{
		{name: "none", header: http.Header{}, reason: "not mine"},
		{name: "plain", header: http.Header{"Authorization": {"Bearer abc.def-_~+/="}}, token: "abc.def-_~+/="},
		{name: "lower case scheme", header: http.Header{"Authorization": {"bearer abc"}}, token: "abc"},
		{name: "space around", header: http.Header{"Authorization": {" \tBearer abc \t "}}, token: "abc"},
		{name: "spaces before the token", header: http.Header{"Authorization": {"Bearer  abc"}}, reason: auth.BadHeader},
		{name: "tab before the token", header: http.Header{"Authorization": {"Bearer\tabc"}}, reason: auth.UnsupportedScheme},
		{name: "CSV token with punctuation", header: http.Header{"Authorization": {`Bearer a"b:c`}}, token: `a"b:c`},
		{name: "scheme alone", header: http.Header{"Authorization": {"Bearer"}}, reason: auth.BadHeader},
		{name: "scheme and space", header: http.Header{"Authorization": {"Bearer "}}, reason: auth.BadHeader},
		{name: "two words", header: http.Header{"Authorization": {"Bearer abc def"}}, reason: auth.BadHeader},
		{name: "list", header: http.Header{"Authorization": {"Bearer abc, Bearer def"}}, reason: auth.BadHeader},
		{name: "comma", header: http.Header{"Authorization": {"Bearer abc,def"}}, reason: auth.BadHeader},
		{name: "tab", header: http.Header{"Authorization": {"Bearer\tabc"}}, reason: auth.UnsupportedScheme},
		{name: "tab in token", header: http.Header{"Authorization": {"Bearer a\tbc"}}, reason: auth.BadHeader},
		{name: "byte above ASCII", header: http.Header{"Authorization": {"Bearer ab\xe9"}}, reason: auth.BadHeader},
		{name: "empty value", header: http.Header{"Authorization": {""}}, reason: auth.UnsupportedScheme},
		{name: "token alone", header: http.Header{"Authorization": {"abc"}}, reason: auth.UnsupportedScheme},
		{name: "basic", header: http.Header{"Authorization": {"Basic YTpi"}}, reason: auth.UnsupportedScheme},
		{name: "negotiate", header: http.Header{"Authorization": {"Negotiate abc"}}, reason: auth.UnsupportedScheme},
		{name: "two headers", header: http.Header{"Authorization": {"Bearer abc", "Bearer abc"}}, reason: auth.SeveralCredentials},
		{name: "empty second header", header: http.Header{"Authorization": {"Bearer abc", ""}}, reason: auth.SeveralCredentials},
		{name: "longest", header: http.Header{"Authorization": {"Bearer " + strings.Repeat("a", auth.MaxTokenBytes)}}, token: strings.Repeat("a", auth.MaxTokenBytes)},
		{name: "too long", header: http.Header{"Authorization": {"Bearer " + strings.Repeat("a", auth.MaxTokenBytes+1)}}, reason: auth.TokenTooLong},
		{name: "WebSocket token", header: webSocket("v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj"), token: "abc"},
		{name: "WebSocket token first, two headers", header: webSocket("base64url.bearer.authorization.k8s.io.YWJj", "v4.channel.k8s.io"), token: "abc"},
		{name: "WebSocket token alone", header: webSocket("base64url.bearer.authorization.k8s.io.YWJj"), reason: auth.BadHeader},
		{name: "WebSocket token in other case", header: webSocket("v4, Base64URL.bearer.authorization.k8s.io.YWJj"), reason: auth.BadHeader},
		{name: "WebSocket token with padding", header: webSocket("v4, base64url.bearer.authorization.k8s.io.YWI="), reason: auth.BadHeader},
		{name: "WebSocket token, slack bits", header: webSocket("v4, base64url.bearer.authorization.k8s.io.YWJ"), reason: auth.BadHeader},
		{name: "empty WebSocket token", header: webSocket("v4, base64url.bearer.authorization.k8s.io."), reason: auth.BadHeader},
		{name: "WebSocket token with a space", header: webSocket("v4, base64url.bearer.authorization.k8s.io.YSBi"), reason: auth.BadHeader},
		{name: "two WebSocket tokens", header: webSocket("v4, base64url.bearer.authorization.k8s.io.YWJj, base64url.bearer.authorization.k8s.io.YWJj"), reason: auth.SeveralCredentials},
		{
			name: "WebSocket token, upgrade not asked of this hop",
			header: http.Header{
				"Upgrade": {"websocket"}, "Sec-Websocket-Protocol": {"v4, base64url.bearer.authorization.k8s.io.YWJj"},
			},
			reason: auth.BadHeader,
		},
		{name: "WebSocket without a token", header: webSocket("v4.channel.k8s.io"), reason: "not mine"},
		{
			name:   "WebSocket token without WebSocket",
			header: http.Header{"Sec-Websocket-Protocol": {"v4, base64url.bearer.authorization.k8s.io.YWJj"}},
			reason: auth.BadHeader,
		},
		{
			name: "WebSocket token and header",
			header: http.Header{
				"Authorization":          {"Bearer abc"},
				"Sec-Websocket-Protocol": {"v4.channel.k8s.io", "base64url.bearer.authorization.k8s.io.YWJj"},
			},
			reason: auth.SeveralCredentials,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			token, err := auth.BearerToken(tt.header)
			if tt.reason != "" {
				if got := reasonOf(t, err); got != tt.reason {
					t.Errorf("reason %q, want %q", got, tt.reason)
				}
				return
			}
			if err != nil || token != tt.token {
				t.Errorf("token %q, error %v; want %q", token, err, tt.token)
			}
		})
	}
}

// Promise: the first authenticator that recognises a token decides, a token
// that nobody knows is refused, and never taken for no credential.
func TestBearerAsksInTurn(t *testing.T) {
	request := func(token string) *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		return r
	}
	chain := auth.Bearer(knows("a"), knows("b"))
	if id, err := chain.Authenticate(request("b")); err != nil || id.Name != "user of b" {
		t.Errorf("second authenticator: %v, %v", id, err)
	}
	if _, err := chain.Authenticate(request("c")); reasonOf(t, err) != auth.UnknownToken {
		t.Errorf("unknown token: %v", err)
	}
	if _, err := chain.Authenticate(request("")); !errors.Is(err, auth.ErrNotMine) {
		t.Errorf("no credential: %v", err)
	}
	if _, err := auth.Bearer(broken{}, knows("a")).Authenticate(request("a")); reasonOf(t, err) != auth.Expired {
		t.Errorf("a refusal must be final: %v", err)
	}
}

// Promise: a reload is one step, and nothing is known before the first.
func TestLive(t *testing.T) {
	var live auth.Live
	if _, err := live.AuthenticateToken(t.Context(), "a"); !errors.Is(err, auth.ErrNotMine) {
		t.Errorf("empty: %v", err)
	}
	live.Swap(knows("a"))
	if _, err := live.AuthenticateToken(t.Context(), "a"); err != nil {
		t.Errorf("first version: %v", err)
	}
	live.Swap(knows("b"))
	if _, err := live.AuthenticateToken(t.Context(), "a"); !errors.Is(err, auth.ErrNotMine) {
		t.Errorf("removed token: %v", err)
	}
}

// Promise: whatever the bytes of the header, a token that comes out is one
// visible ASCII word that stands in the header as it is.
func FuzzBearerToken(f *testing.F) {
	for _, seed := range []string{"Bearer abc", "bearer  x ", "Basic a", "Bearer a,b", "Bearer \x00", "Bearer é"} {
		f.Add(seed, "")
		f.Add(seed, "base64url.bearer.authorization.k8s.io.YQ")
	}
	f.Fuzz(func(t *testing.T, value, protocol string) {
		header := http.Header{"Authorization": {value}, "Upgrade": {"websocket"}}
		if protocol != "" {
			header["Sec-Websocket-Protocol"] = []string{protocol}
		}
		token, err := auth.BearerToken(header)
		if err != nil {
			if token != "" {
				t.Errorf("token %q beside error %v", token, err)
			}
			if errors.Is(err, auth.ErrNotMine) {
				t.Errorf("a request with a header has no credential: %q", value)
			}
			return
		}
		if !auth.IsBearerToken(token) || !strings.HasSuffix(strings.TrimRight(value, " "), token) {
			t.Errorf("token %q of header %q", token, value)
		}
	})
}
