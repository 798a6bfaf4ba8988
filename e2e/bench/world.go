package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/load"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/proxies"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// world is everything but the proxies: an authority, an issuer, the upstream and
// the generator of load, each of the last two a process.
type world struct {
	proxies.World
	issuer *authtest.Issuer
	signed map[[2]int][]string // what tokens returned before
	stub   *proc.Process
	load   *proc.Process
	remote *load.Remote
	plans  io.Closer // its end is the generator's
}

// newWorld starts the world in dir.
func newWorld(ctx context.Context, dir string, workers int) (w *world, err error) {
	w = &world{}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	w.Dir, w.Workers, w.Token, w.ClientID = dir, workers, "the-proxys-own-"+rand.Text(), authtest.Audience
	if w.Authority, err = pki.NewAuthority(filepath.Join(dir, "tls"), "bench-ca"); err != nil {
		return w, err
	}
	if w.issuer, err = authtest.NewIssuer(w.Authority.CA); err != nil {
		return w, err
	}
	w.IssuerURL = w.issuer.URL
	if w.PublicKeyFile, err = writeKey(dir, w.issuer); err != nil {
		return w, err
	}
	self, err := os.Executable()
	if err != nil {
		return w, fmt.Errorf("find this program: %w", err)
	}
	if err = w.startStub(ctx, self); err != nil {
		return w, err
	}
	return w, w.startLoad(ctx, self)
}

// writeKey writes the issuer's public key as PEM: HAProxy cannot fetch it.
func writeKey(dir string, issuer *authtest.Issuer) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(issuer.Key().JWK().Key)
	if err != nil {
		return "", fmt.Errorf("encode the issuer's key: %w", err)
	}
	path := filepath.Join(dir, "issuer.pem")
	return path, pki.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func (w *world) startStub(ctx context.Context, self string) error {
	pair, err := w.Authority.Loopback("stub")
	if err != nil {
		return err
	}
	ports, err := proc.Ports(1)
	if err != nil {
		return err
	}
	w.Upstream = proc.Loopback(ports[0])
	var output proc.Lines
	w.stub, err = proc.Start(ctx, proc.Config{
		Path: self, Args: []string{roleStub, w.Upstream, pair.CertFile, pair.KeyFile},
		Env: []string{tokenVariable + "=" + w.Token}, Stdout: &output, Stderr: &output,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err = w.stub.Await(ctx, func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", w.Upstream)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		return fmt.Errorf("start the stub: %w\nit printed: %q", err, output.All())
	}
	return nil
}

func (w *world) startLoad(ctx context.Context, self string) error {
	in, plans, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the generator: %w", err)
	}
	replies, out, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("start the generator: %w", err), in.Close(), plans.Close())
	}
	w.load, err = proc.Start(ctx, proc.Config{
		Path: self, Args: []string{roleLoad, w.Authority.CAFile}, Stdin: in, Stdout: out, Stderr: os.Stderr,
	})
	if err := errors.Join(err, in.Close(), out.Close()); err != nil {
		return err
	}
	w.remote, w.plans = load.NewRemote(plans, replies), plans
	return nil
}

// close ends all that was started.
func (w *world) close() {
	if w.plans != nil {
		_ = w.plans.Close()
		w.load.Stop()
	}
	if w.stub != nil {
		w.stub.Stop()
	}
	if w.issuer != nil {
		_ = w.issuer.Close() // nobody asks it any more
	}
}

// tokens are those of n people, each in so many groups: of the length that issuers
// give them.
func (w *world) tokens(n, groups int) []string {
	if list := w.signed[[2]int{n, groups}]; list != nil {
		return list
	}
	all := make([]string, groups)
	for i := range all {
		all[i] = "developers-" + strconv.Itoa(i)
	}
	list := make([]string, n)
	for i := range list {
		name := "person-" + strconv.Itoa(i)
		list[i] = w.issuer.Token(authtest.Claims{
			"sub": "b3f1d0a2-6c1e-4f6e-9a39-" + fmt.Sprintf("%012d", i), "email": name + "@example.com",
			"name": "Person Number " + strconv.Itoa(i), "preferred_username": name,
			"auth_time": time.Now().Unix(), "sid": "0d9c2c9e-5a35-4b9d-8c5a-51b1c2a1b0aa",
			"groups": all,
		})
	}
	if w.signed == nil {
		w.signed = map[[2]int][]string{}
	}
	w.signed[[2]int{n, groups}] = list
	return list
}
