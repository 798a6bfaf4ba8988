// Package chart tests what deploy/ has people apply: the Helm chart by the real
// helm, and the kustomize base by the real kubectl, on a real API server with a
// node that runs the chart's pods.
package chart
