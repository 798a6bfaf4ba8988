package streaming_test

import "testing"

func (s *suite) testOtherKubectls(*testing.T) {}
