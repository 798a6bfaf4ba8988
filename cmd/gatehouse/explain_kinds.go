package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/clientcert"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// addToken says what is known of a token beside the verdict.
func (p *parts) addToken(ctx context.Context, e *explanation, token string, identity *auth.Identity) {
	if !auth.IsBearerToken(token) {
		return // it is refused before anybody looks into it
	}
	if router := p.issuers.router(); router != nil {
		e.describe(router.Explain(ctx, token), p.steps())
	} else if empty, err := oidc.NewIssuers(); err == nil {
		e.describe(empty.Explain(ctx, token), nil)
	}
	if identity != nil {
		switch identity.Kind {
		case auth.KindTokenFile:
			row := "its row in " + p.settings.TokenAuthFile
			e.addUser(&identity.User, row, row, row, row)
			e.note("A static token does not expire: it ends when its row is taken out of the file.")
		case auth.KindServiceAccount:
			const review = "the API server's TokenReview"
			e.addUser(&identity.User, review, review, review, review)
			e.note("The API server gets this token itself, and no impersonation.")
			if e.Token != nil {
				e.Token.Verified, e.Token.Fault, e.Token.by = true, "", "by the API server's TokenReview"
			}
		}
		return
	}
	switch {
	case e.Token == nil:
	case e.Credential == auth.KindServiceAccount:
		e.Token.Fault = "only the API server could, and it did not"
	case e.Credential == auth.KindUnknown:
		p.noteForeign(e)
	}
}

// noteForeign says of a token of an issuer that is not configured whose it seems
// to be. Nothing in such a token is verified.
func (p *parts) noteForeign(e *explanation) {
	name := e.Token.Issuer
	subject, _ := e.Token.Claims["sub"].(string)
	cluster := ""
	if target := p.upstream.Target(); target != nil {
		cluster = oidc.UnverifiedIssuer(strings.TrimPrefix(target.Authorization(), "Bearer "))
	}
	ofCluster := cluster != "" && name == cluster || cluster == "" && strings.HasPrefix(subject, auth.ServiceAccountPrefix)
	switch near := p.nearby(name); {
	case near != "":
		e.note("The token says that it is of %q; %q is configured. They must be equal, byte for byte.", name, near)
	case ofCluster && p.accounts == nil:
		e.note("The token says that it is of a ServiceAccount of the cluster itself. This gatehouse does not accept those: set GATEHOUSE_TOKEN_REVIEW=true, or send them to the API server directly.")
	case len(p.issuers.list()) == 0:
		e.note("No issuer is configured at all.")
	default:
		var urls []string
		for _, issuer := range p.issuers.list() {
			urls = append(urls, issuer.URL())
		}
		e.note("The token says that it is of %q; configured are: %s.", name, strings.Join(urls, ", "))
	}
}

type explainedCertificate struct {
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	Serial      string    `json:"serial"` // hexadecimal
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
	Fingerprint string    `json:"fingerprint"`            // as in the extra credential-id
	Presented   int       `json:"presented"`              // certificates in the file
	CAFile      string    `json:"caFile,omitempty"`       // that must have signed it
	CAs         int       `json:"cas,omitempty"`          // certificates in that file
	Revocation  string    `json:"revocation"`             // checked, checked_allowing_stale, not_checked
	Possession  string    `json:"possession"`             // always not_proven
	Others      []string  `json:"presentedCAs,omitempty"` // subjects of the other certificates
}

// addCertificateTo says what is known of a certificate beside the verdict.
func (p *parts) addCertificateTo(e *explanation, chain []*x509.Certificate, identity *auth.Identity) {
	leaf := chain[0]
	c := &explainedCertificate{
		Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), Serial: leaf.SerialNumber.Text(16),
		NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(), Fingerprint: clientcert.CredentialID(leaf),
		Presented: len(chain), CAFile: p.settings.ClientCAFile, Revocation: "not_checked", Possession: "not_proven",
	}
	for _, other := range chain[1:] {
		c.Others = append(c.Others, other.Subject.String())
	}
	if cas := p.clientCerts.CAs(); cas != nil {
		c.CAs = cas.Len()
	}
	switch {
	case p.clientCerts.CRLs() == nil:
	case p.settings.ClientCRLStale == string(clientcert.StaleAllow):
		c.Revocation = "checked_allowing_stale"
	default:
		c.Revocation = "checked"
	}
	e.Certificate = c
	e.note("That somebody has the key of the certificate was not proven here. In the TLS handshake they have to.")
	if identity != nil && identity.Kind == auth.KindClientCert {
		e.addUser(&identity.User, "the common name", "the organizations",
			"the subject's attribute 1.3.6.1.4.1.57683.2", "the certificate's fingerprint")
	}
}

// revocationText says how revocation was judged.
func (c *explainedCertificate) revocationText() string {
	switch c.Revocation {
	case "checked":
		return "checked against the lists of GATEHOUSE_CLIENT_CRL_FILE"
	case "checked_allowing_stale":
		return "checked against the lists of GATEHOUSE_CLIENT_CRL_FILE, out of date or not"
	default:
		return "not checked: GATEHOUSE_CLIENT_CRL_FILE is not set"
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
