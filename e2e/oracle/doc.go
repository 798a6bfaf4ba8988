// Package oracle answers: does gatehouse give the verdict that kube-apiserver
// gives?
//
// Its tests give one corpus of configurations, tokens, token files (testdata)
// and client certificates (cert*_test.go) to both sides: to gatehouse's packages,
// and to kube-apiserver's own decoder, validation, JWT authenticator, token file
// and x509 authenticator as libraries. User, groups, uid and extra must be the
// same, or both must refuse. Issuers, keys and TLS are real; the clock stands
// still, on both sides at the same moment.
//
// What of the corpus fits into one cluster is given to a running kube-apiserver
// too, directly and through the built gatehouse in front of it
// (TestRunningAPIServer): SelfSubjectReview must say the same.
//
// Where gatehouse differs on purpose, the row names a divergence, which must
// stand in docs/divergences.md and explain the difference that is seen. A row
// that names none, or one that differs no longer, fails.
//
// Generators make configurations, claims, certificates and chains beyond the
// corpus. A failure prints the seed that repeats it:
//
//	go test ./oracle -run TestGenerated -oracle.for 10m -oracle.seed 7
//	go test ./oracle -run '^$' -fuzz 'FuzzGenerated$'
//	go test ./oracle -run '^$' -fuzz FuzzGeneratedCertificates
package oracle
