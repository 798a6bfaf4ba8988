package monitoring_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"html"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
)

var update = flag.Bool("update", false, "write "+drawing)

const drawing = "docs/dashboard.svg"

// panel is one of deploy/dashboard.json.
type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ H, W, X, Y int }
	Datasource               struct{ UID string }
	Targets                  []struct{ Expr, LegendFormat string }
	FieldConfig              struct{ Defaults struct{ Unit string } }
}

// variable is what people choose at the top of the dashboard.
type variable struct{ Name, Type, Query string }

type dashboard struct {
	UID, Title string
	Templating struct{ List []variable }
	Panels     []panel
}

func loadDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal(read(t, file(t, "deploy/dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// Promise: the dashboard is one that Grafana draws as it is: panels with an id, a
// place and a meaning each, from the data source that was chosen.
func TestDashboardForm(t *testing.T) {
	t.Parallel()
	d := loadDashboard(t)
	picture := string(read(t, file(t, drawing)))
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if p.ID == 0 || ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d %q has no id or title, or another's id", p.ID, p.Title)
		}
		ids[p.ID] = true
		if !strings.Contains(picture, ">"+html.EscapeString(p.Title)+"<") {
			t.Errorf("%s lacks %q: go test ./monitoring -run TestDashboard -update", drawing, p.Title)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if x >= 24 || taken[[2]int{x, y}] != "" {
					t.Fatalf("%s lies over %q, or beyond the edge", p.Title, taken[[2]int{x, y}])
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%s has no description, query, or the data source that was chosen", p.Title)
		}
		for _, target := range p.Targets {
			for _, selector := range regexp.MustCompile(`\b(?:gatehouse|process|go)_\w+(\{[^}]*)?`).FindAllStringSubmatch(target.Expr, -1) {
				if !strings.HasPrefix(selector[1], `{job=~"$job",instance=~"$instance"`) {
					t.Errorf("%s does not heed the chosen job and replica: %s", p.Title, target.Expr)
				}
			}
		}
	}
}

// substitute puts values in the place of Grafana's variables.
func substitute(expression string) string {
	return strings.NewReplacer("$__rate_interval", rateWindow, "$job", ".*", "$instance", ".*").Replace(expression)
}

// quiet are the panels of which 0 is all that a gatehouse in order shows.
var quiet = []string{"Files that are not in effect", "Rights missing", "Rights missing, by rule", "Issuers without keys"}

// Promise: every panel of the dashboard shows something of a gatehouse under load,
// and every alert can be evaluated: by a real Prometheus, of real replicas in front
// of a real API server, of which one cannot be reached.
func TestDashboard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := startPrometheus(t, strings.TrimPrefix(w.good.OpsURL(), "http://"), strings.TrimPrefix(w.cut.OpsURL(), "http://"))
	eventually(t, func() error { return p.shows(t, "sum(gatehouse_build_info) == 2", false) }, "both replicas")
	w.load(t)
	d := loadDashboard(t)
	eventually(t, func() error {
		var empty []error
		for _, one := range d.Panels {
			for _, target := range one.Targets {
				if err := p.shows(t, target.Expr, slices.Contains(quiet, one.Title)); err != nil {
					empty = append(empty, fmt.Errorf("%s: %w", one.Title, err))
				}
			}
		}
		return errors.Join(empty...)
	}, "the panels")
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		match := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`).FindStringSubmatch(v.Query)
		if match == nil {
			t.Fatalf("the variable %s asks for %s", v.Name, v.Query)
		}
		lines, err := p.over(t.Context(), substitute(match[1]))
		if err != nil || len(lines) == 0 || lines[0].labels[match[2]] == "" {
			t.Errorf("the variable %s has nothing to choose: %v %v", v.Name, lines, err)
		}
	}
	eventually(t, func() error { return p.tellsOfTheCut(t, w.cut.OpsURL()) }, "the alerts")
	checkMetrics(t, w.good)
	if *update {
		p.draw(t, d)
	}
}

// checkMetrics has promtool judge what a gatehouse exposes.
func checkMetrics(t *testing.T, g *gatehouse.Instance) {
	t.Helper()
	code, metrics, err := g.Ops(t.Context(), "/metrics")
	if err != nil || code != http.StatusOK {
		t.Fatal(code, err)
	}
	check := exec.CommandContext(t.Context(), program(t, "promtool"), "check", "metrics")
	check.Stdin = strings.NewReader(metrics)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v: %s", err, out)
	}
}

// draw writes what the dashboard shows to docs/dashboard.svg, once there is enough
// to see.
func (p *prometheus) draw(t *testing.T, d dashboard) {
	t.Helper()
	const enough = time.Minute
	select {
	case <-time.After(time.Until(p.started.Add(enough))):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
	picture := picture{start: p.started, end: time.Now()}
	var panels []drawn
	for _, one := range d.Panels {
		drawn := drawn{panel: one}
		for _, target := range one.Targets {
			lines, err := p.over(t.Context(), substitute(target.Expr))
			if err != nil {
				t.Fatal(err)
			}
			drawn.add(lines, target.LegendFormat)
		}
		panels = append(panels, drawn)
	}
	if err := os.WriteFile(file(t, drawing), []byte(picture.String(panels)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// shows fails if an expression returns nothing, or nothing but 0 unless zero will do.
func (p *prometheus) shows(t *testing.T, expression string, zero bool) error {
	t.Helper()
	lines, err := p.over(t.Context(), substitute(expression))
	if err != nil {
		return err
	}
	for _, one := range lines {
		for _, sample := range one.samples {
			if zero || sample.value != 0 {
				return nil
			}
		}
	}
	return fmt.Errorf("%d series, and nothing but 0: %s", len(lines), expression)
}

// tellsOfTheCut fails unless the replica that reaches no API server, and that one
// alone, has the alert for it.
func (p *prometheus) tellsOfTheCut(t *testing.T, opsURL string) error {
	t.Helper()
	alerts, err := p.alerts(t.Context())
	if err != nil {
		return err
	}
	var of []string
	for _, a := range alerts {
		if a.Labels["alertname"] == "GatehouseUpstreamNotReady" {
			of = append(of, "http://"+a.Labels["instance"])
		}
	}
	if !slices.Equal(of, []string{opsURL}) {
		return fmt.Errorf("GatehouseUpstreamNotReady is of %v, not of %s alone", of, opsURL)
	}
	return nil
}

// eventually calls check until it returns nil.
func eventually(t *testing.T, check func() error, what string) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Errorf("%s: not within %s: %v", what, patience, err)
			return
		case <-t.Context().Done():
			t.Fatal(errors.Join(t.Context().Err(), err))
		}
	}
}
