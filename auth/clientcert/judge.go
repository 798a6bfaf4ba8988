package clientcert

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

func refuse(leaf *x509.Certificate, reason auth.Reason, detail string) *auth.Refusal {
	// The fingerprint names the certificate without a word of its own making.
	return auth.Refuse(auth.KindClientCert, reason, fmt.Sprintf("%s (%s)", detail, CredentialID(leaf)))
}

// judge says whom the presented certificates name at now.
func judge(t *trust, stale StalePolicy, presented []*x509.Certificate, now time.Time) verdict {
	leaf := presented[0]
	refused := func(r *auth.Refusal) verdict {
		until := now.Add(refusalLife)
		if r.At.After(now) && r.At.Before(until) {
			until = r.At.Add(-1)
		}
		return verdict{refusal: r, from: now, until: until}
	}
	chains, refusal := verify(t.cas, presented, now)
	if refusal != nil {
		return refused(refusal)
	}
	if fault := encodingFault(leaf); fault != "" {
		return refused(refuse(leaf, auth.BadCertificate, fault))
	}

	// One good chain is enough (RFC 5280 section 6.1). Of several, that which
	// lasts longest.
	var best *verdict
	for _, chain := range chains {
		v, r := checkRevocation(t, stale, chain, now)
		switch {
		case r != nil && refusal == nil:
			refusal = r
		case r == nil && (best == nil || v.identity.Expires.After(best.identity.Expires)):
			best = &v
		}
	}
	if best == nil {
		return refused(refusal)
	}
	user, fault := userOf(leaf)
	if fault != "" {
		return refused(refuse(leaf, auth.BadCertificate, fault))
	}
	best.identity.User = user
	best.identity.Credential = auth.Credential{
		IDs: CredentialIDs(leaf), IssuerName: leaf.Issuer.String(), Serial: leaf.SerialNumber.Text(16), Issued: leaf.NotBefore,
	}
	return *best
}

// verify returns the chains from the leaf to a CA, as kube-apiserver does.
func verify(cas *CAs, presented []*x509.Certificate, now time.Time) ([][]*x509.Certificate, *auth.Refusal) {
	leaf := presented[0]
	options := x509.VerifyOptions{
		Roots:         cas.pool,
		Intermediates: x509.NewCertPool(),
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, cert := range presented[1:] {
		options.Intermediates.AddCert(cert)
	}
	chains, err := leaf.Verify(options)
	if err == nil {
		return chains, nil
	}

	// The leaf alone first: a chain may bring certificates that it does not need.
	for _, certs := range [][]*x509.Certificate{presented[:1], presented} {
		if r := outOfTime(options, certs, now); r != nil {
			return nil, r
		}
	}
	return nil, untrusted(leaf, err)
}

// outOfTime returns a refusal if the leaf would be accepted at a time when all
// of certs are valid, which now is not. The library looks at dates before
// signatures; that a certificate has expired is said only of one that is
// trusted otherwise.
func outOfTime(options x509.VerifyOptions, certs []*x509.Certificate, now time.Time) *auth.Refusal {
	leaf := certs[0]
	notBefore, notAfter := validity(certs)
	reason, at, what := auth.CertificateExpired, notAfter, "expired at"
	switch {
	case now.After(notAfter):
	case now.Before(notBefore):
		reason, at, what = auth.NotYetValid, notBefore, "is not valid before"
	default:
		return nil
	}
	options.CurrentTime = at
	if _, err := leaf.Verify(options); err != nil {
		return nil
	}
	r := refuse(leaf, reason, "it, or one of its chain, "+what+" "+at.UTC().Format(time.RFC3339))
	r.At = at
	return r
}

// untrusted tells the operator why a chain failed. The library's own text is
// not used: it quotes names that the client chose.
func untrusted(leaf *x509.Certificate, err error) *auth.Refusal {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case ok && invalid.Reason == x509.IncompatibleUsage:
		return refuse(leaf, auth.BadCertificate, "its extended key usage does not allow client authentication")
	case ok && invalid.Reason == x509.Expired:
		return refuse(leaf, auth.CertificateNotTrusted, "no chain to a CA, every certificate of which is valid now")
	case ok:
		return refuse(leaf, auth.CertificateNotTrusted, fmt.Sprintf("no chain to a CA that keeps the rules of RFC 5280 (reason %d of the x509 library)", invalid.Reason))
	}
	if _, ok := errors.AsType[x509.UnhandledCriticalExtension](err); ok {
		return refuse(leaf, auth.CertificateNotTrusted, "it, or one of its chain, has a critical extension that is not supported")
	}
	return refuse(leaf, auth.CertificateNotTrusted, "no chain to a CA of the file: the CA or an intermediate is missing")
}

// validity returns the time during which all certs are valid.
func validity(certs []*x509.Certificate) (notBefore, notAfter time.Time) {
	notBefore, notAfter = certs[0].NotBefore, certs[0].NotAfter
	for _, cert := range certs[1:] {
		if cert.NotBefore.After(notBefore) {
			notBefore = cert.NotBefore
		}
		if cert.NotAfter.Before(notAfter) {
			notAfter = cert.NotAfter
		}
	}
	return notBefore, notAfter
}

// checkRevocation returns an accepting verdict, without its user, for a chain
// of which nothing is revoked.
func checkRevocation(t *trust, stale StalePolicy, chain []*x509.Certificate, now time.Time) (verdict, *auth.Refusal) {
	notBefore, notAfter := validity(chain)
	v := verdict{identity: &auth.Identity{Kind: auth.KindClientCert, Expires: notAfter}, from: notBefore, until: notAfter}
	if t.crls == nil {
		return v, nil
	}
	// From the anchor down: a certificate counts only if its issuer does.
	covered := false
	for i := len(chain) - 1; i >= 0; i-- {
		lists := t.crls.of(chain, i)
		for _, list := range t.crls.byName[string(chain[i].RawIssuer)] {
			if at, found := list.revoked[chain[i].SerialNumber.Text(16)]; found && !isRoot(chain, i) {
				r := refuse(chain[0], auth.CertificateRevoked, fmt.Sprintf("certificate %d of its chain, serial %x, is on the CRL of %q", i+1, chain[i].SerialNumber, list.issuer.Subject))
				r.At = at
				return verdict{}, r
			}
		}
		for _, list := range lists {
			covered = true
			if stale == StaleAllow {
				continue
			}
			if list.stale(now) {
				r := refuse(chain[0], auth.CRLStale, fmt.Sprintf("the CRL of %q should have been renewed at %s", list.issuer.Subject, list.nextUpdate.Format(time.RFC3339)))
				r.At = list.nextUpdate
				return verdict{}, r
			}
			if list.nextUpdate.Before(v.until) {
				v.until = list.nextUpdate
			}
		}
		if len(lists) == 0 && covered && !t.cas.byKey[authorityOf(chain[i+1])] {
			return verdict{}, refuse(chain[0], auth.CRLMissing, fmt.Sprintf("certificate %d of its chain was issued by %q, whose CRL is not configured", i+1, chain[i+1].Subject))
		}
	}
	return v, nil
}

// isRoot reports whether chain[i] is an anchor that issued itself. No CRL speaks
// of it: to withdraw a root, it is taken out of the CA file.
func isRoot(chain []*x509.Certificate, i int) bool {
	return i == len(chain)-1 && string(chain[i].RawIssuer) == string(chain[i].RawSubject)
}

// of returns the lists that must be current for chain[i] to be accepted: that of
// its issuer. The issuer of an anchor is not in the chain, so all lists of its
// issuer's name count.
func (c *CRLs) of(chain []*x509.Certificate, i int) []*crl {
	if i < len(chain)-1 {
		if list := c.byKey[authorityOf(chain[i+1])]; list != nil {
			return []*crl{list}
		}
		return nil
	}
	if isRoot(chain, i) {
		return nil
	}
	return c.byName[string(chain[i].RawIssuer)]
}
