// Package load answers: how fast does a proxy serve, and at what cost?
//
// It is a generator of load that runs in a process of its own, so that its CPU
// time is not the proxy's. It writes HTTP/1.1 and HTTP/2 by hand: a client that
// costs more than the proxy would measure itself.
package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/bench/usage"
)

// The protocols.
const (
	HTTP1 = "h1"
	HTTP2 = "h2"
)

// Plan says what to send. All fields are required but where they say so.
type Plan struct {
	Address  string // host:port of the proxy
	Protocol string // HTTP1 or HTTP2
	Path     string
	// BodyBytes is how long each answer must be.
	BodyBytes int64
	// Tokens are dealt to the connections, one each, round and round.
	Tokens []string
	// Connections are open at the same time. Each has Streams requests under
	// way, or, if Streams is 1, InFlight workers go round the connections.
	Connections, Streams, InFlight int
	// Each has InFlight workers send one request with each token, over HTTP/1.1,
	// however long it takes. Connections, Streams, Warm and For are not used.
	Each bool
	// Fresh has InFlight workers open a connection for each request.
	Fresh bool
	// Warm goes before For, which is measured, and longer than For if so few
	// requests were answered that they say nothing.
	Warm, For time.Duration
	// PIDs are the processes of the proxy, whose CPU is counted meanwhile.
	PIDs []int
	// Instructions has their instructions counted too.
	Instructions bool
}

// Result is what was measured.
type Result struct {
	Requests int64
	Elapsed  time.Duration
	CPU      time.Duration // of the proxy
	// Instructions of the proxy; 0 if they were not counted.
	Instructions int64
	// Latencies of all requests, in order.
	P50, P90, P99, P999 time.Duration
}

// client is one connection to a proxy.
type client interface {
	// run sends requests, n at a time, until the time of the measurement is
	// over; each that is answered well is counted.
	run(m *measurement, n int) error
	// once sends one request and awaits its answer.
	once() error
	close() error
}

// measurement is what clients write into.
type measurement struct {
	measuring, over atomic.Bool
	answered        atomic.Int64 // while it was measured
	mu              sync.Mutex
	latencies       []time.Duration
	err             error
}

// samples are the latencies that one goroutine saw.
type samples []time.Duration

func (m *measurement) add(s samples) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.latencies = append(m.latencies, s...)
}

// fail ends the measurement.
func (m *measurement) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.err = err
	}
	m.over.Store(true)
}

// Generator keeps the connections of each plan open between runs.
type Generator struct {
	// TLS verifies the proxies. Its NextProtos are set for each protocol.
	TLS *tls.Config

	pools   map[string][]client
	watches *watches
}

// Run measures once. The first run of a plan opens its connections.
func (g *Generator) Run(ctx context.Context, p Plan) (Result, error) {
	if p.Each {
		return g.each(ctx, p)
	}
	m := &measurement{}
	var workers sync.WaitGroup
	if err := g.begin(ctx, m, p, &workers); err != nil {
		return Result{}, err
	}
	result, err := watch(ctx, m, p)
	m.over.Store(true)
	workers.Wait()
	if err = errors.Join(m.err, err); err != nil {
		g.drop(p)
		return Result{}, fmt.Errorf("load %s over %s: %w", p.Address, p.Protocol, err)
	}
	slices.Sort(m.latencies)
	result.Requests = int64(len(m.latencies))
	result.P50, result.P90 = m.percentile(.5), m.percentile(.9)
	result.P99, result.P999 = m.percentile(.99), m.percentile(.999)
	return result, nil
}

// begin starts the workers of a plan.
func (g *Generator) begin(ctx context.Context, m *measurement, p Plan, workers *sync.WaitGroup) error {
	if p.Fresh {
		for range p.InFlight {
			workers.Go(func() { m.repeat(func() error { return g.afresh(ctx, p) }) })
		}
		return nil
	}
	clients, err := g.pool(ctx, p)
	if err != nil {
		return err
	}
	if p.Streams > 1 {
		for _, c := range clients {
			workers.Go(func() {
				if err := c.run(m, p.Streams); err != nil {
					m.fail(err)
				}
			})
		}
		return nil
	}
	for worker := range p.InFlight {
		i := worker
		workers.Go(func() {
			m.repeat(func() error {
				if i >= len(clients) {
					i = worker
				}
				c := clients[i]
				i += p.InFlight
				return c.once()
			})
		})
	}
	return nil
}

// afresh sends one request on a connection of its own.
func (g *Generator) afresh(ctx context.Context, p Plan) error {
	c, err := g.connect(ctx, p, p.Tokens[0])
	if err != nil {
		return err
	}
	return c.close()
}

// fewest is how many requests are measured at least.
const fewest = 4

// watch waits for the time of the plan to pass and measures meanwhile.
func watch(ctx context.Context, m *measurement, p Plan) (Result, error) {
	if err := pause(ctx, p.Warm); err != nil {
		return Result{}, err
	}
	var counter *usage.Counter
	if p.Instructions {
		var err error
		if counter, err = usage.CountInstructions(p.PIDs...); err != nil {
			return Result{}, err
		}
		defer counter.Close()
	}
	before, err := usage.CPU(p.PIDs...)
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	m.measuring.Store(true)
	for m.answered.Load() < fewest && !m.over.Load() {
		if err := pause(ctx, p.For); err != nil {
			return Result{}, err
		}
	}
	m.measuring.Store(false)
	var r Result
	r.Elapsed = time.Since(began)
	after, err := usage.CPU(p.PIDs...)
	if err != nil {
		return Result{}, err
	}
	r.CPU = after - before
	if counter != nil {
		r.Instructions, err = counter.Read()
	}
	return r, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// repeat does the same again until the measurement is over.
func (m *measurement) repeat(once func() error) {
	var s samples
	defer func() { m.add(s) }()
	for !m.over.Load() {
		began := time.Now()
		if err := once(); err != nil {
			m.fail(err)
			return
		}
		if m.measuring.Load() {
			s = append(s, time.Since(began))
			m.answered.Add(1)
		}
	}
}

// percentile is the latency that the share q of all requests did not exceed.
func (m *measurement) percentile(q float64) time.Duration {
	if len(m.latencies) == 0 {
		return 0
	}
	return m.latencies[min(int(q*float64(len(m.latencies))), len(m.latencies)-1)]
}
