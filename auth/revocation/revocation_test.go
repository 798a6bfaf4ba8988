package revocation_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/revocation"
)

// Promise: an entry denies what it names, and nothing else.
func TestCheck(t *testing.T) {
	upper := strings.ToUpper(fingerprint)
	colons := strings.TrimSuffix(strings.Repeat("AB:", 32), ":")
	twin := strings.Repeat("cd", 32)
	var none time.Time
	for _, tt := range []struct {
		name, entry   string
		denies, leave []*auth.Identity
	}{
		{"a token, of any issuer", `jti: 3f2c`,
			[]*auth.Identity{token(login, "a", "3f2c", noon), token(other, "b", "3f2c", none)},
			[]*auth.Identity{token(login, "a", "3F2C", noon), token(login, "3f2c", "4", noon), certificate("a", "CN=ca", "3f2c"), static("3f2c")}},
		{"a token, of one issuer", `{jti: 3f2c, issuer: "` + login + `"}`,
			[]*auth.Identity{token(login, "a", "3f2c", noon)},
			[]*auth.Identity{token(other, "a", "3f2c", noon), token(login+"/", "a", "3f2c", noon)}},
		{"a token, by credential-id", `credentialID: JTI=3f2c`,
			[]*auth.Identity{token(login, "a", "3f2c", noon)},
			[]*auth.Identity{token(login, "a", "JTI=3f2c", noon)}},
		{"a certificate, by credential-id", `credentialID: X509SHA256=` + upper,
			[]*auth.Identity{certificate("a", "CN=ca", "1", fingerprint)},
			[]*auth.Identity{certificate("a", "CN=ca", "1", twin), token(login, "a", fingerprint, noon)}},
		{"a certificate, by any of its fingerprints", `certificateSHA256: ` + fingerprint,
			[]*auth.Identity{certificate("a", "CN=ca", "1", fingerprint), certificate("a", "CN=ca", "1", twin, fingerprint)},
			[]*auth.Identity{certificate("a", "CN=ca", "1", twin), certificate("a", "CN=ca", "1")}},
		{"a fingerprint with colons", `certificateSHA256: "` + colons + `"`,
			[]*auth.Identity{certificate("a", "CN=ca", "1", fingerprint)}, nil},
		{"a certificate, by serial", `{certificateSerial: "00:0A:1B", certificateIssuer: CN=ca}`,
			[]*auth.Identity{certificate("a", "CN=ca", "a1b")},
			[]*auth.Identity{certificate("a", "CN=other", "a1b"), certificate("a", "CN=ca", "a1b0"), certificate("a", "", "a1b")}},
		{"serial zero", `{certificateSerial: "00", certificateIssuer: CN=ca}`,
			[]*auth.Identity{certificate("a", "CN=ca", "0")},
			[]*auth.Identity{certificate("a", "CN=ca", ""), static("a")}},
		{"serial with 0x", `{certificateSerial: "0x1001", certificateIssuer: CN=ca}`,
			[]*auth.Identity{certificate("a", "CN=ca", "1001")}, nil},
		{"a user, of any kind and time", `user: oidc:alice`,
			[]*auth.Identity{token(login, "alice", "1", noon), token(login, "alice", "1", none), static("oidc:alice"), certificate("oidc:alice", "CN=ca", "1")},
			[]*auth.Identity{static("alice"), static("oidc:Alice")}},
		{"a user since", `{user: oidc:alice, issuedBefore: 2026-11-23T12:00:00Z}`,
			[]*auth.Identity{token(login, "alice", "1", noon.Add(-time.Second)), token(login, "alice", "1", time.Unix(0, 0)), static("oidc:alice"), token(login, "alice", "1", none)},
			[]*auth.Identity{token(login, "alice", "1", noon), token(login, "alice", "1", noon.Add(time.Second)), certificate("oidc:alice", "CN=ca", "1")}},
		{"a moment in quotes and another zone", `{user: oidc:alice, issuedBefore: "2026-11-23T13:00:00+01:00"}`,
			[]*auth.Identity{token(login, "alice", "1", noon.Add(-time.Second))},
			[]*auth.Identity{token(login, "alice", "1", noon)}},
		{"since ever", `{user: oidc:alice, issuedBefore: 0001-01-01T00:00:00Z}`,
			[]*auth.Identity{static("oidc:alice")},
			[]*auth.Identity{token(login, "alice", "1", time.Unix(0, 0))}},
		{"a subject", `{subject: "42", issuer: "` + login + `"}`,
			[]*auth.Identity{token(login, "42", "1", noon)},
			[]*auth.Identity{token(other, "42", "1", noon), token(login, "042", "1", noon), static("42")}},
		{"a subject since", `{subject: "42", issuer: "` + login + `", issuedBefore: 2026-11-23T12:00:00Z}`,
			[]*auth.Identity{token(login, "42", "1", noon.Add(-time.Second)), token(login, "42", "1", none)},
			[]*auth.Identity{token(login, "42", "1", noon), token(other, "42", "1", none)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list := parse(t, "revoked:\n- "+tt.entry+"\n")
			for i, id := range tt.denies {
				if !denied(t, id, list.Check(id)) {
					t.Errorf("denies[%d] passed", i)
				}
			}
			for i, id := range append(tt.leave, &auth.Identity{}) {
				if err := list.Check(id); err != nil {
					t.Errorf("leave[%d]: %v", i, err)
				}
			}
		})
	}
}

// Promise: of several entries for the same name the strictest counts, in
// whatever order they stand; and one that passes hides no other that denies.
func TestStrictest(t *testing.T) {
	const (
		always = "- user: oidc:alice\n"
		dated  = "- {user: oidc:alice, issuedBefore: 2026-11-23T12:00:00Z}\n"
		ten    = "- {user: oidc:alice, issuedBefore: 2026-11-23T10:00:00Z}\n"
		sub    = "- {issuer: https://login.example.com, subject: alice, issuedBefore: 2026-11-23T12:00:00Z}\n"
	)
	eleven := token(login, "alice", "1", noon.Add(-time.Hour))
	for _, tt := range []struct {
		entries string
		eleven  bool
		at      bool // noon
	}{
		{dated + ten, true, false},
		{ten + dated, true, false},
		{ten + ten, false, false},
		{always + ten, true, true},
		{ten + always + dated, true, true},
		{ten + sub, true, false},
	} {
		list := parse(t, "revoked:\n"+tt.entries)
		if got := denied(t, eleven, list.Check(eleven)); got != tt.eleven {
			t.Errorf("issued at eleven, entries\n%sdenied: %t", tt.entries, got)
		}
		at := token(login, "alice", "1", noon)
		if got := denied(t, at, list.Check(at)); got != tt.at {
			t.Errorf("issued at noon, entries\n%sdenied: %t", tt.entries, got)
		}
	}
}

// Promise: the operator's log says which entry denied, and why it was written;
// a note cannot forge a line of it.
func TestDetail(t *testing.T) {
	list := parse(t, "revoked:\n- jti: other\n- {user: oidc:alice, issuedBefore: 2026-11-23T12:00:00Z, note: \"laptop\\nstolen\"}\n- {user: oidc:bob, note: 4711}\n")
	err := list.Check(token(login, "alice", "1", noon.Add(-1)))
	const want = `revoked: revoked[1].user of the revocation file names it, if issued before 2026-11-23T12:00:00Z: "laptop\nstolen"`
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	err = list.Check(static("oidc:bob"))
	if err == nil || err.Error() != `revoked: revoked[2].user of the revocation file names it: "4711"` {
		t.Errorf("error %v", err)
	}
}

// Promise: what cannot be looked up is refused, by a list and without one.
func TestNoIdentity(t *testing.T) {
	for name, check := range map[string]func(*auth.Identity) error{
		"list": (&revocation.List{}).Check, "live": (&revocation.Live{}).Check,
	} {
		refusal, ok := errors.AsType[*auth.Refusal](check(nil))
		if !ok || refusal.Reason != auth.InternalAuthFailed {
			t.Errorf("%s: %v", name, refusal)
		}
	}
}

// Promise: the number of entries and the issuers are told, for logs and checks.
func TestLenAndIssuers(t *testing.T) {
	list := parse(t, "revoked:\n- {jti: a, issuer: i2}\n- {subject: a, issuer: i1}\n- {subject: b, issuer: i1}\n- user: a\n- user: a\n")
	if diff := cmp.Diff([]string{"i1", "i2"}, list.Issuers()); diff != "" || list.Len() != 5 {
		t.Errorf("%d entries, issuers (-want +got):\n%s", list.Len(), diff)
	}
	if empty := parse(t, "revoked: []\n"); empty.Len() != 0 || len(empty.Issuers()) != 0 {
		t.Errorf("an empty list has %d entries", empty.Len())
	}
}

// large returns a file with n entries, of every kind.
func large(n int) string {
	var b strings.Builder
	b.WriteString("revoked:\n")
	for i := range n {
		switch i % 5 {
		case 0:
			fmt.Fprintf(&b, "- jti: 3f2c8a1e-%d\n", i)
		case 1:
			fmt.Fprintf(&b, "- jti: 3f2c8a1e-%d\n  issuer: %s\n  note: laptop stolen\n", i, login)
		case 2:
			fmt.Fprintf(&b, "- user: oidc:user-%d\n  issuedBefore: 2026-11-23T12:00:00Z\n", i)
		case 3:
			fmt.Fprintf(&b, "- issuer: %s\n  subject: s-%d\n", login, i)
		case 4:
			fmt.Fprintf(&b, "- certificateSHA256: \"%064x\"\n", i+0xa0000)
		}
	}
	return b.String()
}

// Promise: an identity that passes costs no allocation.
func TestNoAllocations(t *testing.T) {
	live := &revocation.Live{}
	live.Swap(parse(t, large(1000)))
	ids := []*auth.Identity{token(login, "x", "x", noon), certificate("x", "CN=ca", "1", fingerprint, fingerprint), static("x")}
	if n := testing.AllocsPerRun(100, func() {
		for _, id := range ids {
			if err := live.Check(id); err != nil {
				t.Error(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A hundred thousand entries must cost as much as ten.
func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{10, 100_000} {
		live := &revocation.Live{}
		live.Swap(parse(b, large(n)))
		for name, id := range map[string]*auth.Identity{
			"token": token(login, "alice", "3f2c8a1e-0b7d-4a55-9d0e-0c1f2a3b4c5d", noon), "certificate": certificate("alice", "CN=corp ca", "a1b", fingerprint, fingerprint[1:]+"0"),
		} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := live.Check(id); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkParse(b *testing.B) {
	content := []byte(large(100_000))
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := revocation.Parse(content); err != nil {
			b.Fatal(err)
		}
	}
}
