package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

const howTo = moduleRoot + "/docs/how-to"

// documentedConfigurations returns the AuthenticationConfigurations of a page.
func documentedConfigurations(t *testing.T, page string) []string {
	t.Helper()
	block := regexp.MustCompile("(?ms)^```yaml\n(apiVersion: apiserver\\.config\\.k8s\\.io/.*?)^```$")
	var found []string
	for _, match := range block.FindAllStringSubmatch(read(t, page), -1) {
		found = append(found, match[1])
	}
	return found
}

func howToPages(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob(howTo + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// Promise: `gatehouse check` takes every AuthenticationConfiguration of the how-to
// pages as it is written there, without a warning.
func TestDocumentedConfigurations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	checked := 0
	for _, page := range howToPages(t) {
		for _, content := range documentedConfigurations(t, page) {
			checked++
			file := w.write(t, "authentication.yaml", withCertificate(content, w.ca.PEM()))
			code, stdout, stderr := once(t, w.environ(map[string]string{"AUTHENTICATION_CONFIG": file}), "check")
			if code != exitOK || !strings.HasSuffix(stdout, "The settings and all files are good.\n") {
				t.Errorf("%s: exit code %d, %s%s", page, code, stdout, stderr)
			}
			if strings.Contains(stdout+stderr, "warning:") {
				t.Errorf("%s: check warns: %s%s", page, stdout, stderr)
			}
		}
	}
	if checked < 9 {
		t.Errorf("only %d configurations were found", checked)
	}
}

// withCertificate puts a certificate in the place of the words that stand for one.
func withCertificate(content string, certificate []byte) string {
	words := regexp.MustCompile(`(?m)^( +)-----BEGIN CERTIFICATE-----\n[^-]*-----END CERTIFICATE-----$`)
	return words.ReplaceAllStringFunc(content, func(found string) string {
		indent := words.FindStringSubmatch(found)[1]
		return indent + strings.ReplaceAll(strings.TrimSpace(string(certificate)), "\n", "\n"+indent)
	})
}

// Promise: so does it the GATEHOUSE_OIDC_ variables of these pages.
func TestDocumentedVariables(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	block := regexp.MustCompile("(?ms)^```\n(GATEHOUSE_OIDC_ISSUER_URL=.*?)^```$")
	checked := 0
	for _, page := range howToPages(t) {
		for _, match := range block.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(match[1], "<") {
				continue // words that the reader has to replace
			}
			checked++
			environ := append(w.environ(nil), strings.Split(strings.TrimSpace(match[1]), "\n")...)
			if code, stdout, stderr := once(t, environ, "check"); code != exitOK {
				t.Errorf("%s: exit code %d, %s%s", page, code, stdout, stderr)
			}
		}
	}
	if checked < 4 {
		t.Errorf("only %d blocks were found", checked)
	}
}

// Promise: and the kubeconfigs that these pages have gatehouse itself use.
func TestDocumentedKubeconfigs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(t, "token", ownToken)
	block := regexp.MustCompile("(?ms)^```yaml\n(apiVersion: v1\nkind: Config\n.*?)^```$")
	checked := 0
	for _, page := range howToPages(t) {
		for _, match := range block.FindAllStringSubmatch(read(t, page), -1) {
			checked++
			file := w.write(t, "documented.kubeconfig", match[1])
			if code, stdout, stderr := once(t, w.environ(map[string]string{"KUBECONFIG": file}), "check"); code != exitOK {
				t.Errorf("%s: exit code %d, %s%s", page, code, stdout, stderr)
			}
		}
	}
	if checked == 0 {
		t.Error("no kubeconfig was found")
	}
}

// documentedIssuer is a page with the claims that its issuer is said to send.
// They are made up: no product signed them.
type documentedIssuer struct {
	page    string
	claims  authtest.Claims
	user    explainedUser
	refused []refusedClaims
}

// refusedClaims are what differs from an accepted token; nil leaves a claim out.
type refusedClaims struct {
	name   string
	claims authtest.Claims
	reason auth.Reason
}

// Promise: the configuration of an issuer's page makes of that issuer's claims the
// user that the page says, and refuses those from whom the page says it protects.
func TestDocumentedIssuers(t *testing.T) {
	t.Parallel()
	for _, d := range documentedIssuers() {
		t.Run(d.page, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			issuer := w.newIssuer(t)
			configurations := documentedConfigurations(t, filepath.Join(howTo, d.page))
			if len(configurations) != 1 {
				t.Fatalf("%d configurations on the page", len(configurations))
			}
			url := regexp.MustCompile(`(?m)^( +)url: \S+$`)
			here := url.ReplaceAllString(configurations[0], fmt.Sprintf("${1}url: %s\n${1}certificateAuthority: %q", issuer.URL, w.ca.PEM()))
			environ := w.environ(map[string]string{"AUTHENTICATION_CONFIG": w.write(t, "authentication.yaml", here)})

			code, e := explainJSON(t, environ, issuer.Token(d.claims))
			if code != exitOK || e.User == nil {
				t.Fatalf("exit code %d, refused: %+v", code, e.Refusal)
			}
			if diff := cmp.Diff(d.user, *e.User); diff != "" {
				t.Errorf("user (-want +got):\n%s", diff)
			}
			for _, refused := range d.refused {
				claims := maps.Clone(d.claims)
				maps.Copy(claims, refused.claims)
				code, e := explainJSON(t, environ, issuer.Token(claims))
				if code != exitFault || e.Refusal == nil || e.Refusal.Reason != refused.reason {
					t.Errorf("%s: exit code %d, accepted %v, refused %+v", refused.name, code, e.Accepted, e.Refusal)
				}
			}
		})
	}
}

// Promise: what a page of an issuer offers in place of a line of its configuration,
// or beside it, is understood, and groups come out as the page says.
func TestDocumentedAlternatives(t *testing.T) {
	t.Parallel()
	want := map[string]string{"keycloak.md": "keycloak:role:ops", "dex.md": "dex:ldap:developers"}
	inline := regexp.MustCompile("`((?:groups: )?\\{?(?:expression|claim): [^`]+)`")
	checked := 0
	for _, d := range documentedIssuers() {
		for _, match := range inline.FindAllStringSubmatch(read(t, filepath.Join(howTo, d.page)), -1) {
			checked++
			groups, isGroups := strings.CutPrefix(match[1], "groups: ")
			rule := strings.Trim(match[1], "{}")
			if !isGroups {
				groups = `{claim: groups, prefix: ""}`
			} else {
				rule = "expression: 'true'"
			}
			config, err := authconfig.Parse([]byte(`apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {url: "https://login.example.com", audiences: [a]}
  claimMappings: {username: {claim: sub, prefix: ""}, groups: `+groups+`}
  claimValidationRules: [{`+rule+`}]
`), nil)
			if err != nil {
				t.Errorf("%s: %s: %v", d.page, match[1], err)
				continue
			}
			if !isGroups {
				continue
			}
			user, err := config.Issuers[0].Mapping.User(t.Context(), map[string]any{
				"sub": "1", "groups": []any{"developers"}, "federated_claims": map[string]any{"connector_id": "ldap"},
				"realm_access": map[string]any{"roles": []any{"ops"}},
			})
			if diff := cmp.Diff([]string{want[d.page]}, user.Groups); err != nil || diff != "" {
				t.Errorf("%s: %s: %v, groups (-want +got):\n%s", d.page, match[1], err, diff)
			}
		}
	}
	if checked < 7 {
		t.Errorf("only %d alternatives were found", checked)
	}
}
