package main

import (
	"flag"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// options are what the command line says.
type options struct {
	run          string        // the experiments whose name begins so
	proxies      []string      // their names
	gatehouse    string        // a binary
	other        string        // another, to compare with
	level        string        // log level of gatehouse
	rounds       int           // how often each proxy has its turn
	warm, length time.Duration // of each turn
	instructions bool          // counted too
	perf         string        // where perf writes, or empty
	workers      int
	docs         string // folder of the documents to write, or empty

	// How large things are, which only tests change.
	people     int   // in experiments with many tokens
	watchSteps []int // how many watches are open when memory is read
	settle     time.Duration
	// What the slopes are measured by.
	groups, issuers steps
	slopeTokens     int
}

func parse(args []string) (options, error) {
	o := options{workers: runtime.NumCPU(), people: 1000, watchSteps: []int{2000, 10000}, settle: 3 * time.Second,
		groups: steps{3, 103}, issuers: steps{1, 33}, slopeTokens: 2000}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.run, "run", "", "measure what has a name that begins so, separated by commas: "+experimentNames())
	names := flags.String("proxies", "gatehouse,gatehouse-info,haproxy,haproxy-h2,nginx", "which, of: "+strings.Join(proxyNames(), " "))
	flags.StringVar(&o.gatehouse, "gatehouse", filepath.Join("..", "bin", "gatehouse"), "the binary to measure, as make build builds it")
	flags.StringVar(&o.other, "other", "", "the binary of the proxy called other: a gatehouse to compare with")
	flags.StringVar(&o.level, "log-level", "warn", "GATEHOUSE_LOG_LEVEL; the proxy called gatehouse-info has info")
	flags.IntVar(&o.rounds, "rounds", 5, "turns that each proxy has")
	flags.DurationVar(&o.warm, "warm", 200*time.Millisecond, "load before each measurement")
	flags.DurationVar(&o.length, "for", time.Second, "length of each measurement")
	flags.BoolVar(&o.instructions, "instructions", true, "count instructions too, if the machine can: steadier than time where others use it")
	flags.StringVar(&o.perf, "perf", "", "have perf record the stacks of the first proxy while it is measured, into this file")
	flags.IntVar(&o.workers, "workers", o.workers, "threads, processes or GOMAXPROCS of each proxy")
	flags.StringVar(&o.docs, "docs", "", "write benchmarks.md and scaling.md into this folder; needs every experiment")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if flags.NArg() > 0 {
		return options{}, fmt.Errorf("arguments %q: none are expected", flags.Args())
	}
	o.proxies = strings.Split(*names, ",")
	for _, binary := range []*string{&o.gatehouse, &o.other} {
		if *binary == "" {
			continue
		}
		path, err := filepath.Abs(*binary) // each proxy runs in a folder of its own
		if err != nil {
			return options{}, fmt.Errorf("find %s: %w", *binary, err)
		}
		*binary = path
	}
	if o.rounds < 1 || o.length <= 0 {
		return options{}, fmt.Errorf("rounds and for must be positive")
	}
	return o, nil
}

// wants reports whether an experiment was asked for.
func (o options) wants(name string) bool {
	for _, prefix := range strings.Split(o.run, ",") {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
