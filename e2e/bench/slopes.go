package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/load"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/proxies"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/report"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/stub"
)

// steps are from where to where something grows for its slope to be measured.
type steps struct{ from, to int }

// Figures by which the document about scaling calculates.
const (
	groupCPU      = "CPU µs a group"
	tokenKiB      = "KiB a token"
	firstCPU      = "CPU µs for a token's first request"
	connectionKiB = "KiB a connection"
	issuerKiB     = "KiB an issuer"
	issuerCPU     = "CPU µs an issuer"
	watchKiB      = "KiB a watch"
	eventCPU      = "CPU µs for an event to one watch"
	idleMiB       = "MiB before"
)

const (
	kibibyte = 1 << 10
	mebibyte = 1 << 20
)

// small is the plan of small requests over HTTP/2, 32 in flight.
func (b *bench) small(proxy *proxies.Proxy, tokens ...string) load.Plan {
	return load.Plan{
		Address: proxy.Address, Protocol: load.HTTP2, Path: stub.PodPath, BodyBytes: stub.PodBytes, Tokens: tokens,
		Connections: 4, Streams: 8, InFlight: 32, Warm: b.o.warm, For: b.o.length,
	}
}

// alone starts a gatehouse that nothing else uses.
func (b *bench) alone(ctx context.Context, issuers ...string) (*proxies.Proxy, error) {
	return b.Gatehouse(ctx, proxies.Gatehouse{Name: gatehouseName, Binary: b.o.gatehouse, LogLevel: b.o.level, Issuers: issuers})
}

// side is one of two that take turns.
type side struct {
	proxy *proxies.Proxy
	plan  load.Plan
	row   row
}

// paired has two sides take turns, and returns how much more CPU the second needs
// for each request, in µs.
func (b *bench) paired(ctx context.Context, sides *[2]side) (more float64, err error) {
	var differences []float64
	for round := range b.o.rounds + 1 {
		counting := round == b.o.rounds
		if counting && !b.o.instructions {
			break
		}
		for i := range sides {
			s := &sides[i]
			s.plan.Instructions = counting
			r, err := b.turn(ctx, s.plan, s.proxy, false)
			if err != nil {
				return 0, err
			}
			if counting {
				s.row.counted = append(s.row.counted, r)
			} else {
				s.row.results = append(s.row.results, r)
			}
		}
		if !counting {
			differences = append(differences, cpu(sides[1].row.results[round])-cpu(sides[0].row.results[round]))
		}
	}
	return report.Median(differences), nil
}

// cells are the CPU and the instructions of a side.
func (s *side) cells() []string {
	cells := []string{report.Spread(s.row.values(cpu), 0), ""}
	if len(s.row.counted) > 0 {
		cells[1] = fmt.Sprintf("%.0f", s.row.instructions())
	}
	return cells
}

// moreInstructions are those of the second side, for each of n steps, in
// thousands; empty if they were not counted.
func moreInstructions(sides [2]side, n int) string {
	if len(sides[0].row.counted) == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", (sides[1].row.instructions()-sides[0].row.instructions())/float64(n))
}

// measureGroups has a person in few groups and one in many ask in turn.
func measureGroups(ctx context.Context, b *bench) (out outcome, err error) {
	proxy, err := b.alone(ctx)
	if err != nil {
		return outcome{}, err
	}
	defer proxy.Stop()
	defer func() { err = errors.Join(err, b.remote.Close()) }()
	n := b.o.groups
	sides := [2]side{{proxy: proxy, plan: b.small(proxy, b.tokens(1, n.from)...)}, {proxy: proxy, plan: b.small(proxy, b.tokens(1, n.to)...)}}
	more, err := b.paired(ctx, &sides)
	if err != nil {
		return outcome{}, err
	}
	each := more / float64(n.to-n.from)
	return outcome{figures: map[string]float64{groupCPU: each}, table: &report.Table{
		Title: "Groups of a user: CPU of a GET over HTTP/2, 32 in flight", Head: []string{"groups", "CPU each, µs", "instructions, 1000"},
		Note: "Each group is a header line of its own to the API server, which has to be written for each request.",
		Rows: [][]string{
			append([]string{fmt.Sprint(n.from)}, sides[0].cells()...), append([]string{fmt.Sprint(n.to)}, sides[1].cells()...),
			{"**one more**", fmt.Sprintf("%.2f", each), moreInstructions(sides, n.to-n.from)},
		},
	}}, nil
}

// measureTokens sends many tokens, each twice: at first it is verified, and then
// it is known.
func measureTokens(ctx context.Context, b *bench) (out outcome, err error) {
	proxy, err := b.alone(ctx)
	if err != nil {
		return outcome{}, err
	}
	defer proxy.Stop()
	defer func() { err = errors.Join(err, b.remote.Close()) }()
	if _, err := b.turn(ctx, b.small(proxy, b.tokens(1, 3)...), proxy, false); err != nil {
		return outcome{}, err
	}
	before, err := b.settled(ctx, proxy)
	if err != nil {
		return outcome{}, err
	}
	plan := b.small(proxy, b.tokens(b.o.slopeTokens, 3)...)
	plan.Each, plan.InFlight = true, 8
	var used [2]float64
	for i := range used {
		r, err := b.turn(ctx, plan, proxy, false)
		if err != nil {
			return outcome{}, err
		}
		used[i] = cpu(r)
	}
	after, err := b.settled(ctx, proxy)
	if err != nil {
		return outcome{}, err
	}
	each := float64(after.rss-before.rss) / kibibyte / float64(b.o.slopeTokens)
	return outcome{
		figures: map[string]float64{tokenKiB: each, firstCPU: used[0] - used[1]},
		table: &report.Table{
			Title: fmt.Sprintf("Tokens: %d different ones, each sent twice over HTTP/1.1, 8 in flight", b.o.slopeTokens),
			Note:  "The first request with a token has its RS256 signature verified; from then on the token is known.",
			Head:  []string{"", "CPU each, µs", "memory each, KiB"},
			Rows: [][]string{
				{"first request", fmt.Sprintf("%.0f", used[0]), fmt.Sprintf("%.1f", each)},
				{"second request", fmt.Sprintf("%.0f", used[1]), ""},
			},
		},
	}, nil
}

// measureConnections opens connections on which nothing is under way.
func measureConnections(ctx context.Context, b *bench) (out outcome, err error) {
	proxy, err := b.alone(ctx)
	if err != nil {
		return outcome{}, err
	}
	defer proxy.Stop()
	defer func() { err = errors.Join(err, b.remote.Close()) }()
	token := b.tokens(1, 3)[0]
	if _, err := b.turn(ctx, b.small(proxy, token), proxy, false); err != nil {
		return outcome{}, err
	}
	before, err := b.settled(ctx, proxy)
	if err != nil {
		return outcome{}, err
	}
	plan := b.small(proxy, token)
	plan.Connections, plan.Streams, plan.InFlight, plan.For = b.o.people, 1, 8, 50*time.Millisecond
	if _, err := b.turn(ctx, plan, proxy, false); err != nil {
		return outcome{}, err
	}
	after, err := b.settled(ctx, proxy)
	if err != nil {
		return outcome{}, err
	}
	each := float64(after.rss-before.rss) / kibibyte / float64(b.o.people)
	return outcome{figures: map[string]float64{connectionKiB: each}, table: &report.Table{
		Title: "Idle connections over HTTP/2, after one GET on each", Head: []string{"connections", "MiB", "memory each, KiB"},
		Rows: [][]string{{fmt.Sprint(b.o.people), fmt.Sprintf("%.1f", float64(after.rss)/mebibyte), fmt.Sprintf("%.1f", each)}},
	}}, nil
}

// measureIssuers compares a gatehouse that trusts one issuer with one that trusts
// many, and has people of the last one ask.
func measureIssuers(ctx context.Context, b *bench) (out outcome, err error) {
	n := b.o.issuers
	issuers := make([]*authtest.Issuer, n.to)
	urls := make([]string, n.to)
	for i := range issuers {
		if issuers[i], err = authtest.NewIssuer(b.Authority.CA); err != nil {
			return outcome{}, err
		}
		defer issuers[i].Close()
		urls[i] = issuers[i].URL
	}
	var sides [2]side
	var memories [2]memory
	for i, count := range []int{n.from, n.to} {
		s := &sides[i]
		if s.proxy, err = b.alone(ctx, urls[:count]...); err != nil {
			return outcome{}, err
		}
		defer s.proxy.Stop()
		s.plan = b.small(s.proxy, issuers[count-1].Token(authtest.Claims{"email": "person@example.com", "groups": []string{"developers"}}))
		if memories[i], err = b.settled(ctx, s.proxy); err != nil {
			return outcome{}, err
		}
	}
	defer func() { err = errors.Join(err, b.remote.Close()) }()
	more, err := b.paired(ctx, &sides)
	if err != nil {
		return outcome{}, err
	}
	wall, _, err := b.ReadyAfter(ctx, proxies.Gatehouse{Name: gatehouseName, Binary: b.o.gatehouse, LogLevel: b.o.level, Issuers: urls})
	if err != nil {
		return outcome{}, err
	}
	between := float64(n.to - n.from)
	eachKiB, eachCPU := float64(memories[1].rss-memories[0].rss)/kibibyte/between, more/between
	mib := func(m memory) string { return fmt.Sprintf("%.1f", float64(m.rss)/mebibyte) }
	return outcome{
		figures: map[string]float64{issuerKiB: eachKiB, issuerCPU: eachCPU},
		table: &report.Table{
			Title: "Trusted issuers: memory after the start, and CPU of a GET with a token of the last one",
			Note:  fmt.Sprintf("With %d issuers gatehouse was ready after %.0f ms.", n.to, millis(wall)),
			Head:  []string{"issuers", "MiB", "CPU each, µs", "instructions, 1000"},
			Rows: [][]string{
				append([]string{fmt.Sprint(n.from), mib(memories[0])}, sides[0].cells()...),
				append([]string{fmt.Sprint(n.to), mib(memories[1])}, sides[1].cells()...),
				{"**one more**", fmt.Sprintf("%.0f KiB", eachKiB), fmt.Sprintf("%.2f", eachCPU), moreInstructions(sides, n.to-n.from)},
			},
		},
	}, nil
}
