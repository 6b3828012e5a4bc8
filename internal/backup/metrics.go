package backup

import "github.com/redis-sidecar/redis-sidecar/internal/metric"

var _ metric.Source = (*Metrics)(nil)

// Metrics gives what a job knows of the snapshots as metrics. All series exist
// from the start, 0 meaning that no snapshot is known.
type Metrics struct {
	job                                               *Job
	created, duration, size, keys, snapshots, running *metric.Desc
	refused, leftover                                 *metric.Desc
}

// NewMetrics returns the metrics of j.
func NewMetrics(j *Job) *Metrics {
	gauge := func(name, help string, labels ...string) *metric.Desc {
		return metric.New(metric.Gauge, "backup_"+name, help, labels...)
	}
	return &Metrics{
		job: j,
		created: gauge("last_success_timestamp_seconds",
			"When the newest snapshot in the store was begun, whichever pod took it; 0 when none is known."),
		duration:  gauge("last_duration_seconds", "How long the newest snapshot took, up to the writing of its manifest."),
		size:      gauge("last_size_bytes", "Size of the newest snapshot: plain as an RDB, stored as in the store.", "kind"),
		keys:      gauge("last_keys", "Keys in the newest snapshot, in all databases."),
		snapshots: gauge("snapshots", "Snapshots of this instance in the store, as of the last look."),
		running:   gauge("running", "1 while a snapshot is taken."),
		refused:   gauge("writes_refused", "1 while the server refuses writes because a save failed, and the sidecar waits to ask for one that succeeds."),
		leftover:  gauge("leftover_bytes", "Size of the temporary files that killed servers have left in the data directory, as of the last snapshot."),
	}
}

// Describe implements metric.Source.
func (m *Metrics) Describe() []*metric.Desc {
	return []*metric.Desc{m.created, m.duration, m.size, m.keys, m.snapshots, m.running, m.refused, m.leftover}
}

// Emit implements metric.Source. The values are those of the last look into the
// store.
func (m *Metrics) Emit(to metric.Sink) {
	m.job.mu.Lock()
	last, count, running := m.job.last, m.job.detail.Count, m.job.detail.Running != nil
	leftover := m.job.detail.LeftoverBytes
	m.job.mu.Unlock()
	created := 0.0
	if last.ID != "" {
		created = float64(last.CreatedAt.UnixMilli()) / 1000
	}
	to.Set(m.created, created)
	to.Set(m.duration, last.Durations.Total)
	to.Set(m.size, float64(last.RDB.Size), "plain")
	to.Set(m.size, float64(last.Object.Size), "stored")
	to.Set(m.keys, float64(last.RDB.Keys))
	to.Set(m.snapshots, float64(count))
	metric.Flag(to, m.running, running)
	metric.Flag(to, m.refused, m.job.mend.state() != "")
	to.Set(m.leftover, float64(leftover))
}
