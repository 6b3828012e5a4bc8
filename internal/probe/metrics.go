package probe

import "github.com/redis-sidecar/redis-sidecar/internal/metric"

var _ metric.Source = (*Metrics)(nil)

// Metrics gives the verdicts as metrics.
type Metrics struct {
	monitor             *Monitor
	verdict, unanswered *metric.Desc
}

// NewMetrics returns the metrics of m.
func NewMetrics(m *Monitor) *Metrics {
	return &Metrics{
		monitor:    m,
		verdict:    metric.New(metric.Gauge, "probe_verdict", "1 when the probe's verdict is yes, 0 when it is no.", "probe"),
		unanswered: metric.New(metric.Gauge, "probe_unanswered_seconds", "How long redis-server has owed an answer; 0 when it answered the last question."),
	}
}

// Describe implements metric.Source.
func (m *Metrics) Describe() []*metric.Desc { return []*metric.Desc{m.verdict, m.unanswered} }

// Emit implements metric.Source.
func (m *Metrics) Emit(to metric.Sink) {
	o := m.monitor.observation()
	v := Judge(o, m.monitor.opt.Policy)
	for _, k := range Kinds() {
		metric.Flag(to, m.verdict, v.Of(k).OK, string(k))
	}
	to.Set(m.unanswered, o.Silent.Seconds())
}
