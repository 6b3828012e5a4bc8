package exporter_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// A save that takes its time, as a real server tells of it.
func TestSaveProgress(t *testing.T) {
	const keys = 10_000
	// The server tells of it from the 1,024th key on, so from the first second on of ten.
	srv := testenv.StartRedis(t, "--rdb-key-save-delay", "1000")
	srv.Fill(t, "key", keys, 10)
	e, _ := newExporter(t, srv.Client(t), exporter.Options{})
	forks := number(t, scrape(t, e)["redis_forks_total"])
	srv.Do(t, "BGSAVE")
	settled(t, e, func(got map[string]string) error {
		if got["redis_current_save_keys"] != strconv.Itoa(keys) {
			return fmt.Errorf("%s keys to save", got["redis_current_save_keys"])
		}
		done, part := number(t, got["redis_current_save_processed_keys"]), number(t, got["redis_current_fork_progress_ratio"])
		if done <= 0 || done >= keys || part < done/keys-0.01 || part > done/keys+0.01 {
			return fmt.Errorf("%v keys are a share of %v", done, part)
		}
		return nil
	})
	expect(t, scrape(t, e), map[string]string{"redis_forks_total": fmt.Sprint(forks + 1), "redis_rdb_bgsave_in_progress": "1"})
	srv.Do(t, "FLUSHALL") // ends the child
}

// A load, likewise.
func TestLoadProgress(t *testing.T) {
	slow := loading(t, 20000, 100, time.Millisecond)
	e, _ := newExporter(t, slow.Client(t), exporter.Options{})
	settled(t, e, func(got map[string]string) error {
		if got["redis_loading_dump_file"] != "1" {
			t.Fatal("the load is over")
		}
		all, done, part := number(t, got["redis_loading_bytes"]), number(t, got["redis_loading_loaded_bytes"]), number(t, got["redis_loading_progress_ratio"])
		if done <= 0 || done >= all || part < done/all-0.01 || part > done/all+0.01 {
			return fmt.Errorf("%v of %v bytes are a share of %v", done, all, part)
		}
		now, start := number(t, got["redis_server_time_seconds"]), number(t, got["redis_loading_start_timestamp_seconds"])
		if start > now || start < now-60 || number(t, got["redis_loading_rdb_used_memory_bytes"]) < 1e6 {
			t.Errorf("began at %v, now %v; %s bytes were used", start, now, got["redis_loading_rdb_used_memory_bytes"])
		}
		return nil
	})
}
