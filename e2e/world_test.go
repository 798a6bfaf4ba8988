package e2e_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/cluster"
	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
	"github.com/kube-gatehouse/gatehouse/e2e/stage/stagetest"
)

// reloadLimit is the promise about files: a change counts within 10 s.
const reloadLimit = 10 * time.Second

// world is the one real cluster that the tests share. Each test starts
// gatehouses of its own.
type world struct {
	*stage.Stage
	people *authtest.CA // of client certificates, which the API server trusts too
}

// TestMainPath is the main job, on real parts: real kubectl, through the real
// gatehouse, to a real API server. Its parts are in the files beside this one.
func TestMainPath(t *testing.T) {
	people, err := authtest.NewCA("people")
	if err != nil {
		t.Fatal(err)
	}
	s, err := stage.Start(t.Context(), stage.Config{
		Dir: t.TempDir(), Progress: t.Output(), Build: build.Options{Race: stagetest.CanRace(t)},
		Cluster: cluster.Config{ClientCAs: people.PEM()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	w := world{s, people}
	t.Run("side by side", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T){
			"rights":                       w.testRights,
			"identity":                     w.testIdentity,
			"certified issuer":             w.testCertifiedIssuer,
			"certified issuer in Go":       w.testCertifiedGoIssuer,
			"another cluster":              w.testAnotherCluster,
			"client certificate":           w.testClientCertificate,
			"authentication configuration": w.testAuthenticationConfiguration,
			"ServiceAccount token":         w.testServiceAccountToken,
			"ServiceAccount stream":        w.testServiceAccountStream,
			"revocation":                   w.testRevocation,
			"refusals":                     w.testRefusals,
			"kubectl refusals":             w.testKubectlRefusals,
			"sudo":                         w.testSudo,
			"act as side by side":          w.testActAsDifferential,
			"impersonation":                w.testImpersonation,
			"own rights":                   w.testOwnRights,
			"others' rights":               w.testOthersRights,
			"client address":               w.testClientAddress,
			"load balancer":                w.testLoadBalancer,
			"audit":                        w.testAudit,
			"audited refusals":             w.testAuditedRefusals,
			"reserved names":               w.testReserved,
			"shipped rights":               w.testShippedRights,
			"printed rights":               w.testPrintedRights,
			"legacy rights":                w.testLegacyRights,
			"read-only rights":             w.testReadOnly,
			"missing rights":               w.testMissingRights,
			"watch":                        w.testWatch,
			"drain":                        w.testDrain,
			"certificate":                  w.testCertificateReload,
			"token file":                   w.testTokenFileReload,
			"bad token file":               w.testBadTokenFile,
			"issuer down":                  w.testIssuerDown,
			"ops port":                     w.testOpsPort,
			"log":                          w.testLog,
			"settings":                     w.testSettings,
			"check --connect":              w.testCheckConnect,
			"kubeconfig":                   w.testKubeconfig,
			"explain":                      w.testExplain,
			"deploy":                       w.testDeploy,
			"break glass":                  w.testBreakGlass,
			"scope":                        w.testCanI,
			"known resources":              w.testKnownResources,
			"exchange for an account":      w.testExchangeForAccount,
			"exchange of a workload":       w.testExchangeOfWorkload,
			"exchange again":               w.testExchangeAgain,
			"lent session":                 w.testLentSession,
			"session as":                   w.testSessionAs,
			"session ends":                 w.testSessionEnds,
			"acting agent":                 w.testActor,
			"exchange plugin":              w.testExchangePlugin,
			"openid-client":                w.testOpenIDClient,
			"lent by the page":             w.testLentByThePage,
			"session keys":                 w.testSessionKeys,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t)
			})
		}
	})
	// These change the cluster for everybody.
	t.Run("own token", w.testOwnToken)
	t.Run("API server down", w.testAPIServerDown)
}

// gate is one gatehouse and what a test asks it with.
type gate struct {
	*gatehouse.Instance
	world  world
	client *http.Client
}

// start starts a gatehouse with the stage's environment and what env adds; an
// empty value takes a variable away. It is stopped at the end of the test, and
// must not have met a data race or panicked.
func (w world) start(t *testing.T, env map[string]string) gate {
	t.Helper()
	return w.startWith(t, gatehouse.Config{}, env)
}

func (w world) startWith(t *testing.T, cfg gatehouse.Config, env map[string]string) gate {
	t.Helper()
	all := w.Env()
	for name, value := range env {
		all[name] = value
		if value == "" {
			delete(all, name)
		}
	}
	i, err := w.Gatehouse(context.WithoutCancel(t.Context()), cfg, all)
	if err != nil {
		t.Fatal(err)
	}
	g := gate{Instance: i, world: w, client: i.Client()}
	stagetest.StopAtEnd(t, i, nil)
	t.Cleanup(g.client.CloseIdleConnections) // before it
	return g
}

// tokens writes a token file for one test, with the given rows.
func (w world) tokens(t *testing.T, rows ...string) *stage.Tokens {
	t.Helper()
	tokens, err := stage.NewTokens(t.TempDir(), rows...)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// kubectl returns a kubectl that goes through g with a token, its discovery
// cache cold.
func (g gate) kubectl(t *testing.T, token string) *kubectl.Kubectl {
	t.Helper()
	path, err := g.Kubeconfig("person-"+rand.Text(), token)
	if err != nil {
		t.Fatal(err)
	}
	k, err := g.world.Kubectl(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// answer is what gatehouse answered: its header, and its whole body.
type answer struct {
	*http.Response
	body string
}

// ask sends a request with these headers, each "Name: value", and reads the
// whole answer.
func (g gate) ask(ctx context.Context, method, path, body string, headers ...string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, g.URL()+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp, string(b)}, err
}

// get asks for a path with a bearer token, and fails the test if there is no
// answer.
func (g gate) get(t *testing.T, path, token string) answer {
	t.Helper()
	a, err := g.ask(t.Context(), http.MethodGet, path, "", bearer(token))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func bearer(token string) string { return "Authorization: Bearer " + token }

// whoAmI asks the API server, through g, who it takes the caller for.
func (g gate) whoAmI(t *testing.T, token string) (authenticationv1.UserInfo, answer) {
	t.Helper()
	const review = `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`
	a, err := g.ask(t.Context(), http.MethodPost, "/apis/authentication.k8s.io/v1/selfsubjectreviews", review, bearer(token))
	if err != nil {
		t.Fatal(err)
	}
	if a.StatusCode != http.StatusCreated {
		t.Fatalf("who am I: got %s: %s", a.Status, a.body)
	}
	var answered authenticationv1.SelfSubjectReview
	if err := json.Unmarshal([]byte(a.body), &answered); err != nil {
		t.Fatal(err)
	}
	return answered.Status.UserInfo, a
}

// auditEvent waits for what the API server recorded about the request with this
// audit id.
func (w world) auditEvent(t *testing.T, id string) auditv1.Event {
	t.Helper()
	var found auditv1.Event
	eventually(t, reloadLimit, func() error {
		events, err := w.Cluster.AuditEvents()
		if err != nil {
			return err
		}
		for _, e := range events {
			if string(e.AuditID) == id && e.Stage == auditv1.StageResponseComplete {
				found = e
				return nil
			}
		}
		return fmt.Errorf("no event %q among %d", id, len(events))
	})
	return found
}

// reached reports whether the API server recorded a request with this audit id.
func (w world) reached(t *testing.T, id string) bool {
	t.Helper()
	events, err := w.Cluster.AuditEvents()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if string(e.AuditID) == id {
			return true
		}
	}
	return false
}

// eventually calls check until it returns nil, and fails the test with its last
// error after limit.
func eventually(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %v", limit, err)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(errors.Join(t.Context().Err(), err))
		}
	}
}
