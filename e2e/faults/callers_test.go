package faults_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a caller waits for an answer before it takes itself for
// forgotten.
const patience = 2 * limit

// ask is one way of asking gatehouse for something.
type ask struct {
	method, path, body string
	token              func() string
	edit               func(token string) string // spoils it. Default: it stays as it is
	// judge returns an error if the answer is not the one that is due. Default:
	// any 2xx will do.
	judge func(*answer) error
}

// answer is what came back, read whole.
type answer struct {
	*http.Response
	body string
}

// once asks once. An error says that there was no answer, or a wrong one.
func (a ask) once(ctx context.Context, client *http.Client, url string) error {
	answered, err := a.send(ctx, client, url)
	if err != nil {
		return err
	}
	if a.judge != nil {
		return a.judge(answered)
	}
	if answered.StatusCode/100 != 2 {
		return fmt.Errorf("%s, Retry-After %q: %s", answered.Status, answered.Header.Get("Retry-After"), answered.body)
	}
	return nil
}

func (a ask) send(ctx context.Context, client *http.Client, url string) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, a.method, url+a.path, strings.NewReader(a.body))
	if err != nil {
		return nil, err
	}
	if a.token != nil {
		token := a.token()
		if a.edit != nil {
			token = a.edit(token)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return &answer{resp, string(body)}, err
}

// read is what a person may read, and write what nothing may carry out twice
// unasked, though it changes nothing: clients do not send a POST again.
func read(token string) ask {
	return ask{method: http.MethodGet, path: "/api/v1/namespaces/dev/configmaps?limit=1", token: fixed(token)}
}

func write(token string) ask {
	return ask{
		method: http.MethodPost, path: "/apis/authentication.k8s.io/v1/selfsubjectreviews", token: fixed(token),
		body: `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`,
	}
}

func fixed(token string) func() string { return func() string { return token } }

// callers ask again and again, each a while after its last answer.
type callers struct {
	stop func() // returns when the last answer is there
}

// keepAsking has n callers for each of asks, over client.
func keepAsking(t *testing.T, client *http.Client, url string, n int, pause time.Duration, count *tally, asks ...ask) callers {
	t.Helper()
	var stops []func()
	for _, one := range asks {
		for range n {
			c := keepCalling(t, pause, count, one.method+" "+one.path, func(ctx context.Context) error {
				return one.once(ctx, client, url)
			})
			stops = append(stops, c.stop)
		}
	}
	return callers{func() {
		for _, stop := range stops {
			stop()
		}
	}}
}

// keepCalling calls again and again, a while after the last call began, and
// counts how each ends.
func keepCalling(t *testing.T, pause time.Duration, count *tally, what string, call func(context.Context) error) callers {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	stopping, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			began := time.Now()
			if err := call(ctx); err != nil {
				count.fail(failure{began, time.Now(), what, err})
			} else {
				count.serve()
			}
			select {
			case <-tick.C:
			case <-stopping:
				return
			}
		}
	}()
	stop := sync.OnceFunc(func() { close(stopping); <-stopped })
	t.Cleanup(stop)
	return callers{stop}
}
