//go:build !race

package exporter_test

// leeway is what the limits on allocations are multiplied by.
const leeway = 1
