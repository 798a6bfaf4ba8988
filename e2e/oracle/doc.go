// Package oracle answers: does gatehouse give the verdict that kube-apiserver
// gives?
//
// Its tests give one corpus (testdata) of configurations, tokens and token
// files to both sides: to gatehouse's packages, and to kube-apiserver's own
// decoder, validation, JWT authenticator and token file as libraries. User,
// groups, uid and extra must be the same, or both must refuse. Issuers, keys and
// TLS are real; the clock stands still, on both sides at the same moment.
//
// Where gatehouse differs on purpose, the row names a divergence, which must
// stand in docs/divergences.md and explain the difference that is seen. A row
// that names none, or one that differs no longer, fails.
//
// A generator makes configurations and claims beyond the corpus:
//
//	go test ./oracle -run TestGenerated -oracle.for 10m -oracle.seed 7
//	go test ./oracle -run '^$' -fuzz FuzzGenerated
package oracle
