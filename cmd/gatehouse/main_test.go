package main

import (
	"flag"
	"os"
	"testing"
)

// asGatehouse is a variable that makes this test the command gatehouse, for tests
// that need real processes.
const asGatehouse = "GATEHOUSE_TEST_AS_COMMAND"

// The tests wait for clocks far more than they compute, so more of them run at
// a time than there are cores. The flag -parallel still decides.
func TestMain(m *testing.M) {
	if os.Getenv(asGatehouse) != "" {
		main()
	}
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
