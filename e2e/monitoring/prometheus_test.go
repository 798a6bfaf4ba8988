package monitoring_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

const (
	// scrapeEvery is short, for a rate needs two looks at the least.
	scrapeEvery = 500 * time.Millisecond
	// rateWindow is longer than what Grafana would take for such an interval: what
	// comes once is seen though the machine be too busy to look for seconds.
	rateWindow = "10s"
	// patience is how long a test waits for an event before it gives up.
	patience = 40 * time.Second
)

// prometheus is the real one, on a port of the loopback address.
type prometheus struct {
	url     string
	process *proc.Process
	started time.Time
}

// startPrometheus runs one that scrapes these addresses as the job gatehouse, with
// the rules of deploy/alerts.yaml. It ends with the test.
func startPrometheus(t *testing.T, targets ...string) *prometheus {
	t.Helper()
	ports, err := proc.Ports(1)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := fmt.Sprintf("global: {scrape_interval: %s, scrape_timeout: %s, evaluation_interval: %s}\nrule_files: [%q]\n"+
		"scrape_configs: [{job_name: gatehouse, static_configs: [{targets: [%s]}]}]\n",
		scrapeEvery, scrapeEvery, scrapeEvery, file(t, "deploy/alerts.yaml"), strings.Join(targets, ", "))
	path := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var output proc.Lines
	address := proc.Loopback(ports[0])
	process, err := proc.Start(context.WithoutCancel(t.Context()), proc.Config{
		Path: program(t, "prometheus"), Dir: dir, Stdout: &output, Stderr: &output,
		Args: []string{"--config.file=" + path, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + address},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &prometheus{url: "http://" + address, process: process, started: time.Now()}
	t.Cleanup(func() {
		process.Stop()
		if t.Failed() {
			t.Logf("prometheus printed:\n%s", strings.Join(output.All(), "\n"))
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := process.Await(ctx, func(ctx context.Context) error {
		_, err := p.get(ctx, "/-/ready", nil)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *prometheus) get(ctx context.Context, path string, query url.Values) (*json.Decoder, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", path, resp.Status, content)
	}
	return json.NewDecoder(bytes.NewReader(content)), nil
}

// sample is one value of a series.
type sample struct {
	at    time.Time
	value float64
}

// line is one series that a query returns.
type line struct {
	labels  map[string]string
	samples []sample
}

// over asks for an expression as Grafana does: from the start until now. What is
// not a number is left out.
func (p *prometheus) over(ctx context.Context, expression string) ([]line, error) {
	seconds := func(at time.Time) string { return strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64) }
	decoder, err := p.get(ctx, "/api/v1/query_range", url.Values{
		"query": {expression}, "start": {seconds(p.started)}, "end": {seconds(time.Now())}, "step": {"0.5"},
	})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	if err := decoder.Decode(&answer); err != nil {
		return nil, fmt.Errorf("query %s: %w", expression, err)
	}
	var lines []line
	for _, series := range answer.Data.Result {
		one := line{labels: series.Metric}
		for _, pair := range series.Values {
			at, _ := pair[0].(float64)
			text, _ := pair[1].(string)
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return nil, fmt.Errorf("query %s: %w", expression, err)
			}
			if !math.IsNaN(value) && !math.IsInf(value, 0) {
				one.samples = append(one.samples, sample{time.UnixMilli(int64(at * 1000)), value})
			}
		}
		if len(one.samples) > 0 {
			lines = append(lines, one)
		}
	}
	return lines, nil
}

// alert is one that is pending or fires.
type alert struct {
	State  string
	Labels map[string]string
}

// alerts returns those that are pending or fire, and an error if a rule cannot be
// evaluated.
func (p *prometheus) alerts(ctx context.Context) ([]alert, error) {
	decoder, err := p.get(ctx, "/api/v1/rules", nil)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct {
					Name, Health, LastError string
					Alerts                  []alert
				}
			}
		}
	}
	if err := decoder.Decode(&answer); err != nil {
		return nil, fmt.Errorf("ask for the rules: %w", err)
	}
	var all []alert
	for _, group := range answer.Data.Groups {
		for _, rule := range group.Rules {
			if rule.Health != "ok" {
				return nil, fmt.Errorf("%s is %s: %s", rule.Name, rule.Health, rule.LastError)
			}
			all = append(all, rule.Alerts...)
		}
	}
	return all, nil
}
