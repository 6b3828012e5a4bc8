package announce

import "github.com/redis-sidecar/redis-sidecar/internal/metric"

var _ metric.Source = (*Metrics)(nil)

// Metrics gives what the job knows as metrics.
type Metrics struct {
	job                          *Job
	mismatch, corrections, infos *metric.Desc
}

// NewMetrics returns the metrics of j.
func NewMetrics(j *Job) *Metrics {
	return &Metrics{
		job: j,
		mismatch: metric.New(metric.Gauge, "announce_mismatch",
			"1 while redis-server is known to announce another address than its own."),
		corrections: metric.New(metric.Counter, "announce_corrections_total",
			"Announced addresses that were corrected."),
		infos: metric.New(metric.Gauge, "announce_address_info",
			"The pod's own address and where it was taken from; always 1.", "address", "source"),
	}
}

// Describe implements metric.Source.
func (m *Metrics) Describe() []*metric.Desc {
	return []*metric.Desc{m.mismatch, m.corrections, m.infos}
}

// Emit implements metric.Source.
func (m *Metrics) Emit(to metric.Sink) {
	m.job.mu.Lock()
	mismatch, corrections, own := m.job.mismatch != "", m.job.corrections, m.job.own
	m.job.mu.Unlock()
	metric.Flag(to, m.mismatch, mismatch)
	to.Set(m.corrections, float64(corrections))
	if own.Address != "" {
		to.Set(m.infos, 1, own.Address, string(own.Source))
	}
}
