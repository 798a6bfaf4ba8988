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

// Figures of the slopes, by which the document about scaling calculates.
const (
	groupCPU        = "CPU µs a group"
	tokenKiB        = "KiB a token"
	firstCPU        = "CPU µs for a token's first request"
	connectionKiB   = "KiB a connection"
	issuerKiB       = "KiB an issuer"
	issuerCPU       = "CPU µs an issuer"
	issuersReadyMS  = "ms to ready with many issuers"
	settledIdleMiB  = "MiB before"
	pairedFormat    = "%.2f"
	kibibyte        = 1 << 10
	mebibyte        = 1 << 20
	tokensInFlight  = 8
	parallelStreams = 8
)

// small is the plan of small requests over HTTP/2, 32 in flight.
func (b *bench) small(proxy *proxies.Proxy, tokens ...string) load.Plan {
	return load.Plan{
		Address: proxy.Address, Protocol: load.HTTP2, Path: stub.PodPath, BodyBytes: stub.PodBytes, Tokens: tokens,
		Connections: 4, Streams: parallelStreams, InFlight: 4 * parallelStreams, Warm: b.o.warm, For: b.o.length,
	}
}

// alone starts a gatehouse that nothing else uses.
func (b *bench) alone(ctx context.Context, issuers ...string) (*proxies.Proxy, error) {
	return b.Gatehouse(ctx, proxies.Gatehouse{Name: gatehouseName, Binary: b.o.gatehouse, LogLevel: b.o.level, Issuers: issuers})
}

// paired has two plans take turns and returns the CPU of each request in µs, and
// the median difference.
func (b *bench) paired(ctx context.Context, one, two load.Plan, p, q *proxies.Proxy) (first, second []float64, more float64, err error) {
	var differences []float64
	for range b.o.rounds {
		r, err := b.turn(ctx, one, p, false)
		if err != nil {
			return nil, nil, 0, err
		}
		s, err := b.turn(ctx, two, q, false)
		if err != nil {
			return nil, nil, 0, err
		}
		first, second = append(first, cpu(r)), append(second, cpu(s))
		differences = append(differences, cpu(s)-cpu(r))
	}
	return first, second, report.Median(differences), nil
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
	few, many := b.small(proxy, b.tokens(1, n.from)...), b.small(proxy, b.tokens(1, n.to)...)
	first, second, more, err := b.paired(ctx, few, many, proxy, proxy)
	if err != nil {
		return outcome{}, err
	}
	each := more / float64(n.to-n.from)
	return outcome{figures: map[string]float64{groupCPU: each}, table: &report.Table{
		Title: "Groups of a user: CPU of a GET over HTTP/2, 32 in flight", Head: []string{"groups", "CPU each, µs"},
		Note: "Each group is a header line of its own to the API server, which has to be written for each request.",
		Rows: [][]string{
			{fmt.Sprint(n.from), report.Spread(first, 0)}, {fmt.Sprint(n.to), report.Spread(second, 0)},
			{"**one more**", fmt.Sprintf(pairedFormat, each)},
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
	plan.Each, plan.InFlight = true, tokensInFlight
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
		figures: map[string]float64{tokenKiB: each, firstCPU: used[0] - used[1], settledIdleMiB: float64(before.rss) / mebibyte},
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
	var sides [2]*proxies.Proxy
	var plans [2]load.Plan
	var memories [2]memory
	for i, count := range []int{n.from, n.to} {
		if sides[i], err = b.alone(ctx, urls[:count]...); err != nil {
			return outcome{}, err
		}
		defer sides[i].Stop()
		plans[i] = b.small(sides[i], issuers[count-1].Token(authtest.Claims{"email": "person@example.com", "groups": []string{"developers"}}))
		if memories[i], err = b.settled(ctx, sides[i]); err != nil {
			return outcome{}, err
		}
	}
	defer func() { err = errors.Join(err, b.remote.Close()) }()
	first, second, more, err := b.paired(ctx, plans[0], plans[1], sides[0], sides[1])
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
		figures: map[string]float64{issuerKiB: eachKiB, issuerCPU: eachCPU, issuersReadyMS: millis(wall)},
		table: &report.Table{
			Title: "Trusted issuers: memory after the start, and CPU of a GET with a token of the last one",
			Note:  fmt.Sprintf("With %d issuers gatehouse was ready after %.0f ms.", n.to, millis(wall)),
			Head:  []string{"issuers", "MiB", "CPU each, µs"},
			Rows: [][]string{
				{fmt.Sprint(n.from), mib(memories[0]), report.Spread(first, 0)},
				{fmt.Sprint(n.to), mib(memories[1]), report.Spread(second, 0)},
				{"**one more**", fmt.Sprintf("%.0f KiB", eachKiB), fmt.Sprintf(pairedFormat, eachCPU)},
			},
		},
	}, nil
}
