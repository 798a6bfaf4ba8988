package entra_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/oidc/entra"
)

const ana = "a1b2c3d4-0000-4000-8000-00000000000a"

// Promise: the groups of a person whose token has no room for them come from
// Graph, once for a while, whichever way the token says so, and never from the
// endpoint in the token.
func TestOverage(t *testing.T) {
	w := newWorld(t, nil)
	given := w.claims(nil)
	for range 3 {
		list, refusal := w.resolve(given)
		if refusal != nil {
			t.Fatal(refusal)
		}
		if len(list) != 250 || list[7] != group(7) {
			t.Errorf("%d groups: %v", len(list), list[:8])
		}
	}
	if diff := cmp.Diff(w.claims(nil), given); diff != "" {
		t.Errorf("the input was changed (-want +got):\n%s", diff)
	}
	w.wantAsked(1, 1)
	list, refusal := w.resolve(w.claims(authtest.Claims{"_claim_names": nil, "_claim_sources": nil, "hasgroups": true, "oid": strings.ToUpper(ana)}))
	if refusal != nil || len(list) != 250 {
		t.Errorf("hasgroups: %d groups, %v", len(list), refusal)
	}
	w.wantAsked(1, 1)

	w.tenant.SetGroups(ana)
	w.clock.Advance(5*time.Minute - time.Second)
	if list, _ := w.resolve(given); len(list) != 250 {
		t.Errorf("%d groups before the answer is too old", len(list))
	}
	w.clock.Advance(time.Second)
	if list, refusal := w.resolve(given); refusal != nil || list == nil || len(list) != 0 {
		t.Errorf("%v, %v once it is; want none", list, refusal)
	}
	w.wantAsked(1, 2)
}

// Promise: nobody is asked for a token that has its groups, or has none, or whose
// groups are not mapped from the claim.
func TestNobodyIsAskedInVain(t *testing.T) {
	w := newWorld(t, nil)
	for name, claims := range map[string]map[string]any{
		"groups":          w.claims(authtest.Claims{"groups": []any{"x"}}),
		"no groups":       w.claims(authtest.Claims{"_claim_names": nil, "_claim_sources": nil}),
		"hasgroups false": w.claims(authtest.Claims{"_claim_names": nil, "_claim_sources": nil, "hasgroups": false}),
		"another claim":   w.claims(authtest.Claims{"_claim_names": map[string]any{"roles": "src1"}}),
		"names of a list": w.claims(authtest.Claims{"_claim_names": []any{"groups"}}),
	} {
		resolved, until, err := w.resolver.Resolve(t.Context(), claims, []string{"groups"})
		if diff := cmp.Diff(claims, resolved); err != nil || !until.IsZero() || diff != "" {
			t.Errorf("%s: until %s, error %v, (-want +got):\n%s", name, until, err, diff)
		}
	}
	for _, names := range [][]string{nil, {"roles"}} {
		if resolved, _, err := w.resolver.Resolve(t.Context(), w.claims(nil), names); err != nil || resolved["groups"] != nil {
			t.Errorf("mapped from %q: %v, %v", names, resolved, err)
		}
	}
	w.wantAsked(0, 0)
}

// Promise: what a token says becomes part of a path only if it is an id, and only
// for the tenant that is configured.
func TestIdentifiers(t *testing.T) {
	w := newWorld(t, nil)
	for _, oid := range []any{
		nil, 7.0, "", "me", "ana@example.com", "../groups", ana + "/../" + ana, ana + "/", "/" + ana, ana + "?x", ana + "#", ana[:35], ana + "0",
		"{" + ana + "}", "urn:uuid:" + ana, strings.ReplaceAll(ana, "-", ""), ana[:35] + "g", ana[:35] + "/", ana[:35] + ".", "%2e%2e" + ana[6:], ana[:35] + "\x00", "а1b2c3d4-0000-4000-8000-00000000000", []any{ana},
	} {
		if list, refusal := w.resolve(w.claims(authtest.Claims{"oid": oid})); refusal == nil || refusal.Reason != auth.UnsupportedClaims {
			t.Errorf("oid %q: %v, %v", oid, list, refusal)
		}
	}
	for _, tid := range []any{nil, "", "common", ana, w.tenant.TenantID + "/x", 7.0} {
		if list, refusal := w.resolve(w.claims(authtest.Claims{"tid": tid})); refusal == nil || refusal.Reason != auth.UnsupportedClaims {
			t.Errorf("tid %q: %v, %v", tid, list, refusal)
		}
	}
	w.wantAsked(0, 0)
	if list, refusal := w.resolve(w.claims(authtest.Claims{"tid": strings.ToUpper(w.tenant.TenantID)})); refusal != nil || len(list) != 250 {
		t.Errorf("tid in capitals: %v", refusal)
	}
}

// Promise: only the groups of the list are returned; and more than the limit is
// refused, never cut.
func TestFilterAndLimit(t *testing.T) {
	for _, tt := range []struct {
		name   string
		filter []string
		in     int
		want   int // -1: refused
	}{
		{"all", nil, 2000, 2000},
		{"too many", nil, 2001, -1},
		{"too many for Graph", nil, 11001, -1},
		{"too many for Graph, filtered", []string{group(1)}, 11001, -1},
		{"filtered", []string{group(1), strings.ToUpper(group(10999)), group(20000)}, 11000, 2},
		{"filtered to none", []string{group(20000)}, 250, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, func(c *entra.Config) { c.Groups = tt.filter })
			w.tenant.SetGroups(ana, groups(tt.in)...)
			list, refusal := w.resolve(w.claims(nil))
			if tt.want < 0 {
				if refusal == nil || refusal.Reason != auth.IdentityTooLarge {
					t.Errorf("%d groups, %v", len(list), refusal)
				}
				return
			}
			if refusal != nil || list == nil || len(list) != tt.want {
				t.Errorf("%d groups, %v; want %d", len(list), refusal, tt.want)
			}
		})
	}
}

// Promise: only the tenant's own issuers are its.
func TestIsIssuer(t *testing.T) {
	const tenant = authtest.EntraTenantID
	for url, want := range map[string]bool{
		"https://login.microsoftonline.com/" + tenant + "/v2.0":  true,
		"https://sts.windows.net/" + tenant + "/":                true,
		"https://sts.windows.net/" + tenant:                      false,
		"https://login.microsoftonline.com/" + tenant + "/v2.0/": false,
		"https://login.microsoftonline.com/" + ana + "/v2.0":     false,
		"https://login.microsoftonline.com/common/v2.0":          false,
		"https://login.microsoftonline.us/" + tenant + "/v2.0":   false,
		"https://evil.example/" + tenant + "/v2.0":               false,
	} {
		if got := entra.IsIssuer(url, entra.LoginURL, strings.ToUpper(tenant)); got != want {
			t.Errorf("%s: %t", url, got)
		}
	}
	if !entra.IsIssuer("https://login.microsoftonline.us/"+tenant+"/v2.0", "https://login.microsoftonline.us", tenant) || entra.IsIssuer("https://login.microsoftonline.com//v2.0", "", "") {
		t.Error("another cloud's issuer is not known, or no tenant has one")
	}
}

// Promise: settings that cannot work are refused, all at once, and the secret is
// not shown.
func TestBadConfig(t *testing.T) {
	_, err := entra.New(entra.Config{TenantID: "common", ClientID: "x", Groups: []string{"admins"}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"tenant id", "client id", "client secret", "group"} {
		if !slices.ContainsFunc(strings.Split(err.Error(), "\n"), func(line string) bool { return strings.Contains(line, want) }) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

// Promise: whatever is an id can be part of a path as it is.
func FuzzGUID(f *testing.F) {
	f.Add(ana)
	f.Add(strings.ToUpper(ana))
	f.Add("../../../../../../../../../../../../")
	f.Fuzz(func(t *testing.T, id string) {
		lower, err := entra.GUID(id)
		if err != nil {
			return
		}
		if len(lower) != 36 || strings.Trim(lower, "0123456789abcdef-") != "" || strings.Count(lower, "-") != 4 || !strings.EqualFold(lower, id) {
			t.Errorf("%q becomes %q", id, lower)
		}
	})
}
