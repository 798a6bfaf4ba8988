package main

import (
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// documented are the files of deploy/, each with the command and the settings
// that print it. The files that the settings name need not be there.
var documented = map[string]struct{ args, more []string }{
	"rbac.yaml":              {},
	"rbac-legacy.yaml":       {args: []string{"--legacy"}},
	"rbac-read-only.yaml":    {args: []string{"--read-only"}},
	"rbac-token-review.yaml": {more: []string{"GATEHOUSE_TOKEN_REVIEW=true"}},
}

var documentedSettings = []string{
	"GATEHOUSE_OIDC_ISSUER_URL=https://login.example.com", "GATEHOUSE_OIDC_CLIENT_ID=kubernetes", "GATEHOUSE_OIDC_GROUPS_CLAIM=groups",
	"GATEHOUSE_TOKEN_AUTH_FILE=/etc/gatehouse/tokens/tokens.csv", "GATEHOUSE_CLIENT_CA_FILE=/etc/gatehouse/client-ca/ca.crt",
}

// Promise: the manifests in deploy/ are what `gatehouse rbac` prints.
func TestDeployedRights(t *testing.T) {
	for file, from := range documented {
		code, printed, stderr := once(t, append(from.more, documentedSettings...), append([]string{"rbac"}, from.args...)...)
		if code != exitOK {
			t.Fatalf("%s: exit code %d: %s", file, code, stderr)
		}
		current(t, file, printed)
	}
}

// Promise: the chart lets through what `gatehouse rbac` does, with and without
// --read-only. Its templates make the rest; e2e/chart compares the whole.
func TestChartDoors(t *testing.T) {
	var b strings.Builder
	b.WriteString("# What may be asked in people's names, with the verbs of requests: generated from\n" +
		"# proxy/upstream/rules.go by `make docs`; a test holds it current.\n")
	for _, door := range []struct {
		name string
		door upstream.Door
	}{{"open", upstream.Door{}}, {"readOnly", upstream.Door{ReadOnly: true}}} {
		b.WriteString(door.name + ":\n")
		rules := upstream.Needs{Users: true}.Rules(upstream.ModeConstrained, door.door)
		for _, rule := range rules[1:] { // the first says whom gatehouse may name
			for i, verb := range rule.Verbs {
				rule.Verbs[i] = strings.TrimPrefix(verb, "impersonate-on:user-info:")
			}
			writeRule(&b, &rule)
		}
	}
	current(t, "chart/gatehouse/files/doors.yaml", b.String())
}

// current fails if a file of deploy/ does not hold what is generated. With -update
// it is written.
func current(t *testing.T, file, generated string) {
	t.Helper()
	path := moduleRoot + "/deploy/" + file
	if *update {
		if err := os.WriteFile(path, []byte(generated), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(generated, read(t, path)); diff != "" {
		t.Errorf("%s is not current: run `make docs` (-want +got):\n%s", path, diff)
	}
}

// rules returns what is between the lines `rules:` and `---` of a manifest,
// without comments.
func rules(manifest string) string {
	_, rest, _ := strings.Cut(manifest, "\nrules:")
	rest, _, _ = strings.Cut(rest, "\n---\n")
	var kept []string
	for line := range strings.Lines(rest + "\n") {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// Promise: the rights are the least that the settings need: exactly one entry for
// each key of extra, and groups, uids and the ids of credentials only where
// somebody may have them.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	const credentialID = "userextras/authentication.kubernetes.io/credential-id"
	who := func(resources string) string {
		return "\n  - apiGroups: [authentication.k8s.io]\n    resources: [" + resources + "]\n    verbs: [\"impersonate:user-info\"]\n"
	}
	for name, test := range map[string]struct {
		settings map[string]string
		want     string
		not      []string
	}{
		"acting as another user": {
			map[string]string{"IMPERSONATION": "true"}, "resources: [subjectaccessreviews]\n    verbs: [create]", nil,
		},
		"static tokens": {nil, who("users, groups, uids"), []string{"tokenreviews", "userextras"}},
		"an issuer without groups": {
			w.oidc(issuer, nil), who("users, " + credentialID), []string{"groups", "uids"},
		},
		"an issuer with groups": {
			w.oidc(issuer, map[string]string{"OIDC_GROUPS_CLAIM": "groups"}), who("users, groups, " + credentialID), []string{"uids"},
		},
		"client certificates": {
			map[string]string{"TOKEN_AUTH_FILE": "", "CLIENT_CA_FILE": w.path("ca.crt")}, who("users, groups, uids, " + credentialID), nil,
		},
		"extra": {
			map[string]string{"TOKEN_AUTH_FILE": "", "AUTHENTICATION_CONFIG": w.writeConfig(t, "v1", "", w.jwt(issuer, celMapping))},
			"      - " + credentialID + "\n      - userextras/example.com/tenant\n", nil,
		},
		"ServiceAccount tokens alone": {
			map[string]string{"TOKEN_AUTH_FILE": "", "TOKEN_REVIEW": "true"},
			"\n  - apiGroups: [authentication.k8s.io]\n    resources: [tokenreviews]\n    verbs: [create]", []string{"impersonate"},
		},
		"ServiceAccount tokens too": {
			map[string]string{"TOKEN_REVIEW": "true"}, "resources: [tokenreviews]\n    verbs: [create]", nil,
		},
	} {
		settings := map[string]string{"IMPERSONATION": "false"}
		maps.Copy(settings, test.settings)
		code, stdout, stderr := once(t, w.environ(settings), "rbac")
		if code != exitOK || stderr != "" || !strings.Contains(rules(stdout), test.want) {
			t.Errorf("%s: exit code %d, want %q:\n%s%s", name, code, test.want, stdout, stderr)
		}
		for _, not := range test.not {
			if strings.Contains(rules(stdout), not) {
				t.Errorf("%s: %s is not needed:\n%s", name, not, rules(stdout))
			}
		}
		if _, again, _ := once(t, w.environ(settings), "rbac"); again != stdout {
			t.Errorf("%s: the second time it is another:\n%s", name, cmp.Diff(stdout, again))
		}
		mustNotHold(t, "rbac", stdout)
	}
}

// Promise: session tokens need rights of their own, whether their keys are there yet or
// not; the exchange for ServiceAccounts' tokens needs none.
func TestRightsOfSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	settings := map[string]string{"IMPERSONATION": "false", "EXCHANGE_ADDRESS": ":8444", "EXCHANGE_URL": exchangeURL}
	code, without, stderr := once(t, w.environ(settings), "rbac")
	if code != exitOK || stderr != "" || strings.Contains(rules(without), "userextras") || strings.Contains(rules(without), "subjectaccessreviews") {
		t.Errorf("without sessions: exit code %d:\n%s%s", code, rules(without), stderr)
	}
	for name, dir := range map[string]string{"there": newSessionKeys(t), "missing": w.path("no-keys")} {
		settings["SESSION_KEY_DIR"] = dir
		code, stdout, stderr := once(t, w.environ(settings), "rbac")
		for _, want := range []string{
			"userextras/authentication.kubernetes.io/credential-id", "userextras/kube-gatehouse.github.io/scope",
			"userextras/kube-gatehouse.github.io/actor", "subjectaccessreviews",
		} {
			if code != exitOK || !strings.Contains(rules(stdout), want) {
				t.Errorf("keys %s: exit code %d, want %q:\n%s%s", name, code, want, stdout, stderr)
			}
		}
		if noted := strings.Contains(stderr, "note: GATEHOUSE_SESSION_KEY_DIR"); noted != (name == "missing") {
			t.Errorf("keys %s: it says %q", name, stderr)
		}
	}
}

// Another account has names of its own, also those of the cluster's objects: two
// gatehouses must not take each other's binding away. What YAML would read as no
// string is quoted.
func TestRightsOfAnotherAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	code, stdout, _ := once(t, w.environ(nil), "rbac", "--namespace", "1e3", "--service-account", "front.door")
	for _, want := range []string{
		"kind: Namespace\nmetadata:\n  name: \"1e3\"\n", "kind: ServiceAccount\nmetadata:\n  name: front.door\n  namespace: \"1e3\"\n",
		"kind: ClusterRole\nmetadata:\n  name: \"gatehouse:1e3:front.door\"\n", "kind: ClusterRoleBinding\nmetadata:\n  name: \"gatehouse:1e3:front.door\"\n",
		"  kind: ClusterRole\n  name: \"gatehouse:1e3:front.door\"\nsubjects:\n  - kind: ServiceAccount\n    name: front.door\n    namespace: \"1e3\"\n",
		"as `gatehouse rbac --namespace 1e3 --service-account front.door` prints",
	} {
		if code != exitOK || !strings.Contains(stdout, want) {
			t.Errorf("exit code %d, want %q:\n%s", code, want, stdout)
		}
	}
}

// What makes no sense is refused, and prints nothing that could be applied.
func TestRightsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, test := range []struct {
		settings map[string]string
		args     string
		code     int
		want     string
	}{
		{nil, "--legacy --read-only", exitUsage, "--read-only needs constrained impersonation"},
		{nil, "--api-groups example.com", exitUsage, "--api-groups needs --read-only"},
		{nil, "--read-only --api-groups *", exitUsage, `--api-groups "*": `},
		{nil, "--namespace a.b", exitUsage, `--namespace "a.b": `},
		{nil, "--service-account A", exitUsage, `--service-account "A": `},
		{map[string]string{"TOKEN_AUTH_FILE": ""}, "", exitFault, "no credential is accepted"},
		{map[string]string{"AUTHENTICATION_CONFIG": w.path("none.yaml")}, "", exitFault, "GATEHOUSE_AUTHENTICATION_CONFIG: open "},
	} {
		code, stdout, stderr := once(t, w.environ(test.settings), append([]string{"rbac"}, strings.Fields(test.args)...)...)
		if code != test.code || stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("%q: exit code %d, want %d and %q: %s%s", test.args, code, test.code, test.want, stdout, stderr)
		}
	}
}

// Promise: through a read-only door nothing passes but reading and the questions
// about oneself; a * of the core group, which holds exec, is never in it.
func TestReadOnlyDoor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	code, stdout, _ := once(t, w.environ(nil), "rbac", "--read-only", "--api-groups", "example.com,apps")
	if code != exitOK || strings.Count(stdout, "- example.com\n") != 2 || strings.Count(stdout, "- apps\n") != 2 {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
	for line := range strings.Lines(rules(stdout)) {
		verb := strings.Trim(strings.TrimSpace(line), `-" `)
		switch {
		case strings.Contains(line, ":create"): // in one line with its list
		case !strings.HasPrefix(verb, "impersonate-on:"):
		case !strings.HasSuffix(verb, ":get") && !strings.HasSuffix(verb, ":list") && !strings.HasSuffix(verb, ":watch"):
			t.Errorf("the verb %s is not reading", verb)
		}
	}
	for _, not := range []string{`apiGroups: ["*"]`, "exec", "attach", "portforward", "proxy"} {
		if strings.Contains(rules(stdout), not) {
			t.Errorf("%s passes:\n%s", not, stdout)
		}
	}
	if n := strings.Count(rules(stdout), ":create"); n != 4 {
		t.Errorf("%d rules let something be created, want the two of questions about oneself, for users and for ServiceAccounts", n)
	}
}
