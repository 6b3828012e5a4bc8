package testenv

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/metric"
)

// Metrics returns what a source emits: the values by name and labels, as in the
// text format. It fails the test for what a scrape could not show: a metric that
// is not described, a series twice, labels that do not fit.
func Metrics(tb testing.TB, src metric.Source) map[string]float64 {
	tb.Helper()
	s := samples{tb: tb, described: src.Describe(), values: map[string]float64{}}
	names := map[string]bool{}
	for _, d := range s.described {
		if names[d.Name] {
			tb.Errorf("%s is described twice", d.Name)
		}
		names[d.Name] = true
		if d.Help == "" || !slices.IsSorted(d.Labels) || (d.Kind == metric.Counter) != strings.HasSuffix(d.Name, "_total") {
			tb.Errorf("%s: no help, labels in disorder, or a name that does not fit its kind: %+v", d.Name, *d)
		}
	}
	src.Emit(s)
	return s.values
}

// MetricsText is Metrics as lines of text, ordered.
func MetricsText(tb testing.TB, src metric.Source) string {
	tb.Helper()
	var lines []string
	for name, v := range Metrics(tb, src) {
		lines = append(lines, name+" "+strconv.FormatFloat(v, 'g', -1, 64)+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

type samples struct {
	tb        testing.TB
	described []*metric.Desc
	values    map[string]float64
}

var _ metric.Sink = samples{}

// Set notes a value.
func (s samples) Set(d *metric.Desc, value float64, labels ...string) {
	s.tb.Helper()
	s.put(d, "", value, labels)
}

// Summary notes count and sum.
func (s samples) Summary(d *metric.Desc, count uint64, sum float64, labels ...string) {
	s.tb.Helper()
	s.put(d, "_count", float64(count), labels)
	s.put(d, "_sum", sum, labels)
}

func (s samples) put(d *metric.Desc, suffix string, value float64, labels []string) {
	s.tb.Helper()
	if !slices.Contains(s.described, d) || len(labels) != len(d.Labels) || (suffix != "") != (d.Kind == metric.Summary) {
		s.tb.Errorf("%s%q does not fit what is described", d.Name, labels)
		return
	}
	name := d.Name + suffix
	if len(labels) > 0 {
		pairs := make([]string, len(labels))
		for i, v := range labels {
			pairs[i] = d.Labels[i] + "=" + strconv.Quote(v)
		}
		name += "{" + strings.Join(pairs, ",") + "}"
	}
	if _, twice := s.values[name]; twice {
		s.tb.Errorf("%s comes twice", name)
	}
	s.values[name] = value
}
