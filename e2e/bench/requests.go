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
	// note goes below the title; may be empty.
	note string
	plan load.Plan
	// people is how many have a token each: 1, or many.
	people int
	// withInfo has gatehouse measured at log level info as well.
	withInfo bool
	// unit is that of the times. Default: a microsecond.
	unit time.Duration
	// goal judges the row of gatehouse beside that of HAProxy; may be nil.
	goal func(title string, t *turns) []report.Goal
}

// many stands for as many people, and connections, as the options say.
const many = -1

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
		{name: "get-h1", title: "GET over HTTP/1.1, 32 in flight, one token", plan: get(load.HTTP1, 32, 1, 32), people: 1, withInfo: true, goal: speedGoals},
		{name: "get-h2", title: "GET over HTTP/2, 32 in flight, one token", plan: get(load.HTTP2, 4, 8, 32), people: 1, withInfo: true, goal: speedGoals},
		{name: "many-h1", title: "GET over HTTP/1.1, 32 in flight, a thousand tokens", plan: get(load.HTTP1, many, 1, 32), people: many, goal: speedGoals},
		{name: "many-h2", title: "GET over HTTP/2, 32 in flight, a thousand tokens", plan: get(load.HTTP2, many, 1, 32), people: many, goal: speedGoals},
		{name: "one-h1", title: "GET over HTTP/1.1, 1 in flight", plan: get(load.HTTP1, 1, 1, 1), people: 1},
		{name: "one-h2", title: "GET over HTTP/2, 1 in flight", plan: get(load.HTTP2, 1, 1, 1), people: 1},
		{name: "list-h1", title: "5 MiB list over HTTP/1.1, 4 in flight", plan: list(load.HTTP1), people: 1, unit: time.Millisecond, goal: listGoals},
		{name: "list-h2", title: "5 MiB list over HTTP/2, 4 in flight", plan: list(load.HTTP2), people: 1, unit: time.Millisecond, goal: listGoals},
		{name: "connect", title: "A new HTTP/2 connection for each GET, 4 at a time", plan: fresh, people: 1,
			note: "With gatehouse the key exchange is X25519MLKEM768, which withstands quantum computers and costs more; OpenSSL 3.0, " +
				"which HAProxy and nginx have here, knows X25519 alone."},
	}
}

// turns are the results of proxies that took turns, round by round.
type turns struct {
	rows []*row
	unit time.Duration
}

// row is one proxy, with a result for each round.
type row struct {
	name    string
	results []load.Result
	// counted are more turns, with the instructions counted, which may make the
	// proxy a little slower. Empty where the machine does not count.
	counted []load.Result
}

// countedRounds is how many turns of each proxy are counted. The number of instructions hardly
// depends on what else the machine does.
const countedRounds = 1

// measure has the proxies take turns under the load of s.
func (s scenario) measure(ctx context.Context, b *bench) (outcome, error) {
	running, err := b.started(ctx)
	if err != nil {
		return outcome{}, err
	}
	running = slices.DeleteFunc(slices.Clone(running), func(p *proxies.Proxy) bool {
		return p.Name == gatehouseInfoName && !s.withInfo
	})
	t := &turns{unit: s.unit}
	for _, proxy := range running {
		t.rows = append(t.rows, &row{name: proxy.Name})
	}
	plan := s.plan
	if s.people == many {
		plan.Connections, s.people = b.o.people, b.o.people
	}
	plan.Tokens, plan.Warm, plan.For = b.tokens(s.people, 3), b.o.warm, b.o.length
	for round := range b.o.rounds + countedRounds {
		if plan.Instructions = round >= b.o.rounds; plan.Instructions && !b.o.instructions {
			break
		}
		for i, proxy := range running {
			result, err := b.turn(ctx, plan, proxy, i == 0)
			if err != nil {
				return outcome{}, fmt.Errorf("%s: %w", proxy.Name, err)
			}
			if plan.Instructions {
				t.rows[i].counted = append(t.rows[i].counted, result)
			} else {
				t.rows[i].results = append(t.rows[i].results, result)
			}
		}
	}
	out := outcome{table: t.table(s.title), figures: t.figures()}
	out.table.Note = s.note
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
	return result, nil
}

// figure makes a number of a result.
type figure func(load.Result) float64

func cpu(r load.Result) float64      { return micros(r.CPU) / float64(r.Requests) }
func rate(r load.Result) float64     { return float64(r.Requests) / r.Elapsed.Seconds() }
func counted(r load.Result) float64  { return float64(r.Instructions) / 1000 / float64(r.Requests) }
func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

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
	unit, sign, digits := float64(time.Microsecond), "µs", 0
	if t.unit == time.Millisecond {
		unit, sign, digits = float64(time.Millisecond), "ms", 1
	}
	scale := unit / float64(time.Microsecond)
	inUnit := func(f figure) figure { return func(r load.Result) float64 { return f(r) / scale } }
	cheapest, fastest := t.best(cpu, false), t.best(rate, true)
	out := &report.Table{Title: title, Head: []string{
		"proxy", "CPU each, " + sign, "to HAProxy", "instructions, 1000", "to HAProxy", "a second", "to HAProxy", "p50, " + sign, "p90", "p99", "p99.9",
	}}
	for _, r := range t.rows {
		cells := []string{r.name, report.Spread(r.values(inUnit(cpu)), digits), fmt.Sprintf("%.2f", r.ratio(cheapest, cpu))}
		cells = append(cells, r.countedCells(t.leanest())...)
		cells = append(cells, strconv.Itoa(int(r.median(rate))), fmt.Sprintf("%.2f", r.ratio(fastest, rate)))
		for _, f := range latencies() {
			cells = append(cells, fmt.Sprintf("%.*f", digits, r.median(inUnit(f))))
		}
		out.Rows = append(out.Rows, cells)
	}
	return out
}

// countedCells are how many instructions a request takes, and the ratio to other.
func (r *row) countedCells(other *row) []string {
	if len(r.counted) == 0 || len(other.counted) == 0 {
		return []string{"", ""}
	}
	return []string{fmt.Sprintf("%.0f", r.instructions()), fmt.Sprintf("%.2f", r.instructions()/other.instructions())}
}

func (r *row) instructions() float64 {
	list := make([]float64, len(r.counted))
	for i, result := range r.counted {
		list[i] = counted(result)
	}
	return report.Median(list)
}

// leanest is the HAProxy that takes the fewest instructions, or the first proxy.
func (t *turns) leanest() *row {
	var best *row
	for _, r := range t.rows {
		if isHAProxy(r.name) && len(r.counted) > 0 && (best == nil || r.instructions() < best.instructions()) {
			best = r
		}
	}
	if best == nil {
		return t.rows[0]
	}
	return best
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
	less := ""
	if leanest := t.leanest(); len(us.counted) > 0 && len(leanest.counted) > 0 {
		less = fmt.Sprintf("; in instructions %.2f ×", us.instructions()/leanest.instructions())
	}
	used, served := us.ratio(t.best(cpu, false), cpu), us.ratio(t.best(rate, true), rate)
	return []report.Goal{
		{What: "CPU, " + title, Goal: "≤ 1.0 × HAProxy", Measured: fmt.Sprintf("%.2f ×", used) + less, Reached: used <= 1},
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
	ms, measured := us.median(cpu)/1000, ""
	if other := t.best(cpu, false); isHAProxy(other.name) {
		measured = fmt.Sprintf("; HAProxy %.1f ms", other.median(cpu)/1000)
	}
	return []report.Goal{{
		What: "CPU, " + title, Goal: fmt.Sprintf("≤ %d ms", listGoal),
		Measured: fmt.Sprintf("%.1f ms", ms) + measured, Reached: ms <= listGoal,
	}}
}
