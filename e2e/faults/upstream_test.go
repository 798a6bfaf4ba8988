package faults_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
)

// noticed is how long gatehouse may take to notice that its connections to the
// API server lead nowhere: what falls into that time may be answered with 502,
// 503 or 504.
const noticed = 15*time.Second + slack

// slowBy is the delay of a slow network, each way.
const slowBy = 100 * time.Millisecond

// failsOpenly reports whether a failure is an answer of gatehouse's own that
// says that the API server did not answer.
func failsOpenly(f failure) bool {
	var status apierrors.APIStatus // of client-go
	for _, code := range []int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout} {
		if errors.As(f.err, &status) && int(status.Status().Code) == code || strings.HasPrefix(f.err.Error(), fmt.Sprint(code, " ")) {
			return true
		}
	}
	return false
}

// Promise: when the connections to the API server lead nowhere without being
// closed, gatehouse notices and goes on with others. What was under way is
// answered and does not hang; reads of client-go, which asks again, do not fail;
// a watch misses nothing.
func (s *suite) testBlackHole(t *testing.T) {
	w := newWire(t, s.apiServerAddress())
	g := s.startGatehouse(t, gatehouse.Config{}, map[string]string{"GATEHOUSE_KUBECONFIG": w.kubeconfig(t, s)})
	p := s.person("developers")
	asked, again := &tally{}, &tally{}
	load := []callers{keepAsking(t, s.client(t, http2), g.URL(), 10, 100*time.Millisecond, asked, read(p.token), write(p.token))}
	api := clientGo(t, s.config(g.URL(), p), http2)
	f := startFeed(t, "hole", api, 10, 100*time.Millisecond, asked, again)
	eventually(t, limit, func() error { return f.follows(2) })
	load = append(load, keepReading(t, api, "hole-0", 100*time.Millisecond, again))

	gone := outage{from: time.Now()}
	gone.to = gone.from.Add(noticed)
	if w.freeze(false) == 0 {
		t.Fatal("gatehouse has no connection to the API server")
	}
	cut := time.Now()
	eventually(t, 2*noticed, asked.more(200))
	want := f.acked.Load()
	eventually(t, 2*noticed, func() error { return f.follows(want) })
	for _, l := range load {
		l.stop()
	}
	stopFeeds(t, f)
	asked.judge(func(f failure) bool {
		// An answer that has begun can only break off.
		return gone.explains(f) && (failsOpenly(f) || f.began.Before(cut) && strings.Contains(f.err.Error(), "INTERNAL_ERROR"))
	})
	asked.report(t, s.rows, row{
		fault: "connections to the API server lead nowhere", load: "reads and writes that nobody repeats",
		why: "what began before gatehouse noticed: 502, 503 or 504",
	})
	again.judge(nobody)
	again.report(t, s.rows, row{fault: "connections to the API server lead nowhere", load: "reads and 10 watches of client-go", why: "nothing"})
}

// Promise: while the API server cannot be reached at all, every request is
// answered and none hangs; when it can be reached again, everything is served.
func (s *suite) testPartition(t *testing.T) {
	w := newWire(t, s.apiServerAddress())
	g := s.startGatehouse(t, gatehouse.Config{}, map[string]string{"GATEHOUSE_KUBECONFIG": w.kubeconfig(t, s)})
	p := s.person("developers")
	asked, watches := &tally{}, &tally{}
	load := keepAsking(t, s.client(t, http2), g.URL(), 10, 100*time.Millisecond, asked, read(p.token), write(p.token))
	f := startFeed(t, "cut", clientGo(t, s.config(g.URL(), p), http2), 10, 100*time.Millisecond, asked, watches)
	eventually(t, limit, func() error { return f.follows(2) })

	gone := outage{from: time.Now()}
	w.freeze(true)
	eventually(t, 2*noticed, func() error { return readiness(t, g, http.StatusServiceUnavailable) })
	w.thaw()
	eventually(t, 2*noticed, func() error { return readiness(t, g, http.StatusOK) })
	gone.to = time.Now()
	eventually(t, 2*noticed, asked.more(100))
	load.stop()
	stopFeeds(t, f)
	asked.judge(func(f failure) bool { return gone.explains(f) && failsOpenly(f) })
	asked.report(t, s.rows, row{
		fault: "API server cut off, and back", load: "reads and writes that nobody repeats",
		why: "until gatehouse is ready again: 502, 503 or 504",
	})
	watches.judge(func(f failure) bool { return gone.explains(f) })
	watches.report(t, s.rows, row{fault: "API server cut off, and back", load: "10 watches of client-go", why: "watches that begin meanwhile"})
}

func readiness(t *testing.T, g *gatehouse.Instance, want int) error {
	t.Helper()
	code, report, err := g.Ops(t.Context(), "/readyz?verbose")
	if err == nil && code != want {
		err = fmt.Errorf("readiness: %d: %s", code, report)
	}
	return err
}

// Promise: a slow network loses nothing.
func (s *suite) testSlow(t *testing.T) {
	w := newWire(t, s.apiServerAddress())
	w.slow(slowBy)
	g := s.startGatehouse(t, gatehouse.Config{}, map[string]string{"GATEHOUSE_KUBECONFIG": w.kubeconfig(t, s)})
	p, count := s.person("developers"), &tally{}
	load := keepAsking(t, s.client(t, http2), g.URL(), 10, 50*time.Millisecond, count, read(p.token), write(p.token))
	f := startFeed(t, "slow", clientGo(t, s.config(g.URL(), p), http2), 10, 100*time.Millisecond, count, count)
	eventually(t, limit, func() error { return f.follows(5) })
	eventually(t, 2*limit, count.more(100))
	load.stop()
	stopFeeds(t, f)
	count.judge(nobody)
	count.report(t, s.rows, row{
		fault: "API server answers slowly, " + slowBy.String() + " each way", load: "reads, writes and 10 watches", why: "nothing",
	})
}
