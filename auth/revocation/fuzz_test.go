package revocation_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/revocation"
)

// Promise: no file ends the process, an accepted one judges every identity, and
// the same file always gives the same list or the same error.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"revoked: []\n", "count: 1\nrevoked:\n- user: alice\n", "{\"revoked\": [{\"jti\": \"1\"}]}\n",
		"revoked:\n- {user: a, issuedBefore: 2026-11-23T12:00:00Z, note: 42}\n",
		"revoked:\n- {certificateSerial: \"0A:1B\", certificateIssuer: 'CN=ca\\, b+O=#0c0161,1.2.3=x\\C3\\A9'}\n",
		"revoked:\n- certificateSHA256: " + fingerprint + "\n- credentialID: X509SHA256=" + fingerprint + "\n",
		"a: &a [*a]\nrevoked: *a\n", "---\n# c\nrevoked:\n- ? [x]\n  : y\n# d\n...\n", "%YAML 1.1\n%TAG ! !x\n---\n!a [\n", "revoked:\n- user: |\n   x\n\n- <<: {}\n",
		large(5),
	} {
		f.Add([]byte(seed))
	}
	ids := append(people(), &auth.Identity{})
	f.Fuzz(func(t *testing.T, content []byte) {
		list, err := revocation.Parse(content)
		again, errAgain := revocation.Parse(content)
		if fmt.Sprint(err) != fmt.Sprint(errAgain) {
			t.Fatalf("error %v, then %v", err, errAgain)
		}
		if err != nil {
			if list != nil {
				t.Fatal("a list beside an error")
			}
			return
		}
		if diff := cmp.Diff(list.Issuers(), again.Issuers()); diff != "" || list.Len() != again.Len() {
			t.Fatalf("%d entries, then %d; issuers %s", list.Len(), again.Len(), diff)
		}
		for _, id := range ids {
			if got, then := fmt.Sprint(list.Check(id)), fmt.Sprint(again.Check(id)); got != then {
				t.Errorf("%s, then %s", got, then)
			}
		}
	})
}

// people are identities of few names, so that entries of few names meet them.
func people() []*auth.Identity {
	var ids []*auth.Identity
	for _, issued := range []time.Time{{}, noon.Add(-time.Second), noon, noon.Add(time.Second)} {
		for _, of := range []string{"a", "b"} {
			for _, name := range []string{"a", "b"} {
				id := token(of, name, of+name, issued)
				id.Name = name
				cert := certificate(name, "CN="+of, name, strings.Repeat(of+name, 32))
				cert.Issued = issued
				ids = append(ids, id, cert)
			}
		}
		ids = append(ids, static("a"), static("b"))
	}
	return ids
}

// entries returns up to four entries of few names.
func entries(r *rand.Rand) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	name := func() string { return pick("a", "b", "c") }
	since := func() string {
		return pick("", ", issuedBefore: 2026-11-23T12:00:00Z", ", issuedBefore: 2026-11-23T12:00:01Z", ", issuedBefore: 2026-11-23T11:59:59Z")
	}
	var b strings.Builder
	for range r.IntN(5) {
		b.WriteString("- {" + pick(
			"jti: "+name()+name(),
			"jti: "+name()+name()+", issuer: "+name(),
			"credentialID: JTI="+name()+name(),
			"certificateSHA256: "+strings.Repeat(name()+name(), 32),
			"certificateSerial: "+name()+", certificateIssuer: CN="+name(),
			"user: "+name()+since(),
			"issuer: "+name()+", subject: "+name()+since(),
		) + "}\n")
	}
	return b.String()
}

// Promise: the entries of two files in one deny what either denies, in either
// order, and nothing else.
func TestUnion(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	ids := people()
	file := func(entries string) *revocation.List {
		if entries == "" {
			return parse(t, "revoked: []\n")
		}
		return parse(t, "revoked:\n"+entries)
	}
	denials := 0
	for range 2000 {
		a, b := entries(r), entries(r)
		listA, listB, ab, ba := file(a), file(b), file(a+b), file(b+a)
		for _, id := range ids {
			want := denied(t, id, listA.Check(id)) || denied(t, id, listB.Check(id))
			if want {
				denials++
			}
			if got, turned := denied(t, id, ab.Check(id)), denied(t, id, ba.Check(id)); got != want || turned != want {
				t.Fatalf("%+v: denied %t and %t, want %t by\n%sand\n%s", id, got, turned, want, a, b)
			}
		}
	}
	if denials < 1000 {
		t.Errorf("only %d denials: the test tests little", denials)
	}
}
