// Package clients answers: does every client that people use do through gatehouse
// what it does at the API server itself, of each version that can be had?
package clients
