package announce

import "github.com/prometheus/client_golang/prometheus"

var _ prometheus.Collector = (*Collector)(nil)

// Collector gives what the job knows as metrics.
type Collector struct {
	job                          *Job
	mismatch, corrections, infos *prometheus.Desc
}

// NewCollector returns the collector of j.
func NewCollector(j *Job) *Collector {
	return &Collector{
		job: j,
		mismatch: prometheus.NewDesc("redis_sidecar_announce_mismatch",
			"1 while redis-server is known to announce another address than its own.", nil, nil),
		corrections: prometheus.NewDesc("redis_sidecar_announce_corrections_total",
			"Announced addresses that were corrected.", nil, nil),
		infos: prometheus.NewDesc("redis_sidecar_announce_address_info",
			"The pod's own address and where it was taken from; always 1.", []string{"address", "source"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.mismatch
	ch <- c.corrections
	ch <- c.infos
}

// Collect implements prometheus.Collector. It does not wait for the server.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.job.mu.Lock()
	mismatch, corrections, own := 0.0, c.job.corrections, c.job.own
	if c.job.mismatch != "" {
		mismatch = 1
	}
	c.job.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(c.mismatch, prometheus.GaugeValue, mismatch)
	ch <- prometheus.MustNewConstMetric(c.corrections, prometheus.CounterValue, float64(corrections))
	if own.Address != "" {
		ch <- prometheus.MustNewConstMetric(c.infos, prometheus.GaugeValue, 1, own.Address, string(own.Source))
	}
}
