// Package faults answers one question: when something around gatehouse fails,
// which requests are lost that could have been served?
//
// Each test breaks one thing under load: real callers on one side, the real
// kube-apiserver on the other. It counts what was asked, what failed as it may,
// and what was lost, which must be nothing. docs/staying-up.md shows the counts,
// and a test holds its rows current.
package faults
