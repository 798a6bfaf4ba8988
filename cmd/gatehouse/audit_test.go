package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

const (
	policyOfAll  = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"
	policyOfNone = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None}]\n"
)

// eventOf returns the event of that stage of the request with this audit id, once
// it is there; lines are what was written so far.
func eventOf(t *testing.T, id string, stage auditv1.Stage, lines func() string) auditv1.Event {
	t.Helper()
	var event auditv1.Event
	eventually(t, func() bool {
		for line := range strings.Lines(lines()) {
			var one auditv1.Event
			if json.Unmarshal([]byte(line), &one) == nil && string(one.AuditID) == id && one.Stage == stage {
				event = one
				return true
			}
		}
		return false
	}, lines)
	return event
}

func contentOf(path string) func() string {
	return func() string {
		content, err := os.ReadFile(path)
		if err != nil {
			return err.Error()
		}
		return string(content)
	}
}

// AUDIT_POLICY_FILE says what is recorded, as soon as it changes; a bad policy
// leaves the last good one in effect. Together with AUDIT_LOG_PATH alone.
func testAuditPolicyFile(t *testing.T, w *world, _ *authtest.Issuer) {
	log := filepath.Join(t.TempDir(), "audit.log")
	policy := w.write(t, "audit-policy.yaml", policyOfNone)
	p := w.start(t, map[string]string{"AUDIT_POLICY_FILE": policy, "AUDIT_LOG_PATH": log})
	_, silent := p.send(t, p.request(t, anaToken, "/version"))

	w.write(t, "audit-policy.yaml", policyOfAll)
	p.log.awaitMessage(t, "changed files took effect")
	_, recorded := p.send(t, p.request(t, anaToken, "/version"))
	if e := eventOf(t, recorded, auditv1.StageResponseComplete, contentOf(log)); e.User.Username != "ana" {
		t.Errorf("recorded as %q, want ana", e.User.Username)
	}
	if strings.Contains(contentOf(log)(), silent) {
		t.Error("a request was recorded that the policy of its time leaves out")
	}

	w.write(t, "audit-policy.yaml", strings.Replace(policyOfNone, "level", "levle", 1))
	bad := p.log.awaitMessage(t, "changed files are bad, the last good content stays in effect")
	if !strings.Contains(bad, `unknown field \"rules[0].levle\"`) && !strings.Contains(bad, "rules[0].levle") {
		t.Errorf("the fault has no path: %s", bad)
	}
	_, still := p.send(t, p.request(t, anaToken, "/version"))
	eventOf(t, still, auditv1.StageResponseComplete, contentOf(log))
	mustNotHold(t, "the audit log", contentOf(log)())

	code, _, stderr := once(t, w.environ(map[string]string{"AUDIT_POLICY_FILE": policy}), "check")
	if code != exitFault || !strings.Contains(stderr, "GATEHOUSE_AUDIT_LOG_PATH: is required") || !strings.Contains(stderr, "levle") {
		t.Errorf("a bad policy without a log: exit code %d\n%s", code, stderr)
	}
	bodies := w.write(t, "bodies.yaml", strings.Replace(policyOfAll, "Metadata", "RequestResponse", 1))
	code, _, stderr = once(t, w.environ(map[string]string{"AUDIT_POLICY_FILE": bodies, "AUDIT_LOG_PATH": "-"}), "check")
	if code != exitOK || !strings.Contains(stderr, "warning: rules[0].level of the audit policy is RequestResponse, and counts as Metadata") {
		t.Errorf("a policy that asks for bodies: exit code %d\n%s", code, stderr)
	}
}

// AUDIT_LOG_PATH says where events are written: to a file that nobody else may
// read, or to standard output. What was refused is among them, and at the end all
// of it is there.
func testAuditLogPath(t *testing.T, w *world, _ *authtest.Issuer) {
	policy := w.write(t, "record-all.yaml", policyOfAll)
	log := filepath.Join(t.TempDir(), "audit.log")
	p := w.start(t, map[string]string{"AUDIT_POLICY_FILE": policy, "AUDIT_LOG_PATH": log})
	_, served := p.send(t, p.request(t, anaToken, "/version"))
	_, refused := p.send(t, p.request(t, "wrong-token-canary", "/version"))
	p.client.CloseIdleConnections()
	p.stop()
	p.wait(t)
	if e := eventOf(t, served, auditv1.StageResponseComplete, contentOf(log)); e.ResponseStatus.Code != http.StatusOK {
		t.Errorf("recorded with code %d, want 200", e.ResponseStatus.Code)
	}
	if e := eventOf(t, refused, auditv1.StageResponseComplete, contentOf(log)); e.ResponseStatus.Code != http.StatusUnauthorized {
		t.Errorf("recorded with code %d, want 401", e.ResponseStatus.Code)
	}
	mustNotHold(t, "the audit log", contentOf(log)(), "wrong-token-canary")
	if at, err := os.Stat(log); err != nil || at.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v; want the mode 0600", at.Mode(), err)
	}

	p = w.start(t, map[string]string{"AUDIT_POLICY_FILE": policy, "AUDIT_LOG_PATH": "-"})
	_, served = p.send(t, p.request(t, anaToken, "/version"))
	eventOf(t, served, auditv1.StageResponseComplete, p.stdout.text)
	if _, metrics := p.opsGet(t, "/metrics"); !strings.Contains(metrics, `gatehouse_audit_events_total{outcome="written"} 1`) {
		t.Error("the metrics do not count the event")
	}

	for _, tt := range []struct {
		name, path, want string
		policy           string
	}{
		{"no policy", log, "GATEHOUSE_AUDIT_POLICY_FILE: is required", ""},
		{"a directory", filepath.Dir(log), "GATEHOUSE_AUDIT_LOG_PATH: " + filepath.Dir(log) + " is a directory", policy},
		{"nowhere", filepath.Join(log, "nowhere", "audit.log"), "GATEHOUSE_AUDIT_LOG_PATH: stat " + filepath.Join(log, "nowhere"), policy},
	} {
		code, _, stderr := once(t, w.environ(map[string]string{"AUDIT_POLICY_FILE": tt.policy, "AUDIT_LOG_PATH": tt.path}), "check")
		if code != exitFault || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: exit code %d, want %q in\n%s", tt.name, code, tt.want, stderr)
		}
	}
}
