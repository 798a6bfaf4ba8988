package faults_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
)

const (
	// badOfEach is how many bad clients of each kind there are at a time, and
	// badRounds how often they come.
	badOfEach, badRounds = 20, 3
	// leftOver is how many goroutines and descriptors more than before there may
	// be afterwards: of the ops port, and what looks after files and issuers.
	leftOver = 10
)

// badClient is a way to misbehave on a new connection. It returns when it has had
// enough, or when the connection ends.
type badClient struct {
	name string
	// plain is a connection without TLS.
	plain  bool
	behave func(ctx context.Context, conn net.Conn, token string)
}

// badClients are the kinds.
func badClients() []badClient {
	const get = "GET %s HTTP/1.1\r\nHost: gatehouse\r\nAuthorization: Bearer %s\r\n"
	return []badClient{
		{name: "never begins TLS", plain: true, behave: func(_ context.Context, conn net.Conn, _ string) { drain(conn) }},
		{name: "vanishes after its request", behave: func(_ context.Context, conn net.Conn, token string) {
			fmt.Fprintf(conn, get+"\r\n", "/api/v1/namespaces/dev/configmaps", token)
			reset(conn)
		}},
		{name: "vanishes from a watch", behave: func(_ context.Context, conn net.Conn, token string) {
			fmt.Fprintf(conn, get+"\r\n", "/api/v1/namespaces/dev/configmaps?watch=true", token)
			_, _ = conn.Read(make([]byte, 1))
			reset(conn)
		}},
		{name: "never reads a large answer", behave: func(ctx context.Context, conn net.Conn, token string) {
			fmt.Fprintf(conn, get+"\r\n", "/openapi/v2", token)
			<-ctx.Done()
			reset(conn)
		}},
		{name: "never reads a watch", behave: func(ctx context.Context, conn net.Conn, token string) {
			fmt.Fprintf(conn, get+"\r\n", "/api/v1/namespaces/dev/configmaps?watch=true", token)
			<-ctx.Done()
			reset(conn)
		}},
		{name: "trickles its header", behave: func(ctx context.Context, conn net.Conn, token string) {
			trickle(ctx, conn, fmt.Sprintf(get, "/api", token))
		}},
		{name: "trickles its body", behave: func(ctx context.Context, conn net.Conn, token string) {
			fmt.Fprintf(conn, strings.Replace(get, "GET", "POST", 1)+"Content-Length: 100000\r\n\r\n", "/api/v1/namespaces/dev/configmaps", token)
			trickle(ctx, conn, strings.Repeat(" ", 1000))
		}},
		{name: "stays and says nothing", behave: func(_ context.Context, conn net.Conn, token string) {
			fmt.Fprintf(conn, get+"\r\n", "/api", token)
			drain(conn)
		}},
	}
}

// reset closes a connection as a machine does that has lost its power.
func reset(conn net.Conn) {
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	conn.Close()
}

// drain reads until the other end closes.
func drain(conn net.Conn) {
	_, _ = io.Copy(io.Discard, conn)
	conn.Close()
}

// trickle sends a byte now and then.
func trickle(ctx context.Context, conn net.Conn, text string) {
	defer conn.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := range len(text) {
		if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Promise: clients that vanish, never read or trickle cost others nothing, and
// when they are gone nothing of theirs is left. Those who only stay are sent away
// when their time is over.
func (s *suite) testBadClients(t *testing.T) {
	g := s.startGatehouse(t, gatehouse.Config{}, map[string]string{
		"GATEHOUSE_HEADER_TIMEOUT": "2s", "GATEHOUSE_BODY_TIMEOUT": "2s", "GATEHOUSE_IDLE_TIMEOUT": "2s",
	})
	p, bad := s.person("developers"), s.person("developers")
	s.round(t, g, bad.token) // what is only made once is made now
	before, err := settled(t, g, func(metrics) error { return nil })
	if err != nil {
		t.Fatal(err)
	}

	count := &tally{}
	client := s.client(t, http2)
	asking := keepAsking(t, client, g.URL(), 4, 50*time.Millisecond, count, read(p.token), write(p.token))
	var gone int64
	for range badRounds {
		gone += s.round(t, g, bad.token)
	}
	eventually(t, limit, count.more(50))
	asking.stop()
	client.CloseIdleConnections()
	_, err = settled(t, g, func(now metrics) error {
		var errs []error
		for _, name := range []string{"go_goroutines", "process_open_fds", "gatehouse_requests_in_flight"} {
			if left := now.sum(name) - before.sum(name); left > leftOver {
				errs = append(errs, fmt.Errorf("%s: %v more than before", name, left))
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		count.lose(1, "bad clients left something behind: %v", err)
	}
	count.judge(nobody)
	count.allow(gone)
	count.report(t, s.rows, row{
		fault: "clients that vanish, never read or trickle", load: "reads and writes of others",
		why: "the bad clients; nothing of theirs is left: goroutines, descriptors and requests under way are as before",
	})
}

// round has all kinds of bad clients at the same time, and returns how many there
// were when they are gone. Those who wait for gatehouse to end it must not wait
// for ever.
func (s *suite) round(t *testing.T, g *gatehouse.Instance, token string) int64 {
	t.Helper()
	address := strings.TrimPrefix(g.URL(), "https://")
	impatient, cancel := context.WithTimeout(t.Context(), 4*time.Second) // who would stay otherwise
	defer cancel()
	var wait sync.WaitGroup
	var n int64
	for _, kind := range badClients() {
		for range badOfEach {
			n++
			wait.Go(func() {
				conn, err := net.DialTimeout("tcp", address, limit)
				if err != nil {
					t.Errorf("%s: %v", kind.name, err)
					return
				}
				if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
					t.Error(err)
				}
				if !kind.plain {
					conn = tls.Client(conn, &tls.Config{RootCAs: s.front.Pool(), ServerName: "127.0.0.1", NextProtos: []string{"http/1.1"}})
				}
				began := time.Now()
				kind.behave(impatient, conn, token)
				if time.Since(began) >= limit {
					t.Errorf("a client that %s was not sent away", kind.name)
				}
				conn.Close()
			})
		}
	}
	wait.Wait()
	return n
}

// settled returns the metrics as soon as nothing is under way and check is
// content with them, or the last ones and check's error.
func settled(t *testing.T, g *gatehouse.Instance, check func(metrics) error) (m metrics, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		m = mustMetrics(t, g)
		if err = check(m); err == nil && m.sum("gatehouse_requests_in_flight") == 0 {
			return m, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return m, errors.Join(err, fmt.Errorf("%v requests are under way", m.sum("gatehouse_requests_in_flight")))
		}
	}
}
