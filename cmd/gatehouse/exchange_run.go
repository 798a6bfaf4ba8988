package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/cmd/exchange"
)

func (o *exchangeOptions) run(cmd *cobra.Command, environ map[string]string) error {
	if err := o.check(); err != nil {
		return usageError{err}
	}
	config := exchange.Config{URL: o.server}
	ca, err := certificatesOf("--certificate-authority", o.ca)
	if err != nil {
		return err
	}
	if len(ca) > 0 {
		config.Roots = x509.NewCertPool()
		config.Roots.AppendCertsFromPEM(ca)
	}
	client, err := exchange.New(config)
	if err != nil {
		return usageError{fmt.Errorf("--server: %w", err)}
	}
	if o.output == outputKubeconfig {
		return o.printKubeconfig(cmd)
	}
	apiVersion, err := execAPIVersion(environ)
	if err != nil && o.output == outputExecCredential {
		return err
	}
	a := asked{exchangeOptions: o, client: client, ca: string(ca), progress: newProgress(cmd.ErrOrStderr(), o.timeout)}
	if a.source, err = o.source(cmd, environ); err != nil {
		return err
	}
	if a.actor, err = o.readActor(); err != nil {
		return err
	}
	issued, err := a.once(cmd)
	if err != nil {
		return o.withHint(err)
	}
	return o.print(cmd, issued, apiVersion)
}

// source returns where the token comes from. What is at hand is read now.
func (o *exchangeOptions) source(cmd *cobra.Command, environ map[string]string) (exchange.Source, error) {
	switch {
	case o.github:
		audience := o.githubAudience
		if audience == "" {
			audience = o.server
		}
		return exchange.GitHub{URL: environ["ACTIONS_ID_TOKEN_REQUEST_URL"], RequestToken: environ["ACTIONS_ID_TOKEN_REQUEST_TOKEN"], Audience: audience}, nil
	case o.tokenEnv != "":
		if environ[o.tokenEnv] == "" {
			return nil, usageError{errors.New("--token-env: there is no such variable, or it is empty")}
		}
		return heldToken("--token-env", []byte(environ[o.tokenEnv]))
	default:
		content, err := readInput(cmd.Context(), o.tokenFile, cmd.InOrStdin(), cmd.ErrOrStderr())
		if err != nil {
			return nil, err
		}
		return heldToken("--token-file", content)
	}
}

// readActor returns the token of who acts for the subject, or "".
func (o *exchangeOptions) readActor() (exchange.Held, error) {
	if o.actorFile == "" {
		return "", nil
	}
	file, err := os.Open(o.actorFile)
	if err != nil {
		return "", usageError{fmt.Errorf("--actor-token-file: %w", err)}
	}
	defer file.Close()
	content, err := readAll(file)
	if err != nil {
		return "", err
	}
	return heldToken("--actor-token-file", content)
}

func heldToken(flag string, content []byte) (exchange.Held, error) {
	if strings.Contains(string(content), "-----BEGIN ") {
		return "", usageError{fmt.Errorf("%s: this is PEM, such as a certificate or a key, and no token", flag)}
	}
	token, err := cleanToken(content)
	if err != nil {
		return "", err
	}
	if !auth.IsBearerToken(token) {
		return "", usageError{fmt.Errorf("%s: this is no token: it is longer than %d bytes, or has characters that no token has", flag, auth.MaxTokenBytes)}
	}
	return exchange.Held(token), nil
}

// asked is one exchange that is to be made.
type asked struct {
	*exchangeOptions
	client   *exchange.Client
	source   exchange.Source
	actor    exchange.Held
	ca       string
	progress *progress
}

// once returns a token of the cache, or exchanges.
func (a asked) once(cmd *cobra.Command) (*exchange.Issued, error) {
	cache, err := a.openCache(cmd)
	if err != nil {
		return nil, err
	}
	if cache == nil {
		return a.exchange(cmd.Context())
	}
	defer cache.Close()
	return cache.Once(cmd.Context(), a.key(), a.exchange)
}

// openCache returns nil if there should be no cache, or if the default one cannot
// be: a job without a home can do without. A folder that is not safe is an error.
func (a asked) openCache(cmd *cobra.Command) (*exchange.Cache, error) {
	if a.noCache {
		return nil, nil
	}
	note := func(err error) { fmt.Fprintf(cmd.ErrOrStderr(), "note: %v\n", err) }
	dir := a.cacheDir
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			note(errors.New("no token is kept, as this user has no cache folder: name one with --cache-dir, or say --no-cache"))
			return nil, nil
		}
		dir = filepath.Join(user, "gatehouse", "exchange")
	}
	cache, err := exchange.OpenCache(exchange.CacheConfig{
		Dir: dir, LockTimeout: a.timeout, Notice: note,
		Waiting: func(wait func()) {
			a.progress.during("waiting for another gatehouse exchange", wait)
		},
	})
	if _, unsafe := errors.AsType[*exchange.UnsafeError](err); err != nil && a.cacheDir == "" && !unsafe {
		note(fmt.Errorf("no token is kept: %w: name another folder with --cache-dir, or say --no-cache", err))
		return nil, nil
	}
	return cache, err
}

// key returns the digest of everything that the token depends on.
func (a asked) key() exchange.Key {
	from := "file:" + absolute(a.tokenFile)
	switch {
	case a.github:
		from = "github:" + a.githubAudience
	case a.tokenEnv != "":
		from = "env:" + a.tokenEnv
	}
	acting := ""
	if a.actor != "" {
		acting = a.actor.Subject()
	}
	parts := []string{
		a.server, a.ca, from, a.source.Subject(), a.tokenType, absolute(a.actorFile), acting,
		a.scope(), a.account, a.lifetime.String(),
	}
	return exchange.KeyOf(append(parts, a.audiences...)...)
}

func (o *exchangeOptions) scope() string {
	return strings.Join(strings.Fields(strings.Join(o.scopes, " ")), " ")
}

// absolute returns where a file is from everywhere; "" and - stay.
func absolute(file string) string {
	if file == "" || file == "-" {
		return file
	}
	if whole, err := filepath.Abs(file); err == nil {
		return whole
	}
	return file
}

// exchange gets the token and exchanges it.
func (a asked) exchange(ctx context.Context) (issued *exchange.Issued, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	a.progress.during("exchanging the token", func() {
		request := exchange.Request{
			SubjectType: a.tokenType, Actor: string(a.actor), Audiences: a.audiences, Scope: a.scope(), Lifetime: a.lifetime,
		}
		if namespace, name, found := strings.Cut(a.account, "/"); found {
			request.Resource = exchange.ServiceAccountResource(namespace, name)
		}
		if request.Subject, err = a.source.Token(ctx); err == nil {
			issued, err = a.client.Exchange(ctx, request)
		}
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("no answer within the time of --timeout: %w", err)
	}
	return issued, err
}

// withHint adds what to do to what went wrong.
func (o *exchangeOptions) withHint(err error) error {
	if errors.Is(err, context.Canceled) {
		return errInterrupted
	}
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown && o.ca == "" {
		return fmt.Errorf("%w\n%s", err, "Name the file of the CA of the exchange with --certificate-authority.")
	}
	failure, ok := errors.AsType[*exchange.Failure](err)
	if !ok {
		return err
	}
	if hint := o.hint(failure); hint != "" {
		return fmt.Errorf("%w\n%s", err, hint)
	}
	return err
}

// hint says what to do about a refusal.
func (o *exchangeOptions) hint(f *exchange.Failure) string {
	switch f.Code {
	case "invalid_request":
		return "If it is the token, `gatehouse explain`, with the settings of that gatehouse, says which rule refuses it."
	case "invalid_scope":
		return "Ask for words that gatehouse knows, and that the token you have allows: docs/scopes.md."
	case "invalid_target":
		if namespace, name, found := strings.Cut(o.account, "/"); found {
			return fmt.Sprintf("The cluster must let the subject make it: kubectl auth can-i create serviceaccounts/%s --subresource=token -n %s", name, namespace)
		}
		if len(o.audiences) > 0 {
			return "A session token is for that gatehouse alone: leave out --audience, or name a --service-account."
		}
	case "temporarily_unavailable":
		if f.RetryAfter > 0 {
			return fmt.Sprintf("It asks for %d s until then.", f.RetryAfter)
		}
		return "Try again in a moment."
	}
	return ""
}

// execAPIVersion returns the version that kubectl wants an ExecCredential in.
func execAPIVersion(environ map[string]string) (string, error) {
	const group = "client.authentication.k8s.io/"
	content := environ["KUBERNETES_EXEC_INFO"]
	if content == "" {
		return group + "v1", nil
	}
	var info struct{ APIVersion, Kind string }
	if json.Unmarshal([]byte(content), &info) != nil || info.Kind != "ExecCredential" {
		return "", errors.New("KUBERNETES_EXEC_INFO is no ExecCredential: it is kubectl that sets it")
	}
	if info.APIVersion != group+"v1" && info.APIVersion != group+"v1beta1" {
		return "", errors.New("KUBERNETES_EXEC_INFO asks for another version than v1 and v1beta1 of client.authentication.k8s.io: change apiVersion of the exec plugin in the kubeconfig")
	}
	return info.APIVersion, nil
}

// print writes the token in the form that was asked for.
func (o *exchangeOptions) print(cmd *cobra.Command, issued *exchange.Issued, apiVersion string) error {
	switch o.output {
	case outputJSON:
		return writeJSON(cmd.OutOrStdout(), struct {
			Token     string `json:"access_token"`
			Issued    string `json:"issued_token_type"`
			Type      string `json:"token_type"`
			ExpiresIn int64  `json:"expires_in"`
			Scope     string `json:"scope,omitempty"`
		}{issued.Token, issued.Type, "Bearer", int64(math.Round(time.Until(issued.Expires).Seconds())), issued.Scope})
	case outputExecCredential:
		type status struct {
			// When kubectl should ask again: what it gets then is not of the cache.
			Expiration string `json:"expirationTimestamp"`
			Token      string `json:"token"`
		}
		return writeJSON(cmd.OutOrStdout(), struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Status     status `json:"status"`
		}{apiVersion, "ExecCredential", status{issued.RenewAt().UTC().Format(time.RFC3339), issued.Token}})
	default:
		_, err := fmt.Fprintln(cmd.OutOrStdout(), issued.Token)
		return err
	}
}
