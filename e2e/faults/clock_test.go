package faults_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
	"github.com/kube-gatehouse/gatehouse/proxy"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// clock is the machine's, put forward by a jump.
type clock struct{ jump atomic.Int64 }

// Now has no monotonic part, which would hide the jump.
func (c *clock) Now() time.Time { return time.Now().Round(0).Add(time.Duration(c.jump.Load())) }

func (c *clock) set(jump time.Duration) { c.jump.Store(int64(jump)) }

// Promise: a clock that is put right loses no token that is good at either time;
// not even if the keys look too old because of it. A token that has expired by
// the new time is refused, and no longer than that time lasts.
//
// The clock of a process cannot be changed alone, so its parts run here in the
// test: the proxy and the issuer, between a real client and the real API server.
func (s *suite) testClock(t *testing.T) {
	issuer, env := newIssuer(t)
	clock := &clock{}
	url, client := s.gateWithClock(t, clock, issuer, env)
	lasting := read("")
	lasting.token = func() string {
		now := time.Now()
		claims := stage.Person("alice", "developers")
		claims["exp"] = now.Add(72 * time.Hour).Unix()
		return issuer.Token(claims)
	}
	eventually(t, limit, func() error { return lasting.once(t.Context(), client, url) })

	for _, one := range []struct {
		fault string
		down  bool // the issuer
		jumps []time.Duration
	}{
		{"clock put back and forth by 30 s", false, []time.Duration{-30 * time.Second, 30 * time.Second, 0, -30 * time.Second, 0}},
		{"clock put forward by 25 hours, and back", false, []time.Duration{25 * time.Hour, 0}},
		{"issuer down for an hour, by the clock", true, []time.Duration{20 * time.Minute, 40 * time.Minute, time.Hour}},
	} {
		issuer.SetDown(one.down)
		count := &tally{}
		asking := keepAsking(t, client, url, 4, 50*time.Millisecond, count, lasting)
		for _, jump := range one.jumps {
			clock.set(jump)
			eventually(t, limit, count.more(50))
		}
		asking.stop()
		count.judge(nobody)
		count.report(t, s.rows, row{fault: one.fault, load: "reads with new ID tokens", why: "nothing"})
	}

	clock.set(0)
	count, short := &tally{}, read(issuer.Token(stage.Person("alice", "developers"))) // good for an hour
	asking := keepAsking(t, client, url, 4, 50*time.Millisecond, count, short)
	eventually(t, limit, count.more(50))
	from := time.Now()
	clock.set(2 * time.Hour)
	eventually(t, limit, func() error { return refused(short.send(t.Context(), client, url)) })
	clock.set(0)
	to := time.Now()
	eventually(t, limit, count.more(50))
	asking.stop()
	jumped := outage{from, to}
	count.judge(func(f failure) bool { return jumped.explains(f) && strings.Contains(f.err.Error(), "expired") })
	count.report(t, s.rows, row{
		fault: "clock put forward by 2 hours, and back", load: "reads with an ID token that is good for an hour",
		why: "all, while the clock says that the token has expired",
	})
}

// gateWithClock puts a proxy and an issuer together, as `gatehouse serve` does.
func (s *suite) gateWithClock(t *testing.T, clock *clock, issuer *authtest.Issuer, env map[string]string) (string, *http.Client) {
	t.Helper()
	described, err := authconfig.Flags{
		IssuerURL: issuer.URL, ClientID: authtest.Audience, UsernameClaim: "email", GroupsClaim: "groups", GroupsPrefix: "oidc:",
	}.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := oidc.New(oidc.Config{
		URL: described.URL, Audiences: described.Audiences, Mapping: described.Mapping,
		Roots: readPool(t, env["GATEHOUSE_OIDC_CA_FILE"]), Now: clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	router, err := oidc.NewIssuers(trusted)
	if err != nil {
		t.Fatal(err)
	}
	target, err := upstream.Load(s.Env()["GATEHOUSE_KUBECONFIG"])
	if err != nil {
		t.Fatal(err)
	}
	p, err := proxy.New(proxy.Config{
		Target: func() *upstream.Target { return target }, Authenticator: auth.Bearer(router), Now: clock.Now,
		OnRefusedToken: func(string) {}, Denied: func(*auth.Identity) error { return nil },
		ID: "clock", Self: func() string { return "" }, OnForbidden: func() {},
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(end)
	go trusted.Run(ctx)
	go p.Run(ctx)
	front := httptest.NewUnstartedServer(p)
	front.EnableHTTP2 = true
	front.StartTLS()
	t.Cleanup(front.Close)
	return front.URL, front.Client()
}
