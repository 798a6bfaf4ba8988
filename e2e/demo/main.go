// Command demo shows gatehouse at work on one machine, for real: it builds and
// starts a Kubernetes API server, an issuer and gatehouse, lets a few people
// use kubectl through it, checks every answer, and stays up to be tried.
//
//	cd e2e && go run ./demo         stays up until Ctrl-C
//	cd e2e && go run ./demo -once   ends after the tour, with 1 if a row failed
//
// Everything listens on 127.0.0.1, and everything is removed at the end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// The ports that gatehouse takes if they are free, else any others.
const (
	preferredPort         = 8443
	preferredOpsPort      = 8080
	preferredExchangePort = 8444
)

func main() {
	once := flag.Bool("once", false, "end after the tour, with exit code 1 if a row failed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Stdout, *once)
	stop()
	switch {
	case errors.Is(err, context.Canceled):
		os.Exit(130) // as a shell says of an interrupted command
	case err != nil:
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

// errRows says that the tour did not go as it must.
var errRows = errors.New("some rows failed")

// run is the whole demo. It returns nil after a tour without a failed row, and
// the error of ctx if that ends before the tour does.
func run(ctx context.Context, out io.Writer, once bool) error {
	dir, err := os.MkdirTemp("", "gatehouse-demo-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	nodeLog, err := logNode(dir)
	if err != nil {
		return err
	}
	defer nodeLog.Close()
	page := newPage(out)
	started := time.Now()
	// The processes outlive ctx, so that they end in order, not all at Ctrl-C.
	lasting := context.WithoutCancel(ctx)
	var fetched *helmFetch
	if !once {
		fetched = fetchHelm(ctx, dir)
		defer fetched.cancel()
	}
	set, err := raise(ctx, lasting, dir, out)
	if err != nil {
		return err
	}
	defer set.stop()
	fmt.Fprintf(out, "Ready after %s: gatehouse listens on %s.\n", time.Since(started).Round(100*time.Millisecond), set.gate.URL())

	failed, err := page.play(ctx, set, tour())
	if err != nil {
		return err
	}
	if once {
		return verdict(failed)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	page.invite(set, dir, forChart(ctx, dir, fetched))
	<-ctx.Done()
	fmt.Fprintln(out, "\nStopping.")
	return verdict(failed)
}

func verdict(failed int) error {
	if failed > 0 {
		return fmt.Errorf("%w: %d", errRows, failed)
	}
	return nil
}

// raise starts everything. What takes long heeds ctx; what is started lives
// with lasting.
func raise(ctx, lasting context.Context, dir string, out io.Writer) (*set, error) {
	type result struct {
		stage *stage.Stage
		err   error
	}
	starting, abandon := context.WithCancel(lasting)
	finished := make(chan result, 1)
	go func() {
		s, err := stage.Start(starting, stage.Config{Dir: dir, Progress: out, Cluster: withNode(dir)})
		finished <- result{s, err}
	}()
	select {
	case r := <-finished:
		if r.err != nil {
			abandon()
			return nil, r.err
		}
		return cast(ctx, starting, abandon, r.stage, dir)
	case <-ctx.Done():
		abandon()
		if r := <-finished; r.stage != nil {
			r.stage.Stop()
		}
		return nil, ctx.Err()
	}
}

// cast starts gatehouse on the stage and gives the people their credentials.
func cast(ctx, lasting context.Context, abandon context.CancelFunc, s *stage.Stage, dir string) (*set, error) {
	set, err := newSet(ctx, s, dir)
	if err == nil {
		env := s.Env()
		env["GATEHOUSE_TOKEN_AUTH_FILE"] = set.tokens.Path()
		env["GATEHOUSE_CLIENT_CA_FILE"], env["GATEHOUSE_CLIENT_CRL_FILE"] = set.wallet.caFile, set.wallet.listFile
		env["GATEHOUSE_TOKEN_REVIEW"] = "true"
		maps.Copy(env, set.lending.env())
		err = writeConfiguration(dir, s, set.partner, set.ci, env)
		set.env = env
	}
	if err == nil {
		err = set.giveRights(ctx)
	}
	if err == nil {
		set.gate, err = s.Gatehouse(lasting, gatehouse.Config{
			Dir: dir, Port: preferredPort, OpsPort: preferredOpsPort, StopTimeout: 5 * time.Second,
			Exchange: true, ExchangePort: preferredExchangePort,
		}, set.env)
	}
	if err == nil {
		maps.Copy(set.env, set.gate.ExchangeEnv())
		err = set.writeKubeconfig()
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		abandon()
		s.Stop()
		return nil, err
	}
	set.abandon = abandon
	return set, nil
}
