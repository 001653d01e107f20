// Package metrics tells Prometheus what the operator knows: the verdicts as the controllers write them, and what the
// runner does to come to them. docs/metrics.md lists every metric.
package metrics
