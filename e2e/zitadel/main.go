// Zitadel is an OpenID provider on the loopback address, made of zitadel/oidc's
// certified server and a storage of our own. Of what gatehouse reads tokens with
// it shares go-jose alone. It takes its settings from the environment, as
// ../certified/server.mjs does, prints one JSON line {"issuer": "..."} when it
// serves, and runs until it is ended.
//
//	CERT_FILE, KEY_FILE   the serving pair, PEM
//	CLIENT_ID             a public client, for the code flow with PKCE and the device flow
//	REDIRECT_URI          where the client is sent back to
//	ACCOUNTS              JSON: {"login": {"email": "...", "groups": [...]}}
package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "zitadel:", err)
		os.Exit(1)
	}
}

func run() error {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	var people map[string]account
	if err := json.Unmarshal([]byte(os.Getenv("ACCOUNTS")), &people); err != nil {
		return fmt.Errorf("read ACCOUNTS: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	issuer := "https://" + listener.Addr().String()
	s, err := newStorage(client{id: os.Getenv("CLIENT_ID"), redirectURI: os.Getenv("REDIRECT_URI")}, people)
	if err != nil {
		return err
	}
	handler, err := newHandler(issuer, s)
	if err != nil {
		return err
	}
	// The socket listens already: who connects from now on is served.
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{"issuer": issuer}); err != nil {
		return fmt.Errorf("say that it serves: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	return server.ServeTLS(listener, os.Getenv("CERT_FILE"), os.Getenv("KEY_FILE"))
}

// newHandler serves the protocol, which is theirs, and the pages, which are ours.
func newHandler(issuer string, s *storage) (http.Handler, error) {
	config := &op.Config{
		CodeMethodS256: true,
		DeviceAuthorization: op.DeviceAuthorizationConfig{
			Lifetime: time.Minute, PollInterval: time.Second,
			UserFormPath: devicePath, UserCode: op.UserCodeBase20,
		},
	}
	if _, err := rand.Read(config.CryptoKey[:]); err != nil {
		return nil, fmt.Errorf("make a key for access tokens: %w", err)
	}
	provider, err := op.NewProvider(config, s, op.StaticIssuer(issuer))
	if err != nil {
		return nil, fmt.Errorf("make the provider: %w", err)
	}
	callback := op.AuthCallbackURL(provider)
	mux := http.NewServeMux()
	mux.Handle("/", provider)
	mux.Handle(loginPath, page{
		reference: "request", known: s.knowsRequest, signIn: s.signIn,
		done: func(w http.ResponseWriter, r *http.Request, id string) {
			http.Redirect(w, r, callback(op.ContextWithIssuer(r.Context(), issuer), id), http.StatusFound)
		},
	})
	mux.Handle(devicePath, page{
		reference: "user_code", known: s.knowsDevice, signIn: s.signInDevice,
		done: func(w http.ResponseWriter, _ *http.Request, _ string) {
			fmt.Fprintln(w, "You are signed in. You can close this page.")
		},
	})
	return mux, nil
}
