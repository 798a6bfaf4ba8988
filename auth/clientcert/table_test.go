package clientcert_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/clientcert"
)

// certificateCase is one row that kube-apiserver's x509 authenticator can judge
// too: it needs no CRL, and its clock is [now].
type certificateCase struct {
	name   string
	cas    []byte    // the file of CAs
	client *entity   // what the client presents
	user   auth.User // if accepted; the credential-id is left out
	reason auth.Reason
	kube   string      // what kube-apiserver does instead; empty: the same verdict
	names  auth.Reason // what auth.NamePolicy says of the user; empty: nothing
}

// certificateCases is the table for the comparison with kube-apiserver.
func certificateCases(t testing.TB) []certificateCase {
	root := issue(t, nil, authority("root"))
	return slices.Concat(leafCases(t, root), chainCases(t, root), subjectCases(t, root))
}

// leafCases are certificates that a root issued itself.
func leafCases(t testing.TB, root *entity) []certificateCase {
	alice := auth.User{Name: "alice", Groups: []string{"dev", "ops"}}
	named := client("alice", "dev", "ops")
	other := issue(t, nil, authority("other"))
	namesake := issue(t, nil, authority("root"))
	leaf := issue(t, root, named)
	expiredRoot := issue(t, nil, authority("expired root"), valid(-3*time.Hour, -2*time.Hour))
	pinned := issue(t, nil, named)
	critical := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
	}
	return []certificateCase{
		{name: "valid", cas: root.pem(), client: leaf, user: alice},
		{name: "one of several CAs", cas: join(other.pem(), root.pem()), client: leaf, user: alice},
		{name: "of the second CA of one name", cas: join(namesake.pem(), root.pem()), client: leaf, user: alice},
		{name: "several usages", cas: root.pem(), client: issue(t, root, named, usage(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)), user: alice},
		{name: "any usage", cas: root.pem(), client: issue(t, root, named, usage(x509.ExtKeyUsageAny)), user: alice},
		{name: "no usage said", cas: root.pem(), client: issue(t, root, named, usage()), user: alice},
		{name: "server usage", cas: root.pem(), client: issue(t, root, named, usage(x509.ExtKeyUsageServerAuth)), reason: auth.BadCertificate},
		{name: "expired", cas: root.pem(), client: issue(t, root, named, valid(-2*time.Hour, -time.Second)), reason: auth.CertificateExpired},
		{name: "last second", cas: root.pem(), client: issue(t, root, named, valid(-time.Hour, 0)), user: alice},
		{name: "first second", cas: root.pem(), client: issue(t, root, named, valid(0, time.Hour)), user: alice},
		{name: "not yet valid", cas: root.pem(), client: issue(t, root, named, valid(time.Second, time.Hour)), reason: auth.NotYetValid},
		{name: "other CA", cas: other.pem(), client: leaf, reason: auth.CertificateNotTrusted},
		{name: "other CA of the same name", cas: namesake.pem(), client: leaf, reason: auth.CertificateNotTrusted},
		{name: "other CA, presented with it", cas: other.pem(), client: leaf.with(root), reason: auth.CertificateNotTrusted},
		{name: "other CA and expired", cas: other.pem(), client: issue(t, root, named, valid(-2*time.Hour, -time.Hour)), reason: auth.CertificateNotTrusted},
		{name: "signed by itself", cas: root.pem(), client: issue(t, nil, named), reason: auth.CertificateNotTrusted},
		{name: "signed by itself and in the file", cas: join(root.pem(), pinned.pem()), client: pinned, user: alice},
		{name: "expired root", cas: expiredRoot.pem(), client: issue(t, expiredRoot, named), reason: auth.CertificateNotTrusted},
		{name: "unknown critical extension", cas: root.pem(), client: issue(t, root, named, critical), reason: auth.CertificateNotTrusted},
		{name: "a CA itself", cas: root.pem(), client: issue(t, root, authority("alice"), usage(x509.ExtKeyUsageClientAuth)), user: auth.User{Name: "alice"}},
	}
}

// chainCases are certificates with intermediates.
func chainCases(t testing.TB, root *entity) []certificateCase {
	alice := auth.User{Name: "alice", Groups: []string{"dev", "ops"}}
	named := client("alice", "dev", "ops")
	middle := issue(t, root, authority("middle"))
	lower := issue(t, middle, authority("lower"))
	old := issue(t, root, authority("old"), valid(-3*time.Hour, -2*time.Hour))
	young := issue(t, root, authority("young"), valid(time.Second, 2*time.Hour))
	server := issue(t, root, authority("server only"), usage(x509.ExtKeyUsageServerAuth))
	noCA := issue(t, root, named)
	good, deep := issue(t, middle, named), issue(t, lower, named)
	many := issue(t, root, named)
	for range 10 {
		many = many.with(root)
	}
	return []certificateCase{
		{name: "intermediate", cas: root.pem(), client: good.with(middle), user: alice},
		{name: "intermediate and root", cas: root.pem(), client: good.with(middle, root), user: alice},
		{name: "intermediate missing", cas: root.pem(), client: good, reason: auth.CertificateNotTrusted},
		{name: "intermediate in the file alone", cas: middle.pem(), client: good, user: alice},
		{name: "two intermediates in another order", cas: root.pem(), client: deep.with(middle, lower), user: alice},
		{name: "one of two intermediates missing", cas: root.pem(), client: deep.with(lower), reason: auth.CertificateNotTrusted},
		{name: "expired intermediate", cas: root.pem(), client: issue(t, old, named, valid(-4*time.Hour, time.Hour)).with(old), reason: auth.CertificateExpired},
		{name: "intermediate not yet valid", cas: root.pem(), client: issue(t, young, named).with(young), reason: auth.NotYetValid},
		{name: "expired certificate with an older stray one", cas: root.pem(), client: issue(t, root, named, valid(-time.Minute, -time.Second)).with(old), reason: auth.CertificateExpired},
		{name: "intermediate for servers alone", cas: root.pem(), client: issue(t, server, named).with(server), reason: auth.BadCertificate},
		{name: "issued by one that is no CA", cas: root.pem(), client: issue(t, noCA, named).with(noCA), reason: auth.CertificateNotTrusted},
		{name: "eleven certificates", cas: root.pem(), client: many, reason: auth.BadCertificate, kube: "accepted: no limit of its own"},
	}
}

// subjectCases are certificates with subjects of every kind.
func subjectCases(t testing.TB, root *entity) []certificateCase {
	cn := func(value any) rdn { return rdn{attribute(oidCN, value)} }
	o := func(value any) rdn { return rdn{attribute(oidO, value)} }
	uid := func(value any) rdn { return rdn{attribute(oidUID, value)} }
	made := func(rdns ...rdn) *entity { return issue(t, root, subject(t, rdns...)) }
	var crowd []rdn
	var groups []string
	for range 200 {
		crowd, groups = append(crowd, o("g")), append(groups, "g")
	}
	const noOpinion = "no opinion: another credential, or anonymous, may follow"
	rows := []certificateCase{
		{name: "no groups", client: made(cn("a")), user: auth.User{Name: "a"}},
		{name: "200 equal groups", client: made(append(crowd, cn("a"))...), user: auth.User{Name: "a", Groups: groups}},
		{name: "groups in the order of the subject", client: made(o("z"), cn("a"), o("b")), user: auth.User{Name: "a", Groups: []string{"z", "b"}}},
		{name: "group with a comma", client: made(cn("a"), o("x,y")), user: auth.User{Name: "a", Groups: []string{"x,y"}}},
		{name: "several common names", client: made(cn("Users"), cn("a")), user: auth.User{Name: "a"}},
		{name: "several values in one RDN", client: made(rdn{attribute(oidCN, "a"), attribute(oidO, "g"), attribute(oidO, "h")}), user: auth.User{Name: "a", Groups: []string{"g", "h"}}},
		{name: "two names in one RDN", client: made(rdn{attribute(oidCN, "a"), attribute(oidCN, "b")}), user: auth.User{Name: "b"}},
		{name: "uid", client: made(cn("a"), uid("42")), user: auth.User{Name: "a", UID: "42"}},
		{name: "uid in one RDN with the name", client: made(rdn{attribute(oidCN, "a"), attribute(oidUID, "42")}), user: auth.User{Name: "a", UID: "42"}},
		{name: "uid twice", client: made(cn("a"), uid("1"), uid("2")), reason: auth.BadCertificate},
		{name: "the same uid twice", client: made(cn("a"), uid("1"), uid("1")), reason: auth.BadCertificate},
		{name: "empty uid", client: made(cn("a"), uid("")), reason: auth.BadCertificate},
		{name: "empty uid after another", client: made(cn("a"), uid("1"), uid("")), reason: auth.BadCertificate},
		{name: "no common name", client: made(o("g")), reason: auth.BadCertificate, kube: noOpinion},
		{name: "empty subject", client: made(), reason: auth.BadCertificate, kube: noOpinion},
		{name: "empty common name", client: made(cn("")), reason: auth.BadCertificate, kube: noOpinion},
		{name: "empty common name after another", client: made(cn("a"), cn("")), reason: auth.BadCertificate, kube: noOpinion},

		{name: "Unicode", client: made(cn("Zoë 東京"), o("Ñandú")), user: auth.User{Name: "Zoë 東京", Groups: []string{"Ñandú"}}},
		{name: "UTF-16", client: made(cn(asn1.RawValue{Tag: asn1.TagBMPString, Bytes: []byte{0, 'Z', 0, 0xeb}})), user: auth.User{Name: "Zë"}},
		{name: "blank name", client: made(cn(" ")), user: auth.User{Name: " "}, names: auth.BadName},
		{name: "untrimmed group", client: made(cn("a"), o(" system:masters")), user: auth.User{Name: "a", Groups: []string{" system:masters"}}, names: auth.BadName},
		{name: "newline", client: made(cn("a\r\nImpersonate-Group: system:masters")), user: auth.User{Name: "a\r\nImpersonate-Group: system:masters"}, names: auth.BadName},
		{name: "NUL", client: made(cn("admin\x00.example")), user: auth.User{Name: "admin\x00.example"}, names: auth.BadName},
		{name: "empty group", client: made(cn("a"), o("")), user: auth.User{Name: "a", Groups: []string{""}}, names: auth.BadName},
		{name: "untrimmed uid", client: made(cn("a"), uid("1 ")), user: auth.User{Name: "a", UID: "1 "}, names: auth.BadName},
		{name: "reserved user", client: made(cn("system:admin")), user: auth.User{Name: "system:admin"}, names: auth.ReservedName},
		{name: "reserved group", client: made(cn("a"), o("system:masters")), user: auth.User{Name: "a", Groups: []string{"system:masters"}}, names: auth.ReservedName},
		{name: "40,000 bytes", client: made(cn(strings.Repeat("n", 40000))), user: auth.User{Name: strings.Repeat("n", 40000)}},
	}
	for i := range rows {
		rows[i].cas = root.pem()
	}
	return rows
}

// Promise: over a real handshake a certificate names the user that
// kube-apiserver would see, or is refused for the reason that is true.
func TestCertificates(t *testing.T) {
	s := serve(t)
	for _, tt := range certificateCases(t) {
		t.Run(tt.name, func(t *testing.T) {
			a := clientcert.New(clientcert.Config{Live: trusting(t, tt.cas), Now: at(now)})
			c := s.client(t, tt.client)
			for _, turn := range []string{"first", "cached"} {
				identity, err := s.ask(t, a, c)
				checkCase(t, turn, tt, identity, err)
			}
		})
	}
}

func checkCase(t *testing.T, turn string, tt certificateCase, identity *auth.Identity, err error) {
	t.Helper()
	if tt.reason != "" {
		refusal := refusalOf(t, err)
		if refusal.Reason != tt.reason {
			t.Errorf("%s: refused with %v, want %s", turn, err, tt.reason)
		}
		if id := clientcert.CredentialID(tt.client.cert); !strings.Contains(refusal.Detail, id) {
			t.Errorf("%s: %q does not name the certificate", turn, refusal.Detail)
		}
		return
	}
	if err != nil {
		t.Fatalf("%s: %v", turn, err)
	}
	want := tt.user
	want.Extra = map[string][]string{"authentication.kubernetes.io/credential-id": {clientcert.CredentialID(tt.client.cert)}}
	if diff := cmp.Diff(want, identity.User); diff != "" || identity.Kind != auth.KindClientCert || identity.Issuer != "" {
		t.Errorf("%s: %s identity (-want +got):\n%s", turn, identity.Kind, diff)
	}
	policy := auth.NamePolicy{}.Check(identity.Kind, &identity.User)
	if (tt.names == "") != (policy == nil) || policy != nil && refusalOf(t, policy).Reason != tt.names {
		t.Errorf("%s: the name policy says %v, want %q", turn, policy, tt.names)
	}
}

func refusalOf(t *testing.T, err error) *auth.Refusal {
	t.Helper()
	refusal, ok := errors.AsType[*auth.Refusal](err)
	if !ok {
		t.Fatalf("error %v, want a refusal", err)
	}
	if refusal.Kind != auth.KindClientCert {
		t.Errorf("refusal of kind %s", refusal.Kind)
	}
	return refusal
}
