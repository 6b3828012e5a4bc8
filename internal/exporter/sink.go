package exporter

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

const (
	// passLimit is how many fields without a table row one scrape passes through.
	passLimit = 128
	// labelLimit is how many bytes a label value keeps.
	labelLimit = 256
)

// sink collects the series of one scrape and makes them fit to be shown whatever
// the server said: label values are valid UTF-8 and bounded, families are
// bounded, and of two series with the same labels the first one stays.
//
// Nothing is allocated for a single series: labels and points lie in arenas
// that the next scrape uses again. That, and no registry, is what makes a
// scrape cheap. So a sink must not be touched after its last release.
type sink struct {
	catalog *catalog
	role    string // value of the label instance_role, if that is wanted

	series   [][]sample // by family.id
	borrowed []borrowed // series that belong to another sink
	passed   []passed   // fields without a table row
	dropped  int        // series left out because of a limit

	labels arena[string]
	dists  arena[distribution]
	points arena[point]

	pool *sync.Pool // where it goes after the last release; may be nil
	refs atomic.Int32
}

// borrowed says that the first n series of a family are those of another sink,
// which are in order.
type borrowed struct{ id, n int }

// sample is one series.
type sample struct {
	labels []string // values, in the order of the family's labels
	value  float64
	dist   *distribution // of a summary or histogram, instead of the value
}

// distribution is what a summary or a histogram has instead of one value.
type distribution struct {
	count  uint64
	sum    float64
	points []point
}

// point is a quantile and its value, or the upper edge of a bucket and how many
// observations were not above it.
type point struct{ at, value float64 }

// passed is a gauge that no family describes.
type passed struct {
	family *family
	value  float64
}

func newSink(c *catalog) *sink {
	return &sink{catalog: c, series: make([][]sample, len(c.families))}
}

// set adds one series of a gauge or counter. labels are the values of the
// family's labels in their order; the last ones may be left out.
func (s *sink) set(f *family, value float64, labels ...string) {
	if m := s.add(f, labels); m != nil {
		m.value = value
	}
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
	d := s.distribution(m, count, sum, len(points))
	for i, p := range points {
		d.points[i] = point{p.quantile, p.value}
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
	d := s.distribution(m, count, sum, len(buckets))
	for i, b := range buckets {
		d.points[i] = point{b.edge, float64(b.count)}
	}
}

func (s *sink) distribution(m *sample, count uint64, sum float64, points int) *distribution {
	d := &s.dists.take(1)[0]
	*d = distribution{count, sum, s.points.take(points)}
	m.dist = d
	return d
}

// pass adds a gauge that no family describes, named after the server's field.
// name must be a valid metric name without the namespace. It returns false when
// the name is taken or there are too many.
func (s *sink) pass(name, help string, value float64) bool {
	f := s.catalog.passing(name, help)
	switch {
	case f == nil, slices.ContainsFunc(s.passed, func(p passed) bool { return p.family == f }):
		return false
	case f.hidden:
		return true
	case len(s.passed) == passLimit:
		s.dropped++
		return false
	}
	s.passed = append(s.passed, passed{f, value})
	return true
}

// add makes an empty series, or nil when the family is not wanted or full, or
// has no labels and its series already.
func (s *sink) add(f *family, labels []string) *sample {
	list := s.series[f.id]
	switch {
	case f.hidden, len(labels) == 0 && len(list) > 0:
		return nil
	case len(list) >= f.limit:
		s.dropped++
		return nil
	}
	m := sample{}
	if len(labels) > 0 {
		m.labels = s.labels.take(len(labels))
		for i, v := range labels {
			m.labels[i] = labelValue(v)
		}
	}
	list = append(list, m)
	s.series[f.id] = list
	return &list[len(list)-1]
}

// include adds all series of another sink of the same catalog, which must not
// change any more.
func (s *sink) include(other *sink) {
	for id, list := range other.series {
		switch {
		case len(list) == 0:
		case len(s.series[id]) == 0:
			s.series[id] = slices.Clip(list)
			s.borrowed = append(s.borrowed, borrowed{id, len(list)})
		default:
			s.series[id] = append(s.series[id], list...)
		}
	}
	s.dropped += other.dropped
}

// finish orders the series and leaves out those that came before. The sink must
// not be changed afterwards.
func (s *sink) finish() {
	ordered := make(map[int]bool, len(s.borrowed))
	for _, b := range s.borrowed {
		ordered[b.id] = len(s.series[b.id]) == b.n // nothing came in addition, for which a copy was made
	}
	for id, list := range s.series {
		if len(list) < 2 || ordered[id] || isAscending(list) {
			continue
		}
		slices.SortStableFunc(list, compareLabels)
		s.series[id] = slices.CompactFunc(list, func(a, b sample) bool { return compareLabels(a, b) == 0 })
	}
	slices.SortFunc(s.passed, func(a, b passed) int { return strings.Compare(a.family.name, b.family.name) })
}

// isAscending tells whether each series has greater labels than the one before.
func isAscending(list []sample) bool {
	for i := 1; i < len(list); i++ {
		if compareLabels(list[i-1], list[i]) >= 0 {
			return false
		}
	}
	return true
}

// compareLabels orders series of one family.
func compareLabels(a, b sample) int { return slices.Compare(a.labels, b.labels) }

// release gives the sink back for the next scrape, once everyone who has it did.
func (s *sink) release() {
	if s.refs.Add(-1) == 0 && s.pool != nil {
		s.reset()
		s.pool.Put(s)
	}
}

// reset makes the sink as new, with the memory it has.
func (s *sink) reset() {
	for _, b := range s.borrowed {
		s.series[b.id] = nil
	}
	for id, list := range s.series {
		s.series[id] = list[:0]
	}
	s.role, s.borrowed, s.passed, s.dropped = "", s.borrowed[:0], s.passed[:0], 0
	s.labels.reset()
	s.dists.reset()
	s.points.reset()
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

// arena hands out elements of one type from few allocations, and again after a
// reset.
type arena[T any] struct {
	chunk []T
	used  int
}

const arenaSize = 256

// take returns n elements, whatever is in them, without room to grow.
func (a *arena[T]) take(n int) []T {
	if a.used+n > len(a.chunk) {
		// What was taken keeps the old chunk alive.
		a.chunk, a.used = make([]T, max(n, arenaSize, 2*len(a.chunk))), 0
	}
	out := a.chunk[a.used : a.used+n : a.used+n]
	a.used += n
	return out
}

// reset takes everything back. Nothing that was taken may be used any more.
func (a *arena[T]) reset() {
	clear(a.chunk[:a.used]) // lets go of what the elements point to
	a.used = 0
}
