package digest_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/digest"
)

// Promise: tokens have one digest only if they are the same to the last byte,
// and another Digester knows them by another.
func TestDigestsDiffer(t *testing.T) {
	d := digest.New("one", "two")
	seen := map[digest.Digest]string{}
	for _, token := range []string{
		"", "a", "a ", "a.b.c", "a.b.d", "a.b.c\x00", "a.b.cone", strings.Repeat("x", 32<<10), strings.Repeat("x", 32<<10-1),
	} {
		sum := d.Sum(token)
		if sum != d.Sum(token) {
			t.Errorf("%.20q has two digests", token)
		}
		if other, taken := seen[sum]; taken {
			t.Errorf("%.20q and %.20q have one digest", token, other)
		}
		seen[sum] = token
		for _, other := range []*digest.Digester{digest.New("one", "two"), digest.New("onetwo"), digest.New()} {
			if other.Sum(token) == sum {
				t.Errorf("%.20q: another Digester gives the same digest", token)
			}
		}
	}
}

// Promise: requests at the same time do not mix their tokens.
func TestDigestsAtOnce(t *testing.T) {
	d := digest.New()
	var group sync.WaitGroup
	for i := range 4 {
		token := strings.Repeat(string(rune('a'+i)), 100*(i+1))
		want := d.Sum(token)
		group.Go(func() {
			for range 1000 {
				if d.Sum(token) != want {
					t.Error("the digest changed")
					return
				}
			}
		})
	}
	group.Wait()
}
