package exporter_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
)

// Every metric has a help text of its own that says more than its name.
func TestDocs(t *testing.T) {
	docs := exporter.Docs()
	if len(docs) < 290 {
		t.Errorf("%d metrics are described", len(docs))
	}
	last := ""
	helps := make(map[string]string)
	for _, d := range docs {
		if d.Name <= last {
			t.Errorf("%s after %s", d.Name, last)
		}
		last = d.Name
		if !strings.HasSuffix(d.Help, ".") || len(d.Help) < 15 || strings.ContainsAny(d.Help, "|\n") || strings.Contains(d.Help, d.Name) {
			t.Errorf("%s: help text %q", d.Name, d.Help)
		}
		if d.Source == "" || d.Type == "" {
			t.Errorf("%s: no source or type", d.Name)
		}
		if other := helps[d.Help]; other != "" {
			t.Errorf("%s and %s have the same help text", d.Name, other)
		}
		helps[d.Help] = d.Name
	}
}

// Names of our own follow the conventions; those of redis_exporter are as they
// are, and these are the ones that do not.
func TestLint(t *testing.T) {
	inherited := strings.Fields(`
		redis_unexpected_error_replies redis_total_writes_processed redis_total_reads_processed redis_total_error_replies
		redis_migrate_cached_sockets_total redis_io_threaded_writes_processed redis_io_threaded_reads_processed
		redis_expire_cycle_cpu_time_ms_total redis_eviction_exceeded_time_ms_total redis_dump_payload_sanitizations
		redis_current_eviction_exceeded_time_ms redis_rdb_saves_total redis_rdb_last_bgsave_duration_sec
		redis_rdb_current_bgsave_duration_sec redis_memory_used_vm_total redis_aof_last_rewrite_duration_sec
		redis_aof_current_rewrite_duration_sec redis_sentinel_master_setting_down_after_milliseconds
		redis_cluster_messages_sent_total redis_cluster_messages_received_total redis_instantaneous_eventloop_cycles_per_sec
		redis_last_key_groups_scrape_duration_milliseconds redis_scripting_engines_count`)
	seen := make(map[string]bool)
	for _, dir := range recordings(t) {
		e, _ := newExporter(t, loadReplay(t, dir), exporter.Options{})
		families := e.Scrape(t.Context())
		problems, err := testutil.GatherAndLint(prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return families, nil }))
		if err != nil {
			t.Fatalf("%d families: %v", len(families), err)
		}
		for _, p := range problems {
			seen[p.Metric] = true
			if !slices.Contains(inherited, p.Metric) {
				t.Errorf("%s: %s: %s", filepath.Base(dir), p.Metric, p.Text)
			}
		}
	}
	for _, name := range inherited {
		if !seen[name] {
			t.Errorf("%s is in order, or is not there any more", name)
		}
	}
}
