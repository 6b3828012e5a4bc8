package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/store"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// putManifests makes a store list snapshots. They have no data.
func putManifests(tb testing.TB, url string, getenv func(string) string, instance string, ids ...string) {
	tb.Helper()
	const sum = "25db6b1b908dbe705f101f8dbaa220809d6e2862c0f7e1855eea5b78a7f2bad8"
	s, err := store.Open(tb.Context(), url, store.Options{Getenv: getenv})
	if err != nil {
		tb.Fatal(err)
	}
	for _, id := range ids {
		created := fmt.Sprintf("%s-%s-%sT%s:%s:%sZ", id[:4], id[4:6], id[6:8], id[9:11], id[11:13], id[13:15])
		text := fmt.Sprintf(`{"format_version": 1, "id": %q, "instance": %q, "created_at": %q, "tool": "test", "source": "bgsave",
			"server": {"pod": "redis-0", "run_id": "ae29f38e7f1068b762a3d273a53fd498cbed6d13", "role": "master", "mode": "standalone", "redis_version": "7.0.15", "replication_offset": 0},
			"rdb": {"version": 10, "magic": "REDIS", "size": 100, "sha256": %q, "crc64": "808f673bd0f7de9c", "checksummed": true, "walked": true,
				"keys": 1, "expires": 0, "databases": [{"index": 0, "keys": 1, "expires": 0}], "functions": 0},
			"object": {"name": "dump.rdb", "size": 100, "sha256": %q, "compression": "none", "encryption": "none"},
			"durations": {"save_seconds": 1, "upload_seconds": 1, "read_back_seconds": 1, "total_seconds": 1}}`, id, instance, created, sum, sum)
		if _, err := s.Put(tb.Context(), instance+"/snapshots/"+id+"/manifest.json", strings.NewReader(text)); err != nil {
			tb.Fatal(err)
		}
	}
}

// mustRun runs a command that must succeed, and returns what it prints.
func mustRun(tb testing.TB, environ []string, args ...string) string {
	tb.Helper()
	var out, errs strings.Builder
	if code := run(tb.Context(), &env{environ: environ, stdout: &out, stderr: &errs}, args); code != exitOK {
		tb.Fatalf("%q: exit code %d\n%s", args, code, errs.String())
	}
	return out.String()
}

// A dry run knows nothing of locks, and says so where there can be any.
func TestPruneDryRunOfLocks(t *testing.T) {
	const old, kept = "20261122T060000Z-redis-0-aaaaaa", "20261123T060000Z-redis-0-aaaaaa"
	srv := testenv.StartS3(t)
	srv.CreateBucket(t, "bucket")
	for _, tt := range []struct {
		url     string
		environ []string
		getenv  func(string) string
		want    bool
	}{
		{srv.URL("bucket", ""), srv.Environ(), srv.Getenv, true},
		{"file://" + t.TempDir(), nil, func(string) string { return "" }, false},
	} {
		prune := func(args ...string) string {
			t.Helper()
			return mustRun(t, tt.environ, append([]string{"backup", "prune", "--instance=redis", "--backup.store=" + tt.url, "--backup.retention.keep-last=1"}, args...)...)
		}
		const note = "what of this the store keeps locked would stay"
		putManifests(t, tt.url, tt.getenv, "redis", old, kept)
		if out := prune("--dry-run"); !strings.Contains(out, "would delete "+old+"\n") || strings.Contains(out, note) != tt.want {
			t.Errorf("dry run of %s:\n%s", tt.url, out)
		}
		if out := prune(); !strings.Contains(out, "deleted "+old+"\n") || strings.Contains(out, note) {
			t.Errorf("%s:\n%s", tt.url, out)
		}
		if out := prune("--dry-run"); !strings.Contains(out, "keep  "+kept) || strings.Contains(out, note) {
			t.Errorf("dry run of %s with nothing to delete:\n%s", tt.url, out)
		}
	}
}
