package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// podsPath is what a request without kubectl asks for.
const podsPath = "/api/v1/namespaces/dev/pods"

// sceneTimeout limits how long a scene may wait for something to happen.
const sceneTimeout = 15 * time.Second

// addRow gives the newcomer a row in the token file and waits until gatehouse
// has read it: it promises to within 10 s.
func addRow(ctx context.Context, t *set) (string, error) {
	started := time.Now()
	if err := t.tokens.Replace(t.rows[robot], t.rows[newcomer]); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, sceneTimeout)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		code, _, err := t.get(ctx, podsPath, t.secrets[newcomer])
		if err != nil {
			return "", err
		}
		if code == http.StatusOK {
			return fmt.Sprintf("accepted after %.1f s", time.Since(started).Seconds()), nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("still answered with %d after %s", code, sceneTimeout)
		case <-tick.C:
		}
	}
}

// withoutCredential asks with no credential at all: kubectl would ask for a
// password.
func withoutCredential(ctx context.Context, t *set) (string, error) {
	code, body, err := t.get(ctx, podsPath, "")
	if err != nil {
		return "", err
	}
	var status struct{ Kind, Reason, Message string }
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		return "", fmt.Errorf("the answer %q is no Status: %w", body, err)
	}
	if code != http.StatusUnauthorized || status.Kind != "Status" || status.Reason != "Unauthorized" {
		return "", fmt.Errorf("answered with %d: %s", code, body)
	}
	return fmt.Sprintf("%d %s", code, status.Message), nil
}

// get asks gatehouse for a path with a token, or with none.
func (t *set) get(ctx context.Context, path, token string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.gate.URL()+path, nil)
	if err != nil {
		return 0, "", fmt.Errorf("ask gatehouse: %w", err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := t.gate.Client()
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("ask gatehouse: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// watchEvent has bob watch while alice changes something, and shows the line
// that appears.
func watchEvent(ctx context.Context, t *set) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sceneTimeout)
	defer cancel()
	watcher, err := t.kubectl(bob)
	if err != nil {
		return "", err
	}
	watch, err := watcher.Start(ctx, "get", "configmaps", "--watch")
	if err != nil {
		return "", err
	}
	defer watch.Stop()
	if _, err := watch.AwaitLine(ctx, "tour"); err != nil { // the list before the watch
		return "", err
	}
	author, err := t.kubectl(alice)
	if err != nil {
		return "", err
	}
	changed := time.Now()
	if _, err := author.Must(ctx, "", "create", "configmap", "news", "--from-literal=a=b"); err != nil {
		return "", err
	}
	line, err := watch.AwaitLine(ctx, "news")
	if err != nil {
		return "", err
	}
	fields := strings.Join(strings.Fields(line), " ")
	return fmt.Sprintf("the line %q, %d ms after alice started to create it", fields, time.Since(changed).Milliseconds()), nil
}

// auditTrail looks for alice's first change in the audit log of the API server:
// it must name her and her groups, and gatehouse as the one who acted for her.
func auditTrail(_ context.Context, t *set) (string, error) {
	e, err := createdConfigMap(t, "tour", "alice@example.com")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("create configmaps/tour by %s %v, through %s", e.ImpersonatedUser.Username,
		e.ImpersonatedUser.Groups, e.User.Username), nil
}

// sudoTrail looks for what bob did as devops-admin: the audit log must name both.
func sudoTrail(_ context.Context, t *set) (string, error) {
	e, err := createdConfigMap(t, "sudo", "devops-admin")
	if err != nil {
		return "", err
	}
	const key = "kube-gatehouse.github.io/original-user"
	if original := e.ImpersonatedUser.Extra[key]; len(original) != 1 || original[0] != "bob@example.com" {
		return "", fmt.Errorf("recorded with the extra %v", e.ImpersonatedUser.Extra)
	}
	return "create configmaps/sudo by devops-admin, " + key + " bob@example.com", nil
}

// createdConfigMap returns the event of a ConfigMap's creation, which must have
// been made by gatehouse's account for this user.
func createdConfigMap(t *set, name, user string) (*auditv1.Event, error) {
	events, err := t.Cluster.AuditEvents()
	if err != nil {
		return nil, err
	}
	account := "system:serviceaccount:" + stage.AccountNamespace + ":" + stage.AccountName
	for _, e := range events {
		if e.Verb != "create" || e.ObjectRef == nil || e.ObjectRef.Resource != "configmaps" || e.ObjectRef.Name != name ||
			e.ResponseStatus == nil || e.ResponseStatus.Code != http.StatusCreated {
			continue
		}
		if e.User.Username != account || e.ImpersonatedUser == nil || e.ImpersonatedUser.Username != user {
			return nil, fmt.Errorf("the change is recorded as that of %s for %v", e.User.Username, e.ImpersonatedUser)
		}
		return &e, nil
	}
	return nil, fmt.Errorf("no event of the change among %d", len(events))
}

// requestLog shows gatehouse's line about bob's refused change, and makes sure
// that no line holds a token.
func requestLog(_ context.Context, t *set) (string, error) {
	found := ""
	for _, line := range t.gate.Logs() {
		if t.revealsToken(line) {
			return "", errors.New("a line holds a token")
		}
		var entry struct {
			Msg, User, Verb, Resource, Name string
			AuditID                         string `json:"audit_id"`
			Status                          int
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.User == "bob@example.com" && entry.Verb == "delete" {
			found = fmt.Sprintf("%s %s %s/%s: %d, audit id %s", entry.User, entry.Verb,
				entry.Resource, entry.Name, entry.Status, entry.AuditID)
		}
	}
	if found == "" {
		return "", errors.New("no line about bob's attempt to delete")
	}
	return found, nil
}

// readiness shows the checks behind gatehouse's readiness.
func readiness(ctx context.Context, t *set) (string, error) {
	code, body, err := t.gate.Ops(ctx, "/readyz?verbose")
	if err != nil {
		return "", err
	}
	if code != http.StatusOK || !strings.Contains(body, "[+]") {
		return "", fmt.Errorf("answered with %d: %s", code, body)
	}
	return body, nil
}

// metric shows how many requests were refused for an expired token.
func metric(ctx context.Context, t *set) (string, error) {
	_, body, err := t.gate.Ops(ctx, "/metrics")
	if err != nil {
		return "", err
	}
	if t.revealsToken(body) {
		return "", errors.New("the metrics hold a token")
	}
	for lines := bufio.NewScanner(strings.NewReader(body)); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "gatehouse_authentication_attempts_total{") && strings.Contains(line, `result="expired"`) {
			return line, nil
		}
	}
	return "", errors.New("no count of expired tokens")
}
