package rawbytes

import (
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The proxy's own credential, and the tokens of the CSV file. Each is a canary:
// the oracles look for it everywhere.
const (
	proxyToken  = "canary-proxy-8c1f5be2a7d94e60"
	aliceToken  = "canary-alice-1b0d3f9e5c7a4812"
	bobToken    = "canary-bob-62f4a8d07e9b4c35"
	spacesToken = "canary-spaces-93ae1c5d7f0b4682"
	manyToken   = "canary-many-d5b7f2e84a1c4093"
	utf8Token   = "canary-utf8-0e6c8b1a3d5f4972"
	hashedToken = "canary-hashed-b4d2f6a80c1e4753"
)

var (
	alice  = Identity{User: "alice@example.com", UID: "alice-uid-1", Groups: []string{"dev", "ops"}}
	bob    = Identity{User: "bob"}
	spaces = Identity{User: "Ada  King, Countess", UID: "uid with spaces", Groups: []string{"team one", `quo"ted`, "a;b=c"}}
	many   = Identity{User: "many", UID: "m", Groups: manyGroups(500)}
	utf8er = Identity{User: "Zoë Müller", UID: "ユーザー", Groups: []string{"отдел-кадров", "開発", "café\u0301"}}
	hashed = Identity{User: "hashed", UID: "h", Groups: []string{"dev"}}
)

func manyGroups(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("group-%03d", i)
	}
	return out
}

func csvRow(token string, id Identity) []string {
	return []string{token, id.User, id.UID, strings.Join(id.Groups, ",")}
}

func csvFile(rows ...[]string) string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	w.WriteAll(rows)
	return b.String()
}

func usersCSV() string {
	sum := sha256.Sum256([]byte(hashedToken))
	return csvFile(csvRow(aliceToken, alice), csvRow(bobToken, bob), csvRow(spacesToken, spaces), csvRow(manyToken, many),
		csvRow(utf8Token, utf8er), csvRow("sha256:"+hex.EncodeToString(sum[:]), hashed))
}

// suite is what the tests of this package share: one binary, and one process
// for each protocol that the API server may speak.
type suite struct {
	dir     string
	pki     *PKI
	secrets *Secrets
	build   func() (string, error)
	targets []*live
}

type live struct {
	*Target
	name  string
	h2    bool
	up    *Upstream
	start func() (*Process, error)
}

var shared *suite

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "rawbytes")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	shared, err = newSuite(dir)
	code := 1
	if err == nil {
		code = m.Run()
		if faults := shared.close(); len(faults) > 0 {
			fmt.Fprintln(os.Stderr, "FAIL: after all cases:\n"+strings.Join(faults, "\n"))
			code = 1
		}
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func newSuite(dir string) (*suite, error) {
	pki, err := NewPKI()
	if err != nil {
		return nil, err
	}
	s := &suite{dir: dir, pki: pki, secrets: &Secrets{}}
	s.secrets.Add(proxyToken, aliceToken, bobToken, spacesToken, manyToken, utf8Token, hashedToken)
	s.build = sync.OnceValues(func() (string, error) {
		if bin := os.Getenv("RAWBYTES_BINARY"); bin != "" { // one that is built already
			return bin, nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), 9*time.Minute)
		defer cancel()
		return Build(ctx, filepath.Join("..", ".."), dir, raceEnabled)
	})
	for _, h2 := range []bool{false, true} {
		up, err := StartUpstream(pki, h2, proxyToken)
		if err != nil {
			return nil, err
		}
		l := &live{name: "upstream=http1", h2: h2, up: up}
		if h2 {
			l.name = "upstream=http2"
		}
		l.start = sync.OnceValues(func() (*Process, error) { return s.process(l.name, up, usersCSV()) })
		s.targets = append(s.targets, l)
	}
	return s, nil
}

// process starts one gatehouse before the fake.
func (s *suite) process(name string, up *Upstream, csv string, env ...string) (*Process, error) {
	bin, err := s.build()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.dir, "run")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return Start(Settings{Binary: bin, Dir: dir, PKI: s.pki, Upstream: up.Addr, Token: up.token, CSV: csv, Env: env})
}

// close stops everything and asks the oracles about the whole logs.
func (s *suite) close() []string {
	var faults []string
	for _, l := range s.targets {
		if l.Target != nil {
			p, _ := l.start()
			p.Stop()
			faults = append(faults, s.secrets.Leaks("the whole log of "+l.name, p.Log())...)
		}
		l.up.Close()
	}
	return faults
}

// live returns the target, started on first use.
func (l *live) ready(t testing.TB) *Target {
	t.Helper()
	p, err := l.start()
	if err != nil {
		t.Fatal(err)
	}
	if l.Target == nil {
		l.Target = &Target{Addr: p.Addr, Roots: shared.pki.Roots, Up: l.up, Secrets: shared.secrets, LogFrom: p.LogFrom}
	}
	return l.Target
}

// eachTarget runs f against gatehouse before an API server of each protocol.
// The two run side by side; f has its target to itself.
func eachTarget(t *testing.T, f func(t *testing.T, to *Target)) {
	for _, l := range shared.targets {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			f(t, l.ready(t))
		})
	}
}

// attack runs a table over the carriers of each row, against both targets.
func attack(t *testing.T, table []Case) {
	eachTarget(t, func(t *testing.T, to *Target) {
		for _, c := range Carriers {
			t.Run(string(c), func(t *testing.T) { tryAll(t, to, c, table) })
		}
	})
}

func tryAll(t *testing.T, to *Target, c Carrier, table []Case) {
	for _, k := range table {
		if !k.travels(c) {
			continue
		}
		t.Run(k.Name, func(t *testing.T) {
			faults, err := to.Try(c, k)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range faults {
				t.Error(f)
			}
		})
	}
}

func (k Case) travels(c Carrier) bool {
	for _, on := range k.On {
		if on == c {
			return true
		}
	}
	return len(k.On) == 0
}

// The words of the tables.

func served(id Identity) Want                 { return Want{Served: &id} }
func refused(codes ...int) Want               { return Want{Codes: codes} }
func harmless(id Identity, codes ...int) Want { return Want{Served: &id, Codes: codes, Library: true} }

// malformed is a message that the HTTP library may refuse or drop by itself.
func malformed(codes ...int) Want { return Want{Codes: codes, Library: true, Dropped: true} }

// orServed is w, or served as id.
func orServed(w Want, id Identity) Want { w.Served = &id; return w }

func (w Want) at(target string) Want { w.Target = target; return w }
func (w Want) status(code int) Want  { w.Status = code; return w }

var (
	oneWay  = []Carrier{H1, H2}
	upgrade = []Carrier{WebSocket, SPDY}
	lines   = []Carrier{H1, WebSocket, SPDY}
)

// as is a request with a bearer token and more lines.
func as(token, target string, f ...Field) Request {
	return Request{Target: target, Fields: append(Fields{{"Authorization", "Bearer " + token}}, f...)}
}

// ask is alice's request with more lines.
func ask(f ...Field) Request { return as(aliceToken, "/api/v1/pods", f...) }
