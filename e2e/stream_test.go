package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// streamLimit is how long a test waits for something on a stream.
const streamLimit = 15 * time.Second

// testWatch: an event reaches kubectl at once, not when a buffer is full.
func (w world) testWatch(t *testing.T) {
	g := w.start(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), streamLimit)
	defer cancel()
	watch, err := g.kubectl(t, w.Issuer.Token(stage.Person("bob", "viewers"))).
		Start(ctx, "get", "configmaps", "-n", "dev", "--watch-only")
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	g.awaitInFlight(t, "watch", 1)
	alice := g.kubectl(t, w.Issuer.Token(stage.Person("alice", "developers")))
	if _, err := alice.Must(ctx, "", "create", "configmap", "event", "-n", "dev"); err != nil {
		t.Fatal(err)
	}
	if _, err := watch.AwaitLine(ctx, "event"); err != nil {
		t.Error(err)
	}
}

// awaitInFlight waits until gatehouse counts n requests of a kind under way.
func (g gate) awaitInFlight(t *testing.T, kind string, n int) {
	t.Helper()
	want := fmt.Sprintf("gatehouse_requests_in_flight{kind=%q} %d\n", kind, n)
	eventually(t, streamLimit, func() error {
		_, metrics, err := g.Ops(t.Context(), "/metrics")
		if err == nil && !strings.Contains(metrics, want) {
			err = errors.New("the metrics do not say " + want)
		}
		return err
	})
}

// testDrain: after SIGTERM gatehouse loses nothing that it accepted. A watch
// ends without an error, so that its client begins it again elsewhere; a request
// whose body is still on its way is served to its end; the exit code is 0.
func (w world) testDrain(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/2": true, "HTTP/1.1": false} {
		t.Run(name, func(t *testing.T) { w.drain(t, http2) })
	}
}

func (w world) drain(t *testing.T, http2 bool) {
	g := w.startWith(t, gatehouse.Config{}, nil)
	g.client.Timeout = 0
	if !http2 {
		transport := g.client.Transport.(*http.Transport)
		transport.ForceAttemptHTTP2 = false
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetHTTP1(true)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*streamLimit)
	defer cancel()
	token := w.Issuer.Token(stage.Person("alice", "developers"))
	watch := g.openWatch(ctx, t, token)
	slow := g.sendSlowly(ctx, t, token, fmt.Sprintf("drain-%t", http2))

	if err := g.Terminate(); err != nil {
		t.Fatal(err)
	}
	if _, err := g.AwaitLog(ctx, "shutting down"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(watch); err != nil {
		t.Errorf("the watch ended with %v after %q, want a clean end", err, rest)
	}
	if code, err := slow.finish(); err != nil || code != http.StatusCreated {
		t.Errorf("the slow request: got %d and %v, want 201", code, err)
	}
	g.client.CloseIdleConnections()
	if code, err := g.Wait(ctx); err != nil || code != 0 {
		t.Errorf("gatehouse ended with code %d and %v, want 0", code, err)
	}
}

// openWatch opens a watch and returns its stream once the first event is there.
func (g gate) openWatch(ctx context.Context, t *testing.T, token string) io.Reader {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.URL()+"/api/v1/namespaces/dev/configmaps?watch=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := g.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	stream := bufio.NewReader(resp.Body)
	if line, err := stream.ReadString('\n'); err != nil || !strings.HasPrefix(line, `{"type":"ADDED"`) {
		t.Fatalf("watch: got %s, %q and %v", resp.Status, line, err)
	}
	return stream
}

// slowRequest is a request whose body is half sent.
type slowRequest struct {
	rest string
	body *io.PipeWriter
	done chan error
	code int
}

// sendSlowly begins to create a ConfigMap and returns when the API server has
// the head of the request and half of the body.
func (g gate) sendSlowly(ctx context.Context, t *testing.T, token, name string) *slowRequest {
	t.Helper()
	manifest := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q}}`, name)
	reader, writer := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.URL()+"/api/v1/namespaces/dev/configmaps", reader)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	s := &slowRequest{rest: manifest[20:], body: writer, done: make(chan error, 1)}
	go func() {
		resp, err := g.client.Do(req)
		if err == nil {
			s.code = resp.StatusCode
			_, err = io.Copy(io.Discard, resp.Body)
			err = errors.Join(err, resp.Body.Close())
		}
		s.done <- err
	}()
	if _, err := io.WriteString(writer, manifest[:20]); err != nil {
		t.Fatal(err)
	}
	g.awaitInFlight(t, "request", 1)
	return s
}

// finish sends the rest of the body and returns the status of the answer.
func (s *slowRequest) finish() (int, error) {
	if _, err := io.WriteString(s.body, s.rest); err != nil {
		return 0, err
	}
	if err := s.body.Close(); err != nil {
		return 0, err
	}
	err := <-s.done
	return s.code, err
}
