// Command discovery answers: what does Prometheus find in a cluster? It is the
// discovery of Prometheus itself, with the part for Kubernetes, which Debian's
// Prometheus is built without.
//
//	discovery FILE
//
// reads the scrape_configs of a Prometheus configuration, of which it takes the job
// names and the discovery, and runs until it is stopped. Whenever something changes
// it prints one line: a JSON object with the targets of each job, each as its labels.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	_ "github.com/prometheus/prometheus/discovery/kubernetes" // what kubernetes_sd_configs are
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"go.yaml.in/yaml/v2"
)

// file is what is read of a configuration.
type file struct {
	Jobs []job `yaml:"scrape_configs"`
}

// job is one scrape configuration, with its kubernetes_sd_configs.
type job struct {
	Name      string            `yaml:"job_name"`
	Discovery discovery.Configs `yaml:"-"`
}

// UnmarshalYAML reads the discovery as Prometheus does, from among the other fields.
func (j *job) UnmarshalYAML(unmarshal func(any) error) error {
	return discovery.UnmarshalYAMLWithInlineConfigs(j, unmarshal)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "discovery:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("it takes one argument: a configuration")
	}
	configs, err := read(args[0])
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	metrics, err := discovery.CreateAndRegisterSDMetrics(registry)
	if err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	manager := discovery.NewManager(ctx, slog.New(slog.NewTextHandler(os.Stderr, nil)), registry, metrics)
	if manager == nil {
		return errors.New("make a manager: it said why")
	}
	if err := manager.ApplyConfig(configs); err != nil {
		return fmt.Errorf("apply %s: %w", args[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- manager.Run() }()
	for {
		select {
		case err := <-ended:
			return err
		case groups := <-manager.SyncCh():
			if err := json.NewEncoder(os.Stdout).Encode(targets(groups)); err != nil {
				return fmt.Errorf("print the targets: %w", err)
			}
		}
	}
}

// read returns the discovery of each job.
func read(path string) (map[string]discovery.Configs, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var f file
	if err := yaml.UnmarshalStrict(content, &f); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	configs := map[string]discovery.Configs{}
	for _, j := range f.Jobs {
		configs[j.Name] = j.Discovery
	}
	return configs, nil
}

// targets puts the labels of each group to its targets.
func targets(groups map[string][]*targetgroup.Group) map[string][]model.LabelSet {
	all := map[string][]model.LabelSet{}
	for name, of := range groups {
		for _, group := range of {
			for _, target := range group.Targets {
				all[name] = append(all[name], group.Labels.Merge(target))
			}
		}
	}
	return all
}
