package oracle_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// signedPart is the signed part of a certificate, loosely typed.
type signedPart struct {
	Version            int `asn1:"optional,explicit,default:0,tag:0"`
	Serial             *big.Int
	Algorithm          pkix.AlgorithmIdentifier
	Issuer             asn1.RawValue
	Validity           struct{ NotBefore, NotAfter time.Time }
	Subject, PublicKey asn1.RawValue
	Extensions         []pkix.Extension `asn1:"optional,explicit,omitempty,tag:3"`
}

// signedAnew returns h with a changed signed part, signed by its issuer on P-256.
func (m certMaker) signedAnew(issuer, h *holder, change func(*signedPart)) *holder {
	m.t.Helper()
	return m.reencoded(h, func(f form) any {
		var part signedPart
		if _, err := asn1.Unmarshal(f.Signed.FullBytes, &part); err != nil {
			m.t.Fatal(err)
		}
		change(&part)
		der, err := asn1.Marshal(part)
		if err != nil {
			m.t.Fatal(err)
		}
		digest := sha256.Sum256(der)
		signature, err := issuer.key.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil {
			m.t.Fatal(err)
		}
		f.Signed = asn1.RawValue{FullBytes: der}
		f.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
		return f
	})
}

// twin has the other of a certificate's two ECDSA signatures on P-256.
func (m certMaker) twin(h *holder) *holder {
	return m.reencoded(h, func(f form) any {
		var signature struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(f.Signature.Bytes, &signature); err != nil {
			m.t.Fatal(err)
		}
		signature.S.Sub(elliptic.P256().Params().N, signature.S)
		bits, err := asn1.Marshal(signature)
		if err != nil {
			m.t.Fatal(err)
		}
		f.Signature = asn1.BitString{Bytes: bits, BitLength: 8 * len(bits)}
		return f
	})
}

// cut returns the bytes of h, changed.
func cut(h *holder, change func([]byte) []byte) *holder {
	return read(change(slices.Clone(h.der)), h.key)
}

// formRows are certificates as a CA should not write them.
func (m certMaker) formRows(r roots) []certRow {
	leaf := m.issue(r.root, named("alice", "dev"))
	anew := func(change func(*signedPart)) *holder { return m.signedAnew(r.root, leaf, change) }
	const unreadable = "x509: "
	return []certRow{
		{is: "signed anew", holder: anew(func(*signedPart) {}), user: alice},
		{is: "version 1 without extensions", holder: anew(func(p *signedPart) { p.Version, p.Extensions = 0, nil }), user: alice},
		{is: "version 1 with extensions", holder: anew(func(p *signedPart) { p.Version = 0 }), user: alice},
		{is: "version 2", holder: anew(func(p *signedPart) { p.Version = 1 }), user: alice},
		{is: "version 3 without extensions", holder: anew(func(p *signedPart) { p.Extensions = nil }), user: alice},
		{is: "version 4", holder: anew(func(p *signedPart) { p.Version = 3 }), refused: unreadable},
		{is: "serial number zero", holder: anew(func(p *signedPart) { p.Serial = new(big.Int) }), user: alice},
		{is: "negative serial number", holder: anew(func(p *signedPart) { p.Serial = big.NewInt(-1) }), refused: unreadable},
		{is: "serial number of 60 bytes", holder: anew(func(p *signedPart) { p.Serial = new(big.Int).Lsh(big.NewInt(1), 480) }), user: alice},
		{is: "an extension twice", holder: anew(func(p *signedPart) { p.Extensions = append(p.Extensions, p.Extensions[0]) }), refused: unreadable},
		{is: "another algorithm inside", holder: anew(func(p *signedPart) { p.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3} }), refused: unreadable},
		{is: "issuer's name of another string type", holder: anew(func(p *signedPart) { p.Issuer = m.name(cn(encoded(asn1.TagUTF8String, "root"))) }), refused: "unknown authority"},
		{is: "issuer's name of another case", holder: anew(func(p *signedPart) { p.Issuer = m.name(cn("ROOT")) }), refused: "unknown authority"},
		{is: "issuer without a name", holder: anew(func(p *signedPart) { p.Issuer = m.name() }), refused: "unknown authority"},
	}
}

// bytesRows are certificates whose bytes somebody changed afterwards.
func (m certMaker) bytesRows(r roots) []certRow {
	leaf := m.issue(r.root, named("alice", "dev"))
	notDER := verdict{Differs: "not-der"}
	const unreadable = "x509: "
	return []certRow{
		{is: "the other ECDSA signature", holder: m.twin(leaf), user: alice},
		{is: "signature broken", holder: m.reencoded(leaf, func(f form) any { f.Signature.Bytes[20] ^= 1; return f }), refused: "unknown authority"},
		{is: "signature empty", holder: m.reencoded(leaf, func(f form) any { f.Signature = asn1.BitString{}; return f }), refused: "unknown authority"},
		{is: "signature of another certificate", holder: m.reencoded(leaf, func(f form) any {
			var other form
			if _, err := asn1.Unmarshal(m.issue(r.root, named("bob")).der, &other); err != nil {
				m.t.Fatal(err)
			}
			f.Signature = other.Signature
			return f
		}), refused: "unknown authority"},
		{is: "name changed", holder: cut(leaf, func(b []byte) []byte { return bytes.Replace(b, []byte("alice"), []byte("admin"), 1) }), refused: "unknown authority"},
		{is: "cut off", holder: cut(leaf, func(b []byte) []byte { return b[:len(b)-1] }), refused: unreadable},
		{is: "a byte more", holder: cut(leaf, func(b []byte) []byte { return append(b, 0) }), refused: unreadable},
		{is: "no certificate at all", holder: cut(leaf, func([]byte) []byte { return []byte("alice") }), refused: unreadable},
		{is: "something appended inside", holder: m.reencoded(leaf, func(f form) any {
			return struct {
				Signed, Algorithm asn1.RawValue
				Signature         asn1.BitString
				More              int
			}{f.Signed, f.Algorithm, f.Signature, 7}
		}), user: alice, verdict: notDER},
		{is: "signature moved by two bits", holder: m.reencoded(leaf, func(f form) any {
			bits := new(big.Int).SetBytes(f.Signature.Bytes) // begins with 0x30: two bits are free
			f.Signature = asn1.BitString{Bytes: bits.Lsh(bits, 2).Bytes(), BitLength: f.Signature.BitLength - 2}
			return f
		}), user: alice, verdict: notDER},
		{is: "intermediate with the other ECDSA signature", user: auth.User{Name: "alice"}, holder: m.underTwin(r.root)},
	}
}

// underTwin is a certificate below an intermediate of changed signature.
func (m certMaker) underTwin(root *holder) *holder {
	middle := m.issue(root, m.authority("middle"))
	return m.issue(middle, named("alice")).with(m.twin(middle))
}

func (m certMaker) name(rdns ...rdn) asn1.RawValue {
	der, err := asn1.Marshal(pkix.RDNSequence(rdns))
	if err != nil {
		m.t.Fatal(err)
	}
	return asn1.RawValue{FullBytes: der}
}
