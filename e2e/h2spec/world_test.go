package h2spec_test

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/spec"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/rawbytes"
	"github.com/kube-gatehouse/gatehouse/e2e/stage/stagetest"
)

const (
	// caller is whom every connection has a client certificate of: h2spec sends no
	// token, and a refusal would end each connection before h2spec has seen enough.
	caller = "h2spec"
	// ownToken is gatehouse's own credential for the API server.
	ownToken = "canary-h2spec-own-4e1b7a90c2d8f365"
	// path is what h2spec asks for, with the case in the query. The fake API server
	// answers with a body.
	path, query = "/api/v1/namespaces/dev/configmaps", "?case="
)

// world is a gatehouse before a fake API server.
type world struct {
	api  *rawbytes.Upstream
	base config.Config // of h2spec
}

// start starts both. At the end it judges what reached the API server.
func start(t *testing.T) *world {
	t.Helper()
	api, ownConfig := startAPIServer(t)
	t.Cleanup(func() { judge(t, api.Since(0)) }) // when gatehouse has stopped
	people, err := pki.NewAuthority(filepath.Join(t.TempDir(), "people"), "people-ca")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := people.User(caller, caller)
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "gatehouse")
	if err := build.Gatehouse(t.Context(), binary, build.Options{Race: stagetest.CanRace(t)}); err != nil {
		t.Fatal(err)
	}
	g, err := gatehouse.Start(context.WithoutCancel(t.Context()), gatehouse.Config{Binary: binary, Dir: t.TempDir(), Env: map[string]string{
		"GATEHOUSE_KUBECONFIG": ownConfig, "GATEHOUSE_CLIENT_CA_FILE": people.CAFile,
		"GATEHOUSE_LOG_LEVEL": "warn", "GATEHOUSE_SHUTDOWN_DELAY": "0s",
	}})
	if err != nil {
		t.Fatal(err)
	}
	stagetest.StopAtEnd(t, g, nil)
	host, text, err := net.SplitHostPort(strings.TrimPrefix(g.URL(), "https://"))
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return &world{api, config.Config{
		Host: host, Port: port, Timeout: patience, MaxHeaderLen: 4000, Strict: true,
		TLS: true, Insecure: true, CertFile: pair.CertFile, CertKeyFile: pair.KeyFile,
	}}
}

// startAPIServer starts the fake, which asks for gatehouse's own token, and returns
// with it the kubeconfig that has it.
func startAPIServer(t *testing.T) (api *rawbytes.Upstream, config string) {
	t.Helper()
	keys, err := rawbytes.NewPKI()
	if err != nil {
		t.Fatal(err)
	}
	if api, err = rawbytes.StartUpstream(keys, true, ownToken); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	dir := t.TempDir()
	authority, config := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "kubeconfig")
	if err := pki.WriteFile(authority, keys.CAPEM); err != nil {
		t.Fatal(err)
	}
	file := kubeconfig.File{
		Cluster: "fake", Server: "https://" + api.Addr, CAFile: authority,
		Users: []kubeconfig.User{{Name: "gatehouse", Token: ownToken}},
	}
	if err := file.Write(config); err != nil {
		t.Fatal(err)
	}
	return api, config
}

// config returns what the case of that name is told.
func (w *world) config(t *testing.T, name string) *config.Config {
	t.Helper()
	c := w.base
	c.Path = path + query + name
	if name == largeHeader {
		// It has five fields of that length, of which Huffman's code leaves seven
		// eighths, and looks for no limit of the server's itself.
		c.MaxHeaderLen = w.maxFrameSize(t) / 4
	}
	return &c
}

// maxFrameSize is what gatehouse says of frames that it takes.
func (w *world) maxFrameSize(t *testing.T) int {
	t.Helper()
	conn, err := spec.Dial(&w.base)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	return conn.MaxFrameSize()
}

// arrived reports whether a request of the case reached the API server.
func (w *world) arrived(name string) bool {
	return slices.ContainsFunc(w.api.Since(0), func(r rawbytes.Record) bool { return r.Target == path+query+name })
}

// judge fails the test for a request that the API server should not have got: of
// another than the caller, or one that was malformed.
func judge(t *testing.T, records []rawbytes.Record) {
	t.Helper()
	for _, r := range records {
		id, bad := rawbytes.Impersonated(r.Fields)
		if bad || id == nil || id.User != caller {
			t.Errorf("%s %s ran as %+v, want %s", r.Method, r.Target, id, caller)
		}
		name, ours := strings.CutPrefix(r.Target, path+query)
		if !ours || malformed(name) {
			t.Errorf("%s %s reached the API server", r.Method, r.Target)
		}
		for _, fault := range r.Faults {
			t.Errorf("%s %s: %s", r.Method, r.Target, fault)
		}
	}
}
