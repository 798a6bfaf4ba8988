// Package rawbytes answers one question: what reaches the API server, byte for
// byte, when a client sends gatehouse anything at all?
//
// The suite runs the real binary between a client that writes exact bytes
// (HTTP/1.1 lines over TLS, HTTP/2 frames) and a fake API server that records
// exact bytes and applies kube-apiserver's own impersonation rules. Those rules
// fail open: a request that arrives with the proxy's credential and no identity
// runs as the proxy. The fake says so with [ExecutedAsProxy], and that text is
// an automatic failure of every case, whatever else the case expects.
//
// After each case the oracles of this package are asked:
//
//   - O1: a request that arrived carries exactly one Authorization, the proxy's
//     own, and exactly the identity that the case expects: the caller's, or the
//     one that the caller may act as (--as), with the caller's name as the extra
//     kube-gatehouse.github.io/original-user; or, of a ServiceAccount, exactly the
//     caller's own token, no identity but the one it asks for, and nothing of the
//     proxy's credential, its client certificate neither;
//   - O2: no header of the client's in an identity or address family arrived;
//   - O3: after a refusal nothing arrived;
//   - O4: no secret occurs in an answer, a log line or a metric.
//
// The files without _test in their name are the harness and hold no verdicts
// about gatehouse; the tests are tables whose rows are named after the threat.
package rawbytes
