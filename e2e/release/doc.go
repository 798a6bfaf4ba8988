// Package release answers: is what is released what the source makes, the same
// wherever it is made, and does it run? It runs the Makefile's `dist` and `image`,
// which the release workflow runs as well.
package release
