package revocation_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/revocation"
)

const (
	login = "https://login.example.com"
	other = "https://other.example.com"
)

var (
	noon        = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	fingerprint = strings.Repeat("ab", 32)
)

// token is the identity of an ID token.
func token(issuer, subject, jti string, issued time.Time) *auth.Identity {
	return &auth.Identity{
		User: auth.User{Name: "oidc:" + subject}, Kind: auth.KindOIDC, Issuer: issuer,
		Credential: auth.Credential{IDs: []string{"JTI=" + jti}, Subject: subject, Issued: issued},
	}
}

// certificate is the identity of a client certificate.
func certificate(name, issuerName, serial string, fingerprints ...string) *auth.Identity {
	id := &auth.Identity{
		User: auth.User{Name: name}, Kind: auth.KindClientCert,
		Credential: auth.Credential{IssuerName: issuerName, Serial: serial, Issued: noon},
	}
	for _, f := range fingerprints {
		id.IDs = append(id.IDs, "X509SHA256="+f)
	}
	return id
}

// static is the identity of a row of the CSV file.
func static(name string) *auth.Identity {
	return &auth.Identity{User: auth.User{Name: name}, Kind: auth.KindTokenFile}
}

func parse(tb testing.TB, content string) *revocation.List {
	tb.Helper()
	list, err := revocation.Parse([]byte(content))
	if err != nil {
		tb.Fatalf("parse %q: %v", content, err)
	}
	return list
}

// denied reports whether err denies, and fails if it is an error of another kind.
func denied(tb testing.TB, id *auth.Identity, err error) bool {
	tb.Helper()
	if err == nil {
		return false
	}
	refusal, ok := errors.AsType[*auth.Refusal](err)
	if !ok || refusal.Reason != auth.Revoked || refusal.Kind != id.Kind {
		tb.Fatalf("error %#v for kind %s", err, id.Kind)
	}
	return true
}
