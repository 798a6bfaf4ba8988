package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/bench/load"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/proxies"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/report"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/stub"
)

// scenario is one kind of requests.
type scenario struct {
	name, title string
	plan        load.Plan
	tokens      int
	// withInfo has gatehouse measured at log level info as well.
	withInfo bool
	// goal judges the row of gatehouse beside that of HAProxy; may be nil.
	goal func(title string, t *turns) []report.Goal
}

// manyTokens is how many people there are where there are many.
const manyTokens = 1000

// scenarios are in the order in which they are measured.
func scenarios() []scenario {
	get := func(protocol string, connections, streams, inFlight int) load.Plan {
		return load.Plan{
			Protocol: protocol, Path: stub.PodPath, BodyBytes: stub.PodBytes,
			Connections: connections, Streams: streams, InFlight: inFlight,
		}
	}
	list := func(protocol string) load.Plan {
		return load.Plan{
			Protocol: protocol, Path: stub.ListPath, BodyBytes: stub.ListBytes,
			Connections: 4, Streams: 1, InFlight: 4,
		}
	}
	fresh := get(load.HTTP2, 1, 1, 4)
	fresh.Fresh = true
	return []scenario{
		{name: "get-h1", title: "GET over HTTP/1.1, 32 in flight, one token", plan: get(load.HTTP1, 32, 1, 32), tokens: 1, withInfo: true, goal: speedGoals},
		{name: "get-h2", title: "GET over HTTP/2, 32 in flight, one token", plan: get(load.HTTP2, 4, 8, 32), tokens: 1, withInfo: true, goal: speedGoals},
		{name: "many-h1", title: "GET over HTTP/1.1, 32 in flight, a thousand tokens", plan: get(load.HTTP1, manyTokens, 1, 32), tokens: manyTokens, goal: speedGoals},
		{name: "many-h2", title: "GET over HTTP/2, 32 in flight, a thousand tokens", plan: get(load.HTTP2, manyTokens, 1, 32), tokens: manyTokens, goal: speedGoals},
		{name: "one-h1", title: "GET over HTTP/1.1, 1 in flight", plan: get(load.HTTP1, 1, 1, 1), tokens: 1},
		{name: "one-h2", title: "GET over HTTP/2, 1 in flight", plan: get(load.HTTP2, 1, 1, 1), tokens: 1},
		{name: "list-h1", title: "5 MiB list over HTTP/1.1, 4 in flight", plan: list(load.HTTP1), tokens: 1, goal: listGoals},
		{name: "list-h2", title: "5 MiB list over HTTP/2, 4 in flight", plan: list(load.HTTP2), tokens: 1, goal: listGoals},
		{name: "connect", title: "A new HTTP/2 connection for each GET, 4 at a time", plan: fresh, tokens: 1},
	}
}

// turns are the results of proxies that took turns, round by round.
type turns struct {
	instructions bool
	rows         []*row
}

// row is one proxy, with a result for each round.
type row struct {
	name    string
	results []load.Result
}

// measure has the proxies take turns under the load of s.
func (s scenario) measure(ctx context.Context, b *bench) (outcome, error) {
	running, err := b.started(ctx)
	if err != nil {
		return outcome{}, err
	}
	running = slices.DeleteFunc(slices.Clone(running), func(p *proxies.Proxy) bool {
		return p.Name == gatehouseInfoName && !s.withInfo
	})
	t := &turns{instructions: b.o.instructions}
	for _, proxy := range running {
		t.rows = append(t.rows, &row{name: proxy.Name})
	}
	plan := s.plan
	plan.Tokens, plan.Warm, plan.For, plan.Instructions = b.tokens(s.tokens), b.o.warm, b.o.length, b.o.instructions
	for range b.o.rounds {
		for i, proxy := range running {
			result, err := b.turn(ctx, plan, proxy, i == 0)
			if err != nil {
				return outcome{}, fmt.Errorf("%s: %w", proxy.Name, err)
			}
			t.rows[i].results = append(t.rows[i].results, result)
		}
	}
	out := outcome{table: t.table(s.title), figures: t.figures()}
	if s.goal != nil {
		out.goals = s.goal(s.title, t)
	}
	return out, b.remote.Close()
}

// turn measures one proxy once.
func (b *bench) turn(ctx context.Context, plan load.Plan, proxy *proxies.Proxy, first bool) (load.Result, error) {
	plan.Address = proxy.Address
	var err error
	if plan.PIDs, err = proxy.PIDs(); err != nil {
		return load.Result{}, err
	}
	end, err := record(ctx, b.o, first, plan.PIDs)
	if err != nil {
		return load.Result{}, err
	}
	result, err := b.remote.Run(plan)
	if err := errors.Join(err, end()); err != nil {
		return load.Result{}, err
	}
	if result.Requests == 0 {
		return load.Result{}, fmt.Errorf("no request was answered in %s", plan.For)
	}
	return result, nil
}

// figure makes a number of a result.
type figure func(load.Result) float64

func cpu(r load.Result) float64          { return micros(r.CPU) / float64(r.Requests) }
func rate(r load.Result) float64         { return float64(r.Requests) / r.Elapsed.Seconds() }
func instructions(r load.Result) float64 { return float64(r.Instructions) / 1000 / float64(r.Requests) }
func micros(d time.Duration) float64     { return float64(d) / float64(time.Microsecond) }

// latencies are the columns of percentiles.
func latencies() []figure {
	return []figure{
		func(r load.Result) float64 { return micros(r.P50) }, func(r load.Result) float64 { return micros(r.P90) },
		func(r load.Result) float64 { return micros(r.P99) }, func(r load.Result) float64 { return micros(r.P999) },
	}
}

func (r *row) values(f figure) []float64 {
	list := make([]float64, len(r.results))
	for i, result := range r.results {
		list[i] = f(result)
	}
	return list
}

func (r *row) median(f figure) float64 { return report.Median(r.values(f)) }

// ratio is the median, over the rounds, of r's figure to that of other.
func (r *row) ratio(other *row, f figure) float64 {
	mine, theirs := r.values(f), other.values(f)
	for i := range mine {
		mine[i] /= theirs[i]
	}
	return report.Median(mine)
}

// row returns that of a proxy, or nil.
func (t *turns) row(name string) *row {
	for _, r := range t.rows {
		if r.name == name {
			return r
		}
	}
	return nil
}

// best is the HAProxy that is better by a figure, of which more is better if
// more is set. Without a HAProxy it is the first proxy.
func (t *turns) best(f figure, more bool) *row {
	var best *row
	for _, r := range t.rows {
		if isHAProxy(r.name) && (best == nil || more == (r.median(f) > best.median(f))) {
			best = r
		}
	}
	if best == nil {
		return t.rows[0]
	}
	return best
}

// table shows t.
func (t *turns) table(title string) *report.Table {
	cheapest, fastest, leanest := t.best(cpu, false), t.best(rate, true), t.best(instructions, false)
	out := &report.Table{Title: title, Head: []string{"proxy", "CPU µs each", "ratio", "a second", "ratio", "p50 µs", "p90", "p99", "p99.9"}}
	if t.instructions {
		out.Head = append(out.Head, "1000 instructions", "ratio")
	}
	for _, r := range t.rows {
		cells := []string{
			r.name, report.Spread(r.values(cpu), 0), fmt.Sprintf("%.2f", r.ratio(cheapest, cpu)),
			strconv.Itoa(int(r.median(rate))), fmt.Sprintf("%.2f", r.ratio(fastest, rate)),
		}
		for _, f := range latencies() {
			cells = append(cells, fmt.Sprintf("%.0f", r.median(f)))
		}
		if t.instructions {
			cells = append(cells, fmt.Sprintf("%.1f", r.median(instructions)), fmt.Sprintf("%.2f", r.ratio(leanest, instructions)))
		}
		out.Rows = append(out.Rows, cells)
	}
	return out
}

// figures are the CPU in µs of each request, by proxy.
func (t *turns) figures() map[string]float64 {
	all := map[string]float64{}
	for _, r := range t.rows {
		all[r.name] = r.median(cpu)
	}
	return all
}

// speedGoals are: no more CPU than HAProxy, and no fewer requests.
func speedGoals(title string, t *turns) []report.Goal {
	us := t.row(gatehouseName)
	if us == nil || !isHAProxy(t.best(cpu, false).name) {
		return nil
	}
	used, served := us.ratio(t.best(cpu, false), cpu), us.ratio(t.best(rate, true), rate)
	return []report.Goal{
		{What: "CPU, " + title, Goal: "≤ 1.0 × HAProxy", Measured: fmt.Sprintf("%.2f ×", used), Reached: used <= 1},
		{What: "throughput, " + title, Goal: "≥ 1.0 × HAProxy", Measured: fmt.Sprintf("%.2f ×", served), Reached: served >= 1},
	}
}

// listGoal is how much CPU a list of 5 MiB may take, in ms.
const listGoal = 8

func listGoals(title string, t *turns) []report.Goal {
	us := t.row(gatehouseName)
	if us == nil {
		return nil
	}
	ms := us.median(cpu) / 1000
	return []report.Goal{{What: "CPU, " + title, Goal: fmt.Sprintf("≤ %d ms", listGoal), Measured: fmt.Sprintf("%.1f ms", ms), Reached: ms <= listGoal}}
}
