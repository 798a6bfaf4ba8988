package exchange

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	josejson "github.com/go-jose/go-jose/v4/json"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Source is where the token comes from that is exchanged.
type Source interface {
	// Subject tells this subject from every other, and asks nobody. It is the
	// same for a token and its successor, and holds no secret.
	Subject() string
	// Token returns the token.
	Token(ctx context.Context) (string, error)
}

// Held is a token that is at hand.
type Held string

// Token returns the token.
func (h Held) Token(context.Context) (string, error) { return string(h), nil }

// Subject returns a digest: of a JWT that names an issuer and a subject, of all
// claims but those that differ between a token and its successor; of any other
// token, of all of it. Nothing is verified: it compares a token with the one of
// before, and somebody else's, or one that says anything else of the same
// person, must not be taken for it.
func (h Held) Subject() string {
	if claims := lasting(string(h)); claims != nil {
		return "claims:" + sum(claims)
	}
	return "token:" + sum([]byte(h))
}

func sum(content []byte) string {
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:])
}

// passing are the claims that an issuer makes anew for each token: RFC 7519,
// OpenID Connect Core 1.0, and those of Microsoft Entra ID. A claim that is
// missing here costs exchanges; one that does not belong here would hand out the
// wrong token.
func passing() []string {
	return []string{"exp", "iat", "nbf", "jti", "nonce", "at_hash", "c_hash", "s_hash", "uti", "aio", "rh"}
}

// The claims of which only a part is new each time, and of a session of
// gatehouse's own, which another one must never stand for.
const (
	kubernetesClaim = "kubernetes.io"
	warnAfter       = "warnafter" // of a projected ServiceAccount token
	sessionClaim    = "kube-gatehouse.github.io"
)

// lasting returns the claims of a JWT that its successor has too, written in one
// way, or nil.
func lasting(token string) []byte {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	payload, err := base64.RawURLEncoding.Strict().DecodeString(parts[1])
	if err != nil {
		return nil
	}
	decoder := josejson.NewDecoder(strings.NewReader(string(payload)))
	decoder.SetNumberType(josejson.UnmarshalJSONNumber) // large numbers differ in their last digits
	var claims map[string]any
	if decoder.Decode(&claims) != nil || decoder.More() {
		return nil
	}
	issuer, _ := claims["iss"].(string)
	subject, _ := claims["sub"].(string)
	if _, session := claims[sessionClaim]; session || issuer == "" || subject == "" {
		return nil
	}
	for _, name := range passing() {
		delete(claims, name)
	}
	if bound, ok := claims[kubernetesClaim].(map[string]any); ok {
		delete(bound, warnAfter)
	}
	written, err := josejson.Marshal(claims)
	if err != nil {
		return nil
	}
	return written
}

// GitHub is a job of GitHub Actions that asks GitHub for its ID token
// (docs.github.com/actions/reference/security/oidc).
type GitHub struct {
	// URL and RequestToken are those of the job's environment,
	// ACTIONS_ID_TOKEN_REQUEST_URL and ACTIONS_ID_TOKEN_REQUEST_TOKEN.
	URL, RequestToken string
	// Audience is whom the ID token is for.
	Audience string
	// Roots are the CAs of GitHub's certificate. Nil: those of the system.
	Roots *x509.CertPool
}

// Subject returns a digest of what proves the job.
func (g GitHub) Subject() string {
	return "github:" + sum([]byte(g.URL+"\n"+g.RequestToken+"\n"+g.Audience))
}

// Token asks for an ID token.
func (g GitHub) Token(ctx context.Context) (string, error) {
	token, err := g.ask(ctx)
	if err != nil {
		return "", fmt.Errorf("ask GitHub for the job's ID token: %w", err)
	}
	return token, nil
}

func (g GitHub) ask(ctx context.Context) (string, error) {
	if g.URL == "" || g.RequestToken == "" {
		return "", errors.New("ACTIONS_ID_TOKEN_REQUEST_URL or ACTIONS_ID_TOKEN_REQUEST_TOKEN is not set: this is no job of GitHub Actions, or it lacks `permissions: id-token: write`")
	}
	u, err := url.Parse(g.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return "", errors.New("ACTIONS_ID_TOKEN_REQUEST_URL is no https URL")
	}
	if !auth.IsBearerToken(g.RequestToken) {
		return "", errors.New("ACTIONS_ID_TOKEN_REQUEST_TOKEN is no token")
	}
	query := u.Query()
	query.Set("audience", g.Audience)
	u.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", errors.New("ACTIONS_ID_TOKEN_REQUEST_URL is no https URL")
	}
	r.Header.Set("Authorization", "Bearer "+g.RequestToken)
	client := newHTTPClient(g.Roots)
	defer client.CloseIdleConnections()
	got, err := send(client, r)
	if err != nil {
		return "", err
	}
	if got.status != http.StatusOK {
		return "", fmt.Errorf("it answered %d: does the job have `permissions: id-token: write`?", got.status)
	}
	var answer struct {
		Value string `json:"value"`
	}
	if err := josejson.Unmarshal(got.body, &answer); err != nil || !auth.IsBearerToken(answer.Value) {
		return "", errors.New("its answer holds no token")
	}
	return answer.Value, nil
}
