package impersonate

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// apiServer reads the identity of a header by kube-apiserver's rules (v1.37,
// pkg/endpoints/filters/impersonation): the first user and uid, every group,
// extra keys lowered and percent-decoded.
func apiServer(h http.Header) auth.User {
	user := auth.User{Name: h.Get("Impersonate-User"), UID: h.Get("Impersonate-Uid"), Groups: h["Impersonate-Group"]}
	for name, values := range h {
		if key, found := strings.CutPrefix(strings.ToLower(name), "impersonate-extra-"); found {
			if decoded, err := url.PathUnescape(key); err == nil {
				key = decoded
			}
			if user.Extra == nil {
				user.Extra = map[string][]string{}
			}
			user.Extra[key] = append(user.Extra[key], values...)
		}
	}
	return user
}

func build(t *testing.T, in http.Header, user auth.User) http.Header {
	t.Helper()
	out, err := Header(Request{In: in, User: &user, Authorization: "Bearer own", AuditID: "id", ClientAddress: "192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Promise: the API server reads exactly the identity that was decided.
func TestIdentityRoundTrip(t *testing.T) {
	for _, user := range []auth.User{
		{Name: "alice"},
		{Name: "https://issuer.example#alice", UID: "1", Groups: []string{"dev", "a,b", `"quoted"`, "dev"}},
		{Name: "Zoë 東京", Groups: []string{"Ñandú"}},
		{Name: "a", Extra: map[string][]string{"authentication.kubernetes.io/credential-id": {"JTI=1", "x y"}}},
		{Name: "a", Extra: map[string][]string{"example.com/100%": {"v"}, "example.com/a b": {"v"}, "example.com/é": {"v"}, "example.com/%2f": {"v"}}},
	} {
		got := apiServer(build(t, nil, user))
		if diff := cmp.Diff(user, got); diff != "" {
			t.Errorf("identity (-want +got):\n%s", diff)
		}
	}
}

// Promise: the group that the API server adds itself is not sent.
func TestAuthenticatedGroupIsLeftOut(t *testing.T) {
	out := build(t, nil, auth.User{Name: "a", Groups: []string{"system:authenticated", "dev"}})
	if got := out["Impersonate-Group"]; !slices.Equal(got, []string{"dev"}) {
		t.Errorf("groups %q", got)
	}
	if out := build(t, nil, auth.User{Name: "a", Groups: []string{"system:authenticated"}}); out["Impersonate-Group"] != nil {
		t.Errorf("groups %q", out["Impersonate-Group"])
	}
}

// Promise: nothing of the caller's passes but the listed names; nothing of the
// caller's can stand for an identity, a credential or an address.
func TestAllowList(t *testing.T) {
	in := http.Header{
		"Accept": {"application/json", "x"}, "Content-Type": {"text/plain"}, "User-Agent": {"kubectl"},
		"Authorization": {"Bearer caller"}, "Impersonate-User": {"admin"}, "Impersonate-Group": {"system:masters"},
		"Impersonate_user": {"admin"}, "X-Remote-User": {"admin"}, "X_remote_user": {"admin"}, "X-Remote-Extra-Scopes": {"x"},
		"X-Forwarded-For": {"10.0.0.1"}, "X-Real-Ip": {"10.0.0.1"}, "Forwarded": {"for=10.0.0.1"}, "X-Forwarded-Host": {"x"},
		"Cookie": {"a=b"}, "Proxy-Authorization": {"Basic x"}, "Connection": {"Impersonate-User, close"}, "Te": {"trailers"},
		"Trailer": {"Impersonate-User"}, "Audit-Id": {"mine"}, "Upgrade": {"websocket"}, "Origin": {"https://x"},
		"Sec-Websocket-Key": {"x"}, "Host": {"x"}, "Content-Length": {"3"}, "Transfer-Encoding": {"chunked"},
		"X-Http-Method-Override": {"DELETE"}, "X-Original-Url": {"/x"}, "Expect": {"100-continue"}, "": {"x"},
	}
	want := http.Header{
		"Accept": {"application/json", "x"}, "Content-Type": {"text/plain"}, "User-Agent": {"kubectl"},
		"Authorization": {"Bearer own"}, "Impersonate-User": {"alice"}, "Audit-Id": {"id"}, "X-Forwarded-For": {"192.0.2.1"},
	}
	if diff := cmp.Diff(want, build(t, in, auth.User{Name: "alice"})); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}

// Promise: an upgrade carries exactly its own protocol, and never a token of
// the WebSocket protocol.
func TestUpgrade(t *testing.T) {
	in := http.Header{
		"Connection": {"Upgrade, Impersonate-User"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Key": {"k"}, "Sec-Websocket-Version": {"13"}, "X-Stream-Protocol-Version": {"v4.channel.k8s.io", "v5.channel.k8s.io"},
		"Sec-Websocket-Protocol": {"v5.channel.k8s.io,base64url.bearer.authorization.k8s.io.YQ", " BASE64url.bearer.authorization.k8s.io.Yg , v4.channel.k8s.io"},
	}
	user := auth.User{Name: "alice"}
	out, err := Header(Request{In: in, Upgrade: "websocket", User: &user, Authorization: "Bearer own", AuditID: "id"})
	if err != nil {
		t.Fatal(err)
	}
	want := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Key": {"k"}, "Sec-Websocket-Version": {"13"},
		"X-Stream-Protocol-Version": {"v4.channel.k8s.io", "v5.channel.k8s.io"},
		"Sec-Websocket-Protocol":    {"v5.channel.k8s.io, v4.channel.k8s.io"},
		"Authorization":             {"Bearer own"}, "Impersonate-User": {"alice"}, "Audit-Id": {"id"},
	}
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}

// Promise: an identity that the header does not carry as it is stops the
// request; it is never sent without one.
func TestHeaderFailsClosed(t *testing.T) {
	for name, user := range map[string]auth.User{
		"empty name":    {},
		"blank name":    {Name: " "},
		"trimmed name":  {Name: "a "},
		"empty group":   {Name: "a", Groups: []string{""}},
		"trimmed group": {Name: "a", Groups: []string{"\tg"}},
		"merging extra": {Name: "a", Extra: map[string][]string{"example.com/k": {"1"}, "example.com/K": {"2"}}},
	} {
		if out, err := Header(Request{User: &user}); err == nil {
			t.Errorf("%s: %v", name, out)
		}
	}
}

// Promise: every spelling of a header that asks to be somebody else is seen.
func TestAsked(t *testing.T) {
	for name, asked := range map[string]bool{
		"Impersonate-User": true, "Impersonate-Group": true, "Impersonate-Uid": true, "Impersonate-Extra-Scopes": true,
		"impersonate-user": true, "IMPERSONATE-USER": true, "Impersonate_user": true, "Impersonate_User": true, "Impersonate": true,
		"Impersonate-Something-New": true, "Accept": false, "X-Impersonate-User": false, "": false, "Imperson": false,
	} {
		if got := Asked(http.Header{name: {""}}) != ""; got != asked {
			t.Errorf("%q: %t, want %t", name, got, asked)
		}
	}
}

// Promise: whatever the caller sends and whoever is named, the header carries
// one Authorization, ours, and exactly the identity, or there is none.
func FuzzHeader(f *testing.F) {
	f.Add("Impersonate-User", "admin", "alice", "dev", "example.com/k", "v")
	f.Add("Connection", "Impersonate-User", "a", "system:authenticated", "example.com/a%b", "é")
	f.Add("Authorization", "Bearer x", " a", "", "K", "\n")
	f.Fuzz(func(t *testing.T, name, value, user, group, key, extra string) {
		in := http.Header{http.CanonicalHeaderKey(name): {value}, "Sec-Websocket-Protocol": {value}}
		who := auth.User{Name: user, Groups: []string{group}, Extra: map[string][]string{key: {extra}}}
		if (auth.NamePolicy{}).Check(auth.KindOIDC, &who) != nil {
			return
		}
		for _, upgrade := range []string{"", "websocket"} {
			out, err := Header(Request{In: in, Upgrade: upgrade, User: &who, Authorization: "Bearer own", AuditID: "id"})
			if err != nil {
				return
			}
			if got := out["Authorization"]; !slices.Equal(got, []string{"Bearer own"}) {
				t.Fatalf("Authorization %q", got)
			}
			want := who
			want.Groups = slices.DeleteFunc(slices.Clone(who.Groups), func(g string) bool { return g == auth.AuthenticatedGroup })
			got := apiServer(out)
			if got.Name != want.Name || !slices.Equal(got.Groups, want.Groups) || !cmp.Equal(got.Extra, want.Extra) {
				t.Fatalf("identity %+v, want %+v", got, want)
			}
		}
	})
}
