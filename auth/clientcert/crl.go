package clientcert

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// The extensions of a CRL that are understood or refused by name (RFC 5280
// sections 5.2 and 5.3).
var (
	oidAuthorityKeyID  = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidCRLNumber       = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidDeltaCRL        = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingDistribP = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidCertIssuer      = asn1.ObjectIdentifier{2, 5, 29, 29}
)

// CRLs are the revocation lists of some of the CAs, the newest of each. They
// are never changed, so they may be shared.
type CRLs struct {
	cas    *CAs
	byKey  map[authority]*crl
	byName map[string][]*crl // by RawSubject of the issuer
}

type crl struct {
	issuer     *x509.Certificate
	thisUpdate time.Time
	nextUpdate time.Time
	number     *big.Int // nil if the CRL has none
	raw        []byte
	revoked    map[string]time.Time // by serial number in base 16
}

func (c *crl) stale(now time.Time) bool { return now.After(c.nextUpdate) }

// ParseCRLs reads a file of revocation lists: PEM blocks "X509 CRL" with the
// same rules as [ParseCAs], or one CRL as DER.
//
// Each CRL must be complete, name one of cas as its issuer, be signed by it,
// and have a thisUpdate that is not in the future and a nextUpdate. Delta,
// indirect and partial CRLs and those with a critical extension that is not
// understood are refused, since they do not say what a complete one says. So
// the CRL of an intermediate counts only if the intermediate stands among cas.
// A CRL that is stale at now is accepted: [StalePolicy] decides on it.
//
// The newest CRL of an issuer counts: that with the latest thisUpdate, then
// with the highest number. The error joins the faults of every CRL.
func ParseCRLs(content []byte, cas *CAs, now time.Time) (*CRLs, error) {
	if cas == nil {
		return nil, errors.New("CRLs without CAs to verify them by")
	}
	blocks := [][]byte{content}
	if len(content) == 0 || content[0] != derSequence {
		var err error
		if blocks, err = pemBlocks(content, "X509 CRL"); err != nil {
			return nil, err
		}
	}
	c := &CRLs{cas: cas, byKey: map[authority]*crl{}, byName: map[string][]*crl{}}
	var faults []error
	for i, der := range blocks {
		if err := c.add(der, now); err != nil {
			faults = append(faults, fmt.Errorf("CRL %d: %w", i+1, err))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	for _, list := range c.byKey {
		name := string(list.issuer.RawSubject)
		c.byName[name] = append(c.byName[name], list)
	}
	return c, nil
}

const derSequence = 0x30

func (c *CRLs) add(der []byte, now time.Time) error {
	rl, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	fail := func(err error) error { return fmt.Errorf("of issuer %q: %w", rl.Issuer, err) }
	if len(rl.Raw) != len(der) {
		return fail(errors.New("data follows the end of the CRL"))
	}
	issuer, err := c.cas.signerOf(rl)
	if err != nil {
		return fail(err)
	}
	if err := checkScope(rl); err != nil {
		return fail(err)
	}
	if err := checkDates(rl, now); err != nil {
		return fail(err)
	}
	list := &crl{
		issuer: issuer, thisUpdate: rl.ThisUpdate, nextUpdate: rl.NextUpdate, number: rl.Number,
		raw: rl.Raw, revoked: make(map[string]time.Time, len(rl.RevokedCertificateEntries)),
	}
	for _, entry := range rl.RevokedCertificateEntries {
		// Whatever its date and reason: an entry is never a reason to accept.
		list.revoked[entry.SerialNumber.Text(16)] = entry.RevocationTime
	}
	key := authorityOf(issuer)
	newest, err := newer(c.byKey[key], list)
	if err != nil {
		return fail(err)
	}
	c.byKey[key] = newest
	return nil
}

// signerOf returns the CA that issued rl.
func (c *CAs) signerOf(rl *x509.RevocationList) (*x509.Certificate, error) {
	var fault error
	for _, ca := range c.certs {
		if !bytes.Equal(ca.RawSubject, rl.RawIssuer) {
			continue
		}
		err := rl.CheckSignatureFrom(ca)
		if err == nil {
			return ca, nil
		}
		if _, ok := errors.AsType[x509.ConstraintViolationError](err); ok {
			err = errors.New("its key usage does not let it sign CRLs")
		}
		fault = fmt.Errorf("check the signature by the CA of that name: %w", err)
	}
	if fault == nil {
		fault = errors.New("no CA of that name is trusted: add its certificate to the CA file")
	}
	return nil, fault
}

// checkScope returns an error unless rl speaks of all certificates of its
// issuer and of no others.
func checkScope(rl *x509.RevocationList) error {
	for _, ext := range rl.Extensions {
		switch {
		case ext.Id.Equal(oidDeltaCRL):
			return errors.New("a delta CRL: only complete CRLs are supported")
		case ext.Id.Equal(oidIssuingDistribP):
			return errors.New("an indirect or partial CRL (it has an issuing distribution point): only complete CRLs are supported")
		case ext.Critical && !ext.Id.Equal(oidAuthorityKeyID) && !ext.Id.Equal(oidCRLNumber):
			return fmt.Errorf("the critical extension %s is not supported", ext.Id)
		}
	}
	for i, entry := range rl.RevokedCertificateEntries {
		for _, ext := range entry.Extensions {
			switch {
			case ext.Id.Equal(oidCertIssuer):
				return fmt.Errorf("an indirect CRL: entry %d is of another issuer", i+1)
			case ext.Critical:
				return fmt.Errorf("entry %d: the critical extension %s is not supported", i+1, ext.Id)
			}
		}
	}
	return nil
}

func checkDates(rl *x509.RevocationList, now time.Time) error {
	switch {
	case rl.ThisUpdate.After(now):
		return fmt.Errorf("its thisUpdate %s is in the future", rl.ThisUpdate.Format(time.RFC3339))
	case rl.NextUpdate.IsZero():
		return errors.New("it has no nextUpdate, so that nobody could tell when it is stale (RFC 5280 section 5.1.2.5)")
	case rl.NextUpdate.Before(rl.ThisUpdate):
		return fmt.Errorf("its nextUpdate %s is before its thisUpdate", rl.NextUpdate.Format(time.RFC3339))
	}
	return nil
}

// newer returns the list that counts. It is an error if none is newer and they
// differ.
func newer(a, b *crl) (*crl, error) {
	if a == nil {
		return b, nil
	}
	order := b.thisUpdate.Compare(a.thisUpdate)
	if order == 0 && a.number != nil && b.number != nil {
		order = b.number.Cmp(a.number)
	}
	switch {
	case order > 0:
		return b, nil
	case order < 0 || bytes.Equal(a.raw, b.raw):
		return a, nil
	}
	return nil, errors.New("another CRL has the same issuer, thisUpdate and number, so that neither is the newest")
}

// Uncovered returns the subjects of those CAs that have no CRL. Certificates
// that such a CA issued are not checked for revocation.
func (c *CRLs) Uncovered() []string {
	var names []string
	for _, ca := range c.cas.certs {
		if c.byKey[authorityOf(ca)] == nil {
			names = append(names, ca.Subject.String())
		}
	}
	return names
}

// Stale returns the subjects of those CAs whose CRL is past its nextUpdate.
func (c *CRLs) Stale(now time.Time) []string {
	var names []string
	for _, ca := range c.cas.certs {
		list := c.byKey[authorityOf(ca)]
		if list != nil && list.issuer == ca && list.stale(now) {
			names = append(names, ca.Subject.String())
		}
	}
	return names
}

// NextUpdate returns when the first of the CRLs becomes stale.
func (c *CRLs) NextUpdate() time.Time {
	var first time.Time
	for _, list := range c.byKey {
		if first.IsZero() || list.nextUpdate.Before(first) {
			first = list.nextUpdate
		}
	}
	return first
}

// String says how many entries each CRL has, for a line of log.
func (c *CRLs) String() string {
	var s []string
	for _, ca := range c.cas.certs {
		if list := c.byKey[authorityOf(ca)]; list != nil && list.issuer == ca {
			s = append(s, fmt.Sprintf("%q: %d revoked, next update %s", ca.Subject, len(list.revoked), list.nextUpdate.Format(time.RFC3339)))
		}
	}
	return strings.Join(s, "; ")
}
