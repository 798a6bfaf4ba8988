package main

import (
	"context"
	"fmt"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/bench/proxies"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/report"
)

// startGoal is how long gatehouse may take from its start until it is ready, in
// ms.
const startGoal = 300

// measureStart starts gatehouse several times, with the issuer and the upstream
// up.
func measureStart(ctx context.Context, b *bench) (outcome, error) {
	var took, used []float64
	for range 2 * b.o.rounds {
		wall, cpu, err := b.ReadyAfter(ctx, proxies.Gatehouse{Name: gatehouseName, Binary: b.o.gatehouse, LogLevel: b.o.level})
		if err != nil {
			return outcome{}, err
		}
		took, used = append(took, millis(wall)), append(used, millis(cpu))
	}
	ms := report.Median(took)
	return outcome{
		table: &report.Table{
			Title: "From the start of gatehouse until it is ready",
			Head:  []string{"", "ms", "ms of CPU"},
			Rows:  [][]string{{"one issuer; issuer and upstream up", report.Spread(took, 0), report.Spread(used, 0)}},
		},
		goals: []report.Goal{{
			What: "start to ready", Goal: fmt.Sprintf("≤ %d ms", startGoal), Measured: fmt.Sprintf("%.0f ms", ms), Reached: ms <= startGoal,
		}},
	}, nil
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
