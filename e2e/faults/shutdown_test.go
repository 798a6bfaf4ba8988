package faults_test

import (
	"context"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
)

// Promise: when replicas are replaced one after the other behind a load
// balancer, no request fails, over HTTP/1.1 and HTTP/2, and every watch goes on
// where it ended.
func (s *suite) testShutdown(t *testing.T) {
	env := map[string]string{"GATEHOUSE_SHUTDOWN_DELAY": "4s"} // the default is 5 s
	replicas := []*gatehouse.Instance{s.startGatehouse(t, gatehouse.Config{}, env), s.startGatehouse(t, gatehouse.Config{}, env)}
	front := newBalancer(t, replicas...)
	p, count := s.person("developers"), &tally{}
	var load []callers
	var feeds []*feed
	for _, over := range []string{http1, http2} {
		// Several connections of HTTP/2 too, so that each replica has some.
		for range 4 {
			load = append(load, keepAsking(t, s.client(t, over), front.url(), 1, 50*time.Millisecond, count, read(p.token), write(p.token)))
		}
		api := clientGo(t, s.config(front.url(), p), over)
		label := map[string]string{http1: "shutdown-1", http2: "shutdown-2"}[over]
		feeds = append(feeds, startFeed(t, label, api, 10, 50*time.Millisecond, count, count))
	}
	for _, f := range feeds {
		eventually(t, limit, func() error { return f.follows(1) })
	}
	for _, old := range replicas {
		front.add(t, s.startGatehouse(t, gatehouse.Config{}, env))
		eventually(t, limit, count.more(100))
		if err := old.Terminate(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		if code, err := old.Wait(ctx); err != nil || code != 0 {
			t.Errorf("the replica ended with code %d, %v; want 0: nothing had to be cut off", code, err)
		}
		front.remove(old)
		eventually(t, limit, count.more(100))
	}
	stopFeeds(t, feeds...)
	for _, l := range load {
		l.stop()
	}
	count.judge(func(failure) bool { return false })
	count.report(t, s.rows, row{
		fault: "SIGTERM of each of two replicas behind a load balancer",
		load:  "reads, writes and 20 watches over HTTP/1.1 and HTTP/2", why: "nothing",
	})
}
