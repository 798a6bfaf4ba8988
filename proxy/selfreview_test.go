package proxy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy"
)

const (
	accessReviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
	rulesReviews  = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
)

// access is what kube-apiserver answers to a SelfSubjectAccessReview about what.
func access(what, status string) string {
	return `{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","metadata":{"x":"<&>"},"spec":{` + what + `},"status":{` + status + `},"later":[1.50]}` + "\n"
}

func onResource(attributes string) string {
	return access(`"resourceAttributes":{`+attributes+`}`, `"allowed":true,"reason":"RBAC: allowed by X","evaluationError":"e","other":"<o>"`)
}

func onPath(verb, path string) string {
	return access(fmt.Sprintf(`"nonResourceAttributes":{"path":%q,"verb":%q}`, path, verb), `"allowed":true`)
}

// Promise: whoever asks whether he may do something hears no, and which word says
// so, if the scope of his token denies it; everything else that the API server
// says stays as it is, byte for byte.
func TestAccessReviewIsNarrowed(t *testing.T) {
	for _, test := range []struct{ scope, answer, reason string }{
		{"no-secrets", onResource(`"namespace":"dev","verb":"get","resource":"secrets"`), "the scope of your token has the word no-secrets"},
		{"no-secrets", onResource(`"namespace":"dev","verb":"get","resource":"*"`), "the scope of your token has the word no-secrets"},
		{"no-secrets", onResource(`"verb":"*","group":"*","resource":"*"`), "a token with a scope makes no other credentials"},
		{"no-secrets", onResource(`"namespace":"dev","verb":"get","resource":"pods"`), ""},
		{"no-exec", onResource(`"verb":"create","resource":"pods","subresource":"exec"`), "the scope of your token has the word no-exec"},
		{"no-exec", onResource(`"verb":"create","resource":"pods/exec"`), "the scope of your token has the word no-exec"},
		{"no-exec", onResource(`"verb":"create","resource":"serviceaccounts","subresource":"token"`), "a token with a scope makes no other credentials"},
		{"namespaces=dev", onResource(`"verb":"list","resource":"pods"`), "the scope of your token has the word namespaces=dev"},
		{"namespaces=dev", onResource(`"namespace":"dev","verb":"list","resource":"nodes"`), "the scope of your token has the word namespaces=dev"},
		{"namespaces=dev", onResource(`"namespace":"dev","verb":"list","resource":"pods"`), ""},
		{"namespaces=dev", onResource(`"namespace":"dev","name":"prod","verb":"get","resource":"namespaces"`), "the scope of your token has the word namespaces=dev"},
		{"no-impersonation", onResource(`"verb":"impersonate","resource":"users"`), "the scope of your token has the word no-impersonation"},
		{"read-only", onPath("post", "/x"), "the scope of your token has the word read-only"},
		{"read-only", onPath("get", "/healthz"), ""},
		{"namespaces=dev", onPath("get", "/healthz"), "the scope of your token has the word namespaces=dev"},
		{"namespaces=dev", onPath("get", "/api/*"), ""},
		{"namespaces=dev", onPath("get", "*"), "the scope of your token has the word namespaces=dev"},
		{"namespaces=dev", onPath("get", "/api/v1/namespaces/prod/pods"), "the scope of your token has the word namespaces=dev"},
		{"namespaces=dev", onPath("get", "/api/v1/namespaces/dev/pods"), ""},
		{"no-secrets", onPath("*", "/api/v1/secrets"), "the scope of your token has the word no-secrets"},
		{"no-secrets", onPath("get", "/api/v1/namespaces/*"), "the scope of your token has the word no-secrets"},
		{"no-secrets", onPath("get", "/api//v1/secrets"), "the scope of your token has the word no-secrets"},
		{"no-secrets", access(`"resourceAttributes":{"verb":"get","resource":"secrets"}`, `"allowed":false`), "the scope of your token has the word no-secrets"},
		{"read-only", access(`"resourceAttributes":{"verb":"get","resource":"pods"}`, `"allowed":false,"denied":true`), ""},
	} {
		t.Run(test.scope+" "+test.answer, func(t *testing.T) {
			g := newGateFor(t, 2, auth.Bearer(lender(test.scope)), answering(http.StatusCreated, "application/json", test.answer))
			resp, got := g.post(2, accessReviews, "application/json", "{}")
			if resp.StatusCode != http.StatusCreated || resp.Header.Get("Content-Length") != strconv.Itoa(len(got)) {
				t.Errorf("%d %v with %d bytes", resp.StatusCode, resp.Header, len(got))
			}
			if test.reason == "" {
				if got != test.answer {
					t.Errorf("%s has become %s", test.answer, got)
				}
				return
			}
			var before, after map[string]any
			if err := json.Unmarshal([]byte(got), &after); err != nil || json.Unmarshal([]byte(test.answer), &before) != nil {
				t.Fatalf("%s: %v", got, err)
			}
			status := before["status"].(map[string]any)
			delete(status, "evaluationError")
			status["allowed"], status["denied"], status["reason"] = false, true, test.reason
			if diff := cmp.Diff(before, after); diff != "" || !strings.Contains(got, "[1.50]") || !strings.Contains(got, `"<&>"`) {
				t.Errorf("%s (-want +got):\n%s", got, diff)
			}
		})
	}
}

// answering is an API server that always answers so.
func answering(code int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// post posts to the gate and returns the answer with its whole body.
func (g *gate) post(protocol int, path, contentType, body string, header ...string) (*http.Response, string) {
	g.t.Helper()
	r := g.request(http.MethodPost, path, "session")
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	r.Header.Set("Content-Type", contentType)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := g.client(protocol).Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp, string(got)
}

// Promise: the API server is asked for an answer that can be read, whatever the
// client would like to have, over every protocol; the rest of the request stays as
// it is, the body too. One who likes it pretty gets it so.
func TestAccessReviewIsAskedInJSON(t *testing.T) {
	bothProtocols(t, func(t *testing.T, client, upstream int) {
		var header http.Header
		var body, query string
		answer := onResource(`"verb":"get","resource":"secrets"`)
		g := newGateFor(t, upstream, auth.Bearer(lender("no-secrets")), func(w http.ResponseWriter, r *http.Request) {
			asked, _ := io.ReadAll(r.Body)
			header, body, query = r.Header.Clone(), string(asked), r.URL.RawQuery
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Etag", "x")
			w.WriteHeader(http.StatusCreated)
			var pretty bytes.Buffer
			_ = json.Indent(&pretty, []byte(answer), "", "  ")
			_, _ = w.Write(pretty.Bytes()[:10])
			_ = http.NewResponseController(w).Flush() // its length is not told
			_, _ = w.Write(pretty.Bytes()[10:])
		})
		const sent, params = "k8s\x00anything", "dryRun=All&pretty=true&fieldManager=me"
		resp, got := g.post(client, accessReviews+"?"+params, "application/vnd.kubernetes.protobuf", sent,
			"Accept", "application/vnd.kubernetes.protobuf", "Accept-Encoding", "gzip", "If-None-Match", "x", "Range", "bytes=0-9")
		for name, want := range map[string]string{
			"Accept": "application/json", "Accept-Encoding": "", "If-None-Match": "", "Range": "", "Content-Type": "application/vnd.kubernetes.protobuf",
			"Content-Length": strconv.Itoa(len(sent)),
		} {
			if header.Get(name) != want {
				t.Errorf("the API server heard %s: %q", name, header[name])
			}
		}
		if body != sent || query != params {
			t.Errorf("the API server was asked %q with %q", body, query)
		}
		if resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Content-Length") != strconv.Itoa(len(got)) || resp.Header.Get("Etag") != "" {
			t.Errorf("%d bytes with %v", len(got), resp.Header)
		}
		if !strings.HasPrefix(got, "{\n  ") || !strings.Contains(got, "\n    \"allowed\": false,") {
			t.Errorf("it says %s", got)
		}
	})
}

const someRules = `{"kind":"SelfSubjectRulesReview","apiVersion":"authorization.k8s.io/v1","metadata":{},"spec":{},"status":{` +
	`"resourceRules":[{"verbs":["get","list"],"apiGroups":[""],"resources":["pods","secrets"]},` +
	`{"verbs":["get"],"apiGroups":["apps"],"resources":["deployments"],"resourceNames":["web"],"later":"<1>"},` +
	`{"verbs":["*"],"apiGroups":["apps"],"resources":["deployments"],"later":"<2>"}],` +
	`"nonResourceRules":[{"verbs":["*"],"nonResourceURLs":["*"]},{"verbs":["get"],"nonResourceURLs":["/healthz","/api/*"]}],"incomplete":false}}`

// Promise: a list of what somebody may do has nothing in it that the scope of the
// token denies, for the namespace about which the API server was asked, and says
// so where it cannot name what is left.
func TestRulesReviewIsNarrowed(t *testing.T) {
	inDev := `{"kind":"SelfSubjectRulesReview","apiVersion":"authorization.k8s.io/v1","spec":{"namespace":"dev"}}`
	protobuf := protobufReview(t, "dev")
	for name, test := range map[string]struct {
		scope, contentType, body string
		asked                    string // what the API server is; "": body
		resources, paths         string
		incomplete               bool
	}{
		"as it is": {
			scope: "no-impersonation no-exec", contentType: "application/json", body: inDev,
			resources: `[{"verbs":["get","list"],"apiGroups":[""],"resources":["pods","secrets"]},` +
				`{"verbs":["get"],"apiGroups":["apps"],"resources":["deployments"],"resourceNames":["web"],"later":"<1>"},` +
				`{"apiGroups":["apps"],"later":"<2>","resources":["deployments"],"verbs":["get","list","watch","create","update","patch","delete","deletecollection"]}]`,
			paths:      `[{"verbs":["*"],"nonResourceURLs":["*"]},{"verbs":["get"],"nonResourceURLs":["/healthz","/api/*"]}]`,
			incomplete: true,
		},
		"read-only no-secrets": {
			scope: "read-only no-secrets", contentType: "application/json", body: inDev,
			resources: `[{"apiGroups":[""],"resources":["pods"],"verbs":["get","list"]},` +
				`{"verbs":["get"],"apiGroups":["apps"],"resources":["deployments"],"resourceNames":["web"],"later":"<1>"},` +
				`{"apiGroups":["apps"],"later":"<2>","resources":["deployments"],"verbs":["get","list","watch"]}]`,
			paths: `[{"nonResourceURLs":["*"],"verbs":["get","head"]},{"verbs":["get"],"nonResourceURLs":["/healthz","/api/*"]}]`,
		},
		"a namespace": {
			scope: "namespaces=dev resources=deployments.apps verbs=get", contentType: "application/json", body: inDev,
			resources: `[{"verbs":["get"],"apiGroups":["apps"],"resources":["deployments"],"resourceNames":["web"],"later":"<1>"},` +
				`{"apiGroups":["apps"],"later":"<2>","resources":["deployments"],"verbs":["get"]}]`,
			paths: discoveryRules,
		},
		"a namespace in protobuf": {
			scope: "namespaces=dev verbs=get resources=pods", contentType: "application/vnd.kubernetes.protobuf", body: protobuf, asked: inDev,
			resources: `[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]`, paths: discoveryRules,
		},
		"another namespace": {
			scope: "namespaces=test", contentType: "application/json", body: inDev, resources: `[]`, paths: discoveryRules,
		},
		"two namespaces": { // Go takes a field in another case for the same, kube-apiserver does not
			scope: "namespaces=dev", contentType: "application/json", body: `{"spec":{"namespace":"test","Namespace":"dev","namespace":"dev"}}`,
			asked: `{"apiVersion":"","kind":"","spec":{"namespace":"dev"}}`, resources: `[{"verbs":["get","list"],"apiGroups":[""],"resources":["pods","secrets"]},` +
				`{"verbs":["get"],"apiGroups":["apps"],"resources":["deployments"],"resourceNames":["web"],"later":"<1>"},` +
				`{"verbs":["*"],"apiGroups":["apps"],"resources":["deployments"],"later":"<2>"}]`, paths: discoveryRules,
		},
		"more than we know": {
			scope: "namespaces=dev", contentType: "application/json", body: `{"spec":{"namespace":"dev","more":1}}`, resources: `[]`, paths: discoveryRules,
		},
		"more behind it": {
			scope: "namespaces=dev", contentType: "application/json", body: inDev + `{}`, resources: `[]`, paths: discoveryRules,
		},
		"YAML": {
			scope: "namespaces=dev", contentType: "application/yaml", body: "spec: {namespace: dev}", resources: `[]`, paths: discoveryRules,
		},
		"no protobuf": {
			scope: "namespaces=dev", contentType: "application/vnd.kubernetes.protobuf", body: "k8s\x00\x0a\xff", resources: `[]`, paths: discoveryRules,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var asked string
			g := newGateFor(t, 2, auth.Bearer(lender(test.scope)), func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				asked = string(body)
				answering(http.StatusCreated, "application/json", someRules)(w, r)
			})
			resp, got := g.post(1, rulesReviews, test.contentType, test.body)
			if test.asked == "" {
				test.asked = test.body
			}
			if !sameJSON(asked, test.asked) || resp.StatusCode != http.StatusCreated {
				t.Errorf("%d, the API server was asked %q, want %q", resp.StatusCode, asked, test.asked)
			}
			var review struct {
				Status struct {
					ResourceRules, NonResourceRules json.RawMessage
					Incomplete                      bool
					EvaluationError                 string
				}
			}
			if err := json.Unmarshal([]byte(got), &review); err != nil {
				t.Fatalf("%s: %v", got, err)
			}
			status := review.Status
			if diff := cmp.Diff(test.resources, string(status.ResourceRules)); diff != "" {
				t.Errorf("resources (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.paths, string(status.NonResourceRules)); diff != "" {
				t.Errorf("paths (-want +got):\n%s", diff)
			}
			if status.Incomplete != test.incomplete || (status.EvaluationError != "") != test.incomplete {
				t.Errorf("incomplete %t, because %q", status.Incomplete, status.EvaluationError)
			}
		})
	}
}

// discoveryRules are what is left of someRules about paths in namespaces and the
// like.
const discoveryRules = `[{"nonResourceURLs":["/api","/api/*","/apis","/apis/*","/openapi/*","/version","/version/*"],"verbs":["get","head"]},` +
	`{"nonResourceURLs":["/api/*"],"verbs":["get"]}]`

// sameJSON reports whether a and b are the same JSON, or the same text.
func sameJSON(a, b string) bool {
	var left, right any
	if json.Unmarshal([]byte(a), &left) != nil || json.Unmarshal([]byte(b), &right) != nil {
		return a == b
	}
	return cmp.Equal(left, right)
}

// protobufReview is a question as client-go writes it in protobuf.
func protobufReview(t *testing.T, namespace string) string {
	t.Helper()
	raw, err := (&authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	whole := runtime.Unknown{TypeMeta: runtime.TypeMeta{Kind: "SelfSubjectRulesReview", APIVersion: "authorization.k8s.io/v1"}, Raw: raw}
	written, err := whole.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return "k8s\x00" + string(written)
}

// Promise: an answer that cannot be narrowed is not passed on.
func TestUnreadableReviewIsRefused(t *testing.T) {
	allowed := onResource(`"verb":"get","resource":"secrets"`)
	for name, test := range map[string]struct {
		path    string
		handler http.HandlerFunc
		says    string
	}{
		"protobuf":            {accessReviews, answering(201, "application/vnd.kubernetes.protobuf", "k8s\x00..."), ""},
		"YAML":                {accessReviews, answering(201, "application/yaml", "kind: SelfSubjectAccessReview"), ""},
		"no type":             {accessReviews, answering(201, "", allowed), ""},
		"no JSON":             {accessReviews, answering(201, "application/json", "yes"), ""},
		"null":                {accessReviews, answering(201, "application/json", "null"), ""},
		"cut JSON":            {accessReviews, answering(201, "application/json", allowed[:len(allowed)-3]), ""},
		"two":                 {accessReviews, answering(201, "application/json", allowed+allowed), ""},
		"nothing":             {accessReviews, answering(200, "application/json", ""), ""},
		"no content":          {accessReviews, answering(204, "application/json", ""), ""},
		"later":               {accessReviews, answering(202, "application/json", allowed), ""},
		"other kind":          {accessReviews, answering(201, "application/json", someRules), ""},
		"other kind of rules": {rulesReviews, answering(201, "application/json", allowed), ""},
		"other group":         {accessReviews, answering(201, "application/json", strings.Replace(allowed, "authorization.k8s.io", "example.com", 1)), ""},
		"no spec":             {accessReviews, answering(201, "application/json", access("", `"allowed":true`)), ""},
		"bad spec":            {accessReviews, answering(201, "application/json", onResource(`"verb":1`)), ""},
		"both": {accessReviews, answering(201, "application/json",
			access(`"resourceAttributes":{"verb":"get","resource":"pods"},"nonResourceAttributes":{"path":"/api","verb":"get"}`, `"allowed":true`)), ""},
		"no status":  {accessReviews, answering(201, "application/json", `{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","spec":{}}`), ""},
		"bad rules":  {rulesReviews, answering(201, "application/json", strings.Replace(someRules, `["get","list"]`, `"get"`, 1)), ""},
		"bad list":   {rulesReviews, answering(201, "application/json", strings.Replace(someRules, `"nonResourceRules":[`, `"nonResourceRules":[1,`, 1)), ""},
		"too large":  {accessReviews, answering(201, "application/json", allowed+strings.Repeat(" ", 1<<20)), ""},
		"compressed": {accessReviews, compressed(allowed), ""},
		"cut off": {accessReviews, func(w http.ResponseWriter, _ *http.Request) {
			answering(201, "application/json", allowed[:20])(w, nil)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, "failed before an answer came"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, protocol := range []int{1, 2} {
				g := newGateFor(t, protocol, auth.Bearer(lender("no-secrets")), test.handler)
				if test.says == "" {
					test.says = "cannot be told"
				}
				resp, body := g.post(protocol, test.path, "application/json", "{}")
				resp.Body = io.NopCloser(strings.NewReader(body))
				wantOwnAnswer(t, resp, http.StatusBadGateway, test.says)
				if got := g.count("gatehouse_upstream_errors_total", map[string]string{"reason": "broken"}); got != 1 {
					t.Errorf("counted %v, want 1", got)
				}
			}
		})
	}
}

func compressed(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		answering(201, "application/json", body)(w, r)
	}
}

// Promise: an API server that does not finish saying what somebody may do is given
// up after the time for an answer.
func TestReviewDoesNotWait(t *testing.T) {
	g := newGateFor(t, 2, auth.Bearer(lender("no-secrets")), func(w http.ResponseWriter, r *http.Request) {
		answering(201, "application/json", "{")(w, r)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, func(cfg *proxy.Config) { cfg.Limits.AnswerTime = 50 * time.Millisecond })
	resp, body := g.post(2, accessReviews, "application/json", "{}")
	resp.Body = io.NopCloser(strings.NewReader(body))
	wantOwnAnswer(t, resp, http.StatusGatewayTimeout, "did not answer")
}

// Promise: nothing else is touched: not what somebody without a scope asks, not
// what the API server refuses, nor other requests of somebody with one.
func TestOtherAnswersStayAsTheyAre(t *testing.T) {
	allowed := onResource(`"verb":"get","resource":"secrets"`)
	for name, test := range map[string]struct {
		scope, path string
		handler     http.HandlerFunc
		accept      string // what the API server hears
		want        string
	}{
		"no scope":      {"", accessReviews, answering(201, "application/json", allowed), "text/odd", allowed},
		"compressed":    {"", accessReviews, compressed("odd"), "text/odd", "odd"},
		"another":       {"verbs=create", "/apis/authorization.k8s.io/v1/subjectaccessreviews", answering(201, "application/json", allowed), "text/odd", allowed},
		"other group":   {"verbs=create", "/apis/example.com/v1/selfsubjectaccessreviews", answering(201, "application/json", allowed), "text/odd", allowed},
		"subresource":   {"verbs=create", accessReviews + "/x/status", answering(201, "application/json", allowed), "text/odd", allowed},
		"who am I":      {"no-secrets", "/apis/authentication.k8s.io/v1/selfsubjectreviews", answering(201, "application/json", "{}"), "text/odd", "{}"},
		"refused":       {"no-secrets", accessReviews, answering(422, "application/json", `{"kind":"Status"}`), "application/json", `{"kind":"Status"}`},
		"refused rules": {"no-secrets", rulesReviews, answering(400, "text/plain", "no namespace"), "application/json", "no namespace"},
		"broken":        {"no-secrets", accessReviews, answering(500, "text/plain", "x"), "application/json", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			var accept string
			g := newGateFor(t, 2, auth.Bearer(lender(test.scope)), func(w http.ResponseWriter, r *http.Request) {
				accept = r.Header.Get("Accept")
				test.handler(w, r)
			})
			if _, got := g.post(1, test.path, "application/json", "{}", "Accept", "text/odd", "Accept-Encoding", "gzip"); got != test.want || accept != test.accept {
				t.Errorf("%q, want %q; the API server heard %q", got, test.want, accept)
			}
		})
	}
}

// Promise: asking by a request to upgrade is no way round.
func TestReviewByUpgradeIsNarrowed(t *testing.T) {
	g := newGateFor(t, 1, auth.Bearer(lender("no-secrets")), answering(201, "application/json", onResource(`"verb":"get","resource":"secrets"`)))
	_, got := g.post(1, accessReviews, "application/json", "{}", "Connection", "Upgrade", "Upgrade", "websocket",
		"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "MDEyMzQ1Njc4OWFiY2RlZg==")
	if !strings.Contains(got, `"allowed":false`) {
		t.Errorf("it says %s", got)
	}
}
