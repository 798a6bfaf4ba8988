package monitoring_test

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

const (
	pods = "/api/v1/namespaces/dev/pods"
	// leaver is a row of the token file that is taken out under load.
	leaver = "static-token-of-the-leaver-0417,leaver,uid-1,oidc:viewers"
	robot  = "static-token-of-the-robot-2096,ci-robot,uid-2"
	// streams is how many one user may have.
	streams = 2
)

// world is a real API server with two replicas: one in order, and one to which the
// API server is cut off.
type world struct {
	*stage.Stage
	good, cut *gatehouse.Instance
	tokens    *stage.Tokens
	nowhere   string // an address where nobody listens
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s, err := stage.Start(t.Context(), stage.Config{Dir: t.TempDir(), Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	w := &world{Stage: s}
	if w.tokens, err = stage.NewTokens(t.TempDir(), robot, leaver); err != nil {
		t.Fatal(err)
	}
	ca, lists := clientCA(t)
	nobody, err := proc.Ports(1)
	if err != nil {
		t.Fatal(err)
	}
	w.nowhere = "https://" + proc.Loopback(nobody[0])
	audit := filepath.Join(t.TempDir(), "policy.yaml")
	if err := pki.WriteFile(audit, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n")); err != nil {
		t.Fatal(err)
	}
	w.good = w.start(t, gatehouse.Config{}, map[string]string{
		"GATEHOUSE_AUDIT_POLICY_FILE": audit, "GATEHOUSE_AUDIT_LOG_PATH": filepath.Join(filepath.Dir(audit), "audit.log"),
		"GATEHOUSE_TOKEN_AUTH_FILE": w.tokens.Path(), "GATEHOUSE_CLIENT_CA_FILE": ca, "GATEHOUSE_CLIENT_CRL_FILE": lists,
		"GATEHOUSE_JWKS_REFRESH_INTERVAL": "1s", "GATEHOUSE_TOKEN_REVIEW": "true", "GATEHOUSE_MAX_STREAMS_PER_USER": strconv.Itoa(streams),
		"GATEHOUSE_DISTRIBUTED_CLAIM_ENDPOINTS": w.nowhere + "/groups",
	})
	account, err := s.Cluster.Token(stage.AccountNamespace, stage.AccountName)
	if err != nil {
		t.Fatal(err)
	}
	config := kubeconfig.File{
		Cluster: "nowhere", Server: w.nowhere, CAFile: s.Cluster.CAFile(),
		Users: []kubeconfig.User{{Name: "gatehouse", Token: account}},
	}
	lost := filepath.Join(t.TempDir(), "kubeconfig")
	if err := config.Write(lost); err != nil {
		t.Fatal(err)
	}
	w.cut = w.start(t, gatehouse.Config{NotReady: true}, map[string]string{"GATEHOUSE_KUBECONFIG": lost, "GATEHOUSE_TOKEN_AUTH_FILE": w.tokens.Path()})
	return w
}

func (w *world) start(t *testing.T, cfg gatehouse.Config, more map[string]string) *gatehouse.Instance {
	t.Helper()
	env := w.Env()
	for name, value := range more {
		env[name] = value
	}
	g, err := w.Gatehouse(context.WithoutCancel(t.Context()), cfg, env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Stop() })
	return g
}

// clientCA writes a CA of client certificates, with a revocation list.
func clientCA(t *testing.T) (ca, lists string) {
	t.Helper()
	people, err := authtest.NewCA("people")
	if err != nil {
		t.Fatal(err)
	}
	list, err := people.RevocationList(1)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ca, lists = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.crl")
	for path, content := range map[string][]byte{ca: people.PEM(), lists: list} {
		if err := pki.WriteFile(path, content); err != nil {
			t.Fatal(err)
		}
	}
	return ca, lists
}

// load has people of every kind ask until the test ends, some of whom are refused.
// Some events come once: a stream whose credential ends, and a reload.
func (w *world) load(t *testing.T) {
	t.Helper()
	alice, viewer := w.Issuer.Token(stage.Person("alice", "developers")), w.Issuer.Token(stage.Person("vera", "viewers"))
	builder, err := w.BuilderToken(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	row := func(r string) string { name, _, _ := strings.Cut(r, ","); return name }
	client := w.good.Client()
	client.Timeout = 0 // of watches
	stream := func(token string, want int) *http.Response {
		resp, err := send(t.Context(), client, http.MethodGet, w.good.URL()+pods+"?watch=true", "Authorization: Bearer "+token)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		if resp.StatusCode != want {
			t.Fatalf("a watch: status %d, want %d", resp.StatusCode, want)
		}
		return resp
	}
	for range streams {
		stream(alice, http.StatusOK)
	}
	stream(alice, http.StatusTooManyRequests)
	ended := stream(row(leaver), http.StatusOK)

	cut, strange := w.cut.Client(), stage.Person("fay")
	strange["_claim_names"] = map[string]any{"groups": "s"}
	strange["_claim_sources"] = map[string]any{"s": map[string]any{"endpoint": w.nowhere + "/groups"}}
	delete(strange, "groups")
	stranger := w.Issuer.Token(strange)
	good := w.good.URL()
	asks := []struct {
		client              *http.Client
		method, url         string
		token, impersonated string
	}{
		{client, http.MethodGet, good + pods, alice, ""},
		{client, http.MethodGet, good + "/apis/apps/v1/namespaces/dev/deployments/hello", viewer, ""},
		{client, http.MethodDelete, good + pods + "/nobody", alice, ""},
		{client, http.MethodGet, good + pods, row(robot), ""},
		{client, http.MethodGet, good + pods, builder, ""},
		{client, http.MethodGet, good + pods, "", ""},
		{client, http.MethodGet, good + pods, "made-up", ""},
		{client, http.MethodGet, good + pods, stranger, ""},
		{client, http.MethodGet, good + pods, viewer, "devops-admin"},
		{client, http.MethodGet, good + pods, alice, "devops-admin"},
		{client, http.MethodGet, good + pods + "?watch=true", alice, ""},
		{cut, http.MethodGet, w.cut.URL() + pods, row(robot), ""},
	}
	var wait sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() { stop(); wait.Wait() })
	wait.Go(func() {
		pace := time.NewTicker(100 * time.Millisecond)
		defer pace.Stop()
		for ctx.Err() == nil {
			for _, ask := range asks {
				resp, err := send(ctx, ask.client, ask.method, ask.url, "Authorization: Bearer "+ask.token, "Impersonate-User: "+ask.impersonated)
				if err == nil { // what becomes of it, the metrics tell
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			}
			<-pace.C
		}
	})
	// Both replicas read the file, and the watch of the row that is gone ends.
	if err := w.tokens.Replace(robot); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, ended.Body); err != nil {
		t.Errorf("the watch of a row that was taken out: %v", err)
	}
}

// send sends a request with these headers, each "Name: value"; those without a
// value are left out.
func send(ctx context.Context, client *http.Client, method, url string, headers ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		if value = strings.TrimSpace(value); value != "" && value != "Bearer" {
			req.Header.Set(name, value)
		}
	}
	return client.Do(req)
}
