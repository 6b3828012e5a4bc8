package exporter

import (
	dto "github.com/prometheus/client_model/go"

	"github.com/redis-sidecar/redis-sidecar/internal/metric"
)

// sources are the metrics of others: of the jobs and of the process.
type sources struct {
	all      []metric.Source
	families map[*metric.Desc]*family
}

func newSources(c *catalog, all []metric.Source) *sources {
	s := &sources{all: all, families: make(map[*metric.Desc]*family)}
	for _, src := range all {
		for _, d := range src.Describe() {
			kind := map[metric.Kind]dto.MetricType{metric.Gauge: typeGauge, metric.Counter: typeCounter, metric.Summary: typeSummary}[d.Kind]
			s.families[d] = c.put(kind, d.Name, "sidecar", d.Help, d.Labels)
			s.families[d].owner = "sidecar" // not of the exporter: collect[] is without them
		}
	}
	return s
}

func (s *sources) emit(out *sink) {
	for _, src := range s.all {
		src.Emit(sourceSink{s, out})
	}
}

// sourceSink puts what a source emits into a sink.
type sourceSink struct {
	*sources
	out *sink
}

var _ metric.Sink = sourceSink{}

// Set adds a value; one that was not described is a defect of the source.
func (s sourceSink) Set(d *metric.Desc, value float64, labels ...string) {
	s.out.set(s.families[d], value, labels...)
}

// Summary adds a summary without quantiles.
func (s sourceSink) Summary(d *metric.Desc, count uint64, sum float64, labels ...string) {
	s.out.summary(s.families[d], count, sum, nil, labels...)
}
