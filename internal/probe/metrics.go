package probe

import "github.com/prometheus/client_golang/prometheus"

var _ prometheus.Collector = (*Collector)(nil)

// Collector gives the verdicts as metrics.
type Collector struct {
	monitor    *Monitor
	verdict    *prometheus.Desc
	unanswered *prometheus.Desc
}

// NewCollector returns the collector of m.
func NewCollector(m *Monitor) *Collector {
	return &Collector{
		monitor: m,
		verdict: prometheus.NewDesc("redis_sidecar_probe_verdict",
			"1 when the probe's verdict is yes, 0 when it is no.", []string{"probe"}, nil),
		unanswered: prometheus.NewDesc("redis_sidecar_probe_unanswered_seconds",
			"How long redis-server has owed an answer; 0 when it answered the last question.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.verdict
	ch <- c.unanswered
}

// Collect implements prometheus.Collector. It does not wait for the server.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	o := c.monitor.observation()
	v := Judge(o, c.monitor.opt.Policy)
	for _, k := range Kinds() {
		value := 0.0
		if v.Of(k).OK {
			value = 1
		}
		ch <- prometheus.MustNewConstMetric(c.verdict, prometheus.GaugeValue, value, string(k))
	}
	ch <- prometheus.MustNewConstMetric(c.unanswered, prometheus.GaugeValue, o.Silent.Seconds())
}
