package oidc

import (
	"context"
	"testing"
	"time"
)

// fixed resolves to what it holds.
type fixed struct {
	claims map[string]any
	until  time.Time
}

func (f fixed) Resolve(context.Context, map[string]any, []string) (map[string]any, time.Time, error) {
	return f.claims, f.until, nil
}

// Promise: what a token gives may be used until it expires, or until what was
// resolved for it ends, whichever comes first.
func TestUntil(t *testing.T) {
	expires := time.Unix(1000, 0)
	for name, tt := range map[string]struct {
		resolver   Resolver
		want       int64
		resolvedBy any
	}{
		"no resolver":    {nil, 1000, nil},
		"nothing to add": {fixed{until: time.Time{}}, 1000, nil},
		"ends before":    {fixed{map[string]any{"groups": "a"}, time.Unix(900, 0)}, 900, "a"},
		"ends later":     {fixed{map[string]any{"groups": "a"}, time.Unix(2000, 0)}, 1000, "a"},
	} {
		issuer := &Issuer{cfg: Config{Resolver: tt.resolver, Mapping: &keeper{}}}
		claims, until, err := issuer.resolve(t.Context(), Claims{}, expires)
		if err != nil || until.Unix() != tt.want || claims["groups"] != tt.resolvedBy {
			t.Errorf("%s: %v until %s, error %v", name, claims, until, err)
		}
	}
}
