package main

import (
	"encoding/base64"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kube-gatehouse/gatehouse/cmd/exchange/exchangetest"
)

// Promise: for the same flags the kubeconfig is the same to the byte, it is what
// stands in testdata, and nobody is asked.
func TestExchangeKubeconfig(t *testing.T) {
	t.Parallel()
	for name, args := range map[string]string{
		"variable": "--token-env KUBE_TOKEN",
		"everything": "--token-file /var/run/secrets/tokens/gatehouse --subject-token-type jwt --actor-token-file /run/agent " +
			"--scope read-only --scope no-secrets --audience a --audience b --for 1h --timeout 10s --cache-dir /var/cache/exchange --name prod --namespace dev",
		"github":  "--github --github-audience gatehouse.prod --no-cache",
		"account": "--github --service-account shop/deployer --audience https://kubernetes.default.svc",
	} {
		code, stdout, stderr := once(t, nil, strings.Fields("exchange --server https://gatehouse.example.com:8444 -o kubeconfig --cluster-server https://gatehouse.example.com "+args)...)
		if code != exitOK || stderr != "" {
			t.Fatalf("%s: exit code %d: %s", name, code, stderr)
		}
		golden(t, "kubeconfig/exchange-"+name+".yaml", stdout)
	}
}

// Promise: client-go, as kubectl does, runs the plugin of that kubeconfig, from any
// folder, and comes with the new token; the kubeconfig has no secret in it.
func TestExchangeAsPlugin(t *testing.T) {
	w := newExchangeWorld(t)
	bearers := make(chan string, 8)
	cluster := exchangetest.Serve(t, w.ca, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		bearers <- r.Header.Get("Authorization")
	}))
	t.Chdir(w.dir) // so that relative paths are of here
	code, stdout, stderr := once(t, nil, "exchange", "--server="+w.URL, "--certificate-authority=ca.crt", "--token-file=token", "--scope=read-only",
		"--cache-dir=cache", "-o", "kubeconfig", "--cluster-server="+cluster, "--cluster-certificate-authority=ca.crt")
	if code != exitOK || stderr != "" || len(w.Asked()) > 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	mustNotHold(t, "the kubeconfig", stdout)
	config, err := clientcmd.RESTConfigFromKubeConfig([]byte(stdout))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(w.ca.PEM(), config.CAData); diff != "" {
		t.Errorf("CA (-want +got):\n%s", diff)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(binary, bin+"/gatehouse"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	t.Setenv(asGatehouse, "1")
	t.Chdir(t.TempDir())
	for range 2 {
		client, err := rest.HTTPClientFor(rest.CopyConfig(config))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Get(cluster + "/api")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := <-bearers; got != "Bearer issued.ana.1" {
			t.Errorf("the API server got %q", got)
		}
	}
	if asked := w.Asked(); len(asked) != 1 || asked[0].Get("scope") != "read-only" {
		t.Errorf("asked: %d", len(asked))
	}
}

// Promise: a certificate is written into the kubeconfig, and a key never.
func TestExchangeKubeconfigCA(t *testing.T) {
	t.Parallel()
	w := newExchangeWorld(t)
	pair, err := w.ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "both.pem", string(pair.Cert)+string(pair.Key))
	args := w.args("-o kubeconfig --cluster-server https://g --cluster-certificate-authority ")
	if code, stdout, stderr := once(t, nil, append(args[:len(args)-1], "--cluster-certificate-authority", w.path("ca.crt"))...); code != exitOK || !strings.Contains(stdout, base64.StdEncoding.EncodeToString(w.ca.PEM())) {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := once(t, nil, append(args[:len(args)-1], "--cluster-certificate-authority", w.path("both.pem"))...); code != exitFault || stdout != "" || !strings.Contains(stderr, "something else than certificates") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}
