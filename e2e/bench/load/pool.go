package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// parallel is how many connections are opened at the same time.
const parallel = 16

// key names the connections that a plan needs.
func (p Plan) key() string {
	return fmt.Sprint(p.Address, p.Protocol, p.Path, p.Connections, p.Streams, len(p.Tokens), p.Tokens[0])
}

// pool returns open connections for a plan, those of its last run if there was
// one. Each of them has answered a request, or was opened anew.
func (g *Generator) pool(ctx context.Context, p Plan) ([]client, error) {
	key := p.key()
	clients := g.pools[key]
	if clients == nil {
		clients = make([]client, p.Connections)
	}
	var wait sync.WaitGroup
	errs := make([]error, parallel)
	for worker := range parallel {
		wait.Go(func() {
			for i := worker; i < len(clients) && errs[worker] == nil; i += parallel {
				if clients[i] != nil && clients[i].once() == nil {
					continue
				}
				clients[i], errs[worker] = g.connect(ctx, p, p.Tokens[i%len(p.Tokens)])
			}
		})
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err // the others met the same
		}
	}
	if g.pools == nil {
		g.pools = map[string][]client{}
	}
	g.pools[key] = clients
	return clients, nil
}

// drop closes the connections of a plan.
func (g *Generator) drop(p Plan) {
	for _, c := range g.pools[p.key()] {
		_ = c.close() // nothing is lost with it
	}
	delete(g.pools, p.key())
}

// Close closes all connections.
func (g *Generator) Close() {
	if g.watches != nil {
		g.watches.close()
		g.watches = nil
	}
	for key, clients := range g.pools {
		for _, c := range clients {
			_ = c.close()
		}
		delete(g.pools, key)
	}
}

// connect opens a connection and has one request answered on it.
func (g *Generator) connect(ctx context.Context, p Plan, token string) (client, error) {
	conn, err := g.dial(ctx, p.Address, p.Protocol)
	if err != nil {
		return nil, err
	}
	var c client
	if p.Protocol == HTTP2 {
		c, err = newClient2(conn, p, token)
	} else {
		c = newClient1(conn, p, token)
	}
	if err == nil {
		err = c.once()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a connection to %s: %w", p.Address, err), conn.Close())
	}
	return c, nil
}

// dialTimeout limits how long a connection may take, its handshake included.
const dialTimeout = 20 * time.Second

func (g *Generator) dial(ctx context.Context, address, protocol string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	config := g.TLS.Clone()
	config.NextProtos, config.ServerName = []string{alpn(protocol)}, "127.0.0.1"
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("shake hands with %s: %w", address, err), raw.Close())
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != alpn(protocol) {
		return nil, errors.Join(fmt.Errorf("%s speaks %q in place of %q", address, got, alpn(protocol)), conn.Close())
	}
	return conn, nil
}

func alpn(protocol string) string {
	if protocol == HTTP2 {
		return "h2"
	}
	return "http/1.1"
}
