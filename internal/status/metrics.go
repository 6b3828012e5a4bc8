package status

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Collector returns the Board as metrics. Every series of a registered job
// exists from its registration on, so that a rate or an absence can be alerted
// on from the first scrape.
func (b *Board) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("redis_sidecar_job_"+name, help, append([]string{"job"}, labels...), nil)
	}
	return &collector{
		board:    b,
		state:    desc("state", "1 for the state that the job is in, 0 for the others.", "state"),
		success:  desc("last_success_timestamp_seconds", "Unix time of the last good run, 0 before the first."),
		next:     desc("next_run_timestamp_seconds", "Unix time of the next run by the clock, 0 when there is none."),
		failures: desc("failures_total", "Failed runs by reason.", "reason"),
		duration: desc("duration_seconds", "Duration of finished runs, good or not."),
		last:     desc("last_duration_seconds", "Duration of the last finished run, good or not."),
	}
}

type collector struct {
	board                                          *Board
	state, success, next, failures, duration, last *prometheus.Desc
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.state, c.success, c.next, c.failures, c.duration, c.last} {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for _, m := range c.metrics() {
		ch <- m
	}
}

// metrics builds all under the lock and lets go of it before anything is sent:
// a slow reader must not hold up the jobs.
func (c *collector) metrics() []prometheus.Metric {
	c.board.mu.Lock()
	defer c.board.mu.Unlock()
	var out []prometheus.Metric
	for _, r := range c.board.jobs {
		job := string(r.report.Job)
		gauge := func(d *prometheus.Desc, v float64, labels ...string) {
			out = append(out, prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{job}, labels...)...))
		}
		for _, s := range States() {
			v := 0.0
			if s == r.report.State {
				v = 1
			}
			gauge(c.state, v, string(s))
		}
		gauge(c.success, unix(r.report.LastSuccess))
		gauge(c.next, unix(r.report.NextRun))
		gauge(c.last, r.last)
		for _, reason := range slices.Sorted(maps.Keys(r.failures)) {
			out = append(out, prometheus.MustNewConstMetric(c.failures, prometheus.CounterValue, float64(r.failures[reason]), job, string(reason)))
		}
		out = append(out, prometheus.MustNewConstSummary(c.duration, r.runs, r.seconds, nil, job))
	}
	return out
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
