// Package usage answers: what does a process cost? CPU time from
// /proc/<pid>/task/*/schedstat, instructions from the processor's own counters,
// memory from /proc/<pid>/smaps_rollup. Linux alone.
package usage

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// CPU returns what the threads of pids have run for so far, in user mode and in
// the kernel. What a thread used that has ended since is not in it: take the
// difference of two calls only where threads stay.
func CPU(pids ...int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		threads, err := Threads(pid)
		if err != nil {
			return 0, err
		}
		for _, tid := range threads {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/schedstat", pid, tid))
			if os.IsNotExist(err) {
				continue // it has ended
			}
			if err != nil {
				return 0, fmt.Errorf("read CPU time of process %d: %w", pid, err)
			}
			// proc(5): time on the CPU in ns, time waiting in ns, timeslices.
			first, _, _ := bytes.Cut(b, []byte(" "))
			ns, err := strconv.ParseInt(string(first), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read CPU time of process %d: %w", pid, err)
			}
			sum += time.Duration(ns)
		}
	}
	return sum, nil
}

// Threads lists the thread ids of a process.
func Threads(pid int) ([]int, error) { return numbers(fmt.Sprintf("/proc/%d/task", pid)) }

// numbers lists the entries of a folder that are numbers.
func numbers(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	list := make([]int, 0, len(entries))
	for _, entry := range entries {
		if n, err := strconv.Atoi(entry.Name()); err == nil {
			list = append(list, n)
		}
	}
	return list, nil
}

// Children lists the processes whose parent is pid.
func Children(pid int) ([]int, error) {
	all, err := numbers("/proc")
	if err != nil {
		return nil, err
	}
	var children []int
	for _, p := range all {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p), "stat"))
		if err != nil {
			continue // it has ended
		}
		// The name, in parentheses, may hold anything; after it: state, parent.
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			children = append(children, p)
		}
	}
	return children, nil
}

// Memory returns the resident memory of pids in bytes: RSS as the kernel counts
// it for each process, and PSS, which divides what processes share among them.
func Memory(pids ...int) (rss, pss int64, err error) {
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, 0, fmt.Errorf("read memory of process %d: %w", pid, err)
		}
		lines := bufio.NewScanner(bytes.NewReader(b))
		for lines.Scan() {
			var kb int64
			switch name, rest, _ := strings.Cut(lines.Text(), ":"); name {
			case "Rss":
				_, err = fmt.Sscanf(rest, "%d kB", &kb)
				rss += kb << 10
			case "Pss":
				_, err = fmt.Sscanf(rest, "%d kB", &kb)
				pss += kb << 10
			}
			if err != nil {
				return 0, 0, fmt.Errorf("read memory of process %d: %w", pid, err)
			}
		}
	}
	return rss, pss, nil
}
