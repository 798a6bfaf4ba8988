package main

import (
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

func documentedIssuers() []documentedIssuer {
	return []documentedIssuer{gitHubActions(), gitLabCI(), entraID(), keycloak(), google(), okta(), dex()}
}

// The names of claims are those of docs.github.com/actions/reference/security/oidc.
func gitHubActions() documentedIssuer {
	return documentedIssuer{
		page: "github-actions.md",
		claims: authtest.Claims{
			"aud": "gatehouse.prod", "sub": "repo:example-1234567/shop-74:ref:refs/heads/main",
			"repository": "example/shop", "repository_id": "74", "repository_owner": "example", "repository_owner_id": "1234567",
			"ref": "refs/heads/main", "ref_type": "branch", "ref_protected": "true", "event_name": "push", "actor": "ana",
			"workflow_ref": "example/shop/.github/workflows/deploy.yml@refs/heads/main", "runner_environment": "github-hosted",
		},
		user: explainedUser{Username: "github:example/shop", UID: "74", Groups: []string{"github:ref:example/shop:refs/heads/main"}},
		refused: []refusedClaims{
			{"GitHub's default audience", authtest.Claims{"aud": "https://github.com/example"}, auth.WrongAudience},
			{"another owner of the name", authtest.Claims{"repository_owner_id": "7654321"}, auth.RequiredClaim},
			{"another repository", authtest.Claims{"repository": "example/shop-fork"}, auth.ClaimRule},
			{"another branch", authtest.Claims{"ref": "refs/heads/main-2"}, auth.ClaimRule},
			{"a tag of the branch's name", authtest.Claims{"ref": "refs/tags/main"}, auth.ClaimRule},
			{"a stranger's pull request", authtest.Claims{"event_name": "pull_request_target"}, auth.ClaimRule},
			{"no owner", authtest.Claims{"repository_owner_id": nil}, auth.RequiredClaim},
		},
	}
}

// The names of claims are those of docs.gitlab.com/ci/secrets/id_token_authentication.
func gitLabCI() documentedIssuer {
	return documentedIssuer{
		page: "gitlab-ci.md",
		claims: authtest.Claims{
			"aud": "gatehouse.prod", "sub": "project_path:example/shop:ref_type:branch:ref:main",
			"project_id": "4711", "project_path": "example/shop", "namespace_id": "72", "namespace_path": "example",
			"ref": "main", "ref_path": "refs/heads/main", "ref_type": "branch", "ref_protected": "true", "pipeline_source": "push",
			"user_login": "ana", "user_id": "42",
		},
		user: explainedUser{Username: "gitlab:example/shop", UID: "4711", Groups: []string{"gitlab:ref:example/shop:branch:main"}},
		refused: []refusedClaims{
			{"another service's audience", authtest.Claims{"aud": "https://gitlab.com"}, auth.WrongAudience},
			{"another project of the path", authtest.Claims{"project_id": "4712"}, auth.RequiredClaim},
			{"a branch without protection", authtest.Claims{"ref_protected": "false"}, auth.RequiredClaim},
			{"another branch", authtest.Claims{"ref": "main-2"}, auth.RequiredClaim},
			{"a tag of the branch's name", authtest.Claims{"ref_type": "tag"}, auth.RequiredClaim},
			{"a merge request", authtest.Claims{"pipeline_source": "merge_request_event"}, auth.ClaimRule},
			{"a token of two hours", authtest.Claims{"iat": time.Now().Unix(), "exp": time.Now().Add(2 * time.Hour).Unix()}, auth.ClaimRule},
			{"a person", authtest.Claims{"sub": "42", "project_id": nil, "project_path": nil}, auth.BadUsernameClaim},
		},
	}
}

// The names of claims are those of learn.microsoft.com/entra/identity-platform/id-token-claims-reference.
func entraID() documentedIssuer {
	const (
		tenant = "00000000-0000-0000-0000-000000000000"
		person = "22222222-2222-2222-2222-222222222222"
		group  = "33333333-3333-3333-3333-333333333333"
	)
	return documentedIssuer{
		page: "entra-id.md",
		claims: authtest.Claims{
			"aud": "11111111-1111-1111-1111-111111111111", "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ", "ver": "2.0",
			"tid": tenant, "oid": person, "preferred_username": "ana@example.com", "email": "ana@example.com", "groups": []string{group},
		},
		user: explainedUser{
			Username: "entra:" + person, UID: person, Groups: []string{"entra:" + group},
			Extra: map[string][]string{"example.com/preferred-username": {"ana@example.com"}},
		},
		refused: []refusedClaims{
			{"another application", authtest.Claims{"aud": "44444444-4444-4444-4444-444444444444"}, auth.WrongAudience},
			{"another tenant", authtest.Claims{"tid": "55555555-5555-5555-5555-555555555555"}, auth.RequiredClaim},
			{"no scope profile", authtest.Claims{"oid": nil}, auth.BadUsernameClaim},
			{"more than 200 groups", authtest.Claims{
				"groups": nil, "_claim_names": map[string]any{"groups": "src1"},
				"_claim_sources": map[string]any{"src1": map[string]any{"endpoint": "https://graph.windows.net/" + tenant + "/users/" + person + "/getMemberObjects"}},
			}, auth.UnsupportedClaims},
		},
	}
}

func keycloak() documentedIssuer {
	return documentedIssuer{
		page: "keycloak.md",
		claims: authtest.Claims{
			"aud": "kubernetes", "azp": "kubernetes", "typ": "ID", "sub": "9b0a7c1e-3f55-4d0e-8a53-6f5f0a1f5f11",
			"preferred_username": "ana", "email": "ana@example.com", "email_verified": true, "groups": []string{"developers"},
		},
		user: explainedUser{Username: "keycloak:ana", UID: "9b0a7c1e-3f55-4d0e-8a53-6f5f0a1f5f11", Groups: []string{"keycloak:developers"}},
		refused: []refusedClaims{
			{"no mapper for the audience", authtest.Claims{"aud": "account"}, auth.WrongAudience},
			{"another client's token", authtest.Claims{"azp": "shop"}, auth.WrongParty},
			{"a service account", authtest.Claims{"preferred_username": "service-account-shop"}, auth.UserRule},
			{"full group paths", authtest.Claims{"groups": []string{"/developers"}}, auth.UserRule},
		},
	}
}

func google() documentedIssuer {
	return documentedIssuer{
		page: "google.md",
		claims: authtest.Claims{
			"aud": "1234-abcd.apps.googleusercontent.com", "azp": "1234-abcd.apps.googleusercontent.com", "sub": "110169484474386276334",
			"hd": "example.com", "email": "ana@example.com", "email_verified": true,
		},
		user: explainedUser{Username: "google:ana@example.com", UID: "110169484474386276334"},
		refused: []refusedClaims{
			{"a private account", authtest.Claims{"hd": nil, "email": "ana@gmail.com"}, auth.RequiredClaim},
			{"another domain", authtest.Claims{"hd": "example.net"}, auth.RequiredClaim},
			{"an address that is not verified", authtest.Claims{"email_verified": false}, auth.UnverifiedEmail},
			{"a service account", authtest.Claims{"azp": "100000000000000000001", "hd": nil}, auth.WrongParty},
		},
	}
}

func okta() documentedIssuer {
	return documentedIssuer{
		page: "okta.md",
		claims: authtest.Claims{
			"aud": "0oa1example", "sub": "00u1example", "ver": 1, "preferred_username": "ana@example.com",
			"email": "ana@example.com", "groups": []string{"k8s-developers"},
		},
		user: explainedUser{Username: "okta:ana@example.com", UID: "00u1example", Groups: []string{"okta:k8s-developers"}},
		refused: []refusedClaims{
			{"an access token of a custom server", authtest.Claims{"aud": "api://default"}, auth.WrongAudience},
			{"a token without the scope profile", authtest.Claims{"preferred_username": nil}, auth.BadUsernameClaim},
		},
	}
}

func dex() documentedIssuer {
	connector := func(id string) map[string]any { return map[string]any{"connector_id": id, "user_id": "1001"} }
	return documentedIssuer{
		page: "dex.md",
		claims: authtest.Claims{
			"aud": "kubernetes", "sub": "CgQxMDAxEgRsZGFw", "at_hash": "x", "email": "ana@example.com", "email_verified": true,
			"groups": []string{"developers"}, "name": "Ana", "federated_claims": connector("ldap"),
		},
		user: explainedUser{Username: "dex:ana@example.com", UID: "CgQxMDAxEgRsZGFw", Groups: []string{"dex:developers"}},
		refused: []refusedClaims{
			{"another connector", authtest.Claims{"federated_claims": connector("github")}, auth.ClaimRule},
			{"no scope federated:id", authtest.Claims{"federated_claims": nil}, auth.ClaimRule},
			{"an address that is not verified", authtest.Claims{"email_verified": false}, auth.UnverifiedEmail},
			{"another client's token", authtest.Claims{"aud": []string{"kubernetes", "shop"}, "azp": "shop"}, auth.WrongParty},
		},
	}
}
