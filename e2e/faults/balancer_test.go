package faults_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
)

// balancer hands connections to those replicas that say they are ready, as a
// load balancer of TCP or a Kubernetes Service does. What is open stays where it
// is. It does not know what passes.
type balancer struct {
	listener net.Listener
	mu       sync.Mutex
	replicas []*replica
	turn     int
}

type replica struct {
	*gatehouse.Instance
	address string
	ready   bool
	end     context.CancelFunc
}

// probeEvery is how often a replica is asked whether it is ready.
const probeEvery = 100 * time.Millisecond

func newBalancer(t *testing.T, replicas ...*gatehouse.Instance) *balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{listener: listener}
	t.Cleanup(func() { listener.Close() })
	for _, g := range replicas {
		b.add(t, g)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go b.serve(conn)
		}
	}()
	return b
}

func (b *balancer) url() string { return "https://" + b.listener.Addr().String() }

// add returns once the new replica gets connections.
func (b *balancer) add(t *testing.T, g *gatehouse.Instance) {
	t.Helper()
	ctx, end := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(end)
	r := &replica{Instance: g, address: strings.TrimPrefix(g.URL(), "https://"), end: end}
	b.mu.Lock()
	b.replicas = append(b.replicas, r)
	b.mu.Unlock()
	go b.probe(ctx, r)
	eventually(t, limit, func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !r.ready {
			return errors.New("the new replica is not ready")
		}
		return nil
	})
}

func (b *balancer) remove(g *gatehouse.Instance) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replicas = slices.DeleteFunc(b.replicas, func(r *replica) bool {
		if r.Instance == g {
			r.end()
		}
		return r.Instance == g
	})
}

func (b *balancer) probe(ctx context.Context, r *replica) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		code, _, err := r.Ops(ctx, "/readyz")
		b.mu.Lock()
		r.ready = err == nil && code == http.StatusOK
		b.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// pick returns the address of the next replica that is ready.
func (b *balancer) pick() (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.replicas {
		b.turn++
		if r := b.replicas[b.turn%len(b.replicas)]; r.ready {
			return r.address, nil
		}
	}
	return "", fmt.Errorf("none of %d replicas is ready", len(b.replicas))
}

func (b *balancer) serve(client net.Conn) {
	defer client.Close()
	address, err := b.pick()
	if err != nil {
		return
	}
	server, err := net.DialTimeout("tcp", address, limit)
	if err != nil {
		return
	}
	defer server.Close()
	splice(client, server)
}

// splice copies both ways until both have ended.
func splice(a, b net.Conn) {
	var wait sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		wait.Go(func() {
			_, err := io.Copy(way[0], way[1])
			if err != nil {
				way[1].Close()
			}
			if half, ok := way[0].(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
		})
	}
	wait.Wait()
}
