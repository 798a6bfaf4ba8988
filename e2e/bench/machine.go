package main

import (
	"bufio"
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"

	"github.com/kube-gatehouse/gatehouse/e2e/bench/proxies"
)

// machine is what the measurements were made on.
type machine struct {
	Processor, Kernel, Load, Go, HAProxy, Nginx string
	Cores, MemoryGiB                            int
	BinaryMB                                    string
	TokenBytes                                  int
}

// describe asks the machine what it is. The name of the host is not in it.
func describe(ctx context.Context, binary string) (machine, error) {
	m := machine{Cores: runtime.NumCPU()}
	var err error
	if m.Processor, err = procField("/proc/cpuinfo", "model name"); err != nil {
		return m, err
	}
	total, err := procField("/proc/meminfo", "MemTotal")
	if err != nil {
		return m, err
	}
	var kib int
	if _, err := fmt.Sscanf(total, "%d kB", &kib); err != nil {
		return m, fmt.Errorf("read how much memory there is: %w", err)
	}
	m.MemoryGiB = (kib + 1<<19) >> 20
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return m, fmt.Errorf("read the kernel's version: %w", err)
	}
	m.Kernel = version(string(release))
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return m, fmt.Errorf("read the load: %w", err)
	}
	m.Load, _, _ = strings.Cut(string(load), " ")
	build, err := buildinfo.ReadFile(binary)
	if err != nil {
		return m, fmt.Errorf("read how %s was built: %w", binary, err)
	}
	info, err := os.Stat(binary)
	if err != nil {
		return m, fmt.Errorf("read the size of gatehouse: %w", err)
	}
	m.Go, m.BinaryMB = build.GoVersion, fmt.Sprintf("%.1f", float64(info.Size())/1e6)
	haproxy, err := proxies.Version(ctx, "haproxy", "-v")
	if err != nil {
		return m, err
	}
	nginx, err := proxies.Version(ctx, "nginx", "-v")
	m.HAProxy, m.Nginx = version(haproxy), version(nginx)
	return m, err
}

// version finds the first thing in s that looks like a version.
func version(s string) string { return regexp.MustCompile(`\d+\.\d+(\.\d+)?`).FindString(s) }

// procField is the first value of a name in a file of lines "name : value".
func procField(path, name string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("read %s: there is no %q", path, name)
}
