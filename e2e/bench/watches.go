package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/bench/load"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/proxies"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/report"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/stub"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/usage"
)

// How the watches are measured.
const (
	watchesEach = 100 // on a connection, as client-go has at most
	// watchGoal is how much memory an idle watch may take, in KiB.
	watchGoal = 12
)

// watchRow is what watches cost one proxy.
type watchRow struct {
	name     string
	idle     memory
	at       []memory    // for each step
	last     [][]float64 // the same: ms until the last watch had the event
	delivery [][]float64 // the same: µs for each watch that an event goes to
}

// memory in bytes.
type memory struct{ rss, pss int64 }

// measureWatches starts each proxy anew, for memory that nothing else has used.
func measureWatches(ctx context.Context, b *bench) (outcome, error) {
	var rows []watchRow
	for _, name := range b.o.proxies {
		if name == gatehouseInfoName {
			continue
		}
		r, err := b.watchOne(ctx, name)
		if err != nil {
			return outcome{}, fmt.Errorf("%s: %w", name, err)
		}
		rows = append(rows, r)
	}
	return b.watchOutcome(rows), nil
}

func (b *bench) watchOne(ctx context.Context, name string) (r watchRow, err error) {
	r.name = name
	proxy, err := b.start(ctx, name)
	if err != nil {
		return r, err
	}
	defer proxy.Stop()
	defer func() { err = errors.Join(err, b.remote.Close()) }()
	token := b.tokens(1, 3)[0]
	// A little of everything first, so that what a proxy has once is not taken for
	// a part of each watch.
	warm := load.Plan{
		Address: proxy.Address, Protocol: load.HTTP2, Path: stub.PodPath, BodyBytes: stub.PodBytes, Tokens: []string{token},
		Connections: 4, Streams: 8, InFlight: 32, For: 300 * time.Millisecond,
	}
	if _, err := b.remote.Run(warm); err != nil {
		return r, err
	}
	if r.idle, err = b.settled(ctx, proxy); err != nil {
		return r, err
	}
	open := 0
	for _, n := range b.o.watchSteps {
		err := b.remote.Watch(load.Watching{
			Address: proxy.Address, Path: stub.WatchPath, Token: token,
			Connections: (n - open) / watchesEach, Streams: watchesEach,
		}, stub.EventBytes)
		if err != nil {
			return r, err
		}
		open = n
		m, err := b.settled(ctx, proxy)
		if err != nil {
			return r, err
		}
		last, used, err := b.fanOut(ctx, proxy, n)
		if err != nil {
			return r, err
		}
		r.at, r.last, r.delivery = append(r.at, m), append(r.last, last), append(r.delivery, used)
	}
	return r, nil
}

// settled reads the memory of a proxy that had nothing to do for a while.
func (b *bench) settled(ctx context.Context, proxy *proxies.Proxy) (memory, error) {
	select {
	case <-ctx.Done():
		return memory{}, ctx.Err()
	case <-time.After(b.o.settle):
	}
	pids, err := proxy.PIDs()
	if err != nil {
		return memory{}, err
	}
	var m memory
	m.rss, m.pss, err = usage.Memory(pids...)
	return m, err
}

// fanOut emits an event for each round and measures when the last of n watches
// has it, and what that cost the proxy for each watch.
func (b *bench) fanOut(ctx context.Context, proxy *proxies.Proxy, n int) (last, used []float64, err error) {
	pids, err := proxy.PIDs()
	if err != nil {
		return nil, nil, err
	}
	for range b.o.rounds {
		before, err := usage.CPU(pids...)
		if err != nil {
			return nil, nil, err
		}
		began, watches, err := b.emit(ctx)
		if err != nil {
			return nil, nil, err
		}
		if watches != n {
			return nil, nil, fmt.Errorf("the upstream has %d watches, not %d", watches, n)
		}
		arrival, err := b.remote.Await()
		if err != nil {
			return nil, nil, err
		}
		after, err := usage.CPU(pids...)
		if err != nil {
			return nil, nil, err
		}
		last = append(last, micros(arrival.Last.Sub(began))/1000)
		used = append(used, micros(after-before)/float64(n))
	}
	return last, used, nil
}

// emit has the upstream send an event to every watch, and returns when it began,
// and how many those are.
func (b *bench) emit(ctx context.Context) (began time.Time, watches int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+b.Upstream+stub.EmitPath, nil)
	if err != nil {
		return time.Time{}, 0, err
	}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: b.Authority.Pool(), MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
	}}
	resp, err := client.Do(req)
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("emit an event: %w", err)
	}
	defer resp.Body.Close()
	var emitted stub.Emitted
	if err := json.NewDecoder(resp.Body).Decode(&emitted); err != nil {
		return time.Time{}, 0, fmt.Errorf("emit an event: %w", err)
	}
	return time.Unix(0, emitted.Began), emitted.Watches, nil
}

// each is what one of the watches takes at a step, in KiB.
func (r watchRow) each(i, watches int) (rss, pss float64) {
	n := float64(watches) * kibibyte
	return float64(r.at[i].rss-r.idle.rss) / n, float64(r.at[i].pss-r.idle.pss) / n
}

func (b *bench) watchOutcome(rows []watchRow) outcome {
	out := outcome{figures: map[string]float64{}, table: &report.Table{
		Title: "Idle watches over HTTP/2, 100 on a connection, and an event of 1 KiB to all of them",
		Note: "Memory is that of the process, 3 s after the last was opened, less what it had before. What the kernel keeps for each " +
			"connection is not in it: nginx, and HAProxy with HTTP/1.1 upstream, have a connection to the upstream for each watch. " +
			"The event's time is until the last watch has it; the upstream and the load generator share the processors.",
		Head: []string{"proxy", "MiB before"},
	}}
	for _, n := range b.o.watchSteps {
		at := fmt.Sprintf(" at %d", n)
		out.table.Head = append(out.table.Head, "KiB a watch (RSS)"+at, "(PSS)"+at, "event, ms"+at, "CPU µs a watch"+at)
	}
	for _, r := range rows {
		cells := []string{r.name, fmt.Sprintf("%.1f", float64(r.idle.pss)/mebibyte)}
		for i, n := range b.o.watchSteps {
			rss, pss := r.each(i, n)
			cells = append(cells, fmt.Sprintf("%.1f", rss), fmt.Sprintf("%.1f", pss), report.Spread(r.last[i], 0), report.Spread(r.delivery[i], 1))
			if r.name == gatehouseName {
				out.goals = append(out.goals, report.Goal{
					What: fmt.Sprintf("memory of each of %d idle watches", n), Goal: fmt.Sprintf("≤ %d KiB", watchGoal),
					Measured: fmt.Sprintf("%.1f KiB", rss), Reached: rss <= watchGoal,
				})
				out.figures[watchKiB] = rss
				out.figures[eventCPU] = report.Median(r.delivery[i])
				out.figures[idleMiB] = float64(r.idle.rss) / mebibyte
			}
		}
		out.table.Rows = append(out.table.Rows, cells)
	}
	return out
}
