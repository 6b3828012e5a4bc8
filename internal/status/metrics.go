package status

import (
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/metric"
)

var _ metric.Source = (*Metrics)(nil)

// Metrics gives a Board as metrics. Every series of a registered job exists from
// its registration on, so that a rate or an absence can be alerted on from the
// first scrape.
type Metrics struct {
	board                                          *Board
	state, success, next, failures, duration, last *metric.Desc
}

// NewMetrics returns the metrics of b.
func NewMetrics(b *Board) *Metrics {
	desc := func(kind metric.Kind, name, help string, labels ...string) *metric.Desc {
		return metric.New(kind, "job_"+name, help, append([]string{"name"}, labels...)...)
	}
	return &Metrics{
		board:    b,
		state:    desc(metric.Gauge, "state", "1 for the state that the job is in, 0 for the others.", "state"),
		success:  desc(metric.Gauge, "last_success_timestamp_seconds", "Unix time of the last good run, 0 before the first."),
		next:     desc(metric.Gauge, "next_run_timestamp_seconds", "Unix time of the next run by the clock, 0 when there is none."),
		failures: desc(metric.Counter, "failures_total", "Failed runs by reason.", "reason"),
		duration: desc(metric.Summary, "duration_seconds", "Duration of finished runs, good or not."),
		last:     desc(metric.Gauge, "last_duration_seconds", "Duration of the last finished run, good or not."),
	}
}

// Describe implements metric.Source.
func (m *Metrics) Describe() []*metric.Desc {
	return []*metric.Desc{m.state, m.success, m.next, m.failures, m.duration, m.last}
}

// Emit implements metric.Source.
func (m *Metrics) Emit(to metric.Sink) {
	m.board.mu.Lock()
	defer m.board.mu.Unlock()
	for _, r := range m.board.jobs {
		job := string(r.report.Job)
		for _, s := range States() {
			metric.Flag(to, m.state, s == r.report.State, job, string(s))
		}
		to.Set(m.success, unix(r.report.LastSuccess), job)
		to.Set(m.next, unix(r.report.NextRun), job)
		to.Set(m.last, r.last, job)
		for reason, n := range r.failures {
			to.Set(m.failures, float64(n), job, string(reason))
		}
		to.Summary(m.duration, r.runs, r.seconds, job)
	}
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
