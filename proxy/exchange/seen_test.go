package exchange

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// seen ends the world, and returns what is in the log about exchanges, on the
// record, and in the metrics by target and result. Nothing of it may hold a secret.
func (w *world) seen(t *testing.T) (lines []map[string]any, events []auditv1.Event, metrics map[string]float64) {
	t.Helper()
	w.front.Close()
	ended, end := context.WithCancel(t.Context())
	end()
	w.trail.Run(ended)
	for line := range strings.Lines(w.log.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if entry["msg"] == "token exchange" {
			lines = append(lines, entry)
		}
	}
	for line := range strings.Lines(w.out.String()) {
		var e auditv1.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	metrics = map[string]float64{}
	families, err := w.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, one := range family.GetMetric() {
			if labels := one.GetLabel(); family.GetName() == "gatehouse_token_exchanges_total" { // sorted by their names
				metrics[labels[1].GetValue()+" "+labels[0].GetValue()] = one.GetCounter().GetValue()
			}
		}
		if strings.Contains(family.String(), "canary") {
			t.Errorf("a secret is in the metrics: %s", family)
		}
	}
	for what, text := range map[string]string{"log": w.log.String(), "record": w.out.String()} {
		for _, secret := range []string{"canary", "Bearer ", "eyJ"} {
			if strings.Contains(text, secret) {
				t.Errorf("a secret is in the %s: %s", what, text)
			}
		}
	}
	if len(lines) == 0 || len(events) == 0 {
		t.Fatalf("%d lines, %d events", len(lines), len(events))
	}
	return lines, events, metrics
}
