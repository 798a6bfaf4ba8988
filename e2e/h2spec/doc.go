// Package h2spec answers: does gatehouse speak HTTP/2 as the RFCs have it? h2spec, a
// suite that others wrote, asks the real binary, over TLS.
package h2spec
