package main

import (
	"context"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/oidc"
)

// handOver is how long a changed issuer may take to fetch its keys before it
// takes the place of the present one all the same.
const handOver = 30 * time.Second

// replaceIssuer puts next into effect. Before serve begins that is at once;
// while it runs, the present issuer answers until next has keys.
func (p *parts) replaceIssuer(next *oidc.Issuer, issuers *oidc.Issuers) {
	if p.running == nil {
		p.issuer.Store(next)
		p.issuers.Swap(issuers)
		return
	}
	ctx, stop := context.WithCancel(p.running)
	p.swapping.Lock()
	defer p.swapping.Unlock()
	stopOld := p.stopIssuer
	p.stopIssuer = stop
	go next.Run(ctx)
	go func() {
		select {
		case <-next.Ready():
		case <-time.After(handOver):
		case <-ctx.Done():
			stopOld()
			return
		}
		p.swapping.Lock()
		defer p.swapping.Unlock()
		if ctx.Err() == nil { // else a later one has taken its place already
			p.issuer.Store(next)
			p.issuers.Swap(issuers)
		}
		stopOld()
	}()
}

// startIssuer begins to fetch the issuer's keys, until ctx ends.
func (p *parts) startIssuer(ctx context.Context) {
	p.running = ctx
	var issuerCtx context.Context
	issuerCtx, p.stopIssuer = context.WithCancel(ctx)
	if issuer := p.issuer.Load(); issuer != nil {
		go issuer.Run(issuerCtx)
	}
}
