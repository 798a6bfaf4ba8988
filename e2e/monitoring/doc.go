// Package monitoring answers: do the alerts fire when they should, and does the
// dashboard show something, with a real Prometheus?
package monitoring
