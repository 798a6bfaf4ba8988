package main

import (
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/nexthop"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

//go:embed exchange.yaml
var exchangeRights []byte

const (
	shopAudience = "shop.example.com"
	lentScope    = "read-only no-secrets"
	deployerUser = "system:serviceaccount:dev:deployer"
)

// lending is what the token exchange needs, and what came of it.
type lending struct {
	shop   *nexthop.Service // which the job calls
	keys   string           // the directory of the session keys
	denied string           // the revocation file

	account string // the job's token of a ServiceAccount
	id      string // of the token that alice lent
}

func newLending(ctx context.Context, s *stage.Stage, dir string) (*lending, error) {
	if err := s.Cluster.Apply(ctx, exchangeRights); err != nil {
		return nil, err
	}
	l := &lending{keys: filepath.Join(dir, "session-keys"), denied: filepath.Join(dir, "revoked.yaml")}
	if err := os.Mkdir(l.keys, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory for keys: %w", err)
	}
	if _, err := pki.Key(l.keys, "signing.pem"); err != nil {
		return nil, err
	}
	if err := pki.WriteFile(l.denied, []byte("revoked: []\n")); err != nil {
		return nil, err
	}
	kubeconfig, err := s.Cluster.ServiceAccountKubeconfig(ctx, stage.BuilderNamespace, stage.BuilderName)
	if err != nil {
		return nil, err
	}
	l.shop, err = nexthop.Start(ctx, dir, kubeconfig, shopAudience)
	return l, err
}

func (l *lending) env() map[string]string {
	return map[string]string{"GATEHOUSE_SESSION_KEY_DIR": l.keys, "GATEHOUSE_REVOCATION_FILE": l.denied}
}

// giveRights gives gatehouse's account what `gatehouse rbac` prints for its settings.
func (t *set) giveRights(ctx context.Context) error {
	env := maps.Clone(t.env)
	// Where it listens makes no difference to them.
	env["GATEHOUSE_EXCHANGE_ADDRESS"], env["GATEHOUSE_EXCHANGE_URL"] = ":8444", "https://127.0.0.1:8444"
	var out, faults strings.Builder
	p, err := proc.Start(ctx, proc.Config{Path: t.Binary(), Args: []string{"rbac"}, Env: environment(env), Stdout: &out, Stderr: &faults})
	if err != nil {
		return err
	}
	if code, err := p.Wait(ctx); err != nil || code != 0 {
		return fmt.Errorf("gatehouse rbac: %w", errors.Join(err, errors.New(faults.String())))
	}
	return t.Cluster.Apply(ctx, []byte(out.String()))
}

// exchangeJob exchanges the job's token for one of the ServiceAccount deployer.
func exchangeJob(ctx context.Context, t *set) (string, error) {
	token, err := t.gate.Exchange(ctx, gatehouse.Wish{Subject: t.secrets[job], Account: "dev:deployer", Audience: shopAudience})
	if err != nil {
		return "", err
	}
	t.lending.account = token.AccessToken
	t.secrets["deployer"] = token.AccessToken // no log may show it
	var claims struct {
		Sub string
		Aud []string
	}
	if err := payload(token.AccessToken, &claims); err != nil {
		return "", err
	}
	if claims.Sub != deployerUser || len(claims.Aud) != 1 || claims.Aud[0] != shopAudience {
		return "", fmt.Errorf("a token of %s for %q", claims.Sub, claims.Aud)
	}
	return fmt.Sprintf("a token of %s for %s, %s", claims.Sub, claims.Aud[0], minutes(token)), nil
}

// exchangeForOther asks for a token that the cluster's rules do not let the job have.
func exchangeForOther(ctx context.Context, t *set) (string, error) {
	_, err := t.gate.Exchange(ctx, gatehouse.Wish{Subject: t.secrets[job], Account: "dev:builder", Audience: shopAudience})
	refused := new(oauth2.RetrieveError)
	if !errors.As(err, &refused) || refused.ErrorCode != "invalid_target" || !strings.Contains(refused.ErrorDescription, "do not let you create serviceaccounts/token") {
		return "", fmt.Errorf("it was not refused: %w", err)
	}
	return refused.ErrorCode + ": " + refused.ErrorDescription, nil
}

// callShop calls the second service, which verifies the token with the cluster's keys.
func callShop(ctx context.Context, t *set) (string, error) {
	return t.callShop(ctx, t.lending.account, http.StatusOK, "welcome, "+deployerUser)
}

// callShopForVault calls it with such a token that is meant for another service.
func callShopForVault(ctx context.Context, t *set) (string, error) {
	token, err := t.gate.Exchange(ctx, gatehouse.Wish{Subject: t.secrets[job], Account: "dev:deployer", Audience: vault})
	if err != nil {
		return "", err
	}
	t.secrets["deployer at vault"] = token.AccessToken
	return t.callShop(ctx, token.AccessToken, http.StatusUnauthorized, `expected audience "`+shopAudience+`"`)
}

func (t *set) callShop(ctx context.Context, token string, want int, says string) (string, error) {
	code, said, err := t.lending.shop.Call(ctx, token)
	if err != nil {
		return "", err
	}
	if code != want || !strings.Contains(said, says) {
		return "", fmt.Errorf("answered with %d: %s", code, said)
	}
	return fmt.Sprintf("%d %s", code, said), nil
}

// tokenTrail looks for the ServiceAccount's token in the audit log of the API server:
// it must name the job.
func tokenTrail(_ context.Context, t *set) (string, error) {
	events, err := t.Cluster.AuditEvents()
	if err != nil {
		return "", err
	}
	for _, e := range events {
		if e.ObjectRef == nil || e.ObjectRef.Subresource != "token" || e.ObjectRef.Name != "deployer" || e.ResponseStatus == nil || e.ResponseStatus.Code != http.StatusCreated {
			continue
		}
		if e.ImpersonatedUser == nil || e.ImpersonatedUser.Username != "ci:repo:acme/shop" {
			return "", fmt.Errorf("the token is recorded as made by %s for %v", e.User.Username, e.ImpersonatedUser)
		}
		return fmt.Sprintf("create serviceaccounts/deployer/token by %s, through %s", e.ImpersonatedUser.Username, e.User.Username), nil
	}
	return "", fmt.Errorf("no event of the token among %d", len(events))
}

// lend has alice exchange her token for one that may do less, and gives that to the
// agent.
func lend(ctx context.Context, t *set) (string, error) {
	token, err := t.gate.Exchange(ctx, gatehouse.Wish{Subject: t.secrets[alice], Scope: lentScope, Lifetime: 10 * time.Minute})
	if err != nil {
		return "", err
	}
	var claims struct{ JTI, Scope string }
	if err := payload(token.AccessToken, &claims); err != nil {
		return "", err
	}
	if claims.Scope != "no-secrets read-only" || claims.JTI == "" {
		return "", fmt.Errorf("the token has the scope %q", claims.Scope)
	}
	t.secrets[agent], t.lending.id = token.AccessToken, claims.JTI
	return fmt.Sprintf("a token with the scope %s and the jti %s, %s", claims.Scope, claims.JTI, minutes(token)), t.writeKubeconfig()
}

// takeBack puts the lent token's id into the revocation file and waits until the agent
// is refused and its watch has ended.
func takeBack(ctx context.Context, t *set) (string, error) {
	return endOf(ctx, t, agent, "has been revoked", func() error {
		return pki.WriteFile(t.lending.denied, []byte("revoked:\n- jti: "+t.lending.id+"\n"))
	})
}

func minutes(token *oauth2.Token) string {
	return fmt.Sprintf("good for %.0f minutes", time.Until(token.Expiry).Minutes())
}

// payload reads what a JWT says.
func payload(token string, v any) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return errors.New("the token is no JWT")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return fmt.Errorf("read the token: %w", err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("read the token: %w", err)
	}
	return nil
}
