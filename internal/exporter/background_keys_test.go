package exporter_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// keysIn are keys or patterns in a database.
func keysIn(db int, names ...string) []exporter.Key {
	out := make([]exporter.Key, len(names))
	for i, name := range names {
		out[i] = exporter.Key{DB: db, Key: name}
	}
	return out
}

// only returns the samples of some metrics, by the series' names.
func only(got map[string]string, prefixes ...string) map[string]string {
	out := make(map[string]string)
	for series, value := range got {
		for _, p := range prefixes {
			if strings.HasPrefix(series, p) {
				out[series] = value
			}
		}
	}
	return out
}

// fillKeys writes a key of every type into database 0, and some into 3.
func fillKeys(t *testing.T, srv *testenv.Redis) {
	t.Helper()
	c := srv.Client(t)
	for _, cmd := range []string{
		"SET number 12.5", "SET word hello", "SET empty x", "SETRANGE zeros 299 x", "SET hyper HYLLnot", "RPUSH list a b c", "SADD set a b",
		"ZADD zset 1 a", "HSET hash a 1 b 2 c 3 d 4", "XADD stream 1-1 a b", "PFADD hll a b c d e", "SET a* star", "SET ab other",
		"SELECT 3", "SET number 7", "SET three:1 1", "SET three:2 2", "SELECT 0",
	} {
		if _, err := c.Do(t.Context(), strings.Fields(cmd)...); err != nil {
			t.Fatal(err)
		}
	}
	srv.Do(t, "SET", "binary", "a\xff\x00b")
	srv.Do(t, "SETRANGE", "empty", "0", "")
	srv.Do(t, "SET", "empty", "")
	srv.Do(t, "SET", "fake", "HYLL that is no HyperLogLog")
}

func TestSingleKeys(t *testing.T) {
	srv := testenv.StartRedis(t)
	fillKeys(t, srv)
	keys := slices.Concat(
		keysIn(0, "number", "word", "empty", "zeros", "hyper", "list", "set", "zset", "hash", "stream", "hll", "a*", "binary", "missing"),
		keysIn(3, "number", "missing"), keysIn(9, "number"))
	e, board := newBackground(t, srv, exporter.BackgroundOptions{Interval: quick, Keys: exporter.KeyOptions{Single: keys}})
	got := ranBackground(t, e, "single_keys")
	key := func(metric, key string) string { return `redis_key_` + metric + `{db="db0",key="` + key + `"}` }
	want := map[string]string{
		key("size", "number"): "4", key("size", "word"): "5", key("size", "empty"): "0", key("size", "zeros"): "300", key("size", "hyper"): "7",
		key("size", "list"): "3", key("size", "set"): "2", key("size", "zset"): "1", key("size", "hash"): "4", key("size", "stream"): "1",
		key("size", "hll"): "5", key("size", "a*"): "4", key("size", "binary"): "4", key("value", "number"): "12.5",
		key("size", "missing"): "0", `redis_key_size{db="db3",key="missing"}`: "0", `redis_key_size{db="db9",key="number"}`: "0",
		`redis_key_size{db="db3",key="number"}`:                                                           "1",
		`redis_key_value{db="db3",key="number"}`:                                                          "7",
		`redis_key_value_as_string{db="db0",key="word",val="hello"}`:                                      "1",
		`redis_key_value_as_string{db="db0",key="hyper",val="HYLLnot"}`:                                   "1",
		`redis_key_value_as_string{db="db0",key="a*",val="star"}`:                                         "1",
		"redis_key_value_as_string{db=\"db0\",key=\"binary\",val=\"a�\x00b\"}":                            "1",
		"redis_key_value_as_string{db=\"db0\",key=\"zeros\",val=\"" + strings.Repeat("\x00", 256) + "\"}": "1",
	}
	if diff := cmp.Diff(want, only(got, "redis_key_size", "redis_key_value")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if n := len(only(got, "redis_key_memory_usage_bytes")); n != 14 {
		t.Errorf("memory of %d keys", n)
	}
	if v := number(t, got[key("memory_usage_bytes", "zeros")]); v < 300 || v > 600 {
		t.Errorf("zeros take %v bytes", v)
	}
	expect(t, got, map[string]string{about("success", "single_keys"): "1", `redis_errors_total{err="WRONGTYPE"}`: "absent",
		`redis_errors_total{err="ERR"}`: "absent"})
	if r, _ := board.Report("exporter"); r.State != "ok" {
		t.Errorf("the Board says %s: %s", r.State, r.Message)
	}
}

func TestKeysByPattern(t *testing.T) {
	srv := testenv.StartRedis(t)
	fillKeys(t, srv)
	keys := slices.Concat(keysIn(3, "three:*"), keysIn(0, "h[al]*", "number", "queue"), keysIn(4, "*"), keysIn(0, "none*"))
	e, _ := newBackground(t, srv, exporter.BackgroundOptions{Interval: quick, BatchSize: 3, Keys: exporter.KeyOptions{Check: keys, HideValues: true}})
	want := map[string]string{
		`redis_key_size{db="db3",key="three:1"}`: "1",
		`redis_key_size{db="db3",key="three:2"}`: "1",
		`redis_key_size{db="db0",key="hash"}`:    "4",
		`redis_key_size{db="db0",key="hll"}`:     "5",
		`redis_key_size{db="db0",key="number"}`:  "4",
		`redis_key_size{db="db0",key="queue"}`:   "0",
	}
	got := ranBackground(t, e, "keys")
	if diff := cmp.Diff(want, only(got, "redis_key_size", "redis_key_value")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	// A key that was found by its pattern and is gone has no series after the next run.
	srv.Do(t, "DEL", "hash")
	delete(want, `redis_key_size{db="db0",key="hash"}`)
	if diff := cmp.Diff(want, only(ranBackground(t, e, "keys"), "redis_key_size")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// A HyperLogLog is counted by PFCOUNT only when its last count is out of date,
// and shows nothing when PFCOUNT is refused.
func TestHyperloglogs(t *testing.T) {
	srv := testenv.StartRedis(t)
	srv.Do(t, "PFADD", "hll", "a", "b", "c")
	srv.Do(t, "SET", "fake", "HYLL\x00---\x00\x00\x00\x00\x00\x00\x00\x80 no HyperLogLog")
	srv.Do(t, "ACL", "SETUSER", "exporter", "on", ">secret", "%R~*", "+@all", "-pfcount")
	keys := exporter.KeyOptions{Single: []exporter.Key{{Key: "hll"}, {Key: "fake"}}}
	o := exporter.BackgroundOptions{Interval: quick, Keys: keys, Server: newClient(t, redis.Options{Addr: srv.Addr, Credentials: password("exporter", "secret")})}
	limited, _ := newExporter(t, srv.Client(t), exporter.Options{Background: o})
	stop := runBackground(t, limited)
	const hll, fake = `redis_key_size{db="db0",key="hll"}`, `redis_key_size{db="db0",key="fake"}`
	expect(t, ranBackground(t, limited, "single_keys"), map[string]string{hll: "absent", fake: "absent", about("success", "single_keys"): "0",
		`redis_errors_total{err="NOPERM"}`: "1", `redis_commands_total{cmd="pfcount"}`: "0"})
	stop()

	e, _ := newBackground(t, srv, exporter.BackgroundOptions{Interval: quick, Keys: keys})
	got := ranBackground(t, e, "single_keys")
	expect(t, got, map[string]string{hll: "3", fake: "31", about("success", "single_keys"): "1"})
	if n := number(t, got[`redis_commands_total{cmd="pfcount"}`]); n < 3 { // one that counts, and the fake at every run
		t.Errorf("%v times PFCOUNT", n)
	}
	srv.Do(t, "DEL", "fake")
	expect(t, ranBackground(t, e, "single_keys"), map[string]string{hll: "3", fake: "0"})
	before := scrape(t, e)[`redis_commands_total{cmd="pfcount"}`]
	expect(t, ranBackground(t, e, "single_keys"), map[string]string{`redis_commands_total{cmd="pfcount"}`: before})
	srv.Do(t, "PFADD", "hll", "d", "e")
	expect(t, ranBackground(t, e, "single_keys"), map[string]string{hll: "5"})
}

// The two collectors of keys may find the same key.
func TestKeyTwice(t *testing.T) {
	srv := testenv.StartRedis(t)
	srv.Do(t, "SET", "a", "1")
	e, _ := newBackground(t, srv, exporter.BackgroundOptions{Interval: quick, Keys: exporter.KeyOptions{
		Check: []exporter.Key{{Key: "a*"}, {Key: "*a"}, {Key: "a"}}, Single: []exporter.Key{{Key: "a"}, {Key: "a"}},
	}})
	ranBackground(t, e, "single_keys")
	got := ranBackground(t, e, "keys") // samples reports series that come twice
	expect(t, got, map[string]string{`redis_key_size{db="db0",key="a"}`: "1", `redis_key_value{db="db0",key="a"}`: "1"})
	gatherable(t, e.Scrape(t.Context()))
}

// collect[] knows the background collectors.
func TestCollectInBackground(t *testing.T) {
	srv := testenv.StartRedis(t)
	srv.Do(t, "SET", "a", "1")
	e, _ := newBackground(t, srv, exporter.BackgroundOptions{Interval: quick, Keys: exporter.KeyOptions{Single: []exporter.Key{{Key: "a"}}}})
	ranBackground(t, e, "single_keys")
	h := exporter.NewHandler(e, nil)
	for query, want := range map[string]map[string]string{
		"collect[]=keys": {`redis_key_size{db="db0",key="a"}`: "1", "redis_connected_clients": "absent", "redis_up": "1"},
		"collect[]=info": {`redis_key_size{db="db0",key="a"}`: "absent", "redis_up": "1"},
		"":               {`redis_key_size{db="db0",key="a"}`: "1", "redis_up": "1"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics?"+query, nil))
		expect(t, samples(t, w.Body.String()), want)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics?collect[]=streams", nil))
	if w.Code != http.StatusBadRequest {
		t.Errorf("a collector that is not on: %d", w.Code)
	}
}

// There are no more series than a metric may have; the rest is counted.
func TestTooManyKeys(t *testing.T) {
	srv := testenv.StartRedis(t)
	srv.Fill(t, "key", 3000, 10)
	o := exporter.BackgroundOptions{Interval: 50 * time.Millisecond, Keys: exporter.KeyOptions{Check: []exporter.Key{{Key: "key*"}}}, Server: srv.Client(t)}
	e, _ := newExporter(t, srv.Client(t), exporter.Options{MaxSeries: 500, Background: o})
	runBackground(t, e)
	got := ranBackground(t, e, "keys")
	for _, metric := range []string{"size", "memory_usage_bytes", "value_as_string"} {
		if n := len(only(got, "redis_key_"+metric+"{")); n != 500 {
			t.Errorf("%s of %d keys", metric, n)
		}
	}
	if n := number(t, got[about("dropped_series_total", "keys")]); n < 2500 || int(n)%2500 != 0 {
		// 500 keys are in whole batches of the 3,000.
		t.Errorf("%v keys were left out", n)
	}
}

func TestCountKeys(t *testing.T) {
	srv := testenv.StartRedis(t, "--databases", "4")
	fillKeys(t, srv)
	srv.Fill(t, "many:", 5000, 1)
	keys := slices.Concat(keysIn(0, "many:*"), keysIn(3, "*", "three:?", "number"), keysIn(0, "number", "missing"),
		keysIn(1, "*"), keysIn(9, "*", "x"), keysIn(0, "*"))
	e, _ := newBackground(t, srv, exporter.BackgroundOptions{Interval: quick, Keys: exporter.KeyOptions{Count: keys}})
	got := ranBackground(t, e, "count_keys")
	count := func(db int, key string) string { return fmt.Sprintf(`redis_keys_count{db="db%d",key="%s"}`, db, key) }
	want := map[string]string{
		count(0, "many:*"): "5000", count(3, "*"): "3", count(3, "three:?"): "2", count(3, "number"): "1", count(0, "number"): "1",
		count(0, "missing"): "0", count(1, "*"): "0", count(9, "*"): "0", count(9, "x"): "0", count(0, "*"): strconv.Itoa(int(srv.DBSize(t))),
	}
	if diff := cmp.Diff(want, only(got, "redis_keys_count")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	expect(t, got, map[string]string{`redis_errors_total{err="ERR"}`: "absent"})
}

// On a master nothing is read, on a replica it is.
func TestReplicaOnly(t *testing.T) {
	primary := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	primary.Do(t, "SET", "a", "1")
	primary.Do(t, "XADD", "x", "1-1", "a", "b")
	replica := testenv.StartRedis(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(primary.Port))
	key, stream := []exporter.Key{{Key: "a*"}}, []exporter.Key{{Key: "x"}}
	o := exporter.BackgroundOptions{
		Interval: quick, Keys: exporter.KeyOptions{Check: key, Single: key, Count: key}, Streams: exporter.StreamOptions{Check: stream, Single: stream},
		Groups: exporter.GroupOptions{Patterns: []string{"^(a)"}}, Clients: exporter.ClientOptions{Enabled: true},
		Scripts: exporter.ScriptOptions{Files: []string{replica.WriteFile(t, "a.lua", "return {'n', '1'}")}},
	}
	none, some, all := o, o, o
	some.SkipOnMaster, all.ReplicaOnly = true, true
	script := `redis_script_result{filename="` + o.Scripts.Files[0] + `"}`
	keys := []string{`redis_key_size{db="db0",key="a"}`, `redis_keys_count{db="db0",key="a*"}`, `redis_stream_length{db="db0",stream="x"}`}
	others := []string{`redis_key_group_count{db="db0",key_group="a"}`, script}
	exporters := []*exporter.Exporter{}
	for _, o := range []exporter.BackgroundOptions{none, some, all} {
		e, _ := newBackground(t, replica, o)
		exporters = append(exporters, e)
		for _, s := range slices.Concat(keys, others) {
			testenv.Eventually(t, time.Minute, func() error { return has(s, "1")(scrape(t, e)) })
		}
	}
	replica.Do(t, "REPLICAOF", "NO", "ONE")
	for i, want := range []struct{ keys, others string }{{"1", "1"}, {"", "1"}, {"", ""}} {
		for _, name := range []string{"single_keys", "keys", "count_keys", "single_streams", "streams", "key_groups", "scripts", "clients"} {
			expect(t, ranBackground(t, exporters[i], name), map[string]string{about("success", name): "1"})
		}
		got := scrape(t, exporters[i])
		for _, s := range keys {
			if got[s] != want.keys {
				t.Errorf("exporter %d: %s = %q, want %q", i, s, got[s], want.keys)
			}
		}
		for _, s := range others {
			if got[s] != want.others {
				t.Errorf("exporter %d: %s = %q, want %q", i, s, got[s], want.others)
			}
		}
		if len(only(got, "redis_connected_client_info")) == 0 {
			t.Errorf("exporter %d has no clients", i)
		}
	}
}

// In a cluster a node tells of the keys in its own slots; those of others are
// asked for once, and a replica tells of its master's.
func TestKeysInCluster(t *testing.T) {
	var nodes []*testenv.Redis
	for range 3 {
		nodes = append(nodes, testenv.StartRedis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "5000", "--cluster-allow-replica-migration", "no",
			"--repl-diskless-sync-delay", "0", "--cluster-port", strconv.Itoa(testenv.FreePort(t))))
	}
	for i, n := range nodes[:2] {
		n.Do(t, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*8192), strconv.Itoa((i+1)*8192-1))
		n.Do(t, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
	}
	for _, n := range nodes[1:] {
		bus := n.Do(t, "CONFIG", "GET", "cluster-port").([]any)[1].(string)
		nodes[0].Do(t, "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(n.Port), bus)
	}
	try := func(n *testenv.Redis, args ...string) {
		t.Helper()
		c := n.Client(t)
		testenv.Eventually(t, time.Minute, func() error { _, err := c.Do(t.Context(), args...); return err })
	}
	// Slots of the keys: here 3300, there 15495.
	try(nodes[0], "SET", "b", "1")
	try(nodes[0], "XADD", "{b}x", "1-1", "a", "b")
	try(nodes[1], "SET", "a", "2")
	id := nodes[0].Do(t, "CLUSTER", "MYID").(string)
	try(nodes[2], "CLUSTER", "REPLICATE", id)

	o := exporter.BackgroundOptions{
		Interval: quick, Groups: exporter.GroupOptions{Patterns: []string{"^(b)$"}},
		Keys:    exporter.KeyOptions{Check: []exporter.Key{{Key: "?"}}, Single: []exporter.Key{{Key: "a"}, {Key: "b"}}, Count: []exporter.Key{{Key: "a"}, {Key: "?"}}},
		Streams: exporter.StreamOptions{Single: []exporter.Key{{Key: "{b}x"}}},
	}
	for i, n := range []*testenv.Redis{nodes[0], nodes[2]} {
		e, _ := newBackground(t, n, o)
		testenv.Eventually(t, time.Minute, func() error { return has(`redis_stream_length{db="db0",stream="{b}x"}`, "1")(scrape(t, e)) })
		for _, name := range []string{"keys", "single_keys", "count_keys", "single_streams", "key_groups"} {
			expect(t, ranBackground(t, e, name), map[string]string{about("success", name): "1"})
		}
		got := scrape(t, e)
		expect(t, got, map[string]string{
			`redis_key_value{db="db0",key="b"}`: "1", `redis_key_value{db="db0",key="a"}`: "absent",
			`redis_keys_count{db="db0",key="?"}`: "1", `redis_keys_count{db="db0",key="a"}`: "0",
			`redis_key_group_count{db="db0",key_group="b"}`: "1", `redis_number_of_distinct_key_groups{db="db0"}`: "2",
			`redis_number_of_distinct_key_groups{db="db1"}`: "absent",
		})
		if i > 0 {
			continue
		}
		moved := got[`redis_errors_total{err="MOVED"}`]
		ranBackground(t, e, "single_keys")
		ranBackground(t, e, "count_keys")
		expect(t, scrape(t, e), map[string]string{`redis_errors_total{err="MOVED"}`: moved})
	}
}

// A connection that breaks between two databases never reads the wrong one.
func TestDatabasesAfterReconnect(t *testing.T) {
	srv := testenv.StartRedis(t)
	fillKeys(t, srv)
	e, _ := newBackground(t, srv, exporter.BackgroundOptions{Interval: time.Millisecond, Keys: exporter.KeyOptions{
		Single: []exporter.Key{{DB: 3, Key: "number"}, {Key: "number"}},
	}})
	ranBackground(t, e, "single_keys")
	want := map[string]string{`redis_key_value{db="db0",key="number"}`: "12.5", `redis_key_value{db="db3",key="number"}`: "7"}
	for range 50 {
		srv.Do(t, "CLIENT", "KILL", "TYPE", "normal")
		testenv.Eventually(t, time.Minute, func() error {
			got := only(scrape(t, e), "redis_key_value")
			if diff := cmp.Diff(want, got); diff != "" {
				for series, v := range got {
					if v != want[series] {
						t.Fatalf("%s = %s", series, v)
					}
				}
				return fmt.Errorf("%s", diff)
			}
			return nil
		})
	}
}
