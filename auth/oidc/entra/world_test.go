package entra_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/oidc/entra"
	"github.com/kube-gatehouse/gatehouse/auth/oidc/lookup"
)

// group returns the id of a group.
func group(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n) }

func groups(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = group(i)
	}
	return list
}

type world struct {
	t        *testing.T
	tenant   *authtest.Entra
	resolver *entra.Resolver
	clock    *authtest.Clock
}

func newWorld(t *testing.T, change func(*entra.Config)) *world {
	t.Helper()
	ca, err := authtest.NewCA("test CA")
	if err != nil {
		t.Fatal(err)
	}
	tenant, err := authtest.NewEntra(ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tenant.Close() })
	w := &world{t: t, tenant: tenant, clock: authtest.NewClock()}
	cfg := entra.Config{
		TenantID: tenant.TenantID, ClientID: tenant.ClientID, ClientSecret: authtest.EntraSecret,
		LoginURL: tenant.Origin, GraphURL: tenant.Origin, Roots: ca.Pool(),
		Lookup: lookup.Config{Now: w.clock.Now, Timeout: 2 * time.Second},
	}
	if change != nil {
		change(&cfg)
	}
	if w.resolver, err = entra.New(cfg); err != nil {
		t.Fatal(err)
	}
	tenant.SetGroups(ana, groups(250)...)
	return w
}

// claims are those of a verified token as encoding/json decodes them.
func (w *world) claims(more authtest.Claims) map[string]any {
	claims := w.tenant.OverageClaims(ana, more)
	for name, value := range claims {
		if value == nil {
			delete(claims, name)
		}
	}
	return claims
}

func (w *world) resolve(claims map[string]any) ([]any, *auth.Refusal) {
	w.t.Helper()
	resolved, until, err := w.resolver.Resolve(w.t.Context(), claims, []string{"groups"})
	refusal, refused := errors.AsType[*auth.Refusal](err)
	if err != nil && !refused {
		w.t.Fatalf("error %v is no refusal", err)
	}
	if refused {
		if resolved != nil {
			w.t.Error("a refusal comes with claims")
		}
		for _, secret := range []string{authtest.EntraSecret, "graph-access-token", "canary"} {
			if strings.Contains(refusal.Error(), secret) {
				w.t.Errorf("%q is in %q", secret, refusal)
			}
		}
		return nil, refusal
	}
	list, _ := resolved["groups"].([]any)
	if list != nil && (until.Before(w.clock.Now()) || until.After(w.clock.Now().Add(5*time.Minute))) {
		w.t.Errorf("holds until %s", until)
	}
	return list, nil
}

func (w *world) wantAsked(tokens, questions int64) {
	w.t.Helper()
	if t, q, o := w.tenant.TokenRequests.Load(), w.tenant.GroupRequests.Load(), w.tenant.OtherRequests.Load(); t != tokens || q != questions || o != 0 {
		w.t.Errorf("%d requests for a token, %d for groups, %d others; want %d, %d, 0", t, q, o, tokens, questions)
	}
}
