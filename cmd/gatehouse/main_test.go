package main

import (
	"flag"
	"os"
	"testing"
)

// The tests wait for clocks far more than they compute, so more of them run at
// a time than there are cores. The flag -parallel still decides.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
