package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy"
	"github.com/kube-gatehouse/gatehouse/proxy/audit"
)

// badge is an authenticator of one token, which can be revoked.
type badge struct{ revoked atomic.Bool }

func (b *badge) AuthenticateToken(ctx context.Context, token string) (*auth.Identity, error) {
	if token != "badge-canary" {
		return users{}.AuthenticateToken(ctx, token)
	}
	if b.revoked.Load() {
		return nil, auth.Refuse(auth.KindOIDC, auth.Revoked, "detail-canary")
	}
	return &auth.Identity{
		Kind: auth.KindOIDC, Issuer: "https://issuer.example", Credential: auth.Credential{IDs: []string{"JTI=17"}},
		User: auth.User{Name: "ana", UID: "1", Groups: []string{"dev"}, Extra: map[string][]string{auth.CredentialIDKey: {"JTI=17"}}},
	}, nil
}

// recorded is a gate that records everything.
type recorded struct {
	*gate
	badge *badge
	trail *audit.Trail
	out   bytes.Buffer
}

func newRecorded(t *testing.T, policy string, handler http.HandlerFunc) *recorded {
	t.Helper()
	trail, err := audit.New(audit.Config{Path: audit.Stdout})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := audit.Parse([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\n" + policy))
	if err != nil {
		t.Fatal(err)
	}
	trail.SetPolicy(parsed)
	r := &recorded{badge: &badge{}, trail: trail}
	if err := trail.Open(&r.out); err != nil {
		t.Fatal(err)
	}
	r.gate = newGateFor(t, 2, auth.Bearer(r.badge), handler, func(cfg *proxy.Config) { cfg.Audit = trail })
	return r
}

// events ends the gate, and returns what was recorded.
func (r *recorded) events() []auditv1.Event {
	r.t.Helper()
	if err := r.proxy.Wait(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	ended, end := context.WithCancel(r.t.Context())
	end()
	r.trail.Run(ended)
	var all []auditv1.Event
	for line := range strings.Lines(r.out.String()) {
		var e auditv1.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			r.t.Fatal(err)
		}
		all = append(all, e)
	}
	if strings.Contains(r.out.String(), "canary") || strings.Contains(r.out.String(), "Bearer") {
		r.t.Errorf("a secret is on the record: %s", r.out.String())
	}
	return all
}

// Promise: the record of a request says who did what by which credential, with
// the id that the API server and the caller got too; and no secret.
func TestRequestIsRecorded(t *testing.T) {
	var upstreamID string
	g := newRecorded(t, "rules: [{level: Metadata}]", func(w http.ResponseWriter, r *http.Request) {
		upstreamID = r.Header.Get("Audit-Id")
		w.WriteHeader(http.StatusTeapot)
	})
	r := g.request(http.MethodGet, "/api/v1/namespaces/dev/pods?fieldSelector=metadata.name%3Da&access_token=url-canary", "badge-canary")
	r.Header.Set("User-Agent", "kubectl/1")
	resp, err := g.client(2).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	events := g.events()
	if len(events) != 2 || events[0].Stage != auditv1.StageRequestReceived || events[0].ResponseStatus != nil {
		t.Fatalf("recorded: %+v", events)
	}
	e := events[1]
	if e.RequestReceivedTimestamp.IsZero() || e.StageTimestamp.Before(&e.RequestReceivedTimestamp) || upstreamID == "" {
		t.Errorf("received %v, at this stage %v, with the id %q", e.RequestReceivedTimestamp, e.StageTimestamp, upstreamID)
	}
	got, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var members, want map[string]any
	if err := json.Unmarshal(got, &members); err != nil {
		t.Fatal(err)
	}
	delete(members, "requestReceivedTimestamp")
	delete(members, "stageTimestamp")
	if err := json.Unmarshal([]byte(`{
		"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "`+upstreamID+`", "stage": "ResponseComplete",
		"requestURI": "/api/v1/namespaces/dev/pods?fieldSelector=metadata.name%3Da", "verb": "list",
		"user": {"username": "ana", "uid": "1", "groups": ["dev", "system:authenticated"], "extra": {"authentication.kubernetes.io/credential-id": ["JTI=17"]}},
		"sourceIPs": ["127.0.0.1"], "userAgent": "kubectl/1",
		"objectRef": {"resource": "pods", "namespace": "dev", "name": "a", "apiVersion": "v1"},
		"responseStatus": {"metadata": {}, "code": 418},
		"annotations": {
			"kube-gatehouse.github.io/credential": "oidc", "kube-gatehouse.github.io/issuer": "https://issuer.example",
			"kube-gatehouse.github.io/credential-id": "JTI=17", "kube-gatehouse.github.io/left-out-parameters": "1"
		}}`), &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(members, want) {
		t.Errorf("(-want +got):\n%s", cmp.Diff(want, members))
	}
	if id := resp.Header.Get("Audit-Id"); id != upstreamID {
		t.Errorf("the caller got the id %q, the API server %q", id, upstreamID)
	}
}

// Promise: whoever is turned away is on the record, with the reason and what he
// was told, once.
func TestRefusalIsRecorded(t *testing.T) {
	for _, tt := range []struct {
		name, method, token, user string
		stage                     auditv1.Stage
		code                      int32
		annotation, value         string
	}{
		{"an expired token", "GET", "expired", "", auditv1.StageResponseComplete, 401, audit.Refused, "expired"},
		{"no token", "GET", "", "", auditv1.StageResponseComplete, 401, audit.Refused, "no_credential"},
		{"a method that is not passed on", "TRACE", "badge-canary", "", auditv1.StageResponseComplete, 405, "", ""},
		{"a fault of our own", "GET", "panic", "", auditv1.StagePanic, 500, "", ""},
		{"acting as another", "GET", "badge-canary", "ana", auditv1.StageResponseComplete, 403, audit.Credential, "oidc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newRecorded(t, "omitStages: [RequestReceived]\nrules: [{level: Metadata}]", func(http.ResponseWriter, *http.Request) {
				t.Error("the request was forwarded")
			})
			r := g.request(tt.method, "/api/v1/pods", tt.token)
			if tt.user != "" {
				r.Header.Set("Impersonate-User", "somebody")
			}
			resp, err := g.client(2).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			events := g.events()
			if len(events) != 1 {
				t.Fatalf("recorded: %+v", events)
			}
			e := events[0]
			if e.Stage != tt.stage || e.User.Username != tt.user || e.ResponseStatus.Code != tt.code ||
				e.ResponseStatus.Message == "" || e.ResponseStatus.Reason == "" || e.Annotations[tt.annotation] != tt.value {
				t.Errorf("recorded: %+v", e)
			}
		})
	}
}

// Promise: a watch is on the record from its start, and at its end with what
// ended it.
func TestStreamIsRecorded(t *testing.T) {
	g := newRecorded(t, "rules:\n- {level: Metadata, verbs: [watch], omitStages: [RequestReceived]}\n- {level: None}", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "" {
			return
		}
		_, _ = io.WriteString(w, "{}\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	ctx, end := context.WithCancel(t.Context())
	defer end()
	go g.proxy.Run(ctx)
	client := g.client(2)
	for _, path := range []string{"/api/v1/pods", "/api/v1/pods?watch=true"} {
		resp, err := client.Do(g.request(http.MethodGet, path, "badge-canary"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(path, "watch") {
			g.badge.revoked.Store(true)
			g.proxy.Recheck()
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		resp.Body.Close()
	}
	events := g.events()
	if len(events) != 2 {
		t.Fatalf("recorded: %+v", events)
	}
	start, over := events[0], events[1]
	if start.Stage != auditv1.StageResponseStarted || start.ResponseStatus.Code != 200 || start.Annotations[audit.Ended] != "" {
		t.Errorf("at its start: %+v", start)
	}
	if over.Stage != auditv1.StageResponseComplete || over.Annotations[audit.Ended] != string(auth.Revoked) || over.User.Username != "ana" || over.AuditID != start.AuditID {
		t.Errorf("at its end: %+v", over)
	}
}

// Promise: an answer that was cut off is on the record as that, and is no panic.
func TestCutAnswerIsRecorded(t *testing.T) {
	g := newRecorded(t, "omitStages: [RequestReceived]\nrules: [{level: Metadata}]", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	resp, err := g.client(2).Do(g.request(http.MethodGet, "/api/v1/pods", "badge-canary"))
	if err == nil { // else its header did not come through either
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("the answer looks whole to its caller")
	}
	events := g.events()
	if len(events) != 1 || events[0].Stage != auditv1.StageResponseComplete || events[0].Annotations[audit.Aborted] != "true" {
		t.Errorf("recorded: %+v", events)
	}
}
