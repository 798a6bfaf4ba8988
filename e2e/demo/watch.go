package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// beginWatch is a row in which somebody opens a watch that nobody stops.
func beginWatch(who string) row {
	return row{who, "kubectl get configmaps --watch", func(ctx context.Context, t *set) (string, error) {
		k, err := t.kubectl(who)
		if err != nil {
			return "", err
		}
		watch, err := k.Start(context.WithoutCancel(ctx), "get", "configmaps", "--watch")
		if err != nil {
			return "", err
		}
		t.watches[who] = watch
		ctx, cancel := context.WithTimeout(ctx, sceneTimeout)
		defer cancel()
		line, err := watch.AwaitLine(ctx, "tour")
		return strings.Join(strings.Fields(line), " "), err
	}}
}

// endOf denies somebody by change, and waits until they are refused with a sentence
// that holds says and their watch has ended: gatehouse promises that within 10 s.
func endOf(ctx context.Context, t *set, who, says string, change func() error) (string, error) {
	started := time.Now()
	if err := change(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, sceneTimeout)
	defer cancel()
	refusedAfter, err := awaitRefusal(ctx, t, who, says, started)
	if err != nil {
		return "", err
	}
	if _, err := t.watches[who].Wait(ctx); err != nil {
		return "", fmt.Errorf("the watch goes on: %w", err)
	}
	return fmt.Sprintf("refused after %.1f s, and the watch has ended", refusedAfter.Seconds()), nil
}

// awaitRefusal returns how long after started somebody was refused.
func awaitRefusal(ctx context.Context, t *set, who, says string, started time.Time) (time.Duration, error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		k, err := t.kubectl(who)
		if err != nil {
			return 0, err
		}
		r, err := k.Run(ctx, "get", "deployments")
		k.Remove()
		if err != nil {
			return 0, err
		}
		if strings.Contains(r.Stderr, says) {
			return time.Since(started), nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("still served after %s", sceneTimeout)
		case <-tick.C:
		}
	}
}
