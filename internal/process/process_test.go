package process_test

import (
	"math"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/redis-sidecar/redis-sidecar/internal/metric"
	"github.com/redis-sidecar/redis-sidecar/internal/process"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// prometheusSays is what Prometheus' own collector says of this process.
func prometheusSays(t *testing.T) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, mf := range families {
		m := mf.GetMetric()[0]
		values[mf.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	return values
}

// It says what Prometheus' own collector says.
func TestSameAsPrometheus(t *testing.T) {
	c := process.New()
	t.Cleanup(c.Close)
	want, got := prometheusSays(t), testenv.Metrics(t, c)
	if len(got) != len(want) || len(want) < 9 {
		t.Errorf("%d metrics, Prometheus' collector has %d", len(got), len(want))
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

// nowhere is a sink that keeps nothing.
type nowhere struct{}

func (nowhere) Set(*metric.Desc, float64, ...string)             {}
func (nowhere) Summary(*metric.Desc, uint64, float64, ...string) {}

func BenchmarkEmit(b *testing.B) {
	c := process.New()
	b.Cleanup(c.Close)
	b.ReportAllocs()
	for b.Loop() {
		c.Emit(nowhere{})
	}
}
