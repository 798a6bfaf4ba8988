package release_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	rspec "github.com/opencontainers/runtime-spec/specs-go"
	"sigs.k8s.io/yaml"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

const (
	// account is where a pod's own credential is, and where files says where ours are.
	account = "/var/run/secrets/kubernetes.io/serviceaccount"
	files   = "/etc/gatehouse"
	// nobody is whom the image runs as.
	nobody = 65532
)

// Promise: what is in the image serves a real request to a real API server, in a
// container as a pod's: as user 65532 without any capability, on a root that is
// read-only, of which it changes nothing, with no file open to write; and it ends
// by SIGTERM with code 0. A CEL expression may name a time zone, which it can only
// know from the image.
func testServes(ctx context.Context, t *testing.T, image ispec.Image, rootfs string) {
	s, err := stage.Start(ctx, stage.Config{Dir: t.TempDir(), Progress: t.Output(), Build: build.Options{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	before := tree(t, rootfs)
	c := &container{bundle: filepath.Dir(rootfs), state: t.TempDir(), runc: tool(t, "runc")}
	ca := c.start(ctx, t, s, image)

	path := filepath.Join(t.TempDir(), "kubeconfig")
	alice := kubeconfig.User{Name: "alice", Token: s.Issuer.Token(stage.Person("alice", "developers"))}
	if err := (kubeconfig.File{Cluster: "gatehouse", Server: "https://" + c.address, CAFile: ca, Users: []kubeconfig.User{alice}}).Write(path); err != nil {
		t.Fatal(err)
	}
	kubectl, err := s.Kubectl(path)
	if err != nil {
		t.Fatal(err)
	}
	whoami, err := kubectl.Must(ctx, "", "auth", "whoami", "-o", "jsonpath={.status.userInfo.username} {.status.userInfo.groups}")
	if want := `alice@example.com ["oidc:developers","system:authenticated"]`; err != nil || whoami != want {
		t.Errorf("whoami: %v, %q, want %q", err, whoami, want)
	}
	if _, err := kubectl.Must(ctx, "", "get", "deployment", "hello", "-n", "dev"); err != nil {
		t.Error(err)
	}
	c.testConfined(ctx, t)
	if code := c.process.Stop(); code != 0 {
		t.Errorf("it ended with code %d", code)
	}
	if t.Failed() {
		t.Log(strings.Join(c.output.All(), "\n"))
	}
	if diff := cmp.Diff(before, tree(t, rootfs)); diff != "" {
		t.Errorf("the root's files (-before +after):\n%s", diff)
	}
}

// container is one that the real runc runs.
type container struct {
	bundle, state, runc string
	address             string // of the proxy
	process             *proc.Process
	output              proc.Lines
}

// name is the container's; its state is in a folder of the test's own.
const name = "gatehouse"

// start runs the image as a pod's container is run, and returns its CA when it is
// ready. The network is this machine's.
func (c *container) start(ctx context.Context, t *testing.T, s *stage.Stage, image ispec.Image) (ca string) {
	t.Helper()
	mounted, ca := c.files(ctx, t, s)
	ports, err := proc.Ports(2)
	if err != nil {
		t.Fatal(err)
	}
	c.address = proc.Loopback(ports[0])
	host, port := c.apiServer(ctx, t, s)
	env := append(slices.Clone(image.Config.Env),
		"KUBERNETES_SERVICE_HOST="+host, "KUBERNETES_SERVICE_PORT="+port,
		"GATEHOUSE_LISTEN_ADDRESS="+c.address, "GATEHOUSE_OPS_ADDRESS="+proc.Loopback(ports[1]),
		"GATEHOUSE_TLS_CERT_FILE="+files+"/tls.crt", "GATEHOUSE_TLS_KEY_FILE="+files+"/tls.key",
		"GATEHOUSE_AUTHENTICATION_CONFIG="+files+"/authentication.yaml", "GATEHOUSE_SHUTDOWN_DELAY=0s",
	)
	spec, err := json.Marshal(confined(image, env, map[string]string{account: mounted[0], files: mounted[1]}))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.bundle, "config.json"), spec, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // what a killed runc would leave
		run(context.WithoutCancel(ctx), t, "", c.runc, "--root", c.state, "delete", "--force", name)
	})
	c.process, err = proc.Start(ctx, proc.Config{
		Path: c.runc, Args: []string{"--root", c.state, "run", "--bundle", c.bundle, name},
		Env: []string{"PATH=" + os.Getenv("PATH")}, Stdout: &c.output, Stderr: &c.output,
	})
	if err != nil {
		t.Fatal(err)
	}
	awaiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := c.process.Await(awaiting, func(ctx context.Context) error { return ready(ctx, ports[1]) }); err != nil {
		t.Fatalf("%v; it printed:\n%s", err, strings.Join(c.output.All(), "\n"))
	}
	return ca
}

// ready fails unless the readiness probe of a pod would succeed.
func ready(ctx context.Context, port int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+proc.Loopback(port)+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", resp.Status)
	}
	return nil
}

// confined is what a pod that is `restricted`, with a read-only root, becomes.
func confined(image ispec.Image, env []string, mounted map[string]string) *rspec.Spec {
	var uid, gid uint32
	_, _ = fmt.Sscanf(image.Config.User, "%d:%d", &uid, &gid) // testConfined sees who it is
	spec := &rspec.Spec{
		Version: "1.0.2",
		Process: &rspec.Process{
			User: rspec.User{UID: uid, GID: gid}, Args: append(slices.Clone(image.Config.Entrypoint), image.Config.Cmd...),
			Env: env, Cwd: "/", NoNewPrivileges: true, Capabilities: &rspec.LinuxCapabilities{},
		},
		Root: &rspec.Root{Path: "rootfs", Readonly: true},
		Mounts: []rspec.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "mode=755", "ro"}},
		},
		Linux: &rspec.Linux{Namespaces: []rspec.LinuxNamespace{
			{Type: rspec.PIDNamespace}, {Type: rspec.MountNamespace}, {Type: rspec.IPCNamespace}, {Type: rspec.UTSNamespace},
		}},
	}
	for destination, source := range mounted {
		spec.Mounts = append(spec.Mounts, rspec.Mount{Destination: destination, Type: "bind", Source: source, Options: []string{"bind", "ro", "nosuid", "nodev"}})
	}
	return spec
}

// files writes a pod's credential and what gatehouse is given, in two folders, for
// nobody to read, and returns the CA of its certificate.
func (c *container) files(ctx context.Context, t *testing.T, s *stage.Stage) (dirs [2]string, ca string) {
	t.Helper()
	token, err := s.Cluster.Admin().Must(ctx, "", "create", "token", stage.AccountName, "-n", stage.AccountNamespace)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := s.Cluster.Admin().Must(ctx, "", "get", "configmap", "kube-root-ca.crt", "-n", stage.AccountNamespace, "-o", `jsonpath={.data.ca\.crt}`)
	if err != nil {
		t.Fatal(err)
	}
	own, err := pki.NewAuthority(t.TempDir(), "gatehouse-ca")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := own.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for i, content := range []map[string][]byte{
		{"token": []byte(strings.TrimSpace(token)), "ca.crt": []byte(authority)},
		{"tls.crt": pair.Cert, "tls.key": pair.Key, "authentication.yaml": authentication(t, s)},
	} {
		dirs[i] = t.TempDir()
		if err := os.Chmod(dirs[i], 0o755); err != nil {
			t.Fatal(err)
		}
		for file, b := range content {
			path := filepath.Join(dirs[i], file)
			if err := os.WriteFile(path, b, 0o400); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(path, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dirs, own.CAFile
}

// authentication is the file for the stage's issuer, with a rule that needs to know
// a time zone: in Berlin it is one o'clock in winter when it is midnight in UTC.
func authentication(t *testing.T, s *stage.Stage) []byte {
	t.Helper()
	type m = map[string]any
	config, err := yaml.Marshal(m{
		"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
		"jwt": []m{{
			"issuer": m{
				"url": s.Issuer.URL, "audiences": []string{authtest.Audience},
				"certificateAuthority": string(read(t, s.Env()["GATEHOUSE_OIDC_CA_FILE"])),
			},
			"claimValidationRules": []m{{
				"expression": "timestamp('2026-01-01T00:00:00Z').getHours('Europe/Berlin') == 1", "message": "no time zones",
			}},
			"claimMappings": m{"username": m{"claim": "email", "prefix": ""}, "groups": m{"claim": "groups", "prefix": "oidc:"}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// apiServer is where a pod is told that the API server is.
func (c *container) apiServer(ctx context.Context, t *testing.T, s *stage.Stage) (host, port string) {
	t.Helper()
	url, err := s.Cluster.Admin().Must(ctx, "", "config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
	if err != nil {
		t.Fatal(err)
	}
	host, port, found := strings.Cut(strings.TrimPrefix(strings.TrimSpace(url), "https://"), ":")
	if !found {
		t.Fatalf("the API server is at %q", url)
	}
	return host, port
}

// testConfined asks the kernel how the process in the container runs.
func (c *container) testConfined(ctx context.Context, t *testing.T) {
	t.Helper()
	var state struct{ Pid int }
	if err := json.Unmarshal([]byte(run(ctx, t, "", c.runc, "--root", c.state, "state", name)), &state); err != nil {
		t.Fatal(err)
	}
	process := filepath.Join("/proc", strconv.Itoa(state.Pid))
	status := string(read(t, filepath.Join(process, "status")))
	four := strings.Repeat("\t"+strconv.Itoa(nobody), 4) + "\n"
	for _, line := range []string{"Uid:" + four, "Gid:" + four, "CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n", "NoNewPrivs:\t1\n"} {
		if !strings.Contains(status, line) {
			t.Errorf("want %q of the process, got:\n%s", line, status)
		}
	}
	for line := range strings.Lines(string(read(t, filepath.Join(process, "mountinfo")))) {
		if fields := strings.Fields(line); fields[4] != "/proc" && !slices.Contains(strings.Split(fields[5], ","), "ro") {
			t.Errorf("it could write to %s: %s", fields[4], line)
		}
	}
	open, err := os.ReadDir(filepath.Join(process, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		target, err := os.Readlink(filepath.Join(process, "fd", fd.Name()))
		if err == nil && strings.HasPrefix(target, "/") && target != os.DevNull {
			t.Errorf("it holds %s open", target) // files are read and closed again
		}
	}
}
