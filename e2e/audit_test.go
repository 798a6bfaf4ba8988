package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/kube-gatehouse/gatehouse/e2e/cluster"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// auditRow is a request that is made twice: directly, and through gatehouse.
type auditRow struct {
	who, method, path, body string
	headers                 http.Header
	// uri is what gatehouse records of the path, if that is less.
	uri string
}

const configMap = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"audited"}}`

func auditRows() []auditRow {
	const dev = "/api/v1/namespaces/dev/"
	as := http.Header{"Impersonate-User": {"devops-admin"}}
	upgrade := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"MDEyMzQ1Njc4OWFiY2RlZg=="}}
	var rows []auditRow
	for _, who := range []string{"oidc:developers", "audit-rules", "quiet-user"} {
		for _, row := range []auditRow{
			{method: "GET", path: dev + "pods?labelSelector=a%3Db&limit=500"},
			{method: "GET", path: dev + "configmaps?fieldSelector=metadata.name%3Dquiet"},
			{method: "GET", path: dev + "configmaps?fieldSelector=metadata.name%3Dloud"},
			{method: "GET", path: dev + "configmaps/quiet"},
			{method: "GET", path: dev + "configmaps/loud?pretty=true"},
			{method: "GET", path: "/api/v1/namespaces/kube-system/secrets"},
			{method: "POST", path: dev + "configmaps?dryRun=All&fieldManager=audit", body: configMap},
			{method: "PATCH", path: dev + "configmaps/loud?dryRun=All", body: "{}", headers: http.Header{"Content-Type": {"application/merge-patch+json"}}},
			{method: "DELETE", path: dev + "configmaps/loud"},
			{method: "DELETE", path: dev + "configmaps?labelSelector=nobody%3Dhas&dryRun=All"},
			{method: "GET", path: dev + "configmaps?watch=true&timeoutSeconds=1"},
			{method: "GET", path: "/apis/apps/v1/watch/namespaces/dev/deployments?timeoutSeconds=1"},
			{method: "GET", path: "/apis/apps/v1/namespaces/dev/deployments/hello/scale"},
			{method: "GET", path: dev + "pods/none/log?container=c"},
			{method: "GET", path: dev + "pods/none/exec?command=canary&container=c", headers: upgrade, uri: dev + "pods/none/exec?container=c"},
			{method: "GET", path: dev + "pods/none/portforward", headers: upgrade},
			{method: "GET", path: "/version"},
			{method: "GET", path: "/healthz/ping?verbose"},
			{method: "GET", path: "/no/such/path?unknown=canary", uri: "/no/such/path"},
			{method: "GET", path: dev + "pods", headers: as},
		} {
			row.who = who
			rows = append(rows, row)
		}
	}
	return append(rows, auditRow{who: "oidc:viewers", method: "GET", path: dev + "pods", headers: as})
}

// testAudit: of the same request by the same person, under the same policy,
// gatehouse records what kube-apiserver records.
func (w world) testAudit(t *testing.T) {
	log := filepath.Join(t.TempDir(), "audit.log")
	g := w.start(t, map[string]string{
		"GATEHOUSE_CLIENT_CA_FILE":    put(t, filepath.Join(t.TempDir(), "people.crt"), w.people.PEM()),
		"GATEHOUSE_AUDIT_POLICY_FILE": w.Cluster.AuditPolicyFile(), "GATEHOUSE_AUDIT_LOG_PATH": log,
	})
	direct, through := map[string]door{}, map[string]door{}
	type asked struct {
		auditRow
		direct, through string // audit ids
	}
	var all []asked
	for _, row := range append(auditRows(), auditRow{who: "oidc:developers", method: "GET", path: "/version?verbose"}) {
		if _, known := direct[row.who]; !known {
			pair, err := w.people.Client(row.who, row.who, "oidc:developers")
			if err != nil {
				t.Fatal(err)
			}
			certificate, err := pair.TLS()
			if err != nil {
				t.Fatal(err)
			}
			direct[row.who], through[row.who] = newDoor(t, w.Cluster.URL(), w.Cluster.CAFile(), certificate), newDoor(t, g.URL(), g.CAFile(), certificate)
		}
		all = append(all, asked{row, direct[row.who].record(t, row), through[row.who].record(t, row)})
	}
	last := all[len(all)-1] // what waits for it has waited for all: both logs are in order
	want := eventsUntil(t, w.Cluster.AuditEvents, last.direct)
	got := eventsUntil(t, func() ([]auditv1.Event, error) { return cluster.ReadAuditLog(log) }, last.through)
	recorded := 0
	for _, row := range all {
		expected, found := want[row.direct], got[row.through]
		recorded += len(expected)
		for i := range expected {
			expected[i] = asGatehouseHasIt(expected[i], row.auditRow)
		}
		for i := range found {
			found[i] = compared(found[i])
		}
		if diff := cmp.Diff(expected, found); diff != "" {
			t.Errorf("%s: %s %s (-kube-apiserver +gatehouse):\n%s", row.who, row.method, row.path, diff)
		}
	}
	if recorded < 40 || recorded >= 2*len(all) {
		t.Errorf("the API server recorded %d events of %d requests: the rows prove little", recorded, len(all))
	}
	if content, err := os.ReadFile(log); err != nil || strings.Contains(string(content), "canary") {
		t.Errorf("%v; the log of gatehouse must not hold the query:\n%s", err, content)
	}
}

// record makes the request of a row, and returns its audit id.
func (d door) record(t *testing.T, row auditRow) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), row.method, d.url+row.path, strings.NewReader(row.body))
	if err != nil {
		t.Fatal(err)
	}
	if row.headers != nil {
		req.Header = row.headers.Clone()
	}
	resp, err := d.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.Header.Get("Audit-Id")
}

// eventsUntil returns the events by their audit id, once that of id is complete.
func eventsUntil(t *testing.T, read func() ([]auditv1.Event, error), id string) map[string][]auditv1.Event {
	t.Helper()
	byID := map[string][]auditv1.Event{}
	eventually(t, reloadLimit, func() error {
		clear(byID)
		events, err := read()
		for _, e := range events {
			byID[string(e.AuditID)] = append(byID[string(e.AuditID)], e)
		}
		return errors.Join(err, missing(byID[id]))
	})
	return byID
}

func missing(events []auditv1.Event) error {
	for _, e := range events {
		if e.Stage == auditv1.StageResponseComplete {
			return nil
		}
	}
	return fmt.Errorf("%d events, and none of the end", len(events))
}

// asGatehouseHasIt returns what gatehouse records where kube-apiserver records e,
// as docs/divergences.md says.
func asGatehouseHasIt(e auditv1.Event, row auditRow) auditv1.Event {
	e = compared(e)
	e.Level = auditv1.LevelMetadata // no bodies
	e.RequestObject, e.ResponseObject = nil, nil
	if row.uri != "" {
		e.RequestURI = row.uri
	}
	if e.ObjectRef != nil {
		e.ObjectRef.UID, e.ObjectRef.ResourceVersion = "", ""
		if row.body == configMap {
			e.ObjectRef.Name = "" // it is in the body
		}
	}
	return e
}

// compared takes out what differs between two requests, and what gatehouse
// cannot know: the text of an answer that it passes on.
func compared(e auditv1.Event) auditv1.Event {
	e.AuditID, e.Annotations, e.AuthenticationMetadata = "", nil, nil
	e.RequestReceivedTimestamp.Reset()
	e.StageTimestamp.Reset()
	if e.ResponseStatus != nil {
		code := e.ResponseStatus.Code
		e.ResponseStatus.Reset()
		e.ResponseStatus.Code = code
	}
	if e.ImpersonatedUser != nil {
		e.ImpersonatedUser.Extra = nil // gatehouse adds who it was
	}
	return e
}

// testAuditedRefusals: who is turned away by gatehouse is on its record, with the
// reason, and no token is.
func (w world) testAuditedRefusals(t *testing.T) {
	log := filepath.Join(t.TempDir(), "audit.log")
	g := w.start(t, map[string]string{"GATEHOUSE_AUDIT_POLICY_FILE": w.Cluster.AuditPolicyFile(), "GATEHOUSE_AUDIT_LOG_PATH": log})
	alice := stage.Person("alice", "developers")
	alice["jti"] = "token-23"
	good := w.Issuer.Token(alice)
	alice["exp"] = 1
	expired := w.Issuer.Token(alice)
	const prefix = "kube-gatehouse.github.io/"
	for _, row := range []struct {
		name, token, as string
		code            int32
		user, key, want string
	}{
		{"expired", expired, "", 401, "", "refused", "expired"},
		{"no token of ours", "this-is-no-token", "", 401, "", "credential", "unknown"},
		{"as somebody else", good, "root", 403, "alice@example.com", "not-as", "root"},
		{"served", good, "", 200, "alice@example.com", "credential-id", "JTI=token-23"},
		{"served, by this issuer", good, "", 200, "alice@example.com", "issuer", w.Issuer.URL},
	} {
		headers := []string{bearer(row.token)}
		if row.as != "" {
			headers = append(headers, "Impersonate-User: "+row.as)
		}
		a, err := g.ask(t.Context(), http.MethodGet, someResourcePath, "", headers...)
		if err != nil {
			t.Fatal(err)
		}
		id := a.Header.Get("Audit-Id")
		events := eventsUntil(t, func() ([]auditv1.Event, error) { return cluster.ReadAuditLog(log) }, id)[id]
		if e := events[0]; len(events) != 1 || e.ResponseStatus.Code != row.code || e.User.Username != row.user || e.Annotations[prefix+row.key] != row.want {
			t.Errorf("%s: recorded %+v", row.name, events)
		}
	}
	g.Stop()
	content, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range append(strings.Split(good+"."+expired, "."), "this-is-no-token") {
		if strings.Contains(string(content), secret) {
			t.Errorf("the record holds %q", secret)
		}
	}
}
