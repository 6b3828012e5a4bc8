package backup

import "github.com/redis-sidecar/redis-sidecar/internal/metric"

var _ metric.Source = (*VerifyMetrics)(nil)

// VerifyMetrics gives what a job knows of verifications as metrics. They are for a
// job with a VerifyPlan that has a schedule: without one nothing would ever be
// verified, and an alert about that would be wrong.
type VerifyMetrics struct {
	job                            *Job
	newest, runs, duration, broken *metric.Desc
}

// NewVerifyMetrics returns the metrics of j.
func NewVerifyMetrics(j *Job) *VerifyMetrics {
	return &VerifyMetrics{
		job: j,
		newest: metric.New(metric.Gauge, "backup_last_verified_timestamp_seconds",
			"When the newest snapshot whose last verification it passed was begun, whichever pod took and verified it; 0 when none is known."),
		runs: metric.New(metric.Counter, "backup_verifications_total",
			"Snapshots that this pod has verified by schedule: passed, damaged, or failed, which says nothing of the snapshot.", "result"),
		duration: metric.New(metric.Gauge, "backup_verify_last_duration_seconds", "How long the last run of scheduled verification of this pod took, of all its snapshots."),
		broken: metric.New(metric.Gauge, "backup_damaged_snapshots",
			"Snapshots in the store that are damaged: their manifests, or by their last verification their data."),
	}
}

// Describe implements metric.Source.
func (m *VerifyMetrics) Describe() []*metric.Desc {
	return []*metric.Desc{m.newest, m.runs, m.duration, m.broken}
}

// Emit implements metric.Source. The values are those of the last look into the
// store.
func (m *VerifyMetrics) Emit(to metric.Sink) {
	m.job.mu.Lock()
	c := m.job.verify.counts
	m.job.mu.Unlock()
	newest := 0.0
	if !c.newest.IsZero() {
		newest = float64(c.newest.Unix())
	}
	to.Set(m.newest, newest)
	to.Set(m.runs, float64(c.passed), "passed")
	to.Set(m.runs, float64(c.damaged), "damaged")
	to.Set(m.runs, float64(c.failed), "failed")
	to.Set(m.duration, c.lastDuration.Seconds())
	to.Set(m.broken, float64(c.broken))
}
