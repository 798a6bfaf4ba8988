package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
)

// section is a part of the tour with a title of its own.
type section struct {
	title string
	rows  []row
}

// row is one checked line of the tour: who does what. Run does it, and returns
// what is worth showing, or why it is not as it must be.
type row struct {
	who, command string
	run          func(ctx context.Context, t *set) (shown string, err error)
}

// check looks at what kubectl did and returns what is worth showing, or why it
// is not as it must be.
type check func(kubectl.Result) (string, error)

// tour is the whole of it, in the order in which it is played. Rows may build
// on those before them.
func tour() []section {
	return []section{
		{"Signed in: an ID token goes in, the cluster's own RBAC decides", []row{
			kube(alice, "auth whoami", prints("alice@example.com", "oidc:developers", "system:authenticated")),
			kube(alice, "get deployments -o name", prints("deployment.apps/hello")),
			kube(alice, "create configmap tour --from-literal=by=alice", prints("configmap/tour created")),
			kube(alice, "auth can-i delete deployments", prints("yes")),
			kube(bob, "get configmap tour -o jsonpath={.data.by}", prints("alice")),
			kube(bob, "auth can-i delete deployments", saysNo),
			kube(bob, "delete deployment hello", refused(`User "bob@example.com" cannot delete resource "deployments"`)),
			kube(alice, "get secrets -n kube-system", refused(`User "alice@example.com" cannot list resource "secrets"`)),
		}},
		{"The sudo pattern: viewers may look, and change things only if they say so", []row{
			kube(bob, "create configmap sudo", refused(`User "bob@example.com" cannot create resource "configmaps"`)),
			kube(bob, "auth can-i create configmaps --as=devops-admin", prints("yes")),
			kube(bob, "create configmap sudo --as=devops-admin", prints("configmap/sudo created")),
			{"operator", "the API server's audit log", sudoTrail},
			kube(bob, "get pods --as=devops-admin --as-group=system:masters", refused("Nobody can act in the group system:masters")),
		}},
		{"A static token from a CSV file, for what has no issuer", []row{
			kube(robot, "auth whoami", prints("ci-robot", "ci-1", "ci builders system:authenticated")),
			kube(robot, "scale deployment hello --replicas=3", prints("deployment.apps/hello scaled")),
			kube(newcomer, "get pods", refused("Your credential was not accepted")),
			{newcomer, "its row is added while gatehouse runs", addRow},
			kube(newcomer, "get deployments -o name", prints("deployment.apps/hello")),
		}},
		{"A second issuer, its people named by expressions of kube-apiserver's own configuration file", []row{
			kube(heidi, "auth whoami", prints("partner:heidi", "partner:viewers")),
			kube(heidi, "get deployments", refused(`User "partner:heidi" cannot list resource "deployments"`)),
			kube(ivan, "get deployments", refused("Your token does not meet a rule of this cluster")),
			{"operator", "gatehouse explain, with ivan's token", explain},
		}},
		{"A workload, with a token of its ServiceAccount", []row{
			kube(builder, "auth whoami", prints("system:serviceaccount:dev:builder", "system:serviceaccounts:dev", "JTI=")),
			kube(builder, "get deployments -o name", prints("deployment.apps/hello")),
			kube(vault, "get deployments", refused("Your token was issued for another application")),
		}},
		{"A client certificate, and its revocation", []row{
			kube(grace, "auth whoami", prints("grace@example.com", "oidc:viewers", "X509SHA256=")),
			kube(grace, "auth can-i get deployments", prints("yes")),
			beginWatch(grace),
			{grace, "her certificate is revoked while gatehouse runs", revoke},
			kube(grace, "get pods", refused("Your client certificate was revoked")),
		}},
		{"A job of CI exchanges its token for a ServiceAccount's, which a second service accepts", []row{
			{job, "POST /token, resource=…:dev:deployer", exchangeJob},
			{job, "GET https://shop.example.com, with that", callShop},
			{job, "GET https://shop.example.com, with one for vault", callShopForVault},
			{job, "POST /token, resource=…:dev:builder", exchangeForOther},
			{"operator", "the API server's audit log", tokenTrail},
		}},
		{"A narrowed token, lent to an agent, and taken back", []row{
			{alice, "POST /token, scope=" + lentScope, lend},
			kube(agent, "auth whoami", prints("alice@example.com", "kube-gatehouse.github.io/scope")),
			kube(agent, "get pods -o name", prints("pod/hello-")),
			kube(agent, "get secrets", refused("its scope has the word no-secrets")),
			kube(agent, "delete deployment hello", refused("its scope has the word read-only")),
			beginWatch(agent),
			{alice, "the token's jti goes into the revocation file", takeBack},
			kube(agent, "get pods", refused("Your access has been revoked")),
			kube(alice, "get deployments -o name", prints("deployment.apps/hello")),
		}},
		{"Refused, and told why, even when kubectl knows nothing of the server yet", []row{
			kube(late, "get pods", refused("Your token expired 5 minutes ago: sign in again.")),
			kube(forger, "get pods", refused("Your credential was not accepted")),
			kube(stranger, "get pods", refused("Your credential was not accepted")),
			{nobody, "curl " + podsPath, withoutCredential},
			kube(alice, "get pods --as=admin", refused("You may not act as this user")),
		}},
		{"Live, and seen from outside", []row{
			{bob, "kubectl get configmaps --watch", watchEvent},
			{"operator", "the API server's audit log", auditTrail},
			{"operator", "gatehouse's log", requestLog},
			{"operator", "curl /readyz?verbose on the ops port", readiness},
			{"operator", "curl /metrics on the ops port", metric},
		}},
	}
}

// kube is a row in which somebody runs kubectl with a cold discovery cache.
func kube(who, args string, ok check) row {
	return row{who, "kubectl " + args, func(ctx context.Context, t *set) (string, error) {
		k, err := t.kubectl(who)
		if err != nil {
			return "", err
		}
		defer k.Remove() // its cache; the demo's whole directory goes at the end
		r, err := k.Run(ctx, strings.Fields(args)...)
		if err != nil {
			return "", err
		}
		return ok(r)
	}}
}

// prints accepts a success that printed every one of texts, and shows the lines
// with them.
func prints(texts ...string) check {
	return func(r kubectl.Result) (string, error) {
		if !r.OK() {
			return "", unexpected(r)
		}
		var shown []string
		for _, text := range texts {
			line := lineWith(r.Stdout, text)
			if line == "" {
				return "", fmt.Errorf("%q is not in what it printed: %q", text, r.Stdout)
			}
			if len(shown) == 0 || shown[len(shown)-1] != line {
				shown = append(shown, line)
			}
		}
		return strings.Join(shown, ", "), nil
	}
}

// refused accepts a failure that says text, and shows the line with it.
func refused(text string) check {
	return func(r kubectl.Result) (string, error) {
		if r.OK() {
			return "", fmt.Errorf("it was not refused, and printed %q", r.Stdout)
		}
		line := lineWith(r.Stderr, text)
		if line == "" {
			return "", unexpected(r)
		}
		line = strings.TrimPrefix(line, "Warning: ")
		return strings.TrimPrefix(line, "Error from server (Forbidden): "), nil
	}
}

// saysNo accepts what `auth can-i` answers where the answer is no.
func saysNo(r kubectl.Result) (string, error) {
	if r.Code != 1 || strings.TrimSpace(r.Stdout) != "no" {
		return "", unexpected(r)
	}
	return "no", nil
}

func unexpected(r kubectl.Result) error {
	return fmt.Errorf("exit code %d, printed %q and %q", r.Code, r.Stdout, r.Stderr)
}

// lineWith returns the first line that contains text, its blanks made single.
func lineWith(s, text string) string {
	for line := range strings.Lines(s) {
		if line = strings.Join(strings.Fields(line), " "); strings.Contains(line, text) {
			return line
		}
	}
	return ""
}
