package kubeconfig_test

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
)

// TestWrite: client-go reads what is written, with every kind of credential,
// and nobody else may read the file.
func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	f := kubeconfig.File{Cluster: "c", Server: "https://127.0.0.1:1", CAFile: "/ca.crt", Users: []kubeconfig.User{
		{Name: "alice", Namespace: "dev", Token: "t"},
		{Name: "account", TokenFile: "/token"},
		{Name: "admin", CertFile: "/crt", KeyFile: "/key"},
		{Name: "nobody"},
	}}
	if err := f.Write(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode: got %v", info.Mode())
	}
	got, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.CurrentContext != "alice" || got.Contexts["alice"].Namespace != "dev" || got.AuthInfos["alice"].Token != "t" ||
		got.AuthInfos["account"].TokenFile != "/token" || got.AuthInfos["admin"].ClientCertificate != "/crt" ||
		got.AuthInfos["admin"].ClientKey != "/key" || got.AuthInfos["nobody"].Token != "" {
		t.Errorf("users: got %+v", got.AuthInfos)
	}
	if c := got.Clusters["c"]; c.Server != f.Server || c.CertificateAuthority != f.CAFile || len(got.Contexts) != 4 {
		t.Errorf("cluster: got %+v with contexts %v", c, got.Contexts)
	}
}
