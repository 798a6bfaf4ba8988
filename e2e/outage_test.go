package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/stage"
	"github.com/kube-gatehouse/gatehouse/e2e/stage/stagetest"
)

// recovery is how long gatehouse may take to notice that something is back.
const recovery = 20 * time.Second

// testIssuerDown: gatehouse starts while its issuer is down, serves other
// credentials, tells those with an ID token to try again, shows it in its
// readiness, and accepts them once the issuer is up. An issuer that goes down
// later changes nothing for keys that are known.
func (w world) testIssuerDown(t *testing.T) {
	issuer, authority := stagetest.Issuer(t)
	issuer.SetDown(true)
	tokens := w.tokens(t, "robot-secret,ci-robot,1")
	g := w.start(t, map[string]string{
		"GATEHOUSE_OIDC_ISSUER_URL": issuer.URL,
		"GATEHOUSE_OIDC_CA_FILE":    authority.CAFile,
		"GATEHOUSE_TOKEN_AUTH_FILE": tokens.Path(),
	})
	token := issuer.Token(stage.Person("alice", "developers"))

	if _, err := g.kubectl(t, "robot-secret").Must(t.Context(), "", "get", "deployments", "-n", "dev"); err != nil {
		t.Errorf("the static token: %v", err)
	}
	a := g.get(t, "/api", token)
	checkUnavailable(t, "an ID token", a, "Your token cannot be checked now")
	if _, report, err := g.Ops(t.Context(), "/readyz?verbose"); err != nil || !strings.Contains(report, "[!]issuer/"+issuer.URL) {
		t.Errorf("readiness: got %q and %v, want it to show the issuer", report, err)
	}

	issuer.SetDown(false)
	eventually(t, recovery, func() error { return status(g.get(t, "/api", token), http.StatusOK) })
	issuer.SetDown(true)
	other := issuer.Token(stage.Person("bob", "viewers"))
	if err := status(g.get(t, "/api", other), http.StatusOK); err != nil {
		t.Errorf("with the issuer down again: %v", err)
	}
}

func status(a answer, want int) error {
	if a.StatusCode != want {
		return fmt.Errorf("got %s, want %d: %s", a.Status, want, a.body)
	}
	return nil
}

// checkUnavailable checks an answer of gatehouse's own that says to try again.
func checkUnavailable(t *testing.T, name string, a answer, sentence string) {
	t.Helper()
	var s struct {
		Kind, Reason, Message string
		Code                  int
	}
	if err := json.Unmarshal([]byte(a.body), &s); err != nil {
		t.Fatalf("%s: %q is no JSON: %v", name, a.body, err)
	}
	if a.StatusCode != http.StatusServiceUnavailable || s.Kind != "Status" || s.Reason != "ServiceUnavailable" ||
		!strings.Contains(s.Message, sentence) || a.Header.Get("Retry-After") == "" ||
		a.Header.Get("Warning") != `299 - "`+s.Message+`"` {
		t.Errorf("%s: got %s, %v and %s", name, a.Status, a.Header, a.body)
	}
}

// endOf returns a channel that is closed when the stream ends, however it does.
func endOf(stream io.Reader) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, stream)
	}()
	return ended
}

// testAPIServerDown: without the API server the answer is a 503 that names the
// hop and says when to try again, and kubectl prints it; gatehouse is not ready
// but lives, and serves again by itself when the API server is back. A watch
// that was open ends.
func (w world) testAPIServerDown(t *testing.T) {
	g := w.start(t, nil)
	g.client.Timeout = 0
	token := w.Issuer.Token(stage.Person("alice", "developers"))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	watch := g.openWatch(ctx, t, token)

	w.Cluster.StopAPIServer()
	ended := endOf(watch)
	const sentence = "gatehouse cannot reach the API server"
	checkUnavailable(t, "a request", g.get(t, "/api", token), sentence)
	short, cancelShort := context.WithTimeout(ctx, streamLimit)
	defer cancelShort()
	r, err := g.kubectl(t, token).Run(short, "get", "--raw", "/version", "--request-timeout=5s")
	if r.OK() || !strings.Contains(r.Stderr, sentence) {
		t.Errorf("kubectl: got %+v and %v", r, err)
	}
	eventually(t, recovery, func() error {
		code, report, err := g.Ops(ctx, "/readyz?verbose")
		if err == nil && (code != http.StatusServiceUnavailable || !strings.Contains(report, "[-]apiserver")) {
			err = fmt.Errorf("readiness: got %d: %s", code, report)
		}
		return err
	})
	if code, _, err := g.Ops(ctx, "/livez"); err != nil || code != http.StatusOK {
		t.Errorf("liveness: got %d and %v", code, err)
	}
	select {
	case <-ended:
	case <-time.After(streamLimit):
		t.Error("the watch goes on without the API server")
	}

	if err := w.Cluster.StartAPIServer(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	eventually(t, recovery, func() error { return status(g.get(t, "/api", token), http.StatusOK) })
	eventually(t, recovery, func() error {
		if code, report, err := g.Ops(ctx, "/readyz"); err != nil || code != http.StatusOK {
			return errors.Join(fmt.Errorf("readiness: got %d: %s", code, report), err)
		}
		return nil
	})
}
