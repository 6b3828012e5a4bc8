package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRecord(t *testing.T) {
	server := testenv.StartRedis(t)
	server.Do(t, "SET", "key", "<a>\n")
	server.Do(t, "CONFIG", "SET", "slowlog-log-slower-than", "0")
	server.Do(t, "SET", "key", "<a>\n")
	dir := filepath.Join(t.TempDir(), "new")
	if err := run(server.Addr, dir, "mymaster"); err != nil {
		t.Fatal(err)
	}

	info, err := os.ReadFile(filepath.Join(dir, "info.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(info), "\r\ncmdstat_set:calls=2,") {
		t.Errorf("INFO ALL without commandstats: %s", info)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "replies.json"))
	if err != nil {
		t.Fatal(err)
	}
	var replies map[string]any
	if err := json.Unmarshal(raw, &replies); err != nil {
		t.Fatal(err)
	}
	for line, known := range map[string]bool{
		"SLOWLOG LEN":         true,  // of every scrape
		"CONFIG GET *":        true,  // of some settings
		"CLUSTER NODES":       false, // not in cluster mode
		"COMMANDLOG LEN slow": false, // not of Redis
		"SENTINEL MASTERS":    false,
		"INFO ALL":            false, // has a file of its own
	} {
		if _, ok := replies[line]; ok != known {
			t.Errorf("recorded %s: %v, want %v", line, ok, known)
		}
	}
	if n := strings.Count(string(raw), `"CONFIG GET`); n != 1 {
		t.Errorf("%d replies to CONFIG GET are recorded, want that with all parameters only", n)
	}
	if want := `["SET","key","<a>\n"]`; !strings.Contains(string(raw), want) {
		t.Errorf("no %s in %s", want, raw)
	}
}

func TestRecordOfNothing(t *testing.T) {
	server := testenv.StartRedis(t)
	server.Stop(t)
	dir := filepath.Join(t.TempDir(), "new")
	if err := run(server.Addr, dir, "mymaster"); err == nil || !strings.Contains(err.Error(), server.Addr) {
		t.Errorf("run = %v, want an error with the address", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s: %v, want that it is not made", dir, err)
	}
}
