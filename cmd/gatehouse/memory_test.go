package main

import "testing"

// Promise: little memory in use does not mean much work for the garbage
// collector, and much memory in use does not mean that it is kept twice.
func TestGarbagePercent(t *testing.T) {
	for _, test := range []struct {
		inUse uint64
		want  int
	}{
		{0, 800},
		{4 << 20, 800},
		{8 << 20, 400},
		{32 << 20, 100},
		{96 << 20, 33},
		{1 << 30, 33},
	} {
		if got := garbagePercent(test.inUse); got != test.want {
			t.Errorf("garbagePercent(%d) = %d, want %d", test.inUse, got, test.want)
		}
	}
}
