package exporter

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// broken is a collector with a defect.
type broken struct {
	collector
	missing collector
}

func (broken) ask(traits) []command { return nil }

func (b broken) collect(r *reading, replies []any, out *sink) error {
	_ = b.collector.collect(r, replies, out)
	return b.missing.collect(r, replies, out)
}

type tiny struct{}

func (tiny) Pipeline(_ context.Context, commands ...[]string) ([]any, error) {
	out := make([]any, len(commands))
	if commands[0][0] == "INFO" {
		out[0] = "redis_version:7.0.0\r\nuptime_in_seconds:1\r\n"
	}
	return out, nil
}

// A panic costs one collector what it had not yet added, is logged once with
// its stack, and shows on the Board.
func TestPanic(t *testing.T) {
	var log strings.Builder
	board := status.NewBoard(slog.New(slog.NewTextHandler(&log, nil)), nil)
	e := New(tiny{}, board.Register(status.Exporter), Options{})
	e.collectors[0] = broken{collector: e.collectors[0]}
	for range 2 {
		found := 0
		for _, mf := range e.Scrape(t.Context()) {
			switch mf.GetName() {
			case "redis_up", "redis_uptime_in_seconds":
				found++
				if v := mf.Metric[0].Gauge.GetValue(); v != 1 {
					t.Errorf("%s = %v", mf.GetName(), v)
				}
			case "redis_sidecar_exporter_collector_success":
				for _, m := range mf.Metric {
					if good := m.Label[0].GetValue() != "info"; good != (m.Gauge.GetValue() == 1) {
						t.Errorf("success of %s is %v", m.Label[0].GetValue(), m.Gauge.GetValue())
					}
				}
			}
		}
		if found != 2 {
			t.Errorf("%d of 2 metrics found", found)
		}
	}
	if r, _ := board.Report(status.Exporter); r.State != status.Warning || r.Reason != status.ReasonInternal || strings.Contains(r.Message, "\n") {
		t.Errorf("the Board says %s, %s: %q", r.State, r.Reason, r.Message)
	}
	if n := strings.Count(log.String(), "collector panicked"); n != 1 || !strings.Contains(log.String(), "collector_test.go") {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
}

func TestFill(t *testing.T) {
	edges := []float64{1, 2, 4, 8}
	for _, c := range []struct {
		name           string
		reported, want []bucket
	}{
		{"nothing", nil, []bucket{{1, 0}, {2, 0}, {4, 0}, {8, 0}}},
		{"gaps", []bucket{{2, 5}, {8, 9}}, []bucket{{1, 0}, {2, 5}, {4, 5}, {8, 9}}},
		{"all", []bucket{{1, 1}, {2, 2}, {4, 3}, {8, 4}}, []bucket{{1, 1}, {2, 2}, {4, 3}, {8, 4}}},
		{"unknown edges", []bucket{{3, 5}, {9, 6}}, []bucket{{1, 0}, {2, 0}, {3, 5}, {4, 5}, {8, 5}, {9, 6}}},
		{"falling counts", []bucket{{2, 5}, {8, 4}}, []bucket{{1, 0}, {2, 5}, {4, 5}, {8, 5}}},
		{"falling edges", []bucket{{4, 5}, {2, 7}, {-1, 9}, {8, 6}, {8, 8}}, []bucket{{1, 0}, {2, 0}, {4, 5}, {8, 6}}},
	} {
		got := fill(nil, edges, c.reported)
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(bucket{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
