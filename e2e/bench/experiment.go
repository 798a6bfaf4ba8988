package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/bench/proxies"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/report"
)

// experiment measures one thing. Its result has one table, and the goals of
// DESIGN that it bears on.
type experiment struct {
	name    string
	measure func(ctx context.Context, b *bench) (outcome, error)
	// scaling puts the table into the document about scaling, not that about the
	// proxies side by side.
	scaling bool
}

// outcome is what came of an experiment.
type outcome struct {
	table *report.Table
	goals []report.Goal
	// figures are numbers that the documents calculate with, by name.
	figures map[string]float64
}

// experiments are in the order in which they run.
func experiments() []experiment {
	var list []experiment
	for _, s := range scenarios() {
		list = append(list, experiment{name: s.name, measure: s.measure})
	}
	return append(list,
		experiment{name: "watch", measure: measureWatches},
		experiment{name: "start", measure: measureStart},
		experiment{name: "slope-groups", measure: measureGroups, scaling: true},
		experiment{name: "slope-tokens", measure: measureTokens, scaling: true},
		experiment{name: "slope-connections", measure: measureConnections, scaling: true},
		experiment{name: "slope-issuers", measure: measureIssuers, scaling: true},
	)
}

func experimentNames() string {
	var names []string
	for _, e := range experiments() {
		names = append(names, e.name)
	}
	return strings.Join(names, " ")
}

// bench is one run.
type bench struct {
	*world
	o options
	// running are the proxies under load, started when first needed.
	running []*proxies.Proxy
}

// measureAll does what the options ask for, prints it, and returns it by name. It
// says in m how long the tokens are.
func measureAll(ctx context.Context, o options, m *machine) (outcomes map[string]outcome, err error) {
	dir, err := os.MkdirTemp("", "gatehouse-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	w, err := newWorld(ctx, dir, o.workers)
	if err != nil {
		return nil, err
	}
	defer w.close()
	b := &bench{world: w, o: o}
	m.TokenBytes = len(w.tokens(1, 3)[0])
	defer b.stopAll()
	outcomes = map[string]outcome{}
	var goals []report.Goal
	for _, e := range experiments() {
		if !o.wants(e.name) {
			continue
		}
		began := time.Now()
		result, err := e.measure(ctx, b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
		outcomes[e.name] = result
		goals = append(goals, result.goals...)
		if err := result.table.Print(os.Stdout); err != nil {
			return nil, err
		}
		fmt.Printf("%s took %s\n", e.name, time.Since(began).Round(time.Second))
	}
	return outcomes, report.Goals(goals).Print(os.Stdout)
}

// started returns the proxies of the options, and starts them the first time.
func (b *bench) started(ctx context.Context) ([]*proxies.Proxy, error) {
	if len(b.running) > 0 {
		return b.running, nil
	}
	for _, name := range b.o.proxies {
		p, err := b.start(ctx, name)
		if err != nil {
			return nil, err
		}
		b.running = append(b.running, p)
	}
	return b.running, nil
}

func (b *bench) stopAll() {
	for _, p := range b.running {
		p.Stop()
	}
	b.running = nil
}

// The proxies by their names.
const (
	gatehouseName     = "gatehouse"
	gatehouseInfoName = "gatehouse-info"
	otherName         = "other"
	haproxyName       = "haproxy"
	haproxyH2Name     = "haproxy-h2"
	nginxName         = "nginx"
)

func proxyNames() []string {
	return []string{gatehouseName, gatehouseInfoName, otherName, haproxyName, haproxyH2Name, nginxName}
}

// start starts a proxy. Each call starts another.
func (b *bench) start(ctx context.Context, name string) (*proxies.Proxy, error) {
	switch name {
	case gatehouseName:
		return b.Gatehouse(ctx, proxies.Gatehouse{Name: name, Binary: b.o.gatehouse, LogLevel: b.o.level})
	case gatehouseInfoName:
		return b.Gatehouse(ctx, proxies.Gatehouse{Name: name, Binary: b.o.gatehouse, LogLevel: "info"})
	case otherName:
		return b.Gatehouse(ctx, proxies.Gatehouse{Name: name, Binary: b.o.other, LogLevel: b.o.level})
	case haproxyName:
		return b.HAProxy(ctx, name, "http/1.1")
	case haproxyH2Name:
		return b.HAProxy(ctx, name, "h2")
	case nginxName:
		return b.Nginx(ctx, name)
	default:
		return nil, fmt.Errorf("there is no proxy %q, but %s", name, strings.Join(proxyNames(), " "))
	}
}

// isHAProxy reports whether a proxy is what gatehouse is compared with.
func isHAProxy(name string) bool { return strings.HasPrefix(name, haproxyName) }
