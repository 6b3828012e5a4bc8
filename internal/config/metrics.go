package config

import (
	"sync"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/metric"
)

// metrics are the job's own. Every series exists from the start.
type metrics struct {
	mu       sync.Mutex
	reloads  map[string]float64
	last     attempt // what the last attempt was about, and
	outcome  string  // how it ended: the same again is not counted again
	good     float64 // 1 when the last one succeeded
	goodAt   float64 // Unix seconds
	restart  float64
	drift    float64
	describe descriptions
}

type descriptions struct{ reloads, good, goodAt, restart, drift *metric.Desc }

var _ metric.Source = (*Job)(nil)

func newMetrics() *metrics {
	desc := func(kind metric.Kind, name, help string, labels ...string) *metric.Desc {
		return metric.New(kind, "config_"+name, help, labels...)
	}
	return &metrics{
		reloads: map[string]float64{"success": 0, "invalid": 0, "rejected": 0, "error": 0},
		describe: descriptions{
			reloads: desc(metric.Counter, "reloads_total", "Applications of redis.conf, after a change of the file or a restart of the server: success; "+
				"invalid, the file has problems; rejected, the server refused a value; error, the server could not be asked.", "result"),
			good:    desc(metric.Gauge, "last_reload_successful", "Whether the last application of redis.conf succeeded."),
			goodAt:  desc(metric.Gauge, "last_reload_success_timestamp_seconds", "When redis.conf was last applied, in Unix time; 0 if never."),
			restart: desc(metric.Gauge, "restart_required", "Directives whose change needs a restart of redis-server."),
			drift:   desc(metric.Gauge, "drift", "Parameters that differ from redis.conf though it was applied."),
		},
	}
}

// attempt counts an application of the file. The same outcome for the same
// content and server, in a row, counts once; isNew is false for it.
func (m *metrics) attempt(a attempt, result string) (isNew bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last == a && m.outcome == result {
		return false
	}
	m.last, m.outcome = a, result
	m.reloads[result]++
	m.good = 0
	if result == "success" {
		m.good, m.goodAt = 1, float64(time.Now().UnixMilli())/1000
	}
	return true
}

// state sets the gauges.
func (m *metrics) state(restart, drift int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restart, m.drift = float64(restart), float64(drift)
}

// Describe implements metric.Source.
func (j *Job) Describe() []*metric.Desc {
	d := j.metrics.describe
	return []*metric.Desc{d.reloads, d.good, d.goodAt, d.restart, d.drift}
}

// Emit implements metric.Source.
func (j *Job) Emit(to metric.Sink) {
	m := j.metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	for result, n := range m.reloads {
		to.Set(m.describe.reloads, n, result)
	}
	to.Set(m.describe.good, m.good)
	to.Set(m.describe.goodAt, m.goodAt)
	to.Set(m.describe.restart, m.restart)
	to.Set(m.describe.drift, m.drift)
}
