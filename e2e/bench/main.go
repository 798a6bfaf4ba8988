// Command bench measures gatehouse beside HAProxy, which checks tokens too, and
// nginx, which does not, in one run over one stub upstream.
//
//	go run ./bench                                          # everything; make bench writes documents of it
//	go run ./bench -run get,many -proxies gatehouse,haproxy,haproxy-h2 -for 1s -rounds 7 -instructions
//	go run ./bench -run get-h2 -gatehouse /path/to/one -other /path/to/another -proxies gatehouse,other
//	go run ./bench -run get-h1 -proxies gatehouse -for 10s -rounds 1 -perf /tmp/get-h1.perf
//
// The proxies take turns, round by round, and each ratio is taken within a round
// before the median over the rounds: what else the machine does meanwhile meets
// all of them.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/kube-gatehouse/gatehouse/e2e/bench/load"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/stub"
)

// The roles of this program: it starts itself again as the upstream and as the
// generator of load.
const (
	roleStub = "stub"
	roleLoad = "load"
)

// tokenVariable hands the stub the credential that it takes.
const tokenVariable = "BENCH_TOKEN"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == roleStub {
		return serveStub(ctx, args[1:])
	}
	if len(args) > 0 && args[0] == roleLoad {
		return serveLoad(ctx, args[1:])
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	m, err := describe(ctx, o.gatehouse)
	if err != nil {
		return err
	}
	outcomes, err := measureAll(ctx, o, &m)
	if err != nil || o.docs == "" {
		return err
	}
	return writeDocuments(o, m, outcomes)
}

// serveStub is the upstream: address, certificate and key are its arguments.
func serveStub(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("stub: want an address, a certificate and a key")
	}
	pair, err := tls.LoadX509KeyPair(args[1], args[2])
	if err != nil {
		return fmt.Errorf("stub: read the certificate: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", args[0])
	if err != nil {
		return fmt.Errorf("stub: %w", err)
	}
	return stub.New(stub.Config{Certificate: pair, Token: os.Getenv(tokenVariable)}).Serve(ctx, listener)
}

// serveLoad is the generator of load: the authority of the proxies is its
// argument.
func serveLoad(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("load: want a file with the authority")
	}
	b, err := os.ReadFile(args[0])
	if err != nil {
		return fmt.Errorf("load: read the authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return fmt.Errorf("load: no certificate in %s", args[0])
	}
	g := &load.Generator{TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	return g.Serve(ctx, os.Stdin, os.Stdout)
}
