package faults_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
	"github.com/kube-gatehouse/gatehouse/e2e/stage/stagetest"
)

const (
	// limit is how long a single step may take on a busy machine.
	limit = 30 * time.Second
	// reloadLimit is the promise about files: a change counts within 10 s. It
	// is doubled, for a busy machine.
	reloadLimit = 20 * time.Second
)

// sideBySide is how many tests run at a time: they wait more than they work.
const sideBySide = 6

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(sideBySide)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// suite is the one real cluster, and what every gatehouse in front of it shares.
type suite struct {
	*stage.Stage
	plain  string         // gatehouse as it is shipped: the race detector needs memory
	front  *pki.Authority // signed the certificates of every gatehouse
	pair   pki.Pair
	rows   *table
	people atomic.Int64
}

// TestFaults: what breaks around gatehouse costs no request that could have been
// served. The tests are in the files beside this one.
func TestFaults(t *testing.T) {
	s := start(t)
	t.Run("side by side", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T){
			"shutdown":         s.testShutdown,
			"issuer":           s.testIssuer,
			"keys":             s.testKeys,
			"clock":            s.testClock,
			"black hole":       s.testBlackHole,
			"partition":        s.testPartition,
			"slow":             s.testSlow,
			"files":            s.testFiles,
			"issuer's CA file": s.testOneIssuerFile,
			"own token":        s.testOwnToken,
			"certificate":      s.testCertificate,
			"overload":         s.testOverload,
			"bad clients":      s.testBadClients,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t)
			})
		}
	})
	t.Run("soak", s.testSoak) // it measures: nobody else has the machine
	// This one stops the cluster for everybody.
	t.Run("API server killed", s.testAPIServerKilled)
	t.Run("table", s.testTable)
}

func start(t *testing.T) *suite {
	t.Helper()
	st, err := stage.Start(t.Context(), stage.Config{
		Dir: t.TempDir(), Progress: t.Output(), Build: build.Options{Race: stagetest.CanRace(t)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Stop)
	s := &suite{Stage: st, rows: &table{}, plain: filepath.Join(t.TempDir(), "gatehouse")}
	if err := build.Gatehouse(t.Context(), s.plain, build.Options{}); err != nil {
		t.Fatal(err)
	}
	if s.front, err = pki.NewAuthority(filepath.Join(t.TempDir(), "front"), "front-ca"); err != nil {
		t.Fatal(err)
	}
	if s.pair, err = s.front.Loopback("front"); err != nil {
		t.Fatal(err)
	}
	return s
}

// startGatehouse starts one with the stage's environment and what env adds; an
// empty value takes a variable away. It must not meet a data race or panic.
func (s *suite) startGatehouse(t *testing.T, cfg gatehouse.Config, env map[string]string) *gatehouse.Instance {
	t.Helper()
	all := s.Env()
	all["GATEHOUSE_TLS_CERT_FILE"], all["GATEHOUSE_TLS_KEY_FILE"] = s.pair.CertFile, s.pair.KeyFile
	for name, value := range env {
		all[name] = value
		if value == "" {
			delete(all, name)
		}
	}
	g, err := s.Gatehouse(context.WithoutCancel(t.Context()), cfg, all)
	if err != nil {
		t.Fatal(err)
	}
	stagetest.StopAtEnd(t, g, func(lines []string) string {
		return "gatehouse printed, besides a line for each request:\n" + withoutRequests(lines)
	})
	return g
}

// withoutRequests leaves out the lines about requests, and of the others what is
// said again and again.
func withoutRequests(lines []string) string {
	said := map[string]int{}
	lines = slices.DeleteFunc(lines, func(line string) bool {
		_, message, _ := strings.Cut(line, `"msg":"`)
		message, _, _ = strings.Cut(message, `"`)
		said[message]++
		return message == "request" || said[message] > 3
	})
	return strings.Join(lines, "\n")
}

// person is somebody with a token, whom nobody else is.
type person struct{ name, token string }

func (s *suite) person(groups ...string) person {
	name := fmt.Sprintf("person-%d", s.people.Add(1))
	return person{name + "@example.com", s.Issuer.Token(stage.Person(name, groups...))}
}

// client returns an HTTP client that trusts every gatehouse of the suite, speaks
// only this version of HTTP, and shares no connection with another.
func (s *suite) client(t *testing.T, over string) *http.Client {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: s.front.Pool(), MinVersion: tls.VersionTLS12},
		Protocols:           new(http.Protocols),
		MaxIdleConnsPerHost: 1000,
	}
	transport.Protocols.SetHTTP1(over == http1)
	transport.Protocols.SetHTTP2(over == http2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func transportOf(c *http.Client) *http.Transport { return c.Transport.(*http.Transport) }

func readPool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		t.Fatalf("%s holds no certificate", file)
	}
	return pool
}

// The versions of HTTP that clients speak.
const (
	http1 = "HTTP/1.1"
	http2 = "HTTP/2"
)

// eventually calls check until it returns nil, and fails the test with its last
// error after limit.
func eventually(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %s: %v", limit, err)
		}
	}
}
