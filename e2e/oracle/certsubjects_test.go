package oracle_test

import (
	"crypto/x509"
	"encoding/asn1"
	"strings"

	"github.com/kube-gatehouse/gatehouse/auth"
)

func cn(value any) rdn  { return rdn{attribute(oidCN, value)} }
func org(value any) rdn { return rdn{attribute(oidO, value)} }
func uid(value any) rdn { return rdn{attribute(oidUID, value)} }

// encoded is a string of an ASN.1 type, whether its bytes suit that or not.
func encoded(tag int, text string) asn1.RawValue { return asn1.RawValue{Tag: tag, Bytes: []byte(text)} }

const noOpinion = "no opinion"

// subjectRows are subjects of every shape.
func (m certMaker) subjectRows(r roots) []certRow {
	made := func(rdns ...rdn) *holder { return m.issue(r.root, m.subject(rdns...)) }
	a := func(groups ...string) auth.User { return auth.User{Name: "a", Groups: groups} }
	var crowd []rdn
	var groups []string
	for range 200 {
		crowd, groups = append(crowd, org("g")), append(groups, "g")
	}
	long := strings.Repeat("n", 40_000)
	return []certRow{
		{is: "no groups", holder: made(cn("a")), user: a()},
		{is: "a group", holder: made(cn("a"), org("g")), user: a("g")},
		{is: "200 equal groups", holder: made(append(crowd, cn("a"))...), user: a(groups...)},
		{is: "groups in the order of the subject", holder: made(org("z"), cn("a"), org("b")), user: a("z", "b")},
		{is: "group with a comma", holder: made(cn("a"), org("x,y")), user: a("x,y")},
		{is: "group with an equals sign and a plus", holder: made(cn("a"), org("x=y+z")), user: a("x=y+z")},
		{is: "group of the name", holder: made(cn("a"), org("a")), user: a("a")},
		{is: "group system:authenticated", holder: made(cn("a"), org("system:authenticated")), user: a("system:authenticated")},
		{is: "group system:authenticated before another", holder: made(cn("a"), org("system:authenticated"), org("g")), user: a("system:authenticated", "g")},
		{is: "several common names", holder: made(cn("Users"), cn("a")), user: a()},
		{is: "several values in one RDN", holder: made(rdn{attribute(oidCN, "a"), attribute(oidO, "g"), attribute(oidO, "h")}), user: a("g", "h")},
		{is: "two names in one RDN", holder: made(rdn{attribute(oidCN, "b"), attribute(oidCN, "a")}), user: auth.User{Name: "b"}},
		{is: "organizational unit", holder: made(cn("a"), rdn{attribute(oidOU, "unit")}), user: a()},
		{is: "country, place and serial number", holder: made(rdn{attribute([]int{2, 5, 4, 6}, "DE")}, rdn{attribute([]int{2, 5, 4, 7}, "Köln")}, rdn{attribute([]int{2, 5, 4, 5}, "7")}, cn("a")), user: a()},
		{is: "e-mail address and domain", holder: made(cn("a"), rdn{attribute([]int{1, 2, 840, 113549, 1, 9, 1}, encoded(asn1.TagIA5String, "a@b.c"))}, rdn{attribute([]int{0, 9, 2342, 19200300, 100, 1, 25}, "dc")}), user: a()},
		{is: "distinguished name as a name", holder: made(cn("CN=a,O=system:masters")), user: auth.User{Name: "CN=a,O=system:masters"}},
		{is: "no common name", holder: made(org("g")), refused: noOpinion},
		{is: "empty subject", holder: made(), refused: noOpinion},
		{is: "empty RDN", holder: made(rdn{}, cn("a")), user: a()},
		{is: "empty common name", holder: made(cn("")), refused: noOpinion},
		{is: "empty common name after another", holder: made(cn("a"), cn("")), refused: noOpinion},
		{is: "empty common name before another", holder: made(cn(""), cn("a")), user: a()},
		{is: "alternative name alone", holder: m.issue(r.root, m.subject(), change(func(c *x509.Certificate) { c.DNSNames = []string{"a.example"} })), refused: noOpinion},
		{is: "40,000 bytes", holder: made(cn(long)), user: auth.User{Name: long}},
		{is: "300,000 bytes", cas: r.root.pem(), holder: made(cn(strings.Repeat("n", 300_000))), user: auth.User{Name: strings.Repeat("n", 300_000)}, verdict: verdict{Differs: "identity-size"}},

		{is: "empty group", holder: made(cn("a"), org("")), user: a(""), verdict: verdict{Differs: "empty-group"}},
		{is: "empty group among others", holder: made(cn("a"), org("g"), org("")), user: a("g", ""), verdict: verdict{Differs: "empty-group"}},
		{is: "reserved user", holder: made(cn("system:admin")), user: auth.User{Name: "system:admin"}, verdict: verdict{Differs: "reserved-name"}},
		{is: "node", holder: made(cn("system:node:n1"), org("system:nodes")), user: auth.User{Name: "system:node:n1", Groups: []string{"system:nodes"}}, verdict: verdict{Differs: "reserved-name"}},
		{is: "service account", holder: made(cn("system:serviceaccount:default:default")), user: auth.User{Name: "system:serviceaccount:default:default"}, verdict: verdict{Differs: "reserved-name"}},
		{is: "system:masters", holder: made(cn("a"), org("system:masters")), user: a("system:masters"), verdict: verdict{Differs: "reserved-name"}},
		{is: "kubeadm:cluster-admins", holder: made(cn("a"), org("g"), org("kubeadm:cluster-admins")), user: a("g", "kubeadm:cluster-admins"), verdict: verdict{Differs: "reserved-name"}},
		{is: "System:masters", holder: made(cn("a"), org("System:masters")), user: a("System:masters")},
	}
}

// stringRows are names of every string type, good and broken, and of letters
// that somebody may take for others.
func (m certMaker) stringRows(r roots) []certRow {
	made := func(value any) *holder { return m.issue(r.root, m.subject(cn(value))) }
	user := func(name string) auth.User { return auth.User{Name: name} }
	const t61, universal, visible, general = 20, 28, 26, 27
	const unreadable = "x509: "
	return []certRow{
		{is: "PrintableString", holder: made(encoded(asn1.TagPrintableString, "a b'()+,-./:=?")), user: user("a b'()+,-./:=?")},
		{is: "PrintableString with a star and an ampersand", holder: made(encoded(asn1.TagPrintableString, "*&")), user: user("*&")},
		{is: "PrintableString with an at sign", holder: made(encoded(asn1.TagPrintableString, "a@b")), refused: unreadable},
		{is: "UTF8String", holder: made(encoded(asn1.TagUTF8String, "Zoë 東京")), user: user("Zoë 東京")},
		{is: "UTF8String beyond the first plane", holder: made(encoded(asn1.TagUTF8String, "😀")), user: user("😀")},
		{is: "UTF8String that is Latin-1", holder: made(encoded(asn1.TagUTF8String, "Zo\xeb")), refused: unreadable},
		{is: "UTF8String too long for its letter", holder: made(encoded(asn1.TagUTF8String, "\xc0\xaf")), refused: unreadable},
		{is: "UTF8String with a surrogate", holder: made(encoded(asn1.TagUTF8String, "\xed\xa0\x80")), refused: unreadable},
		{is: "UTF8String beyond Unicode", holder: made(encoded(asn1.TagUTF8String, "\xf4\x90\x80\x80")), refused: unreadable},
		{is: "UTF8String cut off", holder: made(encoded(asn1.TagUTF8String, "a\xe6\x9d")), refused: unreadable},
		{is: "IA5String", holder: made(encoded(asn1.TagIA5String, "a@b.c")), user: user("a@b.c")},
		{is: "IA5String of eight bits", holder: made(encoded(asn1.TagIA5String, "\xeb")), refused: unreadable},
		{is: "NumericString", holder: made(encoded(asn1.TagNumericString, "12 3")), user: user("12 3")},
		{is: "NumericString with letters", holder: made(encoded(asn1.TagNumericString, "12a")), refused: unreadable},
		{is: "T61String", holder: made(encoded(t61, "Zo\xeb")), user: user("Zoë")},
		{is: "BMPString", holder: made(encoded(asn1.TagBMPString, "\x00Z\x00\xeb")), user: user("Zë")},
		{is: "BMPString with its end", holder: made(encoded(asn1.TagBMPString, "\x00Z\x00\x00")), user: user("Z")},
		{is: "BMPString of odd length", holder: made(encoded(asn1.TagBMPString, "\x00Z\x00")), refused: unreadable},
		{is: "BMPString with surrogates", holder: made(encoded(asn1.TagBMPString, "\xd8\x3d\xde\x00")), refused: unreadable},
		{is: "BMPString of its end alone", holder: made(encoded(asn1.TagBMPString, "\x00\x00")), refused: noOpinion},
		{is: "UniversalString", holder: made(encoded(universal, "\x00\x00\x00Z")), refused: unreadable},
		{is: "VisibleString", holder: made(encoded(visible, "Z")), refused: unreadable},
		{is: "GeneralString", holder: made(encoded(general, "Z")), refused: unreadable},
		{is: "number", holder: made(7), refused: unreadable},
		{is: "letters joined of two", holder: made("Zoe\u0308"), user: user("Zoe\u0308")},
		{is: "Cyrillic letter", holder: made("аlice"), user: user("аlice")},
		{is: "letters from right to left", holder: made("a\u202eb"), user: user("a\u202eb")},
		{is: "space of no width", holder: made("a\u200b"), user: user("a\u200b")},
		{is: "byte order mark", holder: made("\ufeffa"), user: user("\ufeffa")},
		{is: "no character", holder: made("a\uffff"), user: user("a\uffff")},
		{is: "inner spaces", holder: made("a  b"), user: user("a  b")},
		{is: "percent and quotes", holder: made(`100%25 "x" \ <y>`), user: user(`100%25 "x" \ <y>`)},
		{is: "group of Latin-1", holder: m.issue(r.root, m.subject(cn("a"), org(encoded(t61, "\xd1and\xfa")))), user: auth.User{Name: "a", Groups: []string{"Ñandú"}}},
	}
}

// wireRows are names that a header would change or could not carry.
func (m certMaker) wireRows(r roots) []certRow {
	made := func(rdns ...rdn) *holder { return m.issue(r.root, m.subject(rdns...)) }
	rows := []certRow{
		{is: "untrimmed group", holder: made(cn("a"), org(" system:masters")), user: auth.User{Name: "a", Groups: []string{" system:masters"}}, verdict: verdict{Differs: "white-space"}},
		{is: "group with a newline", holder: made(cn("a"), org("g\nh")), user: auth.User{Name: "a", Groups: []string{"g\nh"}}, verdict: verdict{Differs: "control-characters"}},
	}
	for id, names := range map[string][]string{
		"white-space":        {" ", " a", "a ", "\u00a0a", "a\u2003", "a\u2028", "\u3000"},
		"control-characters": {"a\r\nImpersonate-Group: system:masters", "admin\x00.example", "a\tb", "\x7f", "a\u0085b", "\u009f", "a\ufffd", "a\n"},
	} {
		for _, name := range names {
			rows = append(rows, certRow{is: "name " + strings.ToValidUTF8(name, "?"), holder: made(cn(encoded(asn1.TagUTF8String, name))), user: auth.User{Name: name}, verdict: verdict{Differs: id}})
		}
	}
	return rows
}

// uidRows are the uid that Kubernetes reads in a subject.
func (m certMaker) uidRows(r roots) []certRow {
	made := func(rdns ...rdn) *holder { return m.issue(r.root, m.subject(rdns...)) }
	const several = "found multiple"
	return []certRow{
		{is: "uid", holder: made(cn("a"), uid("42")), user: auth.User{Name: "a", UID: "42"}},
		{is: "uid and groups", holder: made(uid("42"), org("g"), cn("a")), user: auth.User{Name: "a", UID: "42", Groups: []string{"g"}}},
		{is: "uid in one RDN with the name", holder: made(rdn{attribute(oidCN, "a"), attribute(oidUID, "42")}), user: auth.User{Name: "a", UID: "42"}},
		{is: "uid of RFC 4519", holder: made(cn("a"), rdn{attribute(oidUserID, "42")}), user: auth.User{Name: "a"}},
		{is: "uid of both kinds", holder: made(cn("a"), rdn{attribute(oidUserID, "1")}, uid("2")), user: auth.User{Name: "a", UID: "2"}},
		{is: "uid below Kubernetes' id", holder: made(cn("a"), rdn{attribute([]int{1, 3, 6, 1, 4, 1, 57683, 2, 1}, "42")}), user: auth.User{Name: "a"}},
		{is: "uid of Latin-1", holder: made(cn("a"), uid(encoded(20, "\xeb"))), user: auth.User{Name: "a", UID: "ë"}},
		{is: "uid system:x", holder: made(cn("a"), uid("system:x")), user: auth.User{Name: "a", UID: "system:x"}},
		{is: "uid twice", holder: made(cn("a"), uid("1"), uid("2")), refused: several},
		{is: "the same uid twice", holder: made(cn("a"), uid("1"), uid("1")), refused: several},
		{is: "the uid twice in one RDN", holder: made(cn("a"), rdn{attribute(oidUID, "1"), attribute(oidUID, "2")}), refused: several},
		{is: "empty uid", holder: made(cn("a"), uid("")), refused: "cannot be an empty string"},
		{is: "empty uid after another", holder: made(cn("a"), uid("1"), uid("")), refused: several},
		{is: "uid that is a number", holder: made(cn("a"), uid(42)), refused: "x509: "},
		{is: "uid and no common name", holder: made(uid("42")), refused: noOpinion},
		{is: "two uids and no common name", holder: made(uid("1"), uid("2")), refused: noOpinion},
		{is: "untrimmed uid", holder: made(cn("a"), uid("1 ")), user: auth.User{Name: "a", UID: "1 "}, verdict: verdict{Differs: "white-space"}},
		{is: "uid with a tab", holder: made(cn("a"), uid("1\t2")), user: auth.User{Name: "a", UID: "1\t2"}, verdict: verdict{Differs: "control-characters"}},
	}
}
