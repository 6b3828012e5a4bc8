//go:build race

package exporter_test

// leeway is for what the race detector throws away, by chance, of all that
// sync.Pool keeps.
const leeway = 3
