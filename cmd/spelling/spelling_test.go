package spelling

import "testing"

// Promise: the distance is how many letters must be put in, taken out or replaced,
// in either direction.
func TestDistance(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"abc", "abc", 0}, {"", "abc", 3}, {"kitten", "sitting", 3},
		{"OIDC_ISSUER", "OIDC_ISSUER_URL", 4}, {"oidc-issuer-uri", "oidc-issuer-url", 1}, {"ab", "ba", 2},
	} {
		if one, other := Distance(test.a, test.b), Distance(test.b, test.a); one != test.want || other != test.want {
			t.Errorf("%q and %q: %d and %d, want %d", test.a, test.b, one, other, test.want)
		}
	}
}
