package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// The people of the tour. Each is a context of the kubeconfig.
const (
	alice    = "alice"     // signed in, in the group developers
	bob      = "bob"       // signed in, in the group viewers
	robot    = "ci-robot"  // has a static token
	newcomer = "newcomer"  // gets a static token during the tour
	late     = "late"      // alice, with a token that has expired
	forger   = "forger"    // has something that is no token
	stranger = "stranger"  // signed in at an issuer that nobody trusts
	grace    = "grace"     // has a client certificate
	heidi    = "heidi"     // signed in at the partner's issuer
	ivan     = "ivan"      // the same, but of another tenant
	builder  = "builder"   // a workload, with a ServiceAccount token
	vault    = "vault"     // the same workload, with its token for another service
	job      = "ci-job"    // of a CI platform, with a token of five minutes
	agent    = "agent"     // has what alice lends it during the tour
	nobody   = "anonymous" // has no credential
)

// set is all that the tour needs: the stage, gatehouse, and what the people
// hold in their hands.
type set struct {
	*stage.Stage
	gate    *gatehouse.Instance
	tokens  *stage.Tokens
	wallet  *wallet
	watches map[string]*kubectl.Running // by who opened them
	partner *issuer
	ci      *issuer
	lending *lending
	env     map[string]string // of gatehouse
	rows    map[string]string // of the token file, by name
	config  string            // the people's kubeconfig
	// kubectlLink is a short path to the real kubectl.
	kubectlLink string
	abandon     context.CancelFunc

	secrets map[string]string // tokens by name
}

func newSet(ctx context.Context, s *stage.Stage, dir string) (*set, error) {
	t := &set{Stage: s, watches: map[string]*kubectl.Running{}, config: filepath.Join(dir, "kubeconfig"), kubectlLink: filepath.Join(dir, "kubectl")}
	if err := os.Symlink(s.KubectlPath(), t.kubectlLink); err != nil {
		return nil, fmt.Errorf("link kubectl: %w", err)
	}
	t.secrets = map[string]string{
		alice: s.Issuer.Token(lasting(stage.Person("alice", "developers"))),
		bob:   s.Issuer.Token(lasting(stage.Person("bob", "viewers"))),
		robot: rand.Text(), newcomer: rand.Text(),
		late:   s.Issuer.Token(expired(stage.Person("alice", "developers"))),
		forger: "this-is-no-token",
		nobody: "",
	}
	var err error
	if t.secrets[stranger], err = foreignToken(s); err != nil {
		return nil, err
	}
	// For whoever writes settings of their own.
	if err := pki.WriteFile(filepath.Join(dir, "issuer", "url"), []byte(s.Issuer.URL+"\n")); err != nil {
		return nil, err
	}
	if t.partner, err = newIssuer(dir, "partner"); err != nil {
		return nil, err
	}
	if t.ci, err = newIssuer(dir, "ci"); err != nil {
		return nil, err
	}
	t.secrets[heidi] = t.partner.Token(lasting(worker("heidi", "blue")))
	t.secrets[ivan] = t.partner.Token(lasting(worker("ivan", "red")))
	if t.secrets[builder], err = s.BuilderToken(ctx, ""); err != nil {
		return nil, err
	}
	if t.secrets[vault], err = s.BuilderToken(ctx, "", "vault"); err != nil {
		return nil, err
	}
	t.secrets[job] = t.ci.Token(authtest.Claims{"sub": "repo:acme/shop", "exp": time.Now().Add(5 * time.Minute).Unix()})
	if t.lending, err = newLending(ctx, s, dir); err != nil {
		return nil, err
	}
	t.rows = map[string]string{
		robot:    t.secrets[robot] + `,ci-robot,ci-1,"ci,builders"`,
		newcomer: t.secrets[newcomer] + `,newcomer,new-1,"oidc:viewers"`,
	}
	if t.wallet, err = newWallet(dir, "grace@example.com", "oidc:viewers"); err != nil {
		return nil, err
	}
	t.tokens, err = stage.NewTokens(dir, t.rows[robot])
	return t, err
}

// lasting makes a token outlive a long afternoon with the demo.
func lasting(c authtest.Claims) authtest.Claims {
	c["exp"] = time.Now().Add(12 * time.Hour).Unix()
	return c
}

// expired is a token that was good until five minutes ago.
func expired(c authtest.Claims) authtest.Claims {
	now := time.Now()
	c["iat"], c["exp"] = now.Add(-65*time.Minute).Unix(), now.Add(-5*time.Minute-time.Second).Unix()
	return c
}

// foreignToken is a well-formed token that claims our issuer, signed by a key
// that the issuer does not have.
func foreignToken(s *stage.Stage) (string, error) {
	key, err := authtest.NewKey(s.Issuer.Key().ID, s.Issuer.Key().Algorithm)
	if err != nil {
		return "", err
	}
	return key.Sign(s.Issuer.Payload(stage.Person("alice", "developers"))), nil
}

// writeKubeconfig writes one with a context for everybody, alice's first.
func (t *set) writeKubeconfig() error {
	var users []kubeconfig.User
	for _, name := range []string{alice, bob, robot, newcomer, late, forger, stranger, nobody, heidi, ivan, builder, vault, job, agent} {
		users = append(users, kubeconfig.User{Name: name, Namespace: "dev", Token: t.secrets[name]})
	}
	users = append(users, t.wallet.user())
	return t.gate.File(users...).Write(t.config)
}

// kubectl returns a kubectl for one of the people that has never been used: its
// discovery cache is cold.
func (t *set) kubectl(who string) (*kubectl.Kubectl, error) {
	k, err := t.Kubectl(t.config)
	if err != nil {
		return nil, err
	}
	return k.WithContext(who), nil
}

// revealsToken reports whether a text holds any of the people's tokens.
func (t *set) revealsToken(text string) bool {
	for _, secret := range t.secrets {
		if secret != "" && strings.Contains(text, secret) {
			return true
		}
	}
	return false
}

// stop ends gatehouse, then the stage.
func (t *set) stop() {
	for _, watch := range t.watches {
		watch.Stop()
	}
	t.gate.Stop()
	_ = t.partner.Close() // the listeners end either way
	_ = t.ci.Close()
	_ = t.lending.shop.Close()
	t.Stage.Stop()
	t.abandon()
}
