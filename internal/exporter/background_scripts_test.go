package exporter_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func TestScripts(t *testing.T) {
	srv := testenv.StartRedis(t)
	srv.Do(t, "RPUSH", "queue", "a", "b")
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	files := []string{
		write("good.lua", `return {"length", tostring(redis.call("LLEN", "queue")), "whole", 7, "half", "0.5", "twice", "1", "twice", "2", "arg", ARGV[1]}`),
		write("empty.lua", `return {}`),
		write("nothing.lua", `local a = 1`),
		write("odd.lua", `return {"a", "1", "b"}`),
		write("words.lua", `return {"a", "many"}`),
		write("single.lua", `return 7`),
		write("error.lua", `return redis.call("NOSUCH")`),
		write("syntax.lua", `return {`),
		filepath.Join(dir, "missing.lua"),
		write("long.lua", "--"+strings.Repeat("x", 1<<20)),
	}
	e, board := newBackground(t, srv, exporter.BackgroundOptions{Interval: quick, Scripts: exporter.ScriptOptions{Files: files}})
	got := ranBackground(t, e, "scripts")
	result := func(name string) string { return `redis_script_result{filename="` + filepath.Join(dir, name) + `"}` }
	value := func(key string) string { return `redis_script_values{filename="` + files[0] + `",key="` + key + `"}` }
	want := map[string]string{
		result("good.lua"): "1", value("length"): "2", value("whole"): "7", value("half"): "0.5", value("twice"): "2", value("arg"): "0",
		result("empty.lua"): "2", result("nothing.lua"): "2", result("odd.lua"): "0", result("words.lua"): "0", result("single.lua"): "0",
		result("error.lua"): "0", result("syntax.lua"): "0", result("missing.lua"): "0", result("long.lua"): "0",
	}
	if diff := cmp.Diff(want, only(got, "redis_script_")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	// A script that fails says nothing of the server.
	expect(t, got, map[string]string{"redis_up": "1", about("success", "scripts"): "0"})
	if r, _ := board.Report(status.Exporter); r.State != status.Warning || !strings.Contains(r.Message, "odd.lua: it returned 3 values; it must return {") {
		t.Errorf("the Board says %s: %s", r.State, r.Message)
	}

	// A script that was changed counts.
	write("good.lua", `return {"length", "5"}`)
	testenv.Eventually(t, time.Minute, func() error { return has(value("length"), "5")(scrape(t, e)) })
}

func TestScriptReadOnly(t *testing.T) {
	srv := testenv.StartRedis(t)
	good := srv.WriteFile(t, "good.lua", `redis.call("GET", "a") return {"x", "1"}`)
	bad := srv.WriteFile(t, "bad.lua", `redis.call("SET", "a", "1") return {"x", "1"}`)
	e, _ := newBackground(t, srv, exporter.BackgroundOptions{Interval: quick, Scripts: exporter.ScriptOptions{Files: []string{good, bad}, ReadOnly: true}})
	expect(t, ranBackground(t, e, "scripts"), map[string]string{
		`redis_script_result{filename="` + good + `"}`: "1", `redis_script_result{filename="` + bad + `"}`: "0",
		`redis_script_values{filename="` + bad + `",key="x"}`: "absent", `redis_db_keys{db="db0"}`: "0",
	})
}

// A script that does not end costs the run, and nothing is done about it.
func TestScriptThatHangs(t *testing.T) {
	srv := testenv.StartRedis(t, "--busy-reply-threshold", "100")
	file := srv.WriteFile(t, "loop.lua", "while true do end")
	e, board := newBackground(t, srv, exporter.BackgroundOptions{Interval: time.Hour, Budget: 300 * time.Millisecond, Scripts: exporter.ScriptOptions{Files: []string{file}}})
	testenv.Eventually(t, time.Minute, func() error { return has(about("runs_total", "scripts"), "1")(scrape(t, e)) })
	got := scrape(t, e)
	expect(t, got, map[string]string{about("success", "scripts"): "0", `redis_script_result{filename="` + file + `"}`: "absent"})
	if reason := downReason(t, got); reason != string(status.ReasonBusy) {
		t.Errorf("down because of %q: the script was killed", reason)
	}
	srv.Do(t, "SCRIPT", "KILL")
	testenv.Eventually(t, time.Minute, func() error { return has("redis_up", "1")(scrape(t, e)) })
	if r, _ := board.Report(status.Exporter); r.Reason != status.ReasonTimeout || !strings.Contains(r.Message, "loop.lua") {
		t.Errorf("the Board says %s, %s: %s", r.State, r.Reason, r.Message)
	}
}

// ftInfo is a reply to FT.INFO as RediSearch 2.8 gives it, shortened.
func ftInfo(name string) []any {
	return []any{
		"index_name", name, "index_options", []any{}, "attributes", []any{[]any{"identifier", "title", "type", "TEXT"}}, "num_docs", "3", "max_doc_id", "5",
		"num_terms", "7", "num_records", "9", "inverted_sz_mb", "0.5", "total_inverted_index_blocks", "11", "vector_index_sz_mb", "0",
		"doc_table_size_mb", "2", "records_per_doc_avg", "nan", "indexing", "0", "percent_indexed", "1", "hash_indexing_failures", int64(4),
		"number_of_uses", int64(6), "cleaning", int64(0), "gc_stats", []any{"bytes_collected", "0"},
	}
}

func TestSearchIndexes(t *testing.T) {
	s := &replay{replies: map[string]any{
		"INFO server": "redis_version:7.2.0\r\n", "INFO replication": "role:master\r\n", "INFO keyspace": "db0:keys=3\r\n",
		"FT._LIST":          []any{"idx:books", "idx:users", "other"},
		"FT.INFO idx:books": ftInfo("idx:books"), "FT.INFO idx:users": status.WithReason(status.ReasonRedis, errGone),
	}}
	e, _ := newExporter(t, &replay{info: "redis_version:7.2.0\r\n"}, exporter.Options{Background: exporter.BackgroundOptions{
		Server: s, Interval: quick, Search: exporter.SearchOptions{Enabled: true, Indexes: anchored},
	}})
	runBackground(t, e)
	got := ranBackground(t, e, "search_indexes")
	book := func(metric string) string { return "redis_search_index_" + metric + `{index_name="idx:books"}` }
	want := map[string]string{
		book("num_docs"): "3", book("max_doc_id"): "5", book("num_terms"): "7", book("num_records"): "9", book("inverted_size_bytes"): "524288",
		book("total_inverted_index_blocks"): "11", book("vector_index_size_bytes"): "0", book("doc_table_size_bytes"): "2.097152e+06",
		book("avg_per_doc_records"): "NaN", book("indexing"): "0", book("percent_indexed"): "1", book("hash_indexing_failures"): "4",
		book("number_of_uses_total"): "6", book("cleaning"): "0",
	}
	if diff := cmp.Diff(want, only(got, "redis_search_index_")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	expect(t, got, map[string]string{about("success", "search_indexes"): "0"}) // idx:users
}

// A server without the module is no failure, and is asked for it once.
func TestNoSearchModule(t *testing.T) {
	srv := testenv.StartRedis(t)
	e, _ := newBackground(t, srv, exporter.BackgroundOptions{Interval: quick, Search: exporter.SearchOptions{Enabled: true}})
	ranBackground(t, e, "search_indexes")
	expect(t, ranBackground(t, e, "search_indexes"), map[string]string{about("success", "search_indexes"): "1", `redis_errors_total{err="ERR"}`: "1"})
}
