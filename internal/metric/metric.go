// Package metric is how the sidecar's jobs say what /metrics shows of them. It
// imports no other package of this project.
//
// A registry of Prometheus' client library would make, check and hash some ten
// objects for every series at every scrape, which was half of all that a scrape
// allocates. Here a job names its metrics once and hands out numbers.
package metric

// Kind is the type of a metric.
type Kind uint8

// The kinds.
const (
	Gauge Kind = iota
	Counter
	Summary // count and sum, without quantiles
)

// Desc describes one metric.
type Desc struct {
	Name   string // whole: redis_sidecar_…
	Help   string
	Kind   Kind
	Labels []string // names, in alphabetical order
}

// New returns a description of a metric whose name begins with redis_sidecar_.
func New(kind Kind, name, help string, labels ...string) *Desc {
	return &Desc{Name: "redis_sidecar_" + name, Help: help, Kind: kind, Labels: labels}
}

// Source is what has metrics. Its methods may be called from any goroutine.
type Source interface {
	// Describe returns every metric that Emit may emit, the same ones each time.
	Describe() []*Desc
	// Emit hands out the present values. It waits for nobody outside the process.
	Emit(to Sink)
}

// Sink takes values. labels are the values of the metric's labels in their order.
type Sink interface {
	Set(d *Desc, value float64, labels ...string)
	Summary(d *Desc, count uint64, sum float64, labels ...string)
}

// Flag sets a gauge of 1 or 0.
func Flag(to Sink, d *Desc, on bool, labels ...string) {
	value := 0.0
	if on {
		value = 1
	}
	to.Set(d, value, labels...)
}
