package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/bench/usage"
)

// each sends one request with each token of p. The latencies are not kept.
func (g *Generator) each(ctx context.Context, p Plan) (Result, error) {
	before, err := usage.CPU(p.PIDs...)
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	errs := make([]error, p.InFlight)
	var wait sync.WaitGroup
	for worker := range p.InFlight {
		wait.Go(func() { errs[worker] = g.share(ctx, p, worker) })
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return Result{}, fmt.Errorf("send each token once to %s: %w", p.Address, err)
	}
	r := Result{Requests: int64(len(p.Tokens)), Elapsed: time.Since(began)}
	after, err := usage.CPU(p.PIDs...)
	r.CPU = after - before
	return r, err
}

// share sends the tokens of one worker over one connection.
func (g *Generator) share(ctx context.Context, p Plan, worker int) (err error) {
	conn, err := g.dial(ctx, p.Address, HTTP1)
	if err != nil {
		return err
	}
	c := newClient1(conn, p, "")
	defer func() { err = errors.Join(err, c.close()) }()
	for i := worker; i < len(p.Tokens); i += p.InFlight {
		c.request = request1(p, p.Tokens[i])
		if err := c.once(); err != nil {
			return err
		}
	}
	return nil
}
