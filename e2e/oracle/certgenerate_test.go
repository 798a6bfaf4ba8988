package oracle_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// Promise: certificates and chains that nobody thought of give the same too.
func TestGeneratedCertificates(t *testing.T) {
	forSeeds(t, func(seed uint64) { judgeGeneratedCertificates(t, seed) })
}

// Promise: as TestGeneratedCertificates, for seeds that the fuzzer chooses.
func FuzzGeneratedCertificates(f *testing.F) {
	for seed := range uint64(3) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { judgeGeneratedCertificates(t, seed) })
}

// leavesPerAuthorities are judged by each set of authorities that is generated.
const leavesPerAuthorities = 40

// judgeGeneratedCertificates makes authorities of seed, of which some stand in
// the file, and certificates for them. What is drawn depends on the seed; keys
// and serial numbers do not.
func judgeGeneratedCertificates(t *testing.T, seed uint64) {
	t.Helper()
	g := &certGenerator{generator{rand.New(rand.NewPCG(seed, 1))}, certMaker{t, now()}, nil}
	cas := g.authorities()
	reference, ours := certReference(t, cas, now()), certGatehouse(t, cas, now())
	for range leavesPerAuthorities {
		h, drawn := g.leaf()
		want, got := reference.ask(h), ours.ask(h)
		id := ""
		if !sameAnswer(want, got) {
			if id = explanation(want, got); id == "" {
				t.Errorf("-oracle.seed=%d\n%s\n%skube-apiserver %s\ngatehouse      %s", seed, drawn, h.pem(), want, got)
			}
		}
		count.drew(want, id)
	}
}

// certGenerator draws certificates.
type certGenerator struct {
	generator
	certMaker
	cas []*holder // each with those above it, but for the root
}

// authorities draws roots and intermediates, and returns the file of those that
// are trusted.
func (g *certGenerator) authorities() []byte {
	var file []byte
	for i := range 1 + g.rand.IntN(3) {
		// Some share a name, so that a chain must be looked for.
		root := g.issue(nil, g.authority(fmt.Sprintf("root %d", i/2)), g.odd())
		g.cas = append(g.cas, root)
		if i == 0 || g.chance(1, 2) {
			file = append(file, root.pem()...)
		}
	}
	for i := range g.rand.IntN(6) {
		parent := pick(&g.generator, g.cas)
		ca := g.issue(parent, g.authority(fmt.Sprintf("middle %d", i/2)), g.odd())
		if parent.above != nil || !slices.Equal(parent.cert.RawIssuer, parent.cert.RawSubject) {
			ca = ca.with(parent)
			ca.above = append(ca.above, parent.above...)
		}
		g.cas = append(g.cas, ca)
		if g.chance(1, 8) {
			file = append(file, ca.pem()...)
		}
	}
	return file
}

// odd changes an authority in a way that seldom is good.
func (g *certGenerator) odd() certOption {
	if g.chance(2, 3) {
		return func(*order) {}
	}
	list := []string{"in.example", "out.example"}
	n, name := g.rand.IntN(2), pick(&g.generator, list)
	return pick(&g.generator, []certOption{
		g.dates(), g.usages(), g.extra(),
		change(func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = n, n == 0 }),
		change(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }),
		change(func(c *x509.Certificate) { c.IsCA = false }),
		change(func(c *x509.Certificate) { c.PermittedDNSDomains = []string{name} }),
		change(func(c *x509.Certificate) { c.ExcludedEmailAddresses = []string{name} }),
	})
}

// dates are good for the most part.
func (g *certGenerator) dates() certOption {
	hours := []time.Duration{-48 * time.Hour, -time.Hour, -time.Second, 0, time.Second, time.Hour, 48 * time.Hour}
	from, until := hours[g.rand.IntN(4)], hours[3+g.rand.IntN(4)]
	if g.chance(1, 4) {
		from, until = pick(&g.generator, hours), pick(&g.generator, hours)
	}
	return g.valid(from, until)
}

func (g *certGenerator) usages() certOption {
	all := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageAny, x509.ExtKeyUsageEmailProtection}
	var list []x509.ExtKeyUsage
	for range g.rand.IntN(4) {
		list = append(list, pick(&g.generator, all))
	}
	return usage(list...)
}

// extra is one extension more.
func (g *certGenerator) extra() certOption {
	return extension(g.chance(1, 2), []byte{5, 0}, 1, 2, 3, 1+g.rand.IntN(3))
}

// leaf draws a client certificate of any of the authorities, or of none, and
// what is presented with it.
func (g *certGenerator) leaf() (h *holder, drawn string) {
	rdns, said := g.name()
	options := []certOption{g.subject(rdns...)}
	if g.chance(1, 6) {
		options = append(options, g.dates())
	}
	if g.chance(1, 5) {
		options = append(options, g.usages())
	}
	if g.chance(1, 10) {
		options = append(options, g.extra())
	}
	if g.chance(1, 6) {
		dns, mail := pick(&g.generator, []string{"a.in.example", "a.out.example"}), pick(&g.generator, []string{"a@in.example", "a@out.example"})
		options = append(options, change(func(c *x509.Certificate) { c.DNSNames, c.EmailAddresses = []string{dns}, []string{mail} }))
	}
	var parent *holder
	if !g.chance(1, 30) {
		parent = pick(&g.generator, g.cas)
	}
	h = g.issue(parent, options...)
	return g.present(h, parent), said
}

// present draws what is presented with h: what is above it, mostly.
func (g *certGenerator) present(h, parent *holder) *holder {
	if parent != nil && !g.chance(1, 10) {
		h = h.with(parent)
		h.above = append(h.above, parent.above...)
	}
	for range g.rand.IntN(3) * g.rand.IntN(2) {
		h = h.with(pick(&g.generator, g.cas))
	}
	g.rand.Shuffle(len(h.above), func(i, j int) { h.above[i], h.above[j] = h.above[j], h.above[i] })
	if g.chance(1, 30) && h.cert != nil && parent != nil {
		h = &holder{der: g.twin(h).der, key: h.key, above: h.above}
		h.cert, _ = x509.ParseCertificate(h.der)
	}
	return h
}

// name draws a subject.
func (g *certGenerator) name() (rdns []rdn, said string) {
	ids := []asn1.ObjectIdentifier{oidCN, oidO, oidO, oidOU, oidUserID, oidUID}
	var one rdn
	add := func(id asn1.ObjectIdentifier) {
		value := g.encoded()
		said += fmt.Sprintf("%v=%d:%q ", id, value.Tag, value.Bytes)
		one = append(one, pkix.AttributeTypeAndValue{Type: id, Value: value})
		if !g.chance(1, 8) { // else the next goes into the same RDN
			rdns, one = append(rdns, one), nil
		}
	}
	for range g.rand.IntN(5) {
		add(pick(&g.generator, ids))
	}
	if !g.chance(1, 12) {
		add(oidCN)
	}
	if one != nil {
		rdns = append(rdns, one)
	}
	return rdns, said
}

// encoded draws a string of a type that suits it, mostly.
func (g *certGenerator) encoded() asn1.RawValue {
	text := g.word()
	if !g.chance(1, 5) {
		return encoded(asn1.TagUTF8String, text)
	}
	switch tag := pick(&g.generator, []int{asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString, asn1.TagT61String, asn1.TagBMPString, 28}); tag {
	case asn1.TagBMPString:
		var wide strings.Builder
		for _, r := range text {
			wide.WriteByte(byte(r >> 8))
			wide.WriteByte(byte(r))
		}
		return encoded(tag, wide.String())
	default:
		return encoded(tag, text)
	}
}
