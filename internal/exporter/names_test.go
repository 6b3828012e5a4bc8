package exporter_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
)

// passedThrough are metrics of redis_exporter that no table has: fields of
// CLUSTER INFO whose number depends on the server, shown under their own name.
func passedThrough(name string) bool {
	return strings.HasPrefix(name, "redis_cluster_stats_messages_")
}

// pending are metrics of redis_exporter that are still to be written: a name,
// or the beginning of several with an underscore at its end.
func pending() []string {
	return []string{
		"redis_exporter_last_scrape_ping_time_seconds",
		"redis_config_key_value", "redis_config_value",
		"redis_rdb_current_size_bytes",
		"redis_commandlog_",
		"redis_module_info",
		"redis_last_key_groups_scrape_duration_milliseconds", "redis_number_of_distinct_key_groups", "redis_key_group_",
		"redis_key_size", "redis_key_memory_usage_bytes", "redis_key_value", "redis_key_value_as_string", "redis_keys_count",
		"redis_script_",
		"redis_stream_",
		"redis_connected_client_",
		"redis_search_index_",
		"redis_sentinel_master_ckquorum_status", "redis_sentinel_master_setting_", "redis_sentinel_master_config_epoch",
		"redis_sentinel_master_last_ok_ping_reply_seconds", "redis_sentinel_master_ok_",
		"redis_sentinel_peer_info", "redis_sentinel_config_",
		"redis_db_keys_with_expiring_items",
	}
}

// isPending tells whether a name is one of pending.
func isPending(name string) bool {
	return slices.ContainsFunc(pending(), func(p string) bool {
		return name == p || strings.HasSuffix(p, "_") && strings.HasPrefix(name, p)
	})
}

// Every metric of redis_exporter is here, with its type and labels.
func TestNames(t *testing.T) {
	raw, err := os.ReadFile("testdata/redis_exporter.txt")
	if err != nil {
		t.Fatal(err)
	}
	ours := make(map[string]exporter.MetricDoc)
	for _, d := range exporter.Docs() {
		ours[d.Name] = d
	}
	theirs := 0
	for line := range strings.Lines(string(raw)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		theirs++
		name, kind, labels := words[0], words[1], strings.Join(words[2:], " ")
		d, ok := ours[name]
		switch {
		case !ok && (isPending(name) || passedThrough(name)):
		case !ok:
			t.Errorf("%s is missing", name)
		case isPending(name):
			t.Errorf("%s is not pending any more", name)
		case d.Type != kind:
			t.Errorf("%s is a %s, want %s", name, d.Type, kind)
		case strings.Join(d.Labels, ",") != labels:
			t.Errorf("%s has the labels %v, want %s", name, d.Labels, labels)
		}
	}
	if theirs < 470 {
		t.Errorf("%d names, want all of them", theirs)
	}
}
