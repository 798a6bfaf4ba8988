package main

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
	api "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// golden compares got with a file below testdata, which -update writes.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(read(t, path), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// oneIssuer are settings with one issuer, whose claims need scopes.
var oneIssuer = []string{
	"GATEHOUSE_OIDC_ISSUER_URL=https://login.example.com", "GATEHOUSE_OIDC_CLIENT_ID=kubernetes",
	"GATEHOUSE_OIDC_USERNAME_CLAIM=email", "GATEHOUSE_OIDC_GROUPS_CLAIM=groups",
}

const atGatehouse = "kubeconfig --server https://gatehouse.example.com "

// Promise: for the same settings and flags, the kubeconfig is the same to the
// byte, and it is what stands in testdata.
func TestKubeconfigText(t *testing.T) {
	for name, test := range map[string]struct {
		environ []string
		args    string
	}{
		"settings": {oneIssuer, atGatehouse},
		"flags": {nil, "kubeconfig --server https://gatehouse.example.com:8443/prod --name prod --namespace dev " +
			"--oidc-issuer-url https://login.example.com --oidc-client-id kubernetes --oidc-extra-scope groups --oidc-extra-scope offline_access --exec-arg --grant-type=device-code"},
		"exec":        {oneIssuer, atGatehouse + "--exec aws-sso-token --exec-arg prod --exec-arg true --install-hint ask-ops --provide-cluster-info"},
		"token-file":  {oneIssuer, atGatehouse + "--token-file ./token"},
		"certificate": {nil, atGatehouse + "--client-certificate me.crt --client-key me.key"},
	} {
		code, stdout, stderr := once(t, test.environ, strings.Fields(test.args)...)
		if code != exitOK || stderr != "" {
			t.Fatalf("%s: exit code %d: %s", name, code, stderr)
		}
		golden(t, "kubeconfig/"+name+".yaml", stdout)
	}
}

// Promise: client-go reads every field that a flag sets, as it was meant, also if
// it is a word that YAML would read as something else.
func TestKubeconfigIsRead(t *testing.T) {
	w := newWorld(t)
	ca := w.write(t, "ca.pem", string(w.ca.PEM()))
	other, err := authtest.NewCA("issuer")
	if err != nil {
		t.Fatal(err)
	}
	issuerCA := w.write(t, "issuer.pem", string(other.PEM()))
	encoded := base64.StdEncoding.EncodeToString(other.PEM())
	plugin := func(args ...string) *api.AuthInfo {
		return &api.AuthInfo{Exec: &api.ExecConfig{
			APIVersion: "client.authentication.k8s.io/v1", Command: kubeloginCommand, Args: append([]string{"get-token"}, args...),
			InteractiveMode: api.IfAvailableExecInteractiveMode, InstallHint: kubeloginHint,
		}}
	}
	for name, test := range map[string]struct {
		environ   []string
		args      []string
		user      *api.AuthInfo
		namespace string
	}{
		"issuer's CA of the settings": {
			append([]string{"GATEHOUSE_OIDC_CA_FILE=" + issuerCA}, oneIssuer...), nil,
			plugin("--oidc-issuer-url=https://login.example.com", "--oidc-client-id=kubernetes", "--oidc-extra-scope=email", "--certificate-authority-data="+encoded), "",
		},
		"issuer's CA of the flag, and a namespace": {
			nil, []string{"--oidc-issuer-url=https://i", "--oidc-client-id=no", "--oidc-ca-file", issuerCA, "--namespace", "on", "--exec-arg=~"},
			plugin("--oidc-issuer-url=https://i", "--oidc-client-id=no", "--certificate-authority-data="+encoded, "~"), "on",
		},
		"client id of the flag": {
			oneIssuer, []string{"--oidc-client-id=cli"}, plugin("--oidc-issuer-url=https://login.example.com", "--oidc-client-id=cli", "--oidc-extra-scope=email"), "",
		},
		"another plugin": {
			nil, []string{"--exec", "true", "--exec-arg", "# a", "--exec-arg", "'\"\\", "--install-hint", "é: ask", "--provide-cluster-info"},
			&api.AuthInfo{Exec: &api.ExecConfig{
				APIVersion: "client.authentication.k8s.io/v1", Command: "true", Args: []string{"# a", "'\"\\"},
				InteractiveMode: api.IfAvailableExecInteractiveMode, InstallHint: "é: ask", ProvideClusterInfo: true,
			}}, "",
		},
		"token file":         {nil, []string{"--token-file", "C:\\token"}, &api.AuthInfo{TokenFile: "C:\\token"}, ""},
		"client certificate": {nil, []string{"--client-certificate", "a b", "--client-key", "null"}, &api.AuthInfo{ClientCertificate: "a b", ClientKey: "null"}, ""},
	} {
		code, stdout, stderr := once(t, test.environ, append([]string{"kubeconfig", "--server", "https://10.0.0.1", "--ca-file", ca, "--name", "0x10"}, test.args...)...)
		if code != exitOK {
			t.Errorf("%s: exit code %d: %s", name, code, stderr)
			continue
		}
		got, err := clientcmd.Load([]byte(stdout))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := api.NewConfig()
		want.CurrentContext = "0x10"
		want.Clusters["0x10"] = &api.Cluster{Server: "https://10.0.0.1", CertificateAuthorityData: w.ca.PEM()}
		want.AuthInfos["0x10"] = test.user
		want.Contexts["0x10"] = &api.Context{Cluster: "0x10", AuthInfo: "0x10", Namespace: test.namespace}
		if diff := cmp.Diff(want, got, cmp.FilterPath(func(p cmp.Path) bool {
			return p.Last().String() == ".Extensions" || p.Last().String() == ".StdinUnavailable"
		}, cmp.Ignore()),
			cmp.FilterPath(func(p cmp.Path) bool { return strings.HasPrefix(p.Last().String(), ".Impersonate") }, cmp.Ignore())); diff != "" {
			t.Errorf("%s (-want +got):\n%s\n%s", name, diff, stdout)
		}
	}
}

// Promise: with an AuthenticationConfiguration the issuer is the one that was
// chosen, with its audience, CA and scopes.
func TestKubeconfigOfSeveralIssuers(t *testing.T) {
	w := newWorld(t)
	config := w.write(t, "authentication.yaml", `apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
  - issuer: {url: "https://people", audiences: [cli]}
    claimMappings: {username: {claim: preferred_username, prefix: ""}}
  - issuer: {url: "https://robots", audiences: [a, b], audienceMatchPolicy: MatchAny}
    claimMappings: {username: {expression: claims.sub}}
`)
	for args, want := range map[string]string{
		"--oidc-issuer-url https://people":                    "\"--oidc-issuer-url=https://people\"\n          - \"--oidc-client-id=cli\"\n          - \"--oidc-extra-scope=profile\"\n        interactive",
		"--oidc-issuer-url https://robots --oidc-client-id b": "\"--oidc-issuer-url=https://robots\"\n          - \"--oidc-client-id=b\"\n        interactive",
	} {
		code, stdout, stderr := once(t, []string{"GATEHOUSE_AUTHENTICATION_CONFIG=" + config}, strings.Fields(atGatehouse+args)...)
		if code != exitOK || !strings.Contains(stdout, want) {
			t.Errorf("%s: exit code %d, want %q: %s%s", args, code, want, stdout, stderr)
		}
	}
	for args, want := range map[string]string{
		"":                                 "choose one by --oidc-issuer-url: https://people, https://robots",
		"--oidc-issuer-url https://robots": "choose the client id by --oidc-client-id: a, b",
		"--oidc-issuer-url https://others": "the settings do not name the issuer https://others: give --oidc-client-id too",
	} {
		code, stdout, stderr := once(t, []string{"GATEHOUSE_AUTHENTICATION_CONFIG=" + config}, strings.Fields(atGatehouse+args)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, want 2 and %q: %s%s", args, code, want, stdout, stderr)
		}
	}
}

// Promise: no secret is printed, in a kubeconfig or in an error.
func TestKubeconfigHoldsNoSecret(t *testing.T) {
	w := newWorld(t)
	pair, err := w.ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	both := w.write(t, "both.pem", string(pair.Cert)+string(pair.Key))
	none := w.write(t, "none.pem", "s3cret")
	for _, test := range []struct{ args, want string }{
		{"--exec-arg --oidc-client-secret=s3cret", "holds a secret"},
		{"--exec-arg --password --exec-arg s3cret", "holds a secret"},
		{"--exec plugin --exec-arg -token=s3cret", "holds a secret"},
		{"--exec plugin --exec-arg eyJhbGciOiJSUzI1NiJ9.s3cret", "is a secret"},
		{"--token-file eyJhbGciOiJSUzI1NiJ9.s3cret", "is a secret"},
		{"--token=s3cret", "unknown flag: --token"},
		{"s3cret", "takes flags alone"},
		{"--server https://me:s3cret@gatehouse.example.com", "leave out user name"},
		{"--server https://gatehouse.example.com/?token=s3cret", "leave out user name, query"},
		{"--ca-file " + both, "holds something else than certificates"},
		{"--oidc-ca-file " + both, "holds something else than certificates"},
		{"--ca-file " + none, "holds no certificate"},
	} {
		code, stdout, stderr := once(t, oneIssuer, strings.Fields(atGatehouse+test.args)...)
		if code == exitOK || stdout != "" || !strings.Contains(stderr, test.want) || strings.Contains(stderr, "s3cret") || strings.Contains(stderr, "KEY") {
			t.Errorf("%s: exit code %d, want an error with %q: %s%s", test.args, code, test.want, stdout, stderr)
		}
	}
	if code, _, stderr := once(t, oneIssuer, strings.Fields(atGatehouse+"--exec-arg --oidc-use-access-token --exec-arg --token-cache-storage=keyring")...); code != exitOK {
		t.Errorf("flags that hold no secret are refused: %s", stderr)
	}
}

// A command line that makes no sense is told so, and prints nothing.
func TestKubeconfigUsage(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"kubeconfig", "--server is required"},
		{"kubeconfig --server http://gatehouse", "not a URL like https://"},
		{"kubeconfig --server gatehouse:8443", "not a URL like https://"},
		{atGatehouse, "the settings name no issuer"},
		{atGatehouse + "--token-file t --exec e", "choose one credential"},
		{atGatehouse + "--oidc-extra-scope groups --exec e", "choose one credential"},
		{atGatehouse + "--client-certificate c", "belong together"},
		{atGatehouse + "--install-hint h", "belong to --exec"},
		{atGatehouse + "--provide-cluster-info", "belong to --exec"},
		{atGatehouse + "--token-file t --exec-arg a", "belongs to a plugin"},
		{atGatehouse + "--name a\x01b --token-file t", "control characters"},
	} {
		code, stdout, stderr := once(t, nil, strings.Fields(test.args)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: exit code %d, want 2 and %q: %s%s", test.args, code, test.want, stdout, stderr)
		}
	}
	code, _, stderr := once(t, []string{"GATEHOUSE_OIDC_ISSUER_URL=https://login.example.com", "GATEHOUSE_AUTHENTICATION_CONFIG=/nonexistent"}, strings.Fields(atGatehouse)...)
	if code != exitFault || !strings.Contains(stderr, "GATEHOUSE_OIDC_CLIENT_ID: is required") {
		t.Errorf("with faulty settings: exit code %d: %s", code, stderr)
	}
}
