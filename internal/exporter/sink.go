package exporter

import (
	"slices"
	"strings"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
)

const (
	// seriesLimit is how many series one family may have: what names them comes
	// from the server.
	seriesLimit = 2000
	// passLimit is how many fields without a table row one scrape passes through.
	passLimit = 128
	// labelLimit is how many bytes a label value keeps.
	labelLimit = 256
)

// sink collects the series of one scrape and makes them fit to be gathered
// whatever the server said: label values are valid UTF-8 and bounded, families
// are bounded, and of two series with the same labels the first one stays.
//
// What Prometheus' client library allocates for each series comes from slabs
// here; that, and no registry, is what makes a scrape cheap.
type sink struct {
	catalog *catalog
	series  [][]*dto.Metric // by family.id
	passed  []*dto.MetricFamily
	passing map[string]bool // names in passed
	dropped int             // series left out because of a limit

	metrics    slab[dto.Metric]
	metricPtrs slab[*dto.Metric]
	gauges     slab[dto.Gauge]
	counters   slab[dto.Counter]
	floats     slab[float64]
	uints      slab[uint64]
	pairs      slab[dto.LabelPair]
	pairPtrs   slab[*dto.LabelPair]
	values     slab[string]
	buckets    slab[dto.Bucket]
	bucketPtrs slab[*dto.Bucket]
	quantiles  slab[dto.Quantile]
	quantPtrs  slab[*dto.Quantile]
}

func newSink(c *catalog) *sink {
	return &sink{catalog: c, series: make([][]*dto.Metric, len(c.families))}
}

// set adds one series of a gauge or counter. labels are the values of the
// family's labels in their order; the last ones may be left out.
func (s *sink) set(f *family, value float64, labels ...string) {
	m := s.add(f, labels)
	if m == nil {
		return
	}
	s.value(m, f.kind, value)
}

func (s *sink) value(m *dto.Metric, kind dto.MetricType, value float64) {
	v := s.floats.one()
	*v = value
	if kind == typeCounter {
		m.Counter = s.counters.one()
		m.Counter.Value = v
		return
	}
	m.Gauge = s.gauges.one()
	m.Gauge.Value = v
}

// flag adds a gauge of 1 or 0.
func (s *sink) flag(f *family, on bool, labels ...string) {
	value := 0.0
	if on {
		value = 1
	}
	s.set(f, value, labels...)
}

// quantile is one point of a summary.
type quantile struct{ quantile, value float64 }

// summary adds one series of a summary.
func (s *sink) summary(f *family, count uint64, sum float64, points []quantile, labels ...string) {
	m := s.add(f, labels)
	if m == nil {
		return
	}
	m.Summary = &dto.Summary{SampleCount: s.uint(count), SampleSum: s.float(sum)}
	m.Summary.Quantile = s.quantPtrs.take(len(points))
	for i, p := range points {
		q := s.quantiles.one()
		q.Quantile, q.Value = s.float(p.quantile), s.float(p.value)
		m.Summary.Quantile[i] = q
	}
}

// bucket is one bucket of a histogram: how many observations were not above
// the edge.
type bucket struct {
	edge  float64
	count uint64
}

// histogram adds one series of a histogram. The bucket without an upper edge is
// made from count.
func (s *sink) histogram(f *family, count uint64, sum float64, buckets []bucket, labels ...string) {
	m := s.add(f, labels)
	if m == nil {
		return
	}
	m.Histogram = &dto.Histogram{SampleCount: s.uint(count), SampleSum: s.float(sum)}
	m.Histogram.Bucket = s.bucketPtrs.take(len(buckets))
	for i, b := range buckets {
		d := s.buckets.one()
		d.UpperBound, d.CumulativeCount = s.float(b.edge), s.uint(b.count)
		m.Histogram.Bucket[i] = d
	}
}

// pass adds a gauge that no family describes, named after the server's field.
// name must be a valid metric name without the namespace. It returns false when
// the name is taken or there are too many.
func (s *sink) pass(name, help string, value float64) bool {
	name = s.catalog.namespace + "_" + name
	if s.catalog.byName[name] != nil || s.passing[name] {
		return false
	}
	if len(s.passed) == passLimit {
		s.dropped++
		return false
	}
	if s.passing == nil {
		s.passing = make(map[string]bool)
	}
	s.passing[name] = true
	m := s.metrics.one()
	s.value(m, typeGauge, value)
	kind := typeGauge
	s.passed = append(s.passed, &dto.MetricFamily{Name: &name, Help: &help, Type: &kind, Metric: []*dto.Metric{m}})
	return true
}

// add makes an empty series, or nil when the family is full or a family without
// labels has its series already.
func (s *sink) add(f *family, labels []string) *dto.Metric {
	list := s.series[f.id]
	switch {
	case len(labels) == 0 && len(list) > 0:
		return nil
	case len(list) == seriesLimit:
		s.dropped++
		return nil
	}
	m := s.metrics.one()
	if len(labels) > 0 {
		values := s.values.take(len(labels))
		m.Label = s.pairPtrs.take(len(labels))
		for i, v := range labels {
			values[i] = labelValue(v)
			p := s.pairs.one()
			p.Name, p.Value = &f.labels[i], &values[i]
			m.Label[i] = p
		}
	}
	if list == nil {
		list = s.metricPtrs.take(1)[:0]
	}
	s.series[f.id] = append(list, m)
	return m
}

// families returns what was collected, ordered by name and, in a family, by
// label values. The sink must not be used afterwards.
func (s *sink) families() []*dto.MetricFamily {
	out := make([]*dto.MetricFamily, 0, len(s.series)+len(s.passed))
	var block slab[dto.MetricFamily]
	for id, list := range s.series {
		if len(list) == 0 {
			continue
		}
		if len(list) > 1 {
			slices.SortStableFunc(list, compareLabels)
			list = slices.CompactFunc(list, func(a, b *dto.Metric) bool { return compareLabels(a, b) == 0 })
		}
		f := s.catalog.families[id]
		mf := block.one()
		mf.Name, mf.Help, mf.Type, mf.Metric = &f.name, &f.help, &f.kind, list
		out = append(out, mf)
	}
	if len(s.passed) > 0 {
		out = append(out, s.passed...)
		slices.SortFunc(out, func(a, b *dto.MetricFamily) int { return strings.Compare(*a.Name, *b.Name) })
	}
	return out
}

// compareLabels orders series of one family.
func compareLabels(a, b *dto.Metric) int {
	return slices.CompareFunc(a.Label, b.Label, func(x, y *dto.LabelPair) int {
		return strings.Compare(*x.Value, *y.Value)
	})
}

// labelValue returns v as a valid label value of bounded length.
func labelValue(v string) string {
	if len(v) > labelLimit {
		v = v[:labelLimit]
	}
	if utf8.ValidString(v) {
		return v
	}
	return strings.ToValidUTF8(v, "\uFFFD")
}

func (s *sink) float(v float64) *float64 {
	p := s.floats.one()
	*p = v
	return p
}

func (s *sink) uint(v uint64) *uint64 {
	p := s.uints.one()
	*p = v
	return p
}

// slab hands out elements of one type, many of them from one allocation.
type slab[T any] struct{ free []T }

const slabSize = 128

// one returns a zero element.
func (s *slab[T]) one() *T { return &s.take(1)[0] }

// take returns n zero elements without room to grow.
func (s *slab[T]) take(n int) []T {
	if n > len(s.free) {
		s.free = make([]T, max(n, slabSize))
	}
	out := s.free[:n:n]
	s.free = s.free[n:]
	return out
}
