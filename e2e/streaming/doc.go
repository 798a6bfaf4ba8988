// Package streaming answers one question: does every way in which people stream
// to and from pods pass gatehouse unharmed, with every client and protocol?
//
// On one side is a real client, on the other the real API server and a node that
// speaks by the kubelet's own streaming library. What passed is a table, which
// docs/streaming.md shows and a test holds current.
package streaming
