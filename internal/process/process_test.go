package process_test

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/redis-sidecar/redis-sidecar/internal/process"
)

// gather returns type and value of every metric.
func gather(t *testing.T, c prometheus.Collector) (kinds map[string]string, values map[string]float64) {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	kinds, values = map[string]string{}, map[string]float64{}
	for _, mf := range families {
		m := mf.GetMetric()[0]
		kinds[mf.GetName()] = mf.GetType().String()
		values[mf.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	return kinds, values
}

// It says what Prometheus' own collector says.
func TestSameAsPrometheus(t *testing.T) {
	c := process.New()
	t.Cleanup(c.Close)
	wantKinds, want := gather(t, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	kinds, got := gather(t, c)
	if diff := cmp.Diff(wantKinds, kinds); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	// What moves between two looks may do so by this much.
	tolerance := map[string]float64{
		"process_cpu_seconds_total": 0.1, "process_resident_memory_bytes": 16 << 20, "process_virtual_memory_bytes": 256 << 20,
		"process_open_fds": 5, "process_start_time_seconds": 0.02,
		"process_network_receive_bytes_total": 1 << 30, "process_network_transmit_bytes_total": 1 << 30,
	}
	for name, v := range want {
		if d := math.Abs(got[name] - v); d > tolerance[name] {
			t.Errorf("%s is %v, Prometheus' collector says %v", name, got[name], v)
		}
		if got[name] <= 0 {
			t.Errorf("%s is %v", name, got[name])
		}
	}
}

func BenchmarkCollect(b *testing.B) {
	own := process.New()
	b.Cleanup(own.Close)
	for name, c := range map[string]prometheus.Collector{
		"own": own, "prometheus": collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			ch := make(chan prometheus.Metric, 16)
			for b.Loop() {
				c.Collect(ch)
				for len(ch) > 0 {
					<-ch
				}
			}
		})
	}
}
