package authconfig

import (
	"fmt"
	"strings"
)

// Collisions says of which issuers two people could get one user name, or two
// groups one name, because a prefix is empty, or begins with another's. What
// expressions make cannot be told. Sentences for the operator.
func (c *Config) Collisions() []string {
	var found []string
	for i, a := range c.Issuers {
		for _, b := range c.Issuers[i+1:] {
			for _, n := range [...]struct {
				what string
				a, b *string
			}{
				{"user names", a.Mapping.mappings.Username.Prefix, b.Mapping.mappings.Username.Prefix},
				{"groups", a.Mapping.mappings.Groups.Prefix, b.Mapping.mappings.Groups.Prefix},
			} {
				if n.a != nil && n.b != nil && (strings.HasPrefix(*n.a, *n.b) || strings.HasPrefix(*n.b, *n.a)) {
					found = append(found, fmt.Sprintf("the issuers %s and %s can give two people one name: their prefixes of %s are %q and %q", a.URL, b.URL, n.what, *n.a, *n.b))
				}
			}
		}
	}
	return found
}
