package tokenreview_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/tokenreview"
)

// Promise: the identity is the API server's word for word, pod and node
// included, and ends when the token does.
func TestIdentity(t *testing.T) {
	w := newWorld(t, nil)
	expires := time.Now().Add(time.Hour).Truncate(time.Second)
	got, reason := w.ask(w.api.token(authtest.Claims{"exp": expires.Unix()}))
	if reason != "" {
		t.Fatalf("refused: %s", reason)
	}
	want := &auth.Identity{
		User: auth.User{
			Name: builder, UID: "uid-of-" + builder,
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:ci", "system:authenticated"},
			Extra: map[string][]string{
				"authentication.kubernetes.io/pod-name":      {"pod-1"},
				"authentication.kubernetes.io/pod-uid":       {"pod-uid-1"},
				"authentication.kubernetes.io/node-name":     {"node-1"},
				"authentication.kubernetes.io/credential-id": {"JTI=jti-1"},
			},
		},
		Kind: auth.KindServiceAccount, Issuer: clusterIssuer, Expires: expires,
		Credential: auth.Credential{IDs: []string{"JTI=jti-1"}, Subject: builder, Issued: got.Issued},
	}
	if age := time.Since(got.Issued); age < 0 || age > time.Minute {
		t.Errorf("issued %s ago", age)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
}

// Promise: nothing but a ServiceAccount token of the cluster is ever sent to
// the API server; what is of another kind is left to others, and what is of
// this kind and cannot be good is refused without a review.
func TestWhatIsReviewed(t *testing.T) {
	encoded := func(header, body string) string {
		parts := strings.Split(forged(nil), ".")
		return b64(header) + "." + b64(body) + "." + parts[2]
	}
	const es256 = `{"alg":"ES256"}`
	good := string(payload(nil))
	for _, tt := range []struct {
		name    string
		token   string
		reason  auth.Reason
		reviews int64
	}{
		{"empty", "", notMine, 0},
		{"static token", "abc", notMine, 0},
		{"two dots", "..", notMine, 0},
		{"two dots and text", "a.b.c", notMine, 0},
		{"four parts", forged(nil) + ".YQ", notMine, 0},
		{"bootstrap token", "abcdef.0123456789abcdef", notMine, 0},
		{"opaque with two dots", "v1.tok.en", notMine, 0},
		{"JSON array", encoded(es256, `["iss"]`), notMine, 0},
		{"no issuer", encoded(es256, `{"sub":"`+builder+`"}`), notMine, 0},
		{"issuer of a number", encoded(es256, `{"iss":1,"sub":"`+builder+`"}`), notMine, 0},
		{"other issuer", forged(authtest.Claims{"iss": "https://other.example"}), notMine, 0},
		{"known OIDC issuer", forged(authtest.Claims{"iss": oidcIssuer}), notMine, 0},
		{"issuer twice", encoded(es256, strings.Replace(good, `{`, `{"iss":"`+oidcIssuer+`",`, 1)), notMine, 0},
		{"text after the payload", encoded(es256, good+"{}"), notMine, 0},
		{"issuer in capitals beside", encoded(es256, strings.Replace(good, `{`, `{"ISS":"`+oidcIssuer+`",`, 1)), auth.MalformedToken, 0},
		{"issuer with a long s", encoded(es256, strings.Replace(good, `{`, `{"iſs":"`+oidcIssuer+`",`, 1)), auth.MalformedToken, 0},
		{"no algorithm", encoded(`{}`, good), auth.MalformedToken, 0},
		{"algorithm none", encoded(`{"alg":"none"}`, good), auth.MalformedToken, 0},
		{"symmetric algorithm", encoded(`{"alg":"HS256"}`, good), auth.MalformedToken, 0},
		{"broken header", encoded(`{`, good), auth.MalformedToken, 0},
		{"no signature", strings.TrimRight(forged(nil), "A"), auth.MalformedToken, 0},
		{"broken signature", forged(nil) + "!", auth.MalformedToken, 0},
		{"no subject", forged(authtest.Claims{"sub": nil}), auth.MalformedToken, 0},
		{"subject of a user", forged(authtest.Claims{"sub": "alice"}), auth.MalformedToken, 0},
		{"subject without a name", forged(authtest.Claims{"sub": "system:serviceaccount:ci:"}), auth.MalformedToken, 0},
		{"subject of three parts", forged(authtest.Claims{"sub": builder + ":x"}), auth.MalformedToken, 0},
		{"expiry as text", forged(authtest.Claims{"exp": "soon"}), auth.MalformedToken, 0},
		{"negative expiry", forged(authtest.Claims{"exp": -1}), auth.MalformedToken, 0},
		{"expiry beyond all bounds", forged(authtest.Claims{"exp": 1e300}), auth.MalformedToken, 0},
		{"says it expired", forged(authtest.Claims{"exp": time.Now().Add(-time.Second).Unix()}), auth.UnknownToken, 0},
		{"too long", "a." + strings.Repeat("a", auth.MaxTokenBytes) + ".a", auth.TokenTooLong, 0},
		{"forged", forged(nil), auth.UnknownToken, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.tb = t
			w.want(tt.token, tt.reason, tt.reviews)
		})
	}
}

// Promise: where the cluster's issuers are not named, a token is reviewed for
// its subject's sake, and still never if it names a known OIDC issuer.
func TestWhatIsReviewedWithoutIssuers(t *testing.T) {
	w := newWorld(t, func(c *tokenreview.Config) { c.Issuers = nil })
	w.want(w.api.token(nil), "", 1)
	w.want(w.api.token(authtest.Claims{"iss": "https://other.example"}), "", 1) // another --service-account-issuer
	w.want(w.api.token(authtest.Claims{"iss": oidcIssuer}), notMine, 0)
	w.want(w.api.token(authtest.Claims{"iss": nil}), notMine, 0)
	w.want(w.api.token(authtest.Claims{"sub": "alice"}), notMine, 0)
	w.want(w.api.token(authtest.Claims{"sub": "system:serviceaccount:Ci:x"}), auth.MalformedToken, 0)
}

// Promise: the token of a Secret, which names neither audience nor end, is
// accepted as kube-apiserver accepts it, where its issuer is named.
func TestLegacyToken(t *testing.T) {
	w := newWorld(t, func(c *tokenreview.Config) { c.Issuers = append(c.Issuers, "kubernetes/serviceaccount") })
	id, reason := w.ask(w.api.token(authtest.Claims{"iss": "kubernetes/serviceaccount", "aud": nil, "exp": nil}))
	if reason != "" || !id.Expires.IsZero() {
		t.Errorf("identity %v, reason %q", id, reason)
	}
}

// Promise: a token is accepted only for the audiences asked for, or for the API
// server's own where none is.
func TestAudiences(t *testing.T) {
	status := func(audiences string) string {
		return fmt.Sprintf(`{"authenticated":true,"user":{"username":%q}%s}`, builder, audiences)
	}
	for _, tt := range []struct {
		name   string
		asked  []string
		token  []string
		lie    string
		reason auth.Reason
	}{
		{"the API server's own", nil, []string{apiAudience}, "", ""},
		{"one of several", nil, []string{"vault", apiAudience}, "", ""},
		{"for another", nil, []string{"vault"}, "", auth.WrongAudience},
		{"asked for, and it is", []string{apiAudience}, []string{apiAudience}, "", ""},
		{"one of those asked for", []string{"api", apiAudience}, []string{"x", apiAudience}, "", ""},
		{"asked for, and it is not", []string{"api"}, []string{apiAudience}, "", auth.WrongAudience},
		{"a prefix of it", []string{"api"}, []string{"api2", "ap"}, "", auth.WrongAudience},

		{"the API server names its own, unasked", nil, nil, status(`,"audiences":["` + apiAudience + `"]`), ""},
		{"the API server has none, unasked", nil, nil, status(``), ""},
		{"asked, and the answer leaves it out", []string{"api"}, nil, status(``), auth.InternalAuthFailed},
		{"asked, and the answer is empty", []string{"api"}, nil, status(`,"audiences":[]`), auth.InternalAuthFailed},
		{"asked, and the answer is another", []string{"api"}, nil, status(`,"audiences":["vault"]`), auth.WrongAudience},
		{"asked, and the answer is blank", []string{"api"}, nil, status(`,"audiences":["",null]`), auth.WrongAudience},
		{"asked, and the answer has more", []string{"api"}, nil, status(`,"audiences":["vault","api"]`), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, func(c *tokenreview.Config) { c.Audiences = tt.asked })
			if tt.lie != "" {
				w.api.answerStatus(tt.lie)
			}
			w.want(w.api.token(authtest.Claims{"aud": tt.token}), tt.reason, 1)
			if tt.lie == "" && !cmp.Equal(w.api.asked, tt.asked) {
				t.Errorf("asked for %q, want %q", w.api.asked, tt.asked)
			}
		})
	}
}

// Promise: only a whole and unambiguous yes is a yes. What contradicts itself
// is a fault of the API server's, and no verdict about the token.
func TestVerdicts(t *testing.T) {
	user := func(name, more string) string {
		return fmt.Sprintf(`{"authenticated":true,"user":{"username":%q%s}}`, name, more)
	}
	for _, tt := range []struct {
		name   string
		status string
		reason auth.Reason
	}{
		{"yes", user(builder, ""), ""},
		{"no", `{"authenticated":false}`, auth.UnknownToken},
		{"empty", `{}`, auth.UnknownToken},
		{"null", `null`, auth.UnknownToken},
		{"no, with a user", fmt.Sprintf(`{"user":{"username":%q}}`, builder), auth.UnknownToken},
		{"no, with a reason", `{"error":"[invalid bearer token, Token has been invalidated]"}`, auth.UnknownToken},
		{"no, and why", `{"error":"token audiences [\"v\"] is invalid for the target audiences [\"a\"]"}`, auth.WrongAudience},
		{"yes, with an error", fmt.Sprintf(`{"authenticated":true,"error":"x","user":{"username":%q}}`, builder), auth.InternalAuthFailed},
		{"yes, without a user", `{"authenticated":true}`, auth.InternalAuthFailed},
		{"yes, to a blank user", user("", ""), auth.InternalAuthFailed},
		{"yes, as text", fmt.Sprintf(`{"authenticated":"true","user":{"username":%q}}`, builder), auth.InternalAuthFailed},
		{"yes, in capitals", fmt.Sprintf(`{"Authenticated":true,"user":{"username":%q}}`, builder), auth.UnknownToken},
		{"yes and no", fmt.Sprintf(`{"authenticated":false,"authenticated":true,"user":{"username":%q}}`, builder), auth.InternalAuthFailed},

		{"a user", user("alice", ""), auth.UnknownToken},
		{"an admin", user("system:admin", ""), auth.UnknownToken},
		{"a node", user("system:node:n1", ""), auth.UnknownToken},
		{"anonymous", user("system:anonymous", ""), auth.UnknownToken},
		{"no namespace", user("system:serviceaccount::builder", ""), auth.UnknownToken},
		{"four parts", user(builder+":x", ""), auth.UnknownToken},
		{"white space", user(builder+" ", ""), auth.UnknownToken},
		{"newline", user(builder+"\n", ""), auth.UnknownToken},
		{"capitals", user("system:serviceaccount:ci:Builder", ""), auth.UnknownToken},
		{"another account", user("system:serviceaccount:kube-system:admin", ""), auth.UnknownToken},

		{"its groups", user(builder, `,"groups":["system:serviceaccounts","system:serviceaccounts:ci","system:authenticated","dev"]`), ""},
		{"masters", user(builder, `,"groups":["system:masters"]`), auth.ReservedName},
		{"kubeadm", user(builder, `,"groups":["kubeadm:cluster-admins"]`), auth.ReservedName},
		{"another namespace's group", user(builder, `,"groups":["system:serviceaccounts:kube-system"]`), auth.ReservedName},
		{"nodes", user(builder, `,"groups":["system:nodes"]`), auth.ReservedName},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.api.answerStatus(tt.status)
			token := w.api.token(nil)
			w.want(token, tt.reason, 1)
			again := int64(0)
			if tt.reason == auth.InternalAuthFailed {
				again = 1 // what is no verdict is not kept
			}
			w.want(token, tt.reason, again)
		})
	}
}

// Promise: gatehouse's own account is refused, also after it changed, and while
// its name is not known nobody is accepted.
func TestOwnAccount(t *testing.T) {
	self := ownAccount
	w := newWorld(t, func(c *tokenreview.Config) { c.Self = func() string { return self } })
	own, other := w.api.token(authtest.Claims{"sub": ownAccount}), w.api.token(nil)
	w.want(own, auth.ReservedName, 1)
	w.want(own, auth.ReservedName, 0)
	w.want(other, "", 1)
	self = builder
	w.want(other, auth.ReservedName, 0)
	self = ""
	w.want(other, auth.InternalAuthFailed, 0)
	w.want(w.api.token(authtest.Claims{"jti": "new"}), auth.InternalAuthFailed, 0)
}

// Promise: a setting that cannot be meant so stops the start.
func TestNew(t *testing.T) {
	w := newWorld(t, nil)
	for name, change := range map[string]func(*tokenreview.Config){
		"no reviewer":    func(c *tokenreview.Config) { c.Reviewer = nil },
		"no known":       func(c *tokenreview.Config) { c.Known = nil },
		"no self":        func(c *tokenreview.Config) { c.Self = nil },
		"blank audience": func(c *tokenreview.Config) { c.Audiences = []string{"a", " "} },
		"blank issuer":   func(c *tokenreview.Config) { c.Issuers = []string{""} },
	} {
		cfg := w.config()
		change(&cfg)
		if view, err := tokenreview.New(cfg); err == nil || view != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Promise: what the API server says about gatehouse, or fails to say, is never
// the caller's fault: it gives no verdict, and the caller another chance.
func TestNoAnswer(t *testing.T) {
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		}
	}
	yes := fmt.Sprintf(`{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","status":{"authenticated":true,"user":{"username":%q}}}`, builder)
	for name, lie := range map[string]http.HandlerFunc{
		"401": status(401, yes),
		"403": status(403, yes),
		"404": status(404, yes),
		"429": status(429, yes),
		"500": status(500, yes),
		"202": status(202, yes),
		"204": status(204, ""),
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"empty":           status(201, ""),
		"HTML":            status(200, "<html>"),
		"array":           status(201, "["+yes+"]"),
		"null":            status(201, "null"),
		"two objects":     status(201, yes+yes),
		"a Status":        status(201, `{"kind":"Status","apiVersion":"v1"}`),
		"another version": status(201, strings.Replace(yes, "/v1", "/v1beta1", 1)),
		"repeated name":   status(201, strings.Replace(yes, "{", `{"status":{},`, 1)),
		"groups as text":  status(201, strings.Replace(yes, `"username"`, `"groups":"g","username"`, 1)),
		"too large":       status(201, strings.Replace(yes, "{", `{"x":"`+strings.Repeat("x", 1<<20)+`",`, 1)),
		"a long tail":     status(201, yes+strings.Repeat(" ", 1<<20)),
		"cut off":         func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			token := w.api.token(nil)
			w.api.answer(lie)
			for range 2 {
				if _, reason := w.ask(token); reason != auth.InternalAuthFailed {
					t.Errorf("refused with %q", reason)
				}
			}
			if w.count(tokenreview.Failed) != 2 {
				t.Errorf("outcomes %v", w.outcomes)
			}
			w.api.answer(nil)
			w.want(token, "", 1)
		})
	}
	for _, code := range []int{200, 201} {
		w := newWorld(t, nil)
		w.api.answer(status(code, yes))
		w.want(w.api.token(nil), "", 1)
	}
	if _, err := tokenreview.NewHTTPReviewer(newAPIServer(t)).Review(t.Context(), "", nil); err == nil {
		t.Error("an empty token was sent")
	}
}

// Promise: a broken or slow reviewer costs one request an answer, not the
// process.
func TestReviewerFails(t *testing.T) {
	for name, reviewer := range map[string]reviewerFunc{
		"error": func() (tokenreview.Status, error) { return yesStatus(), errors.New("no") },
		"panic": func() (tokenreview.Status, error) { panic("token") },
	} {
		w := newWorld(t, func(c *tokenreview.Config) { c.Reviewer = reviewer })
		if _, reason := w.ask(w.api.token(nil)); reason != auth.InternalAuthFailed {
			t.Errorf("%s: %q", name, reason)
		}
	}
	w := newWorld(t, func(c *tokenreview.Config) { c.Timeout = 50 * time.Millisecond })
	w.api.answer(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	if _, reason := w.ask(w.api.token(nil)); reason != auth.InternalAuthFailed {
		t.Errorf("timeout: %q", reason)
	}
}
