package main

import (
	"context"

	"github.com/kube-gatehouse/gatehouse/auth/oidc"
)

// replaceIssuer puts next into effect. Before serve begins that is at once;
// while it runs, the present issuer answers until next has keys: a CA file that
// verifies nobody locks nobody out.
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
		defer stopOld()
		select {
		case <-next.Ready():
		case <-ctx.Done():
			return
		}
		p.swapping.Lock()
		defer p.swapping.Unlock()
		if ctx.Err() == nil { // else a later one has taken its place already
			p.issuer.Store(next)
			p.issuers.Swap(issuers)
			p.log.Info("the issuer is reached with the changed CA file", "issuer", next.URL())
		}
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
