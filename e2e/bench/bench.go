package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/bench/load"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/proxies"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/stub"
)

// scenario is one kind of load.
type scenario struct {
	name, title string
	plan        load.Plan
	tokens      int
}

// scenarios are in the order in which they are measured.
func scenarios() []scenario {
	get := func(protocol string, connections, streams, inFlight int) load.Plan {
		return load.Plan{
			Protocol: protocol, Path: stub.PodPath, BodyBytes: stub.PodBytes,
			Connections: connections, Streams: streams, InFlight: inFlight,
		}
	}
	return []scenario{
		{"get-h1", "GET of 1 KiB over HTTP/1.1, 32 in flight on 32 connections, one token", get(load.HTTP1, 32, 1, 32), 1},
		{"get-h2", "GET of 1 KiB over HTTP/2, 32 in flight on 4 connections, one token", get(load.HTTP2, 4, 8, 32), 1},
	}
}

func scenarioNames() string {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return strings.Join(names, " ")
}

// start is how each proxy is started, by its name.
type start func(ctx context.Context, w *world, o options, name string) (*proxies.Proxy, error)

func starts() map[string]start {
	return map[string]start{
		"gatehouse": func(ctx context.Context, w *world, o options, name string) (*proxies.Proxy, error) {
			return w.Gatehouse(ctx, name, o.gatehouse, o.level)
		},
		"gatehouse-info": func(ctx context.Context, w *world, o options, name string) (*proxies.Proxy, error) {
			return w.Gatehouse(ctx, name, o.gatehouse, "info")
		},
		"other": func(ctx context.Context, w *world, o options, name string) (*proxies.Proxy, error) {
			return w.Gatehouse(ctx, name, o.other, o.level)
		},
		"haproxy": func(ctx context.Context, w *world, _ options, name string) (*proxies.Proxy, error) {
			return w.HAProxy(ctx, name, "http/1.1")
		},
		"haproxy-h2": func(ctx context.Context, w *world, _ options, name string) (*proxies.Proxy, error) {
			return w.HAProxy(ctx, name, "h2")
		},
		"nginx": func(ctx context.Context, w *world, _ options, name string) (*proxies.Proxy, error) {
			return w.Nginx(ctx, name)
		},
	}
}

func proxyNames() []string {
	var names []string
	for name := range starts() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// bench measures what the options say and prints it.
func bench(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "gatehouse-bench-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	w, err := newWorld(ctx, dir, o.workers)
	if err != nil {
		return err
	}
	defer w.close()
	running, stop, err := w.startAll(ctx, o)
	defer stop()
	if err != nil {
		return err
	}
	for _, s := range scenarios() {
		if !o.wants(s.name) {
			continue
		}
		t, err := w.measure(ctx, o, s, running)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		t.print(os.Stdout)
	}
	return nil
}

// startAll starts the proxies that the options name; stop ends them.
func (w *world) startAll(ctx context.Context, o options) (running []*proxies.Proxy, stop func(), err error) {
	stop = func() {
		for _, p := range running {
			p.Stop()
		}
	}
	for _, name := range o.proxies {
		begin := starts()[name]
		if begin == nil {
			return running, stop, fmt.Errorf("there is no proxy %q, but %s", name, strings.Join(proxyNames(), " "))
		}
		p, err := begin(ctx, w, o, name)
		if err != nil {
			return running, stop, err
		}
		running = append(running, p)
	}
	return running, stop, nil
}

// measure has the proxies take turns under the load of s.
func (w *world) measure(ctx context.Context, o options, s scenario, running []*proxies.Proxy) (*table, error) {
	t := &table{title: s.name + ": " + s.title, instructions: o.instructions}
	tokens := w.tokens(s.tokens)
	for round := range o.rounds {
		for i, proxy := range running {
			if round == 0 {
				t.rows = append(t.rows, row{name: proxy.Name})
			}
			plan := s.plan
			plan.Address, plan.Tokens, plan.Warm, plan.For, plan.Instructions = proxy.Address, tokens, o.warm, o.for_, o.instructions
			var err error
			if plan.PIDs, err = proxy.PIDs(); err != nil {
				return nil, err
			}
			end, err := record(ctx, o, i, plan.PIDs)
			if err != nil {
				return nil, err
			}
			result, err := w.remote.Run(plan)
			if err := errors.Join(err, end()); err != nil {
				return nil, fmt.Errorf("%s: %w", proxy.Name, err)
			}
			if result.Requests == 0 {
				return nil, fmt.Errorf("%s: no request was answered in %s", proxy.Name, plan.For.Round(time.Millisecond))
			}
			t.rows[i].results = append(t.rows[i].results, result)
		}
	}
	return t, w.remote.Close()
}
