package main

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
)

// kubelogin is the exec plugin that signs people in at an issuer. Its command is
// the one that `kubectl oidc-login` runs: named so, kubectl prints the hint if it
// is missing, which it cannot if the command is kubectl itself.
const (
	kubeloginCommand = "kubectl-oidc_login"
	kubeloginHint    = "People sign in with kubelogin, which is not installed. Install it as the kubectl plugin oidc-login: https://github.com/int128/kubelogin"
)

// kubelogin returns the plugin with the issuer of the flags or of the settings.
func (o kubeconfigOptions) kubelogin(environ map[string]string) (*execPlugin, error) {
	issuer, err := o.issuer(environ)
	if err != nil {
		return nil, err
	}
	args := []string{"get-token", "--oidc-issuer-url=" + issuer.URL, "--oidc-client-id=" + issuer.Audiences[0]}
	for _, scope := range append(scopesFor(issuer.Mapping.Claims()), o.scopes...) {
		if arg := "--oidc-extra-scope=" + scope; !slices.Contains(args, arg) {
			args = append(args, arg)
		}
	}
	ca, err := certificatesOf("--oidc-ca-file", o.issuerCA)
	if err != nil {
		return nil, err
	}
	if len(ca) == 0 {
		ca = issuer.CertificateAuthority
	}
	if len(ca) > 0 {
		args = append(args, "--certificate-authority-data="+base64.StdEncoding.EncodeToString(ca))
	}
	return &execPlugin{command: kubeloginCommand, args: append(args, o.execArgs...), hint: kubeloginHint}, nil
}

// issuer returns the issuer of the flags, of which the settings may know more,
// or the only one of the settings. It has one audience: the client id.
func (o kubeconfigOptions) issuer(environ map[string]string) (authconfig.Issuer, error) {
	known, err := issuersOf(environ)
	if err != nil {
		return authconfig.Issuer{}, err
	}
	issuer := authconfig.Issuer{URL: o.issuerURL}
	switch at := slices.IndexFunc(known, func(i authconfig.Issuer) bool { return i.URL == o.issuerURL }); {
	case at >= 0:
		issuer = known[at]
	case o.issuerURL == "" && len(known) == 1:
		issuer = known[0]
	case o.issuerURL == "" && len(known) == 0:
		return issuer, usageError{errors.New("the settings name no issuer: give --oidc-issuer-url and --oidc-client-id, or --exec, --token-file or --client-certificate")}
	case o.issuerURL == "":
		return issuer, usageError{fmt.Errorf("the settings name several issuers: choose one by --oidc-issuer-url: %s", strings.Join(urlsOf(known), ", "))}
	}
	switch {
	case o.clientID != "":
		issuer.Audiences = []string{o.clientID}
	case len(issuer.Audiences) == 0:
		return issuer, usageError{fmt.Errorf("the settings do not name the issuer %s: give --oidc-client-id too", o.issuerURL)}
	case len(issuer.Audiences) > 1:
		return issuer, usageError{fmt.Errorf("tokens of %s may be for several audiences: choose the client id by --oidc-client-id: %s", issuer.URL, strings.Join(issuer.Audiences, ", "))}
	}
	return issuer, nil
}

func urlsOf(issuers []authconfig.Issuer) []string {
	urls := make([]string, len(issuers))
	for i := range issuers {
		urls[i] = issuers[i].URL
	}
	return urls
}

// issuersOf reads the issuers of the settings, and no other file. Only what is
// wrong with these is an error.
func issuersOf(environ map[string]string) ([]authconfig.Issuer, error) {
	var all, f faults
	s := parseSettings(environ, &all)
	for _, one := range all {
		if placed, ok := errors.AsType[fault](one); ok && (strings.HasPrefix(placed.variable, "OIDC_") || placed.variable == "AUTHENTICATION_CONFIG") {
			f = append(f, one)
		}
	}
	if len(f) > 0 {
		return nil, f.err()
	}
	switch {
	case s.OIDC.configured():
		issuer, err := s.OIDC.described()
		f.addAll("OIDC_ISSUER_URL", err)
		issuer.CertificateAuthority, err = certificatesOf(envPrefix+"OIDC_CA_FILE", s.OIDC.CAFile)
		f.addAll("OIDC_CA_FILE", err)
		return []authconfig.Issuer{issuer}, f.err()
	case s.AuthenticationConfig != "":
		content, err := os.ReadFile(s.AuthenticationConfig)
		if err != nil {
			return nil, fmt.Errorf("read %sAUTHENTICATION_CONFIG: %w", envPrefix, err)
		}
		config, err := authconfig.Parse(content, nil)
		if err != nil {
			return nil, fmt.Errorf("read %sAUTHENTICATION_CONFIG: %w", envPrefix, err)
		}
		return config.Issuers, nil
	}
	return nil, nil
}

// scopesFor returns the scopes that bring claims (OpenID Connect Core 1.0,
// section 5.4). Which one brings another claim depends on the issuer.
func scopesFor(claims []string) []string {
	var scopes []string
	for _, scope := range []struct {
		name   string
		claims []string
	}{
		{"email", []string{"email", "email_verified"}},
		{"profile", []string{
			"name", "family_name", "given_name", "middle_name", "nickname", "preferred_username", "profile", "picture",
			"website", "gender", "birthdate", "zoneinfo", "locale", "updated_at",
		}},
		{"phone", []string{"phone_number", "phone_number_verified"}},
		{"address", []string{"address"}},
	} {
		if slices.ContainsFunc(claims, func(claim string) bool { return slices.Contains(scope.claims, claim) }) {
			scopes = append(scopes, scope.name)
		}
	}
	return scopes
}

// certificatesOf returns the certificates of a PEM file, for all to read, or
// nothing without a file. The error says nothing of what else is in it.
func certificatesOf(flag, file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	rest, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", flag, err)
	}
	var certificates []byte
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s: %s holds something else than certificates: a kubeconfig is for all to read", flag, file)
		}
		certificates = append(certificates, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
	}
	if len(certificates) == 0 {
		return nil, fmt.Errorf("%s: %s holds no certificate as PEM", flag, file)
	}
	return certificates, nil
}
