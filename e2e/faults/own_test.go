package faults_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

const (
	// ownAccount has the rights of gatehouse's own, and tokens that no other test
	// uses.
	ownAccount = "rotated"
	// remembers is how long the API server knows a token it has just seen.
	remembers = 10 * time.Second
)

// Promise: when the token of gatehouse's own account is replaced, and the old one
// revoked once the new one is in use, no request fails.
func (s *suite) testOwnToken(t *testing.T) {
	manifest, err := os.ReadFile(s.Deploy("rbac-token-review.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	again := strings.ReplaceAll(string(manifest), "name: "+stage.AccountName+"\n", "name: "+ownAccount+"\n")
	again = strings.ReplaceAll(again, "namespace: "+stage.AccountNamespace+"\n", "namespace: "+ownAccount+"\n")
	if err := s.Cluster.Apply(t.Context(), []byte(again)); err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := s.Cluster.ServiceAccountKubeconfig(t.Context(), ownAccount, ownAccount)
	if err != nil {
		t.Fatal(err)
	}
	g := s.startGatehouse(t, gatehouse.Config{}, map[string]string{"GATEHOUSE_KUBECONFIG": kubeconfig})
	p, count := s.person("developers"), &tally{}
	asking := keepAsking(t, s.client(t, http2), g.URL(), 4, 50*time.Millisecond, count, read(p.token), write(p.token))
	f := startFeed(t, "own", clientGo(t, s.config(g.URL(), p), http2), 10, 100*time.Millisecond, count, count)
	eventually(t, limit, func() error { return f.follows(1) })
	for range 2 {
		before := mustMetrics(t, g)
		if err := s.Cluster.RotateToken(t.Context(), ownAccount, ownAccount); err != nil {
			t.Fatal(err)
		}
		awaitMetric(t, g, before, 1, "gatehouse_reloads_total", `result="success"`, `source="upstream_token"`)
		if err := s.Cluster.RevokeTokens(t.Context(), ownAccount, ownAccount); err != nil {
			t.Fatal(err)
		}
	}
	// The old ones are refused when the API server has forgotten them.
	revoked := time.Now()
	eventually(t, limit, func() error {
		if time.Since(revoked) < remembers {
			return errors.New("the API server may still know the old token")
		}
		return nil
	})
	eventually(t, limit, count.more(100))
	asking.stop()
	stopFeeds(t, f)
	count.judge(nobody)
	count.report(t, s.rows, row{
		fault: "token of gatehouse's own account replaced, the old one revoked", load: "reads, writes and 10 watches", why: "nothing",
	})
}

// Promise: when the serving certificate is replaced, no connection is closed and
// none fails to be made.
func (s *suite) testCertificate(t *testing.T) {
	pair, err := s.front.Loopback("renewed")
	if err != nil {
		t.Fatal(err)
	}
	g := s.startGatehouse(t, gatehouse.Config{}, map[string]string{
		"GATEHOUSE_TLS_CERT_FILE": pair.CertFile, "GATEHOUSE_TLS_KEY_FILE": pair.KeyFile,
	})
	p, count := s.person("developers"), &tally{}
	fresh := s.client(t, http1)
	transportOf(fresh).DisableKeepAlives = true
	stays := keepAsking(t, s.client(t, http2), g.URL(), 2, 50*time.Millisecond, count, read(p.token), write(p.token))
	comes := keepAsking(t, fresh, g.URL(), 2, 50*time.Millisecond, count, read(p.token), write(p.token))
	f := startFeed(t, "certificate", clientGo(t, s.config(g.URL(), p), http2), 10, 100*time.Millisecond, count, count)
	eventually(t, limit, func() error { return f.follows(1) })
	for range 3 {
		if _, err := s.front.Loopback("renewed"); err != nil {
			t.Fatal(err)
		}
		loaded, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, reloadLimit, func() error { return s.serves(g, loaded.Leaf.SerialNumber.String()) })
		eventually(t, limit, count.more(50))
	}
	stays.stop()
	comes.stop()
	stopFeeds(t, f)
	count.judge(nobody)
	count.report(t, s.rows, row{
		fault: "serving certificate replaced", load: "reads and writes over old and new connections, and 10 watches", why: "nothing",
	})
}

// serves returns an error unless a new connection gets the certificate with this
// serial number.
func (s *suite) serves(g *gatehouse.Instance, serial string) error {
	address, err := url.Parse(g.URL())
	if err != nil {
		return err
	}
	conn, err := tls.Dial("tcp", address.Host, &tls.Config{RootCAs: s.front.Pool(), MinVersion: tls.VersionTLS12})
	if err != nil {
		return err
	}
	defer conn.Close()
	if got := conn.ConnectionState().PeerCertificates[0].SerialNumber.String(); got != serial {
		return fmt.Errorf("the certificate %s is served, want %s", got, serial)
	}
	return nil
}
