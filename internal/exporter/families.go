package exporter

import (
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// roleLabel is the label that Options.InstanceRoleLabel adds.
const roleLabel = "instance_role"

// families returns what was collected, and is wanted, as Prometheus' own types,
// ordered by name: for the protobuf format. Nothing of it belongs to the sink.
func (s *sink) families(show selection) []*dto.MetricFamily {
	out := make([]*dto.MetricFamily, 0, len(s.series)+len(s.passed))
	for id, list := range s.series {
		if f := s.catalog.families[id]; len(list) > 0 && show.family(f) {
			out = append(out, s.familyOf(f, list))
		}
	}
	for _, p := range s.passed {
		if show.family(p.family) {
			out = append(out, s.familyOf(p.family, []sample{{value: p.value}}))
		}
	}
	if len(s.passed) > 0 {
		slices.SortFunc(out, func(a, b *dto.MetricFamily) int { return strings.Compare(*a.Name, *b.Name) })
	}
	return out
}

func (s *sink) familyOf(f *family, list []sample) *dto.MetricFamily {
	mf := &dto.MetricFamily{Name: &f.name, Help: &f.help, Type: &f.kind, Metric: make([]*dto.Metric, len(list))}
	for i, m := range list {
		d := &dto.Metric{}
		for j := range m.labels {
			value := strings.Clone(m.labels[j])
			d.Label = append(d.Label, &dto.LabelPair{Name: &f.labels[j], Value: &value})
		}
		if s.role != "" && f.role {
			name, value := roleLabel, strings.Clone(s.role)
			d.Label = append(d.Label, &dto.LabelPair{Name: &name, Value: &value})
			slices.SortFunc(d.Label, func(a, b *dto.LabelPair) int { return strings.Compare(*a.Name, *b.Name) })
		}
		switch f.kind {
		case typeCounter:
			d.Counter = &dto.Counter{Value: &m.value}
		case typeSummary:
			d.Summary = m.dist.asSummary()
		case typeHistogram:
			d.Histogram = m.dist.asHistogram()
		default:
			d.Gauge = &dto.Gauge{Value: &m.value}
		}
		mf.Metric[i] = d
	}
	return mf
}

func (d distribution) asSummary() *dto.Summary {
	out := &dto.Summary{SampleCount: &d.count, SampleSum: &d.sum}
	for _, p := range d.points {
		out.Quantile = append(out.Quantile, &dto.Quantile{Quantile: &p.at, Value: &p.value})
	}
	return out
}

func (d distribution) asHistogram() *dto.Histogram {
	out := &dto.Histogram{SampleCount: &d.count, SampleSum: &d.sum}
	for _, p := range d.points {
		n := uint64(p.value)
		out.Bucket = append(out.Bucket, &dto.Bucket{UpperBound: &p.at, CumulativeCount: &n})
	}
	return out
}
