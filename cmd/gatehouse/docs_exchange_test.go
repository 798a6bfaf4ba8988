package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/kube-gatehouse/gatehouse/cmd/exchange/exchangetest"
)

// documentedExchanges returns the lines of a page, with those that they go on in,
// by which a shell runs gatehouse exchange.
func documentedExchanges(t *testing.T, page string) []string {
	t.Helper()
	block := regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```$")
	line := regexp.MustCompile(`(?m)^[ -]*((?:[A-Z_]+=\$\()?gatehouse exchange (?:[^\n\\]|\\\n)*)$`)
	var found []string
	for _, content := range block.FindAllStringSubmatch(read(t, page), -1) {
		for _, match := range line.FindAllStringSubmatch(content[1], -1) {
			found = append(found, match[1])
		}
	}
	return found
}

// Promise: the commands of the how-to pages that exchange a token work as they are
// written there, in a real shell, for the URL of the exchange and the place of a
// file are those of the test.
func TestDocumentedExchanges(t *testing.T) {
	t.Parallel()
	w := newExchangeWorld(t)
	w.write(t, "agent-token", bobToken)
	gitHub := exchangetest.Serve(t, w.ca, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+jobToken && r.URL.Query().Get("audience") == "gatehouse.prod" {
			exchangetest.Write(rw, http.StatusOK, map[string]any{"value": anaToken})
		}
	}))
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, w.path("gatehouse")); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, page := range howToPages(t) {
		for _, command := range documentedExchanges(t, page) {
			checked++
			script := strings.NewReplacer("https://gatehouse.example.com:8444", w.URL, "/var/run/secrets/gatehouse/token", w.path("token")).Replace(command)
			if variable, _, found := strings.Cut(script, "="); found && !strings.Contains(variable, " ") {
				script += "\nprintf %s \"$" + variable + "\""
			}
			before := len(w.Asked())
			shell := exec.CommandContext(t.Context(), "/bin/sh", "-euc", script)
			shell.Dir = w.dir
			shell.Env = []string{
				asGatehouse + "=1", "PATH=" + w.dir, "HOME=" + w.dir, "SSL_CERT_FILE=" + w.path("ca.crt"), "KUBE_TOKEN=" + anaToken,
				"ACTIONS_ID_TOKEN_REQUEST_URL=" + gitHub + "/idtoken?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=" + jobToken,
			}
			out, err := shell.Output()
			if err != nil {
				t.Errorf("%s: %s: %v", page, command, err)
				continue
			}
			if strings.Contains(command, "-o kubeconfig") {
				content := string(out)
				if strings.Contains(command, "> kubeconfig") {
					content = read(t, filepath.Join(w.dir, "kubeconfig"))
				}
				if _, err := clientcmd.RESTConfigFromKubeConfig([]byte(content)); err != nil {
					t.Errorf("%s: %s: %v", page, command, err)
				}
				continue
			}
			if !strings.Contains(string(out), "issued.ana.") || len(w.Asked()) != before+1 {
				t.Errorf("%s: %s: printed %q, with %d exchanges", page, command, out, len(w.Asked())-before)
			}
		}
	}
	if checked < 7 {
		t.Errorf("only %d commands were found", checked)
	}
}
