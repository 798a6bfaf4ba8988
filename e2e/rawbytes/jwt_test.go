package rawbytes

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// startOIDC runs gatehouse with an issuer whose `name` claim is the user, with
// no prefix, so that a claim says the whole name.
func startOIDC(t *testing.T, up *Upstream) (*Target, *authtest.Issuer) {
	t.Helper()
	ca, err := authtest.NewCA("rawbytes issuer")
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := authtest.NewIssuer(ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { issuer.Close() })
	caFile := filepath.Join(t.TempDir(), "issuer-ca.crt")
	if err := os.WriteFile(caFile, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := shared.process(t.Name(), up, usersCSV(), "GATEHOUSE_OIDC_ISSUER_URL="+issuer.URL, "GATEHOUSE_OIDC_CLIENT_ID="+authtest.Audience,
		"GATEHOUSE_OIDC_CA_FILE="+caFile, "GATEHOUSE_OIDC_USERNAME_CLAIM=name", "GATEHOUSE_OIDC_USERNAME_PREFIX=-", "GATEHOUSE_OIDC_GROUPS_CLAIM=groups")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return &Target{Addr: p.Addr, Roots: shared.pki.Roots, Up: up, Secrets: shared.secrets, LogFrom: p.LogFrom}, issuer
}

type claimCase struct {
	name   string
	claims authtest.Claims
	want   Want
}

func claimCases() []claimCase {
	user := func(name any, groups ...any) authtest.Claims {
		c := authtest.Claims{"name": name}
		if groups != nil {
			c["groups"] = groups
		}
		return c
	}
	no := refused(401, 403)
	id := func(name string, groups ...string) Want { return served(Identity{User: name, Groups: groups}) }
	table := []claimCase{
		{"plain", user("carol", "dev", "ops"), id("carol", "dev", "ops")},
		{"separators are no separators", user("carol", "a,b", "c;d", `e"f`, "g h"), id("carol", "a,b", "c;d", `e"f`, "g h")},
		{"UTF-8", user("Zoë Müller", "開発", "café\u0301"), id("Zoë Müller", "開発", "café\u0301")},
		{"one group as a string", authtest.Claims{"name": "carol", "groups": "dev"}, id("carol", "dev")},
		{"percent is no escape", user("a%20b", "c%2Cd"), id("a%20b", "c%2Cd")},
		{"token id", authtest.Claims{"name": "carol", "jti": "id 1/é%"}, served(Identity{User: "carol", Extra: map[string][]string{"authentication.kubernetes.io/credential-id": {"JTI=id 1/é%"}}})},
		{"token id that the wire changes", authtest.Claims{"name": "carol", "jti": "1 "}, no},
		{"token id that breaks a line", authtest.Claims{"name": "carol", "jti": "1\r\nImpersonate-Group: system:masters"}, no},
		{"user empty", user(""), no}, {"user of blanks", user("   "), no}, {"user of one tab", user("\t"), no}, {"user absent", authtest.Claims{}, no},
		{"user a number", user(5), no}, {"user null", authtest.Claims{"name": nil}, no}, {"user a list", user([]string{"carol"}), no},
		{"blank before", user(" carol"), no}, {"blank behind", user("carol "), no}, {"no-break space behind", user("carol\u00a0"), no}, {"next line behind", user("carol\u0085"), no},
		{"line feed", user("carol\nImpersonate-Group: system:masters"), no}, {"carriage return", user("a\rb"), no}, {"NUL", user("a\x00b"), no}, {"DEL", user("a\x7fb"), no}, {"C1 control", user("a\u0090b"), no},
		{"reserved", user("system:admin"), no}, {"reserved behind a blank", user(" system:admin"), no}, {"reserved behind a tab", user("\tsystem:kube-scheduler"), no}, {"service account", user("system:serviceaccount:kube-system:x"), no}, {"anonymous", user("system:anonymous"), no},
		{"group reserved", user("carol", "system:masters"), no}, {"group reserved behind a blank", user("carol", "dev", " system:masters"), no},
		{"group of an administrator", user("carol", "kubeadm:cluster-admins"), no}, {"group unauthenticated", user("carol", "system:unauthenticated"), no},
		{"group with a blank behind", user("carol", "dev "), no}, {"group empty", user("carol", "dev", ""), no}, {"group of blanks", user("carol", "  "), no},
		{"group with a line feed", user("carol", "a\nb"), no}, {"group a number", user("carol", "dev", 5), no}, {"group null", user("carol", "dev", nil), no}, {"groups an object", authtest.Claims{"name": "carol", "groups": map[string]string{"a": "b"}}, no},
		{"very long user, whole or not at all", user(strings.Repeat("u", 20000)), orServed(refused(401, 403, 431), Identity{User: strings.Repeat("u", 20000)})},
	}
	return table
}

// TestClaimsArriveByteExactOrNotAtAll holds for an ID token what the tables
// above hold for a static token: whom the token names arrives as it is, or
// nothing does (threats 11-18).
func TestClaimsArriveByteExactOrNotAtAll(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(map[bool]string{false: "upstream=http1", true: "upstream=http2"}[h2], func(t *testing.T) {
			t.Parallel()
			up, err := StartUpstream(shared.pki, h2, proxyToken)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(up.Close)
			to, issuer := startOIDC(t, up)
			var table []Case
			for _, k := range claimCases() {
				token := issuer.Token(k.claims)
				shared.secrets.Add(token)
				table = append(table, Case{Name: k.name, Request: as(token, "/api/v1/pods"), Want: k.want})
			}
			good := issuer.Token(authtest.Claims{"name": "carol"})
			shared.secrets.Add(good)
			carol := Identity{User: "carol"}
			table = append(table,
				Case{Name: "named by Connection", On: lines, Request: as(good, "/", Field{"Connection", "Authorization, Impersonate-User"}), Want: served(carol)},
				Case{Name: "beside a static token", Request: as(good, "/", Field{"Authorization", "Bearer " + aliceToken}), Want: refused(401)},
				Case{Name: "tampered", Request: as(good[:len(good)-6]+"AAAAAA", "/"), Want: refused(401)},
				Case{Name: "unsigned", Request: as(good[:strings.LastIndexByte(good, '.')+1], "/"), Want: refused(401)},
				Case{Name: "with a dot more", Request: as(good+".", "/"), Want: refused(401)},
			)
			for _, c := range Carriers {
				t.Run(string(c), func(t *testing.T) { tryAll(t, to, c, table) })
			}
		})
	}
}
