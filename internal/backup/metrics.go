package backup

import "github.com/prometheus/client_golang/prometheus"

var _ prometheus.Collector = (*Job)(nil)

// Describe implements prometheus.Collector.
func (j *Job) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(j, ch) }

// Collect implements prometheus.Collector. It asks nobody: the values are those
// of the last look into the store. All series exist from the start, 0 meaning
// that no snapshot is known.
func (j *Job) Collect(ch chan<- prometheus.Metric) {
	j.mu.Lock()
	last, count, running := j.last, j.detail.Count, j.detail.Running != nil
	j.mu.Unlock()

	gauge := func(name, help string, value float64, labels ...string) {
		var names, values []string
		for i := 0; i < len(labels); i += 2 {
			names, values = append(names, labels[i]), append(values, labels[i+1])
		}
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("redis_sidecar_backup_"+name, help, names, nil), prometheus.GaugeValue, value, values...)
	}
	var created, run float64
	if last.ID != "" {
		created = float64(last.CreatedAt.UnixMilli()) / 1000
	}
	if running {
		run = 1
	}
	gauge("last_success_timestamp_seconds", "When the newest snapshot in the store was begun, whichever pod took it; 0 when none is known.", created)
	gauge("last_duration_seconds", "How long the newest snapshot took, up to the writing of its manifest.", last.Durations.Total)
	const size = "Size of the newest snapshot: plain as an RDB, stored as in the store."
	gauge("last_size_bytes", size, float64(last.RDB.Size), "kind", "plain")
	gauge("last_size_bytes", size, float64(last.Object.Size), "kind", "stored")
	gauge("last_keys", "Keys in the newest snapshot, in all databases.", float64(last.RDB.Keys))
	gauge("snapshots", "Snapshots of this instance in the store, as of the last look.", float64(count))
	gauge("running", "1 while a snapshot is taken.", run)
}
