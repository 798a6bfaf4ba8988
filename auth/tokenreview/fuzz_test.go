package tokenreview_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/tokenreview"
)

// transport answers every request with these bytes.
type transport []byte

func (body transport) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusCreated, Body: io.NopCloser(bytes.NewReader(body))}, nil
}

// Promise: whatever the API server answers, nobody but the ServiceAccount that
// the token names comes out, and only by a whole TokenReview.
func FuzzAnswer(f *testing.F) {
	const frame = `{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","status":%s}`
	for _, status := range []string{
		`{}`, `null`, `[]`, `{"authenticated":true}`, `{"authenticated":true,"user":null}`,
		fmt.Sprintf(`{"authenticated":true,"user":{"username":%q},"audiences":["a"]}`, builder),
		fmt.Sprintf(`{"authenticated":true,"user":{"username":%q,"groups":["system:masters"]}}`, builder),
		`{"authenticated":true,"user":{"username":"system:admin","extra":{"a/b":["c"]}}}`,
		`{"authenticated":false,"error":"token audiences [] is invalid for the target audiences []"}`,
	} {
		f.Add(fmt.Appendf(nil, frame, status), false)
		f.Add(fmt.Appendf(nil, frame, status), true)
	}
	token := forged(authtest.Claims{"exp": nil})
	f.Fuzz(func(t *testing.T, answer []byte, asked bool) {
		cfg := tokenreview.Config{
			Reviewer: tokenreview.NewHTTPReviewer(transport(answer)),
			Known:    func(string) bool { return false }, Self: func() string { return ownAccount },
		}
		if asked {
			cfg.Audiences = []string{"a"}
		}
		view, err := tokenreview.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		id, err := view.AuthenticateToken(t.Context(), token)
		if err != nil {
			reasonOf(t, err)
			return
		}
		if id.Name != builder || id.Kind != auth.KindServiceAccount || !bytes.Contains(answer, []byte("TokenReview")) {
			t.Errorf("identity %+v of %q", id, answer)
		}
		for _, group := range id.Groups {
			if group == "system:masters" || strings.HasPrefix(group, "kubeadm:") {
				t.Errorf("group %q", group)
			}
		}
	})
}

// recording is a Reviewer that says no and keeps what it was asked.
type recording struct{ tokens []string }

func (r *recording) Review(_ context.Context, token string, _ []string) (tokenreview.Status, error) {
	r.tokens = append(r.tokens, token)
	return tokenreview.Status{}, nil
}

// issuerForAPIServer reads a token as kube-apiserver looks for its issuer
// (v1.37, pkg/serviceaccount/jwt.go): any case of letters, the last one wins.
func issuerForAPIServer(token string) string {
	var c struct {
		Issuer string `json:"iss"`
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil || json.Unmarshal(raw, &c) != nil {
		return ""
	}
	return c.Issuer
}

// Promise: whatever the bytes of a token, only one of three parts whose issuer
// is no known one is sent, and as it is.
func FuzzToken(f *testing.F) {
	f.Add(`{"alg":"ES256"}`, string(payload(nil)), "c2ln", false)
	f.Add(`{"alg":"RS256"}`, string(payload(authtest.Claims{"iss": oidcIssuer})), "c2ln", true)
	f.Add(`{"alg":"none"}`, `{"iss":"a","iss":"`+oidcIssuer+`"}`, "", true)
	f.Add(`{}`, `{"ISS":"`+oidcIssuer+`","iss":"x","sub":"`+builder+`"}`, "A", false)
	f.Fuzz(func(t *testing.T, header, body, signature string, issuers bool) {
		reviewer := &recording{}
		cfg := tokenreview.Config{
			Reviewer: reviewer, Self: func() string { return ownAccount },
			Known: func(issuer string) bool { return issuer == oidcIssuer },
		}
		if issuers {
			cfg.Issuers = []string{clusterIssuer}
		}
		view, err := tokenreview.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, token := range []string{b64(header) + "." + b64(body) + "." + signature, header + "." + body + "." + signature} {
			reviewer.tokens = nil
			id, err := view.AuthenticateToken(t.Context(), token)
			if id != nil || err == nil {
				t.Fatalf("accepted %q", token)
			}
			if errors.Is(err, auth.ErrNotMine) && len(reviewer.tokens) > 0 {
				t.Errorf("sent, and not ours: %q", token)
			}
			for _, sent := range reviewer.tokens {
				if sent != token || !auth.IsBearerToken(sent) || issuerForAPIServer(sent) == oidcIssuer {
					t.Errorf("sent %q of %q", sent, token)
				}
			}
		}
	})
}

func benchmark(b *testing.B, token string) {
	view, err := tokenreview.New(tokenreview.Config{
		Reviewer: reviewerFunc(func() (tokenreview.Status, error) { return yesStatus(), nil }),
		Known:    func(string) bool { return false }, Self: func() string { return ownAccount }, TTL: 1 << 60,
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx := b.Context()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := view.AuthenticateToken(ctx, token); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A token as long as a pod's is: 1.1 KiB.
func BenchmarkCached(b *testing.B) {
	benchmark(b, forged(authtest.Claims{"exp": nil, "kubernetes.io": strings.Repeat("x", 600)}))
}

func BenchmarkNotMine(b *testing.B) {
	w := newWorld(b, nil)
	token := forged(authtest.Claims{"iss": "https://other.example", "kubernetes.io": strings.Repeat("x", 600)})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.view.AuthenticateToken(b.Context(), token); !errors.Is(err, auth.ErrNotMine) {
			b.Fatal(err)
		}
	}
}
