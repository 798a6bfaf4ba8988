package oracle_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

var alice = auth.User{Name: "alice", Groups: []string{"dev"}}

// leafRows are certificates that the root issued itself: times and versions.
func (m certMaker) leafRows(r roots) []certRow {
	made := func(options ...certOption) *holder {
		return m.issue(r.root, append([]certOption{named("alice", "dev")}, options...)...)
	}
	serial := func(text string) certOption {
		return change(func(c *x509.Certificate) { c.SerialNumber.SetString(text, 16) })
	}
	return []certRow{
		{is: "valid", holder: made(), user: alice},
		{is: "expired", holder: made(m.valid(-2*time.Hour, -time.Minute)), refused: "expired"},
		{is: "long expired", holder: made(m.valid(-20*24*time.Hour, -10*24*time.Hour)), refused: "expired"},
		{is: "not yet valid", holder: made(m.valid(time.Hour, 2*time.Hour)), refused: "not yet valid"},
		{is: "valid for a century", holder: made(m.valid(-50*365*24*time.Hour, 50*365*24*time.Hour)), user: alice},
		{is: "ends before it begins", holder: made(m.valid(time.Minute, -time.Minute)), refused: "not yet valid"},
		{is: "longer than its CA", holder: made(m.valid(-48*time.Hour, 48*time.Hour)), user: alice},
		{is: "serial number of one byte", holder: made(serial("1")), user: alice},
		{is: "serial number of 20 bytes", holder: made(serial("7fffffffffffffffffffffffffffffffffffffff")), user: alice},
		{is: "a CA itself", holder: m.issue(r.root, m.authority("alice"), usage(x509.ExtKeyUsageClientAuth)), user: auth.User{Name: "alice"}},
		{is: "a CA without usages", holder: m.issue(r.root, m.authority("alice")), user: auth.User{Name: "alice"}},
	}
}

// edgeRows are valid for the very second alone, so that only a clock that
// stands can judge them.
func (m certMaker) edgeRows(r roots) []certRow {
	made := func(from, until time.Duration) *holder {
		return m.issue(r.root, named("alice", "dev"), m.valid(from, until))
	}
	return []certRow{
		{is: "last second", holder: made(-time.Hour, 0), user: alice, cas: r.root.pem()},
		{is: "first second", holder: made(0, time.Hour), user: alice, cas: r.root.pem()},
		{is: "one second", holder: made(0, 0), user: alice, cas: r.root.pem()},
		{is: "a second late", holder: made(-time.Hour, -time.Second), refused: "expired", cas: r.root.pem()},
		{is: "a second early", holder: made(time.Second, time.Hour), refused: "not yet valid", cas: r.root.pem()},
	}
}

// usageRows are key usages and extended ones.
func (m certMaker) usageRows(r roots) []certRow {
	made := func(options ...certOption) *holder {
		return m.issue(r.root, append([]certOption{named("alice", "dev")}, options...)...)
	}
	keyUsage := func(u x509.KeyUsage) certOption { return change(func(c *x509.Certificate) { c.KeyUsage = u }) }
	const bad = "incompatible key usage"
	return []certRow{
		{is: "client and server", holder: made(usage(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)), user: alice},
		{is: "any usage", holder: made(usage(x509.ExtKeyUsageAny)), user: alice},
		{is: "any and server", holder: made(usage(x509.ExtKeyUsageAny, x509.ExtKeyUsageServerAuth)), user: alice},
		{is: "no usage said", holder: made(usage()), user: alice},
		{is: "server alone", holder: made(usage(x509.ExtKeyUsageServerAuth)), refused: bad},
		{is: "code signing", holder: made(usage(x509.ExtKeyUsageCodeSigning)), refused: bad},
		{is: "e-mail and time stamps", holder: made(usage(x509.ExtKeyUsageEmailProtection, x509.ExtKeyUsageTimeStamping)), refused: bad},
		{is: "an unknown usage alone", holder: made(usage(), unknownUsage), refused: bad},
		{is: "an unknown usage and the client's", holder: made(unknownUsage), user: alice},
		{is: "empty list of usages", holder: made(usage(), extension(false, []byte{0x30, 0}, 2, 5, 29, 37)), user: alice},
		{is: "usages that are critical", holder: made(usage(), extension(true, []byte{0x30, 0x0a, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2}, 2, 5, 29, 37)), user: alice},
		{is: "key usage: signatures", holder: made(keyUsage(x509.KeyUsageDigitalSignature)), user: alice},
		{is: "key usage: encipherment alone", holder: made(keyUsage(x509.KeyUsageKeyEncipherment)), user: alice},
		{is: "key usage: certificates alone", holder: made(keyUsage(x509.KeyUsageCertSign)), user: alice},
	}
}

// trustRows are other CAs than the common ones, and several.
func (m certMaker) trustRows(r roots) []certRow {
	leaf := m.issue(r.root, named("alice", "dev"))
	other, namesake := m.issue(nil, m.authority("other")), m.issue(nil, m.authority("root"))
	expired := m.issue(nil, m.authority("expired"), m.valid(-3*time.Hour, -2*time.Hour))
	young := m.issue(nil, m.authority("young"), m.valid(time.Hour, 2*time.Hour))
	renewed := m.issue(nil, m.authority("root"), keyed(r.root.key))
	noCA := m.issue(nil, named("no CA"))
	const unknown = "unknown authority"
	rows := []certRow{
		{is: "one of several CAs", cas: slices.Concat(other.pem(), r.root.pem()), holder: leaf, user: alice},
		{is: "of the second CA of one name", cas: slices.Concat(namesake.pem(), r.root.pem()), holder: leaf, user: alice},
		{is: "the CA twice in the file", cas: slices.Concat(r.root.pem(), r.root.pem()), holder: leaf, user: alice},
		{is: "the CA renewed with its key", cas: renewed.pem(), holder: leaf, user: alice},
		{is: "the CA and its renewal", cas: slices.Concat(renewed.pem(), r.root.pem()), holder: leaf, user: alice},
		{is: "other CA in the file", cas: other.pem(), holder: leaf, refused: unknown},
		{is: "other CA of the same name in the file", cas: namesake.pem(), holder: leaf, refused: unknown},
		{is: "expired root", cas: expired.pem(), holder: m.issue(expired, named("alice")), refused: "expired"},
		{is: "root not yet valid", cas: young.pem(), holder: m.issue(young, named("alice")), refused: "expired"},
		{is: "root that is no CA", cas: noCA.pem(), holder: m.issue(noCA, named("alice")), refused: unknown},
		{is: "other CA", holder: m.issue(other, named("alice")), refused: unknown},
		{is: "other CA, presented with it", holder: m.issue(other, named("alice")).with(other), refused: unknown},
		{is: "other CA of the same name", holder: m.issue(namesake, named("alice")), refused: unknown},
		{is: "other CA and expired", holder: m.issue(other, named("alice"), m.valid(-2*time.Hour, -time.Hour)), refused: "expired"},
		{is: "signed by itself", holder: m.issue(nil, named("alice")), refused: unknown},
		{is: "signed by itself and in the file", holder: r.pinned, user: alice},
		{is: "issued by the leaf that is in the file", holder: m.issue(r.pinned, named("bob")), refused: unknown},
		{is: "the root itself", holder: r.root, user: auth.User{Name: "root"}},
	}
	return append(rows, m.edgeRows(r)...)
}

// extensionRows are critical and odd extensions.
func (m certMaker) extensionRows(r roots) []certRow {
	made := func(options ...certOption) *holder {
		return m.issue(r.root, append([]certOption{named("alice", "dev")}, options...)...)
	}
	const unhandled, unreadable = "unhandled critical extension", "x509: "
	return []certRow{
		{is: "unknown critical extension", holder: made(extension(true, []byte{5, 0}, 1, 2, 3, 4)), refused: unhandled},
		{is: "unknown extension", holder: made(extension(false, []byte{5, 0}, 1, 2, 3, 4)), user: alice},
		{is: "unknown extension of no value", holder: made(extension(false, nil, 1, 2, 3, 4)), user: alice},
		{is: "critical alternative names of a kind that is not read", holder: made(extension(true, []byte{0x30, 2, 0x88, 0}, 2, 5, 29, 17)), refused: unhandled},
		{is: "e-mail address beside", holder: made(change(func(c *x509.Certificate) { c.EmailAddresses = []string{"bob@example.com"} })), user: alice},
		{is: "names and addresses beside", holder: made(change(func(c *x509.Certificate) {
			c.DNSNames, c.IPAddresses = []string{"bob.example.com"}, []net.IP{net.IPv4(10, 0, 0, 1)}
			c.URIs = []*url.URL{{Scheme: "spiffe", Host: "example.com", Path: "/bob"}}
		})), user: alice},
		{is: "critical certificate policy", holder: made(extension(true, []byte{0x30, 6, 0x30, 4, 6, 2, 0x2a, 3}, 2, 5, 29, 32)), user: alice},
		{is: "critical policy constraints", holder: made(extension(true, []byte{0x30, 3, 0x80, 1, 0}, 2, 5, 29, 36)), refused: "invalid policies"},
		{is: "key identifier that is not the issuer's", holder: made(extension(false, []byte{0x30, 3, 0x80, 1, 7}, 2, 5, 29, 35)), user: alice},
		{is: "basic constraints that are no DER", holder: made(extension(true, []byte{0x30, 1}, 2, 5, 29, 19)), refused: unreadable},
		{is: "usages that are no DER", holder: made(usage(), extension(false, []byte{4, 0}, 2, 5, 29, 37)), refused: unreadable},
		{is: "key usage that is no DER", holder: made(extension(true, []byte{4, 0}, 2, 5, 29, 15)), refused: unreadable},
	}
}

// chainRows are certificates with intermediates.
func (m certMaker) chainRows(r roots) []certRow {
	who := named("alice", "dev")
	middle := m.issue(r.root, m.authority("middle"))
	lower := m.issue(middle, m.authority("lower"))
	old := m.issue(r.root, m.authority("old"), m.valid(-3*time.Hour, -2*time.Hour))
	young := m.issue(r.root, m.authority("young"), m.valid(30*time.Minute, 2*time.Hour))
	noSign := m.issue(r.root, m.authority("no sign"), change(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }))
	noCA := m.issue(r.root, who)
	crossed := m.issue(m.issue(nil, m.authority("stranger")), m.authority("middle"), keyed(middle.key))
	good, deep := m.issue(middle, who), m.issue(lower, who)
	rows := []certRow{
		{is: "intermediate", holder: good.with(middle), user: alice},
		{is: "intermediate and root", holder: good.with(middle, r.root), user: alice},
		{is: "intermediate twice", holder: good.with(middle, middle), user: alice},
		{is: "intermediate missing", holder: good, refused: "unknown authority"},
		{is: "another intermediate", holder: good.with(lower), refused: "unknown authority"},
		{is: "stray certificates beside", holder: noCA.with(lower, old), user: alice},
		{is: "intermediate in the file alone", cas: middle.pem(), holder: good, user: alice},
		{is: "intermediate crossed by a stranger", holder: good.with(crossed), refused: "unknown authority"},
		{is: "intermediate crossed by a stranger, and the right one", holder: good.with(crossed, middle), user: alice},
		{is: "two intermediates", holder: deep.with(lower, middle), user: alice},
		{is: "two intermediates in another order", holder: deep.with(middle, lower), user: alice},
		{is: "upper of two intermediates missing", holder: deep.with(lower), refused: "unknown authority"},
		{is: "lower of two intermediates missing", holder: deep.with(middle), refused: "unknown authority"},
		{is: "expired intermediate", holder: m.issue(old, who).with(old), refused: "expired"},
		{is: "intermediate not yet valid", holder: m.issue(young, who).with(young), refused: "not yet valid"},
		{is: "intermediate that may not sign", holder: m.issue(noSign, who).with(noSign), refused: "unknown authority"},
		{is: "issued by one that is no CA", holder: m.issue(noCA, who).with(noCA), refused: "unknown authority"},
	}
	many := noCA
	for range 9 {
		many = many.with(r.root)
	}
	return append(rows,
		certRow{is: "ten certificates", holder: many, user: alice},
		certRow{is: "eleven certificates", holder: many.with(r.root), user: alice, verdict: verdict{Differs: "many-certificates"}},
	)
}

// constraintRows are what intermediates may not issue.
func (m certMaker) constraintRows(r roots) []certRow {
	under := func(ca *holder, options ...certOption) *holder {
		return m.issue(ca, append([]certOption{named("alice", "dev")}, options...)...).with(ca)
	}
	path := func(n int) *holder {
		return m.issue(r.root, m.authority("path"), change(func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = n, n == 0 }))
	}
	zero, one := path(0), path(1)
	belowZero, belowOne := m.issue(zero, m.authority("below")), m.issue(one, m.authority("below"))
	mail := func(address string) certOption {
		return change(func(c *x509.Certificate) { c.EmailAddresses = []string{address} })
	}
	dns := func(name string) certOption { return change(func(c *x509.Certificate) { c.DNSNames = []string{name} }) }
	permit := m.issue(r.root, m.authority("permit"), change(func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains, c.PermittedEmailAddresses = true, []string{"in.example"}, []string{"in.example"}
	}))
	exclude := m.issue(r.root, m.authority("exclude"), change(func(c *x509.Certificate) {
		c.ExcludedDNSDomains, c.ExcludedEmailAddresses = []string{"out.example"}, []string{"out.example"}
	}))
	server := m.issue(r.root, m.authority("server"), usage(x509.ExtKeyUsageServerAuth))
	client := m.issue(r.root, m.authority("client"), usage(x509.ExtKeyUsageClientAuth))
	anyUse := m.issue(r.root, m.authority("any"), usage(x509.ExtKeyUsageAny))
	critical := m.issue(r.root, m.authority("critical"), extension(true, []byte{5, 0}, 1, 2, 3, 4))
	const few, constrained = "too many intermediates", "constraint"
	return []certRow{
		{is: "path length zero", holder: under(zero), user: alice},
		{is: "path length zero, exceeded", holder: under(belowZero).with(zero), refused: few},
		{is: "path length one", holder: under(belowOne).with(one), user: alice},
		{is: "path length one, exceeded", holder: under(m.issue(belowOne, m.authority("lowest"))).with(belowOne, one), refused: few},
		{is: "no alternative name under constraints", holder: under(permit), user: alice},
		{is: "permitted address", holder: under(permit, mail("a@in.example")), user: alice},
		{is: "address that is not permitted", holder: under(permit, mail("a@else.example")), refused: constrained},
		{is: "permitted name", holder: under(permit, dns("a.in.example")), user: alice},
		{is: "name that is not permitted", holder: under(permit, dns("a.else.example")), refused: constrained},
		{is: "excluded address", holder: under(exclude, mail("a@out.example")), refused: constrained},
		{is: "excluded name", holder: under(exclude, dns("a.out.example")), refused: constrained},
		{is: "name that is not excluded", holder: under(exclude, dns("a.in.example")), user: alice},
		{is: "common name that would be excluded", holder: under(exclude, named("a.out.example")), user: auth.User{Name: "a.out.example"}},
		{is: "intermediate for servers alone", holder: under(server), refused: "incompatible key usage"},
		{is: "intermediate for clients", holder: under(client), user: alice},
		{is: "intermediate for any use", holder: under(anyUse), user: alice},
		{is: "leaf for servers, intermediate for clients", holder: under(client, usage(x509.ExtKeyUsageServerAuth)), refused: "incompatible key usage"},
		{is: "intermediate with an unknown critical extension", holder: under(critical), refused: "unhandled critical extension"},
	}
}

// keyRows are keys and signatures of every kind.
func (m certMaker) keyRows(r roots) []certRow {
	who := named("alice", "dev")
	edMiddle := m.issue(r.rsa, m.authority("edwards"), keyed(m.ed25519()))
	twin := m.issue(r.rsa, who, change(func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "bob"} }))
	return []certRow{
		{is: "RSA root, P-256 leaf", holder: m.issue(r.rsa, who), user: alice},
		{is: "RSA leaf", holder: m.issue(r.root, who, keyed(m.rsa())), user: alice},
		{is: "RSA root and leaf", holder: m.issue(r.rsa, who, keyed(m.rsa())), user: alice},
		{is: "Ed25519 root", holder: m.issue(r.edwards, who), user: alice},
		{is: "Ed25519 leaf", holder: m.issue(r.root, who, keyed(m.ed25519())), user: alice},
		{is: "RSA root, Ed25519 intermediate", holder: m.issue(edMiddle, who, keyed(m.curve(elliptic.P384()))).with(edMiddle), user: alice},
		{is: "P-384 leaf", holder: m.issue(r.root, who, keyed(m.curve(elliptic.P384()))), user: alice},
		{is: "P-521 leaf", holder: m.issue(r.root, who, keyed(m.curve(elliptic.P521()))), user: alice},
		{is: "SHA-384 with RSA", holder: m.issue(r.rsa, who, signed(x509.SHA384WithRSA)), user: alice},
		{is: "SHA-512 with RSA", holder: m.issue(r.rsa, who, signed(x509.SHA512WithRSA)), user: alice},
		{is: "SHA-256 with RSA-PSS", holder: m.issue(r.rsa, who, signed(x509.SHA256WithRSAPSS)), user: alice},
		{is: "SHA-512 with RSA-PSS", holder: m.issue(r.rsa, who, signed(x509.SHA512WithRSAPSS)), user: alice},
		{is: "SHA-384 with ECDSA", holder: m.issue(r.root, who, signed(x509.ECDSAWithSHA384)), user: alice},
		{is: "SHA-1 with RSA", holder: m.issue(r.rsa, who, signed(x509.SHA1WithRSA)), refused: "insecure algorithm"},
		{is: "SHA-1 with ECDSA", holder: m.issue(r.root, who, signed(x509.ECDSAWithSHA1)), refused: "insecure algorithm"},
		{is: "another name, same CA", holder: twin, user: auth.User{Name: "bob"}},
	}
}
