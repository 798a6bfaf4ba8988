package main

import (
	"net"
	"os"
	"strings"
	"testing"
)

// freeAddress returns an address on which nobody listens now.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// Promise: what the command gets of a gatehouse's own exchange, that gatehouse
// takes, within the scope that was asked for; and its refusals are shown.
func TestExchangeOfGatehouse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	address := freeAddress(t)
	url := "https://" + address
	e := w.exchanges(t, map[string]string{"EXCHANGE_ADDRESS": address, "EXCHANGE_URL": url})
	if err := os.WriteFile(w.path("token"), []byte(anaToken), 0o600); err != nil {
		t.Fatal(err)
	}
	args := func(more string) []string {
		return append([]string{"exchange", "--server=" + url, "--certificate-authority=" + w.path("ca.crt"), "--no-cache", "--token-file=" + w.path("token")}, strings.Fields(more)...)
	}
	code, stdout, stderr := once(t, nil, args("--scope read-only --scope namespaces=test,dev --for 10m")...)
	token := strings.TrimSpace(stdout)
	if code != exitOK || said(stderr) != "" || strings.Count(token, ".") != 2 {
		t.Fatalf("exit code %d, %q: %s", code, stdout, stderr)
	}
	for path, want := range map[string]int{"/api/v1/namespaces/dev/pods": 200, "/api/v1/namespaces/prod/pods": 403, "/api/v1/nodes": 403} {
		if got := e.ask(t, token, path); got.code != want || want == 200 && got.seen.Header.Get("Impersonate-User") != "ana" {
			t.Errorf("%s: %+v", path, got)
		}
	}
	for more, want := range map[string]string{
		"--scope open-sesame":                         "400 invalid_scope: Your scope cannot be read",
		"--audience vault":                            "400 invalid_target: A session token is for this gatehouse alone",
		"--for 1s --service-account a/b --audience c": "400 invalid_request: The token of a ServiceAccount lives for 600 seconds at least.",
		"--subject-token-type jwt":                    "400 invalid_request: A token is not of the type that is said",
	} {
		code, stdout, stderr := once(t, nil, args(more)...)
		if code != exitFault || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, %q: %s; want %q", more, code, stdout, stderr, want)
		}
		mustNotHold(t, more, stderr)
	}
}
