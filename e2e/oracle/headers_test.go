package oracle_test

import (
	"context"
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/websocket"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Promise: whatever the headers of a request, gatehouse reads the token that
// kube-apiserver reads, or refuses for a reason that the documentation names.
func TestGeneratedHeaders(t *testing.T) {
	forSeeds(t, func(seed uint64) { judgeGeneratedHeaders(t, seed) })
}

// headersPerSeed are judged for each seed.
const headersPerSeed = 1000

// anyToken is the authenticator that takes every token for the name of a user.
type anyToken struct{}

func (anyToken) AuthenticateToken(_ context.Context, token string) (*auth.Identity, error) {
	return &auth.Identity{User: auth.User{Name: token}}, nil
}

// judgeGeneratedHeaders gives both sides' header readers headers of seed.
func judgeGeneratedHeaders(t *testing.T, seed uint64) {
	t.Helper()
	g := &generator{rand.New(rand.NewPCG(seed, 2))}
	everyToken := authenticator.TokenFunc(func(_ context.Context, token string) (*authenticator.Response, bool, error) {
		return &authenticator.Response{User: &user.DefaultInfo{Name: token}}, true, nil
	})
	reference := union.New(bearertoken.New(everyToken), websocket.NewProtocolAuthenticator(everyToken))
	ours, topics := auth.Bearer(anyToken{}), documentedTopics(t)
	for range headersPerSeed {
		header := g.headers()
		var want, got answer
		response, ok, err := reference.AuthenticateRequest(&http.Request{Header: header.Clone()})
		if want.err = errors.Join(err, errors.New("no opinion")); ok && err == nil {
			want = answer{user: normal(referenceUser(response.User))}
		}
		id, err := ours.Authenticate(&http.Request{Header: header.Clone()})
		if got.err = err; err == nil {
			got = answer{user: normal(id.User)}
		}
		topic := ""
		if !sameAnswer(want, got) {
			topic = headerTopic(header, got)
			if want.user == nil || got.user != nil || !slices.Contains(topics, topic) {
				t.Errorf("-oracle.seed=%d: %q, by %q\nkube-apiserver %s\ngatehouse      %s", seed, header, topic, want, got)
			}
		}
		count.drew(want, topic)
	}
}

// headerTopic is the row of docs/divergences.md by which gatehouse may refuse
// what kube-apiserver reads.
func headerTopic(header http.Header, got answer) string {
	values, protocols := header["Authorization"], strings.Join(header["Sec-Websocket-Protocol"], ",")
	tokens := strings.Contains(strings.ToLower(protocols), strings.ToLower(auth.WebSocketBearerPrefix))
	words := 0
	if len(values) > 0 {
		words = len(strings.Split(strings.TrimSpace(values[0]), " "))
	}
	switch {
	case len(values) > 1:
		return "several `Authorization` headers"
	case len(values) == 1 && tokens:
		return "token in `Authorization` and in `Sec-WebSocket-Protocol`"
	case words > 2:
		return "words after the token"
	case words == 2:
		return "token with a comma, or characters that are not visible ASCII"
	case len(values) == 1:
		return "a scheme other than Bearer, or an empty `Authorization`"
	case strings.HasSuffix(got.String(), "carries something else than a token"):
		return "token with a comma, or characters that are not visible ASCII"
	}
	return "token in `Sec-WebSocket-Protocol` with spare bits in its base64url, or beside an empty protocol alone"
}

// headers draws what a request says of its credentials.
func (g *generator) headers() http.Header {
	header := http.Header{}
	for range g.rand.IntN(2) + g.rand.IntN(8)/6 {
		header["Authorization"] = append(header["Authorization"], g.authorization())
	}
	if g.chance(1, 2) {
		header["Connection"] = []string{pick(g, []string{"Upgrade", "upgrade", "keep-alive, Upgrade", "Upgrade ,x", "close", ""})}
		if g.chance(1, 10) {
			header["Connection"] = append(header["Connection"], "Upgrade")
		}
		header["Upgrade"] = []string{pick(g, []string{"websocket", "websocket", "WebSocket", "SPDY/3.1", "websocket, h2c"})}
		for range 1 + g.rand.IntN(5)/4 {
			header["Sec-Websocket-Protocol"] = append(header["Sec-Websocket-Protocol"], g.protocols())
		}
	}
	return header
}

func (g *generator) authorization() string {
	var value strings.Builder
	value.WriteString(pick(g, []string{"", "", "", " ", "\t"}))
	value.WriteString(pick(g, []string{"Bearer", "Bearer", "Bearer", "bearer", "BEARER", "Basic", "Bearer:", ""}))
	value.WriteString(pick(g, []string{" ", " ", " ", " ", "  ", "\t", "", " \t", "="}))
	value.WriteString(g.secret())
	value.WriteString(pick(g, []string{"", "", "", "", " ", " x", "  x", "\t", ", Bearer y", "\u00a0"}))
	return value.String()
}

// secret is a token, good or odd.
func (g *generator) secret() string {
	return pick(g, []string{"abc", "a.b.c", "a-_~+/=", "!#$%&'*;:<>?@[]^`{|}()", `"q"`, "a,b", "żółw", "", "a\tb", "\x7f", "Bearer", "abc=="})
}

func (g *generator) protocols() string {
	var list []string
	for range g.rand.IntN(4) {
		list = append(list, pick(g, []string{"v4.channel.k8s.io", "v5", "", " ", "x y"}))
	}
	if g.chance(2, 3) {
		encoding := pick(g, []*base64.Encoding{base64.RawURLEncoding, base64.RawURLEncoding, base64.RawURLEncoding, base64.URLEncoding, base64.RawStdEncoding})
		text := encoding.EncodeToString([]byte(g.secret()))
		if g.chance(1, 8) {
			text += pick(g, []string{"A", "=", " ", "B", "_w"})
		}
		prefix := auth.WebSocketBearerPrefix
		if g.chance(1, 8) {
			prefix = strings.ToUpper(prefix)
		}
		list = slices.Insert(list, g.rand.IntN(len(list)+1), prefix+text)
	}
	text := strings.Join(list, pick(g, []string{",", ", ", " , "}))
	if !utf8.ValidString(text) {
		return ""
	}
	return text
}
