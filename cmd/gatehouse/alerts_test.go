package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// alert is a rule of deploy/alerts.yaml.
type alert struct {
	Alert       string
	Expr        string
	Labels      map[string]string
	Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var file struct {
		Groups []struct{ Rules []alert }
	}
	if err := yaml.Unmarshal([]byte(read(t, moduleRoot+"/deploy/alerts.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// Promise: each alert says how bad it is, what happens and what to do, at a place
// that there is.
func TestAlertsLeadToTheRunbook(t *testing.T) {
	t.Parallel()
	const page = "https://github.com/kube-gatehouse/gatehouse/blob/main/docs/runbook.md#"
	runbook := read(t, moduleRoot+"/docs/runbook.md")
	chapters := map[string]bool{}
	for _, heading := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(runbook, -1) {
		chapters[heading[1]] = true
	}
	for _, a := range alerts(t) {
		if !chapters[a.Alert] {
			t.Errorf("%s has no chapter in docs/runbook.md", a.Alert)
		}
		delete(chapters, a.Alert)
		if got := a.Annotations["runbook_url"]; got != page+anchorOf(a.Alert) {
			t.Errorf("%s: the runbook_url is %s", a.Alert, got)
		}
		severity, summary := a.Labels["severity"], a.Annotations["summary"]
		if severity != "critical" && severity != "warning" || summary == "" || a.Annotations["description"] == "" {
			t.Errorf("%s lacks a severity, summary or description: %+v", a.Alert, a)
		}
		if row := fmt.Sprintf("| [%s](#%s) | %s | %s |\n", a.Alert, anchorOf(a.Alert), severity, summary); !strings.Contains(runbook, row) {
			t.Errorf("the table of docs/runbook.md has no row %s", row)
		}
	}
	if len(chapters) > 0 {
		t.Errorf("chapters of docs/runbook.md about no alert: %v", slices.Sorted(maps.Keys(chapters)))
	}
}

// selector is a metric with matchers, as an expression asks for it.
var (
	selector = regexp.MustCompile(`(gatehouse_\w+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"([^"]*)"`)
)

// matched returns those of values that a matcher lets through.
func matched(t *testing.T, operator, pattern string, values []string) []string {
	t.Helper()
	if operator == "=" || operator == "!=" {
		pattern = regexp.QuoteMeta(pattern)
	}
	form, err := regexp.Compile("^(?:" + pattern + ")$")
	if err != nil {
		t.Fatal(err)
	}
	var through []string
	for _, value := range values {
		if form.MatchString(value) != strings.HasPrefix(operator, "!") {
			through = append(through, value)
		}
	}
	return through
}

// Promise: an expression of an alert or of the dashboard asks for metrics, labels
// and values that there are; and each metric is in one of them.
func TestExpressionsAskForWhatThereIs(t *testing.T) {
	t.Parallel()
	catalogue, sets := read(t, moduleRoot+"/docs/metrics.md"), labelSets()
	asked, all := map[string]bool{}, expressions(t)
	maps.Copy(all, drawn(t))
	for name, expression := range all {
		for _, selected := range selector.FindAllStringSubmatch(expression, -1) {
			metric := strings.TrimSuffix(selected[1], "_bucket")
			if !strings.Contains(catalogue, "\n## `"+metric+"`\n") {
				t.Errorf("%s asks for %s, which is not in docs/metrics.md", name, metric)
			}
			asked[metric] = true
			for _, m := range matcher.FindAllStringSubmatch(selected[2], -1) {
				if m[1] == "job" || m[1] == "instance" {
					continue
				}
				set, known := sets[metric][m[1]]
				if known && set.form != nil && set.form.MatchString(m[3]) {
					continue
				}
				for _, one := range strings.Split(m[3], "|") {
					if !known || len(matched(t, "=~", one, set.values)) == 0 {
						t.Errorf("%s asks for %s with %s, which no series has", name, metric, m[0])
					}
				}
			}
		}
	}
	for _, heading := range regexp.MustCompile("(?m)^## `(.+)`$").FindAllStringSubmatch(catalogue, -1) {
		if !asked[heading[1]] {
			t.Errorf("neither an alert nor the dashboard shows %s", heading[1])
		}
	}
}

// expressions returns those of the alerts, by their names.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, a := range alerts(t) {
		all[a.Alert] = a.Expr
	}
	return all
}

// drawn returns the expressions of the dashboard, by the titles of their panels.
func drawn(t *testing.T) map[string]string {
	t.Helper()
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, moduleRoot+"/deploy/dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, panel := range d.Panels {
		for i, target := range panel.Targets {
			all[fmt.Sprintf("%s, %d", panel.Title, i+1)] = target.Expr
		}
	}
	return all
}

// notAlerted says of values of labels which stand for a failure why no alert
// watches them alone.
var notAlerted = map[string]map[string]string{
	"gatehouse_rejected_total limit": {
		"header_lines": "a fault of the caller's", "slow_body": "a fault of the caller's, or of his line",
	},
	"gatehouse_token_reviews_total outcome": {
		"accepted": "no failure", "cached_accepted": "no failure", "joined": "no failure",
		"refused": "a fault of the caller's", "cached_refused": "a fault of the caller's",
	},
	"gatehouse_impersonations_total decision":                {"allowed": "no failure", "denied": "as the cluster's rules say"},
	"gatehouse_authentication_attempts_total result":         {"accepted": "no failure", "no_credential": "anybody may come without"},
	"gatehouse_audit_events_total outcome":                   {"written": "no failure"},
	"gatehouse_group_lookups_total result":                   {"success": "no failure"},
	"gatehouse_jwks_fetches_total result":                    {}, // both are compared
	"gatehouse_upstream_errors_total reason":                 {},
	"gatehouse_own_credential_expiry_timestamp_seconds kind": {},
}

// Promise: each failure that a metric tells apart has an alert, or a reason not to.
func TestFailuresHaveAlerts(t *testing.T) {
	t.Parallel()
	sets := labelSets()
	for key, reasons := range notAlerted {
		metric, label, _ := strings.Cut(key, " ")
		watched := map[string]bool{}
		for _, expression := range expressions(t) {
			for _, selected := range selector.FindAllStringSubmatch(expression, -1) {
				for _, m := range matcher.FindAllStringSubmatch(selected[2], -1) {
					if selected[1] != metric || m[1] != label {
						continue
					}
					for _, value := range matched(t, m[2], m[3], sets[metric][label].values) {
						watched[value] = true
					}
				}
			}
		}
		for _, value := range sets[metric][label].values {
			if _, excused := reasons[value]; excused == watched[value] {
				t.Errorf("%s{%s=%q}: an alert watches it: %t; it is excused: %t", metric, label, value, watched[value], excused)
			}
		}
	}
	all := strings.Join(slices.Collect(maps.Values(expressions(t))), "\n")
	for _, gauge := range []string{ // of which a value is a failure
		"gatehouse_upstream_ready", "gatehouse_rights_missing", "gatehouse_rights_checked_timestamp_seconds", "gatehouse_issuer_ready",
		"gatehouse_reload_last_successful", "gatehouse_serving_certificate_expiry_timestamp_seconds",
		"gatehouse_client_crl_next_update_timestamp_seconds", "gatehouse_own_credential_expiry_timestamp_seconds",
	} {
		if !strings.Contains(all, gauge) {
			t.Errorf("no alert watches %s", gauge)
		}
	}
}

// The chart, which can read no file outside its folder, has the same files.
func TestChartMonitoring(t *testing.T) {
	for _, name := range []string{"alerts.yaml", "dashboard.json"} {
		want, copied := read(t, moduleRoot+"/deploy/"+name), moduleRoot+"/deploy/chart/gatehouse/files/"+name
		if *update {
			if err := os.WriteFile(copied, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, read(t, copied)); diff != "" {
			t.Errorf("%s is not deploy/%s: run `make docs` (-want +got):\n%s", copied, name, diff)
		}
	}
}
